"""What all tests share: a cache folder of their own, one local Ray cluster, and small parts that train in seconds."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from xdist.scheduler import LoadScopeScheduling

from tests.program import Program

OWN_RAY = (
    "tests/cluster/test_slurm.py",
    "tests/orchestration/test_hosts.py",
    "tests/orchestration/test_memory_monitor.py",
    "tests/orchestration/test_token.py",
    "tests/storage/test_s3.py",
    "tests/test_quickstart.py",
)
ROOM_IN_MEMORY = 4 << 30  # bytes; the tests take a tenth
SHARED_RAY = ("tests/orchestration/", "tests/test_cli.py")


class RayTogether(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Tests with Ray share one cluster, so one process runs them all in turn; others run anywhere.

    Those that start a Ray of their own run in turn, too, in another process.
    Not by xdist_group: its names are lost with pytest 9.2 and pytest-xdist 3.8.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(OWN_RAY):
            return "own ray"
        return "shared ray" if nodeid.startswith(SHARED_RAY) else nodeid


def pytest_configure(config: pytest.Config) -> None:
    """The files of the tests lie in memory where it has room: there it takes no time until they are safely on disk.

    Those of drills do not: disks are filled there, and hosts share them.
    """
    memory = Path("/dev/shm")
    if config.option.markexpr == "not drill" and memory.is_dir() and shutil.disk_usage(memory).free > ROOM_IN_MEMORY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test with Ray elsewhere would start a second cluster; the type check, the longest of all, comes first."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_gates.py"))
    for item in items:
        if item.get_closest_marker("ray") and not item.nodeid.startswith(OWN_RAY + SHARED_RAY):
            raise pytest.UsageError(f"{item.nodeid} uses Ray: name its place in SHARED_RAY of tests/conftest.py")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches go to a folder of this run, also in the worker processes of Ray."""
    before = os.environ.get("PIXMIX_RAY_CACHE")
    os.environ["PIXMIX_RAY_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)  # the machine's cores are shared with Ray workers
    os.environ.update({"RAY_worker_niceness": "0"})  # and they with the other tests; by itself Ray lets its own wait
    yield
    if before is None:
        del os.environ["PIXMIX_RAY_CACHE"]
    else:
        os.environ["PIXMIX_RAY_CACHE"] = before


@pytest.fixture(autouse=True, scope="session")
def _faulty_parts() -> None:
    """Experiments of the tests may name the parts in tests/faults, here and in all processes that are started here."""
    folder = str(Path(__file__).parent / "faults")
    sys.path.append(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


@pytest.fixture(autouse=True)
def _no_durations_of_other_tests(_own_cache: None) -> None:
    """What epochs and cells of other tests took is forgotten: estimates are of one test's own history."""
    (Path(os.environ["PIXMIX_RAY_CACHE"]) / "durations.json").unlink(missing_ok=True)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment file that trains one small network for one epoch and measures it on a few pictures."""
    file = tmp_path / "experiment.yaml"
    content = {
        "results": "results",
        "dataset": {"name": "digits", "train_limit": 200},
        "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
        "methods": ["baseline"],
        "mixing_set": {"name": "fractals", "count": 4},
        "training": {"epochs": 1, "flip": False},
        "benchmarks": [{"name": "clean", "limit": 50}],
        "resources": {"trial": {"cpus": 0.75}, "evaluation": {"cpus": 0.5}},
    }
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    """Starts the program in processes of its own."""
    started = Program()
    yield started
    started.close()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of the one local Ray cluster that the tests share, of two CPUs."""
    import ray

    from pixmix_ray.orchestration.session import session

    with session(cpus=2):
        yield ray.get_runtime_context().gcs_address
