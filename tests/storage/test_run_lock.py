"""One run at a time on a results folder: who holds it, and when it is free again."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from pixmix_ray.errors import HeldError
from pixmix_ray.storage import run_lock
from pixmix_ray.storage.run_lock import EXPIRY, FILE, RunLock
from pixmix_ray.storage.store import Store


def holder(store: Store) -> dict[str, Any]:
    found = store.read_json(FILE)
    assert found is not None
    return found


class Clock:
    """Takes the place of sleep: does not wait, and does something each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        self.then: Callable[[], object] = lambda: None
        monkeypatch.setattr(run_lock, "sleep", self)

    def __call__(self, seconds: float) -> None:
        self.slept += seconds
        self.then()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def write_claim(store: Store, **of_another: object) -> None:
    """The file of another run, this process's but for what is said."""
    store.delete(FILE)
    with RunLock(store):
        claim = holder(store)
    store.write_json(FILE, {**claim, "token": "another", **of_another})


def test_a_second_run_is_told_who_holds_the_results_and_the_first_keeps_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with RunLock(store) as first:
        with (
            pytest.raises(HeldError, match=rf"another run is at work on .*: process {os.getpid()} on .*, since 20"),
            RunLock(store),
        ):
            pass
        first.check()
        assert holder(store)["pid"] == os.getpid()
    assert store.files("") == set()
    with RunLock(store):
        pass


def test_of_two_that_start_in_the_same_moment_one_has_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: another run writes its file between our look and our claim."""
    store, write_new = Store(tmp_path), Store.write_new
    with ExitStack() as stack:
        others: list[RunLock] = []

        def slower(store: Store, path: str, content: bytes) -> bool:
            monkeypatch.setattr(Store, "write_new", write_new)
            others.append(stack.enter_context(RunLock(Store(tmp_path))))
            return store.write_new(path, content)

        monkeypatch.setattr(Store, "write_new", slower)
        with pytest.raises(HeldError), RunLock(store):
            pass
        others[0].check()
        assert holder(store)["pid"] == os.getpid()


def test_where_no_file_can_be_put_only_if_absent_the_last_claim_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """The fault: on object storage another run claims the folder while ours waits whether one does."""
    store = Store(tmp_path)
    monkeypatch.setattr(store, "is_local", False)
    monkeypatch.setattr(store, "write", Store(tmp_path).write)
    monkeypatch.setattr(store, "read", Store(tmp_path).read)
    claim = {"token": "another", "pid": 1, "machine": "h", "since": "s"}
    clock.then = lambda: Store(tmp_path).write_json(FILE, claim)
    with pytest.raises(HeldError, match="process 1 on h, since s"), RunLock(store):
        pass
    assert clock.slept > 0


def test_the_claim_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    """The fault: SIGKILL of the process that holds the folder."""
    code = (
        "import sys, time; from pixmix_ray.storage.run_lock import RunLock; "
        "from pixmix_ray.storage.store import Store\n"
        "with RunLock(Store(sys.argv[1])):\n    print('held', flush=True); time.sleep(100)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(HeldError, match=f"process {child.pid} on"), RunLock(Store(tmp_path)):
        pass
    os.kill(child.pid, signal.SIGKILL)  # not waited for: its remains hold nothing either
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with RunLock(Store(tmp_path)):
        assert holder(Store(tmp_path))["pid"] == os.getpid()
    child.wait()
    child.stdout.close()


def test_a_number_that_was_given_to_another_process_since_is_no_holder(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path)
    write_claim(store)
    with pytest.raises(HeldError), RunLock(store):
        pass
    write_claim(store, started=psutil.Process().create_time() - 60)  # alive, but not the process that held it
    with RunLock(store):
        pass


def test_a_run_on_another_machine_holds_the_folder_while_it_renews_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    """The fault: a machine that is gone, so that its file is not renewed any more."""
    store = Store(tmp_path)
    write_claim(store, machine="far-away")
    clock.then = lambda: write_claim(store, machine="far-away", renewed=2)
    with pytest.raises(HeldError, match="on far-away"), RunLock(store):
        pass
    clock.then, clock.slept = lambda: None, 0.0
    with RunLock(store):
        assert clock.slept >= EXPIRY
        assert holder(store)["token"] != "another"


def test_a_run_on_another_machine_that_ends_meanwhile_frees_the_folder(tmp_path: Path, clock: Clock) -> None:
    store = Store(tmp_path)
    write_claim(store, machine="another")
    clock.then = lambda: store.delete(FILE)
    with RunLock(store):
        assert holder(store)["pid"] == os.getpid()


def test_a_run_whose_folder_was_taken_over_notices_and_leaves_the_other_its_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with RunLock(store) as first:
        store.write_json(FILE, {**holder(store), "token": "another", "pid": 1})
        first.renew()
        with pytest.raises(HeldError, match="process 1 on"):
            first.check()
    assert holder(store)["token"] == "another"


def test_a_claim_is_renewed_while_the_block_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "RENEWAL", 0.001)
    store = Store(tmp_path)
    with RunLock(store):
        while holder(store)["renewed"] < 3:
            pass
    assert not store.exists(FILE)


def test_the_file_of_a_newer_version_with_more_in_it_still_holds_the_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_claim(store, purpose="of a later version")
    with pytest.raises(HeldError), RunLock(store):
        pass


@pytest.mark.parametrize("content", [b"", b"{ half", b"[]", b"\xff\xfe"])
def test_a_file_that_makes_no_sense_holds_nothing(tmp_path: Path, clock: Clock, content: bytes) -> None:
    store = Store(tmp_path)
    store.write(FILE, content)
    with RunLock(store):
        assert holder(store)["pid"] == os.getpid()
