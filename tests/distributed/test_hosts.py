"""Several hosts for real: network namespaces with addresses, processes, caches and Ray nodes of their own."""

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
import yaml

from pixmix_ray.checkpoints import trained
from pixmix_ray.results import make_plan, read
from pixmix_ray.sweep import read_sweep
from pixmix_ray.work import evaluate_cell, train_trial

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "local_hosts.py"
PROGRAM = str(Path(sys.executable).parent / "pixmix-ray")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
ADDRESS = "10.77.0.1:6379"
SECONDS = 400  # no step takes a tenth of it on an idle machine


def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("local_hosts", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


REASON = script().missing()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
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

    def sweep(self, log: Path, file: Path, *overrides: str) -> subprocess.Popen[bytes]:
        """A sweep that runs on the head while we go on."""
        command = [PROGRAM, "run", str(file), "--address", ADDRESS, *(f"--set={text}" for text in overrides)]
        with log.open("wb") as stream:
            return subprocess.Popen(
                script().command_on(self.folder, "head", command), stdout=stream, stderr=subprocess.STDOUT
            )


@pytest.fixture(scope="module")
def grid() -> Iterator[Grid]:
    folder = Path(tempfile.mkdtemp(prefix="grid", dir="/tmp"))  # tmp_path is too long for Ray's sockets
    laid_out = Grid(folder)
    try:
        laid_out.do("up", "--workers=2", "--cpus=1")
        yield laid_out
    finally:
        laid_out.do("down")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An experiment with a mixing set, so that each node has arrays to make."""
    content = {
        "results": "results",
        "dataset": {"name": "digits", "train_limit": 200},
        "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
        "methods": ["pixmix"],
        "mixing_set": {"name": "fractals", "count": 4},
        "training": {"epochs": 16, "flip": False},
        "benchmarks": [{"name": "clean", "limit": 50}, {"name": "adversaries", "limit": 20, "steps": 2}],
        "resources": {"trial": {"cpus": 0.6}, "evaluation": {"cpus": 0.4}},
    }
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(content))
    return experiment


def wait_until(is_so: Callable[[], bool], what: str, log: Path | None = None) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, f"not within {SECONDS} s: {what}\n{log.read_text() if log else ''}"
        time.sleep(0.1)


def done(results: Path) -> dict[str, int]:
    """When each finished trial and cell was written."""
    files = [*results.glob("trials/*/done.json"), *results.glob("cells/**/*.parquet")]
    return {str(file.relative_to(results)): file.stat().st_mtime_ns for file in files}


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
    grid: Grid, file: Path, token: str
) -> None:
    refused = grid.on("worker2", "env", token, PROGRAM, "run", str(file), "--address", ADDRESS)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        f"pixmix-ray: the Ray cluster at {ADDRESS} does not let us in: check RAY_AUTH_TOKEN and Ray's versions"
    )
    assert "Traceback" not in refused.stderr


def test_a_submitted_job_brings_its_folder_and_needs_the_token(grid: Grid, file: Path, tmp_path: Path) -> None:
    """The folder holds the experiment and a method of the user's own, which the workers must find."""
    pytest.importorskip("aiohttp_cors", reason="ray job submit needs the extra 'cluster'")
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.py").write_text("from pixmix_ray.methods import Baseline\n\nclass Mine(Baseline):\n    pass\n")
    results = tmp_path / "submitted"
    changes = {"results": str(results), "methods": ["mine:Mine"], "training": {"epochs": 1, "flip": False}}
    (work / "experiment.yaml").write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))
    submit = [*RAY, "job", "submit", "--address=http://127.0.0.1:8265", f"--working-dir={work}", "--"]
    command = [*submit, PROGRAM, "run", "experiment.yaml", "--address", "127.0.0.1:6379"]  # the job is on the head
    refused = grid.on("head", "env", "RAY_AUTH_TOKEN=wrong", *command)
    assert refused.returncode != 0 and not results.exists()
    submitted = grid.on("head", *command)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert set(read(results)["method"]) == {"mine:Mine"}


def test_a_sweep_survives_a_cut_cable_and_the_death_of_a_host(grid: Grid, file: Path, tmp_path: Path) -> None:
    """The faults: worker1's cable is taken out while it works and put in again; later, worker2 is killed whole."""
    results, log = tmp_path / "results", tmp_path / "log"
    first = grid.sweep(log, file, "seeds=[0, 1, 2, 3]")
    wait_until(lambda: any(results.glob("trials/*/done.json")) or first.poll() is not None, "a trial is done", log)
    wait_until(lambda: any(results.glob("trials/*/progress.*")) or first.poll() is not None, "a second trains", log)
    assert first.poll() is None, log.read_text()
    grid.do("cut", "worker1")
    before = done(results)
    made = {host: when_made(grid, host) for host in ("worker1", "worker2")}
    assert all(len(entries) == 2 for entries in made.values()), "each node has its own data set and mixing set"
    wait_until(lambda: nodes(grid) == 2, "Ray has given up the node", log)
    grid.do("mend", "worker1")
    assert first.wait(SECONDS) == 0, log.read_text()
    wait_until(lambda: grid.on("worker1", "pgrep", "-x", "raylet").returncode == 1, "it has stopped what it still ran")
    grid.do("start", "worker1")
    wait_until(lambda: nodes(grid) == 3, "it is back")
    assert {path: time for path, time in done(results).items() if path in before} == before
    assert len(done(results)) == 12

    before = done(results)
    second = grid.sweep(log, file, "seeds=[0, 1, 2, 3, 4, 5]")
    wait_until(lambda: any(results.glob("trials/*/progress.*")) or second.poll() is not None, "one trains", log)
    assert second.poll() is None, log.read_text()
    grid.do("kill", "worker2")
    assert second.wait(SECONDS) == 0, log.read_text()
    assert {path: time for path, time in done(results).items() if path in before} == before
    assert len(done(results)) == 18 and not list(results.glob("**/*failed.json"))
    assert when_made(grid, "worker1") == made["worker1"], "what a node has made it does not make again"
    pd.testing.assert_frame_equal(measured(results), undisturbed(file, tmp_path, "seeds=[0, 1, 2, 3, 4, 5]"))


def nodes(grid: Grid) -> int:
    """How many nodes Ray counts as alive."""
    active, _, _ = grid.on("head", *RAY, "status").stdout.partition("Pending:")
    return active.count("node_")


def when_made(grid: Grid, host: str) -> dict[str, int]:
    """When each entry of a host's cache was made."""
    cache = grid.folder / host / "cache"
    return {entry.name: entry.stat().st_mtime_ns for entry in cache.iterdir() if entry.is_dir()}


def undisturbed(file: Path, tmp_path: Path, *overrides: str) -> pd.DataFrame:
    """The measurements of the same sweep in this process, without Ray."""
    results = tmp_path / "undisturbed"
    plan = make_plan(read_sweep(file, [*overrides, f"results={results}"]))
    device = torch.device("cpu")
    for trial in plan.trials:
        list(train_trial(trial, plan.store, device))
    for cell in plan.cells:
        evaluate_cell(trained(cell.trial, plan.store), cell.run, plan.store, device, "")
    return measured(results)


def measured(results: Path) -> pd.DataFrame:
    columns = ["trial_id", "checkpoint_id", "benchmark", "metric", "value"]
    return read(results)[columns].sort_values(columns[:4]).reset_index(drop=True)
