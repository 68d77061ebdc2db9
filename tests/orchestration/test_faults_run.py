"""What happens to the command itself: killed, interrupted, started twice, its disk full, its cluster gone.

All sweeps here are two trials of three epochs, one after the other. The fault comes in the middle of the second trial's
second epoch, which a test holds for as long as it needs, as an epoch of hours would; the first trial and its cell are
done by then.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from tests.orchestration.held_sweep import HeldSweep, wait_for
from tests.program import Program, Started

# in a process of its own: its end would take something away from the tests' own connection
TWO_NODES = """
from ray.cluster_utils import Cluster

# health checks: else Ray takes 15 s to count the node as dead
head = {"num_cpus": 1, "include_dashboard": False, "_system_config": {"health_check_period_ms": 500}}
cluster = Cluster(initialize_head=True, head_node_args=head)
second = cluster.add_node(num_cpus=1, include_dashboard=False)
print(cluster.address, flush=True)
input()
cluster.remove_node(second, allow_graceful=False)
print("ended", flush=True)
input()
cluster.shutdown()
"""
GO_ON = "what is done is kept: run the same command again to go on"

pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves files of its own processes open
]


class Experiment(HeldSweep):
    """Such a sweep, run by the command in its own process."""

    def __init__(self, folder: Path, program: Program, address: str | None, *, cpus: float = 1) -> None:
        super().__init__(folder, cpus=cpus)
        self.program = program
        self.command = ["run", str(self.file), *(["--address", address] if address else [])]

    def start_and_wait_for(self, name: str) -> Started:
        """Start the command; it is in the middle of that epoch, which is held, and all before is done."""
        before = self.begun().count(name)
        started = self.program.start(*self.command)
        wait_for(
            lambda: self.begun().count(name) > before or started.returncode is not None, told=lambda: started.stderr
        )
        assert started.returncode is None, started.stderr
        wait_for(lambda: len(self.done()) == 2, told=lambda: started.stderr)  # the first trial and its cell
        return started

    def finish(self) -> None:
        """Run to the end: what the command does, in this process, on the tests' cluster."""
        assert run_plan(make_plan(read_experiment(self.file))).failures == ()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, program: Program, ray_cluster: str) -> pd.DataFrame:
    """What comes out when nothing happens."""
    sweep = Experiment(tmp_path_factory.mktemp("undisturbed"), program, ray_cluster)
    sweep.finish()
    assert sweep.begun() == sweep.undisturbed_epochs
    return sweep.rows()


def assert_ended_cleanly(started: Started, code: int) -> None:
    """It has been asked to end: it does, while its trial is held in the middle of an epoch, and says how to go on."""
    assert started.wait() == code, started.stderr
    wait_for(lambda: started.stderr.splitlines()[-1].endswith(GO_ON))
    assert "Traceback" not in started.stderr


def test_asked_to_end_it_ends_cleanly_and_a_second_run_is_told_of_the_first(
    tmp_path: Path, program: Program, ray_cluster: str, undisturbed: pd.DataFrame
) -> None:
    """The faults: two drivers on the same results; SIGTERM, as Slurm sends it; Ctrl-C, twice, with a Ray of its own."""
    sweep, local = Experiment(tmp_path, program, ray_cluster), Experiment(tmp_path, program, None)
    with sweep.held("1-2"):
        first = sweep.start_and_wait_for("1-2")
        before = sweep.done()
        second = program.run(*sweep.command)
        assert second.returncode == 75
        assert second.stderr.count("another run is at work on results") == 1
        assert f"process {first.pid} on {os.uname().nodename} (" in second.stderr.splitlines()[-1]
        for command in (["status", sweep.results], ["plan", sweep.file]):  # to look, nobody needs the lock
            assert program.run(*command).returncode == 0
        os.kill(first.pid, signal.SIGTERM)
        assert_ended_cleanly(first, 143)

        again = local.start_and_wait_for("1-2")
        below = children(again.pid)
        assert len(below) > 3
        os.killpg(again.pid, signal.SIGINT)  # all of the terminal's group, Ray's processes too
        time.sleep(0.3)
        os.killpg(again.pid, signal.SIGINT)  # somebody is impatient
        assert_ended_cleanly(again, 130)
        wait_for(lambda: are_gone(below))
    sweep.finish()
    sweep.assert_nothing_was_lost(before, ["1-2", "1-2"], undisturbed)


def test_a_run_that_is_killed_or_loses_its_ray_says_how_to_go_on_and_does_so_at_once(
    tmp_path: Path, program: Program, undisturbed: pd.DataFrame
) -> None:
    """The faults: SIGKILL of the driver; then of the head, Ray's control service and raylet, under the command."""
    sweep = Experiment(tmp_path, program, None)
    died = "pixmix-ray: this process was killed, or its Ray cluster went away; what is done is kept"
    with sweep.held("1-2"):
        started = sweep.start_and_wait_for("1-2")
        before = sweep.done()
        below = children(started.pid)
        os.kill(started.pid, signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
        wait_for(lambda: died in started.stderr)

        again = sweep.start_and_wait_for("1-2")  # at once: nobody waits for the lock of a process that is dead
        wait_for(lambda: are_gone(below))  # what the first has left behind
        for pid in children(again.pid):
            if program_of(pid) in ("gcs_server", "raylet"):
                os.kill(pid, signal.SIGKILL)
        assert again.wait() not in (0, 130)
        wait_for(lambda: died in again.stderr)
    sweep.finish()
    sweep.assert_nothing_was_lost(before, ["1-2", "1-2"], undisturbed)
    assert not (sweep.results / "running.json").exists()


def test_sigterm_at_the_moment_when_ray_goes_down_ends_as_sigterm_does(
    tmp_path: Path, program: Program, undisturbed: pd.DataFrame
) -> None:
    """The faults: as a batch system ends a job: SIGTERM for the command, and Ray's processes are killed beside it."""
    sweep = Experiment(tmp_path, program, None)
    with sweep.held("1-2"):
        started = sweep.start_and_wait_for("1-2")
        before = sweep.done()
        below = children(started.pid)
        ray_itself = [pid for pid in below if program_of(pid) in ("gcs_server", "raylet")]
        assert len(ray_itself) == 2
        os.kill(started.pid, signal.SIGTERM)
        for pid in ray_itself:
            os.kill(pid, signal.SIGKILL)
        assert_ended_cleanly(started, 143)
        wait_for(lambda: are_gone(below))
    sweep.finish()
    sweep.assert_nothing_was_lost(before, ["1-2"], undisturbed)


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
        while folder.is_mount():
            subprocess.run(["umount", "-l", folder], capture_output=True, check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(bytes(4096))
    return filler


def assert_ended_for(sweep: Experiment, started: Started, reason: str) -> None:
    assert started.wait() == 75, started.stderr
    last = started.stderr.splitlines()[-1]
    assert last.startswith(f"pixmix-ray: cannot write to results {sweep.results}: {reason}."), started.stderr
    assert "run the same command again" in last
    assert "Traceback" not in started.stderr and "Unhandled error" not in started.stderr
    assert not list(sweep.results.rglob("*.part")), "nothing is half-written"


def test_a_full_disk_and_then_a_read_only_one_end_the_run_with_one_line_and_it_goes_on(
    tmp_path: Path, small_disk: Path, program: Program, ray_cluster: str, undisturbed: pd.DataFrame
) -> None:
    """The faults: no space left on the results' disk after an epoch; then the disk is read-only."""
    sweep = Experiment(tmp_path, program, ray_cluster)
    with sweep.held("1-2"):
        full = sweep.start_and_wait_for("1-2")
        before = sweep.done()
        filler = fill(small_disk)
    assert_ended_for(sweep, full, "No space left on device")
    filler.unlink()
    with sweep.held("1-2"):
        closed = sweep.start_and_wait_for("1-2")
        # a second mount over the first, which has files open for writing: the logs of workers
        for options in (["--bind", small_disk], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *options, small_disk], check=True)
    assert_ended_for(sweep, closed, "Read-only file system")
    subprocess.run(["umount", "-l", small_disk], check=True)
    sweep.finish()
    sweep.assert_nothing_was_lost(before, ["1-2", "1-2"], undisturbed)


def test_a_node_that_is_killed_costs_its_trial_an_epoch_at_most(
    tmp_path: Path, program: Program, undisturbed: pd.DataFrame
) -> None:
    """The fault: SIGKILL of the raylet of the second of two nodes, with its workers; a trial trains on each."""
    command = [sys.executable, "-c", TWO_NODES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nodes:
        assert nodes.stdin is not None and nodes.stdout is not None
        sweep = Experiment(tmp_path, program, nodes.stdout.readline().strip(), cpus=0.6)
        with sweep.held("0-2", "1-2"):
            started = program.start(*sweep.command)
            wait_for(lambda: {"0-2", "1-2"} <= set(sweep.begun()) or started.returncode is not None)
            assert started.returncode is None, started.stderr
            nodes.stdin.write("end the second\n")
            nodes.stdin.flush()
            assert nodes.stdout.readline() == "ended\n"
            # its trainer outlives it for a moment, in which it could end the epoch and begin the next
            wait_for(lambda: any(are_gone({pid}) for pid in sweep.processes("0-2", "1-2")))
        assert started.wait() == 0, started.stderr
        nodes.communicate("end the cluster\n")
    repeated = list((Counter(sweep.begun()) - Counter(sweep.undisturbed_epochs)).elements())
    assert repeated in (["0-2"], ["1-2"])
    pd.testing.assert_frame_equal(sweep.rows(), undisturbed)
    done = [json.loads(path.read_text()) for path in sweep.results.glob("trials/*/done.json")]
    assert [len(trial["losses"]) for trial in done] == [3, 3]


def children(pid: int) -> set[int]:
    """All processes that a command has started: those of its session, since Ray's workers are nobody's children."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            session = int(entry.read_text().rpartition(")")[2].split()[3])
        except OSError:  # it ended while we looked
            continue
        if session == pid:
            found.add(int(entry.parent.name))
    return found - {pid}


def are_gone(pids: set[int]) -> bool:
    """Whether all of those processes have ended; one that only waits to be counted has."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return not any(runs(pid) for pid in pids)


def program_of(pid: int) -> str:
    """The name of the program that a process runs."""
    try:
        return Path(os.fsdecode((Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0])).name
    except OSError:  # it ended while we looked
        return ""
