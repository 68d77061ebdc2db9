"""Several hosts for real: network namespaces with addresses, processes, caches and Ray nodes of their own."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.index import read
from tests.orchestration.held_sweep import HeldSweep, wait_for
from tests.program import PROGRAM

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "local_hosts.py"
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
ADDRESS = "10.77.0.1:6379"
SECONDS = 400  # no step takes a tenth of it on an idle machine
SHORTER = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1500"}  # lost after 8 s


def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("local_hosts", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


REASON = script().missing()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
    pytest.mark.skipif(REASON is not None, reason=f"no hosts can be laid out: {REASON}"),
]


@dataclass(frozen=True)
class Grid:
    """A head and two workers of one CPU each."""

    folder: Path

    def do(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, SCRIPT, command, self.folder, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def on(self, host: str, *command: str) -> subprocess.CompletedProcess[str]:
        whole = script().command_on(self.folder, host, command)
        return subprocess.run(whole, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def grid() -> Iterator[Grid]:
    folder = Path(tempfile.mkdtemp(prefix="grid", dir="/tmp"))  # tmp_path is too long for Ray's sockets
    laid_out = Grid(folder)
    before = dict(os.environ)
    os.environ.update(SHORTER)
    try:
        laid_out.do("up", "--workers=2", "--cpus=1")
        yield laid_out
    finally:
        laid_out.do("down")
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def sweep(tmp_path: Path) -> HeldSweep:
    """With a mixing set, so that each node has arrays to make; a worker holds a trial and a cell."""
    return HeldSweep(tmp_path, seeds=4, cpus=0.6, mixes=True)


def listening(grid: Grid, host: str) -> list[str]:
    """The local addresses at which something listens on a host."""
    return [line.split()[3] for line in grid.on(host, "ss", "-tlnH").stdout.splitlines()]


def test_the_dashboard_is_served_on_loopback_alone_and_the_token_is_nobody_elses(grid: Grid) -> None:
    served = ["127.0.0.1:8265"] if importlib.util.find_spec("aiohttp_cors") else []  # there is none without the extra
    assert [address for address in listening(grid, "head") if address.endswith(":8265")] == served
    assert all(not address.endswith(":8265") for name in ("worker1", "worker2") for address in listening(grid, name))
    assert grid.folder.stat().st_mode & 0o777 == 0o700
    assert (grid.folder / "token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("token", ["RAY_AUTH_TOKEN=wrong", "RAY_AUTH_TOKEN_PATH="])
def test_who_has_no_token_or_a_wrong_one_is_not_let_in_and_told_so_in_one_line(
    grid: Grid, sweep: HeldSweep, token: str
) -> None:
    refused = grid.on("worker2", "env", token, PROGRAM, "run", str(sweep.file), "--address", ADDRESS)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        f"pixmix-ray: the Ray cluster at {ADDRESS} refused the connection: check RAY_AUTH_TOKEN and Ray's versions"
    )
    assert "Traceback" not in refused.stderr


def test_a_submitted_job_brings_its_folder_and_needs_the_token(grid: Grid, sweep: HeldSweep, tmp_path: Path) -> None:
    """The folder holds the experiment and a method of the user's own, which the workers must find."""
    pytest.importorskip("aiohttp_cors", reason="ray job submit needs the extra 'cluster'")
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.py").write_text("from pixmix_ray.methods import Baseline\n\nclass Mine(Baseline):\n    pass\n")
    results = tmp_path / "submitted"
    changes = {
        "results": str(results),
        "methods": ["mine:Mine"],
        "training": {"epochs": 1, "flip": False},
        "seeds": [0],
    }
    (work / "experiment.yaml").write_text(yaml.safe_dump({**yaml.safe_load(sweep.file.read_text()), **changes}))
    submit = [*RAY, "job", "submit", "--address=http://127.0.0.1:8265", f"--working-dir={work}", "--"]
    command = [*submit, PROGRAM, "run", "experiment.yaml", "--address", "127.0.0.1:6379"]  # the job is on the head
    refused = grid.on("head", "env", "RAY_AUTH_TOKEN=wrong", *command)
    assert refused.returncode != 0 and not results.exists()
    submitted = grid.on("head", *command)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert set(read(results)["method"]) == {"Mine"}


def test_a_sweep_survives_a_cut_cable_and_the_death_of_a_host(grid: Grid, sweep: HeldSweep, tmp_path: Path) -> None:
    """The faults: worker1's cable is taken out while it trains and put in again; later, a worker is killed whole."""
    log = tmp_path / "log"
    command = script().command_on(grid.folder, "head", [PROGRAM, "run", str(sweep.file), "--address", ADDRESS])
    with log.open("wb") as stream:
        run = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)

    def wait_until(condition: Callable[[], object]) -> None:
        wait_for(lambda: condition() or run.poll() is not None, SECONDS, log.read_text)
        assert run.poll() is None, log.read_text()

    with sweep.held("3-2"):
        with sweep.held("1-2", "2-2"):  # the first trial is done by then
            wait_until(lambda: {"1-2", "2-2"} <= set(sweep.begun()) and len(sweep.done()) == 2)
            before = sweep.done()
            (lost,) = [name for name in ("1-2", "2-2") if sweep.hosts(name) == ["worker1"]]
            made = {host: when_made(grid, host) for host in ("worker1", "worker2")}
            assert all(len(entries) == 2 for entries in made.values()), "each has its own data set and mixing set"
            grid.do("cut", "worker1")
            wait_until(lambda: nodes(grid) == 2)
            grid.do("mend", "worker1")
            wait_until(lambda: grid.on("worker1", "pgrep", "-x", "raylet").returncode == 1)  # it has heard, and stops
            grid.do("start", "worker1")
            wait_until(lambda: sweep.hosts(lost) == ["worker1", "worker1"])  # the other is busy
        wait_until(lambda: "3-2" in sweep.begun() and len(sweep.done()) == 6)
        (last,) = sweep.hosts("3-2")
        grid.do("kill", last)
    assert run.wait(SECONDS) == 0, log.read_text()
    assert not list(sweep.results.glob("**/*failed.json"))
    assert when_made(grid, "worker1") == made["worker1"], "what a node has made it does not make again"
    sweep.assert_nothing_was_lost(before, [lost, "3-2"], undisturbed(tmp_path / "undisturbed"))


def nodes(grid: Grid) -> int:
    """How many nodes Ray counts as alive."""
    active, _, _ = grid.on("head", *RAY, "status").stdout.partition("Pending:")
    return active.count("node_")


def when_made(grid: Grid, host: str) -> dict[str, int]:
    """When each entry of a host's cache was made."""
    cache = grid.folder / host / "cache"
    return {entry.name: entry.stat().st_mtime_ns for entry in cache.iterdir() if entry.is_dir()}


def undisturbed(folder: Path) -> pd.DataFrame:
    """The rows of the same sweep in this process, without Ray."""
    folder.mkdir()
    sweep = HeldSweep(folder, seeds=4, cpus=0.6, mixes=True)
    assert run_plan(make_plan(read_experiment(sweep.file)), executor="local").failures == ()
    return sweep.rows()
