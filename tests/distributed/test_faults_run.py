"""What happens to the command itself: killed, interrupted, started twice, its disk full, its cluster gone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import ray
import yaml
from ray.cluster_utils import Cluster

from pixmix_ray.distributed import run_plan
from pixmix_ray.results import make_plan, read
from pixmix_ray.sweep import read_sweep
from tests.distributed.notes import Notes

PROGRAM = str(Path(sys.executable).parent / "pixmix-ray")
MEASURED = ["trial_id", "checkpoint_id", "benchmark", "metric", "condition", "value"]
PATIENCE = 240.0  # seconds; a machine may be busy with other things

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.drill,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves files of its own processes open
]


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Sweep:
    """An experiment of slow trials that note each epoch that they begin, run by the command in its own process."""

    def __init__(self, folder: Path, address: str | None, trials: int = 2, epochs: int = 3) -> None:
        self.folder, self.address, self.epochs = folder, address, epochs
        self.results, self.diary = folder / "results", folder / "diary"
        self.file = folder / "experiment.yaml"
        method = {"name": "faulty_parts:Diary", "diary": str(self.diary), "seconds": 0.3}
        content = {
            "results": "results",
            "dataset": {"name": "digits", "train_limit": 60},
            "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
            "methods": [method],
            "training": {"epochs": epochs, "flip": False},
            "seeds": list(range(trials)),
            "benchmarks": [{"name": "clean", "limit": 50}],
            "resources": {"trial": {"cpus": 0.75}, "evaluation": {"cpus": 0.5}},
        }
        self.file.write_text(yaml.safe_dump(content))

    def start(self, *more: str) -> "subprocess.Popen[str]":
        command = [PROGRAM, "run", str(self.file), *more]
        if self.address is not None:
            command += ["--address", self.address]
        # in a group of its own, to which Ctrl-C of a terminal goes; a shell's background job ignores it, children too
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def finish(self) -> None:
        """Run to the end: what the command does, in this process, on the tests' cluster."""
        assert run_plan(make_plan(read_sweep(self.file)), Notes()) == []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within this block no second epoch of a trial ends."""
        hold = self.diary / "hold"
        self.diary.mkdir(exist_ok=True)
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    def begun(self, epoch: int) -> int:
        """How many times an epoch of that number was begun, over all trials."""
        return len(list((self.diary / str(epoch)).glob("*")))

    def epochs_begun(self) -> int:
        return sum(self.begun(epoch) for epoch in range(1, self.epochs + 1))

    def modified(self) -> dict[str, int]:
        """When all that marks something as done was written."""
        marks = [*self.results.glob("trials/*/done.json"), *self.results.glob("cells/*/*.parquet")]
        return {str(path.relative_to(self.results)): path.stat().st_mtime_ns for path in marks}

    def rows(self, results: Path | None = None) -> pd.DataFrame:
        return read(results or self.results)[MEASURED].sort_values(MEASURED, ignore_index=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: str) -> pd.DataFrame:
    """What comes out when nothing happens."""
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), ray_cluster)
    sweep.finish()
    return sweep.rows()


def assert_nothing_was_lost(
    sweep: Sweep, before: dict[str, int], epochs_before: int, undisturbed: pd.DataFrame
) -> None:
    """After the same command has run again: what was done was left alone, and an epoch a trial at most was repeated."""
    after = sweep.modified()
    assert {path: after[path] for path in before} == before
    trials = len(list(sweep.results.glob("trials/*/done.json")))
    assert sweep.epochs_begun() <= trials * (sweep.epochs + 1)
    assert sweep.epochs_begun() >= epochs_before
    pd.testing.assert_frame_equal(sweep.rows(), undisturbed)


def test_a_second_run_is_told_of_the_first_and_goes_on_at_once_when_that_is_killed(
    tmp_path: Path, ray_cluster: str, undisturbed: pd.DataFrame
) -> None:
    """The faults: two drivers on the same results; then SIGKILL of the first."""
    sweep = Sweep(tmp_path, ray_cluster)
    with sweep.held():
        first = sweep.start()
        assert first.stderr is not None
        wait_for(lambda: sweep.begun(2))
        second = sweep.start()
        _, said = second.communicate(timeout=PATIENCE)
        assert second.returncode == 2
        assert said.count("another run is at work on results") == 1
        assert f"process {first.pid} on {os.uname().nodename}, since 20" in said.splitlines()[-1]
        for command in (["status", str(sweep.results)], ["plan", str(sweep.file)]):  # to look, nobody needs the lease
            assert subprocess.run([PROGRAM, *command], capture_output=True, check=False).returncode == 0
        os.kill(first.pid, signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    assert first.stderr.read().splitlines()[-1].endswith("what is done is kept: run the same command again to go on")
    first.stderr.close()
    before, epochs = sweep.modified(), sweep.epochs_begun()
    sweep.finish()
    assert_nothing_was_lost(sweep, before, epochs, undisturbed)
    assert not (sweep.results / "lease.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB in memory, where the results go."""
    folder = tmp_path / "results"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], capture_output=True, check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(bytes(4096))
    return filler


def assert_ended_for(sweep: Sweep, process: "subprocess.Popen[str]", reason: str) -> None:
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    last = said.splitlines()[-1]
    assert last.startswith(f"pixmix-ray: cannot write to results {sweep.results}: {reason}."), said
    assert "run the same command again" in last and "Traceback" not in said
    assert not list(sweep.results.rglob("*.part")), "nothing is half-written"


def test_a_full_disk_and_then_a_read_only_one_end_the_run_with_one_line_and_it_goes_on(
    tmp_path: Path, small_disk: Path, ray_cluster: str, undisturbed: pd.DataFrame
) -> None:
    """The faults: no space left on the results' disk after an epoch; then the disk is read-only."""
    sweep = Sweep(tmp_path, ray_cluster)
    with sweep.held():
        process = sweep.start()
        wait_for(lambda: sweep.begun(2))
        filler = fill(small_disk)
    assert_ended_for(sweep, process, "No space left on device")
    filler.unlink()

    process = sweep.start()
    epochs = sweep.epochs_begun()
    wait_for(lambda: sweep.epochs_begun() > epochs)

    def is_read_only() -> bool:
        command = ["mount", "-o", "remount,ro", str(small_disk)]  # refused while a file is being written
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    wait_for(is_read_only)
    assert_ended_for(sweep, process, "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    before = sweep.modified()
    sweep.finish()
    after = sweep.modified()
    assert {path: after[path] for path in before} == before
    pd.testing.assert_frame_equal(sweep.rows(), undisturbed)


def children(pid: int) -> set[int]:
    """All processes that descend from that one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended while we looked
            continue
        parents.setdefault(parent, []).append(int(entry.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found.update(below)
        waiting.extend(below)
    return found


def are_gone(pids: set[int]) -> bool:
    """Whether all of those processes have ended; one that only waits to be counted has."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return not any(runs(pid) for pid in pids)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_asked_to_end_it_ends_cleanly_within_ten_seconds_and_says_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path, undisturbed: pd.DataFrame, ray_cluster: str
) -> None:
    """The fault: Ctrl-C in the terminal, which all processes of its group get, twice; or SIGTERM. A Ray of its own."""
    sweep = Sweep(tmp_path, None)
    process = sweep.start()
    wait_for(lambda: sweep.begun(2))
    started = children(process.pid)
    asked = time.monotonic()
    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)
    if number is signal.SIGINT:
        time.sleep(0.3)
        os.killpg(process.pid, number)  # somebody is impatient
    _, said = process.communicate(timeout=PATIENCE)
    seconds = time.monotonic() - asked
    assert process.returncode == code, said
    assert said.splitlines()[-1].endswith("what is done is kept: run the same command again to go on")
    assert "Traceback" not in said
    assert len(started) > 3 and seconds < 10, seconds
    wait_for(lambda: are_gone(started), 10)
    assert not (sweep.results / "lease.json").exists()
    before, epochs = sweep.modified(), sweep.epochs_begun()
    sweep.finish()
    assert_nothing_was_lost(sweep, before, epochs, undisturbed)


def test_a_run_whose_head_is_killed_ends_with_a_reason_and_goes_on(
    tmp_path: Path, undisturbed: pd.DataFrame, ray_cluster: str
) -> None:
    """The fault: SIGKILL of the head, Ray's control service and its node's raylet, under a running command."""
    sweep = Sweep(tmp_path, None)
    process = sweep.start()
    wait_for(lambda: sweep.begun(2))
    for pid in children(process.pid):
        try:
            name = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if name.endswith((b"/gcs_server", b"/raylet")):
            os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, 130), said
    assert "died, as its Ray cluster went away or something killed it; what is done is kept" in said
    before, epochs = sweep.modified(), sweep.epochs_begun()
    sweep.finish()
    assert_nothing_was_lost(sweep, before, epochs, undisturbed)


def test_a_node_that_is_killed_costs_its_trials_an_epoch_at_most(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    """The fault: SIGKILL of the raylet of the second of two nodes, with its workers, while it trains."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1, include_dashboard=False)
        sweep = Sweep(tmp_path, cluster.address)
        process = sweep.start()
        wait_for(lambda: sweep.begun(2) >= 2 or sweep.epochs_begun() >= 3)
        cluster.remove_node(second, allow_graceful=False)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        assert sweep.epochs_begun() <= 2 * (sweep.epochs + 1)
        pd.testing.assert_frame_equal(sweep.rows(), undisturbed)
        done = [json.loads(path.read_text()) for path in sweep.results.glob("trials/*/done.json")]
        assert [len(trial["losses"]) for trial in done] == [sweep.epochs] * 2
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    assert ray.is_initialized()  # the tests' own cluster is untouched
