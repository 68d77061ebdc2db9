"""One run at a time on a results folder: who holds it, and when it is free again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixmix_ray.errors import HeldError
from pixmix_ray.storage.run_lock import EXPIRY, FILE, RunLock, running
from pixmix_ray.storage.store import Store


def holder(store: Store) -> dict[str, Any]:
    found = store.read_json(FILE)
    assert found is not None
    return found


class Clock:
    """Sleeps without waiting, and does something each time."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.slept, self.then = 0.0, then

    def __call__(self, seconds: float) -> None:
        self.slept += seconds
        self.then()


def test_a_second_run_is_told_who_holds_the_results_and_the_first_keeps_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with running(store) as first:
        with (
            pytest.raises(HeldError, match=rf"another run is at work on .*: process {os.getpid()} on .*, since 20"),
            running(store),
        ):
            pass
        first.check()
        assert holder(store)["pid"] == os.getpid()
    assert store.files("") == set()
    with running(store):
        pass


def test_of_two_that_start_in_the_same_moment_one_has_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: another run writes its file between our look and our claim."""
    store, other = Store(tmp_path), RunLock(Store(tmp_path))
    write_new = Store.write_new

    def slower(store: Store, path: str, content: bytes) -> bool:
        monkeypatch.setattr(Store, "write_new", write_new)
        other.take()
        return store.write_new(path, content)

    monkeypatch.setattr(Store, "write_new", slower)
    with pytest.raises(HeldError), running(store):
        pass
    other.check()
    assert holder(store)["pid"] == os.getpid()


def test_where_no_file_can_be_put_only_if_absent_the_last_claim_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: on object storage another run claims the folder while ours waits whether one does."""
    store = Store(tmp_path)
    monkeypatch.setattr(store, "is_local", False)
    monkeypatch.setattr(store, "write", Store(tmp_path).write)
    monkeypatch.setattr(store, "read", Store(tmp_path).read)
    clock = Clock(lambda: Store(tmp_path).write_json(FILE, {"token": "another", "pid": 1, "host": "h", "since": "s"}))
    with pytest.raises(HeldError, match="process 1 on h, since s"):
        RunLock(store, clock).take()
    assert clock.slept > 0


def test_the_claim_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    """The fault: SIGKILL of the process that holds the folder."""
    code = (
        "import sys, time; from pixmix_ray.storage.run_lock import running; "
        "from pixmix_ray.storage.store import Store\n"
        "with running(Store(sys.argv[1])):\n    print('held', flush=True); time.sleep(100)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(HeldError, match=f"process {child.pid} on"), running(Store(tmp_path)):
        pass
    os.kill(child.pid, signal.SIGKILL)  # not waited for: its remains hold nothing either
    child.stdout.read()
    with running(Store(tmp_path)):
        assert holder(Store(tmp_path))["pid"] == os.getpid()
    child.wait()
    child.stdout.close()


def test_a_number_that_was_given_to_another_process_since_is_no_holder(tmp_path: Path) -> None:
    store, before = Store(tmp_path), RunLock(Store(tmp_path))
    before.take()
    claim = holder(store)
    store.write_json(FILE, {**claim, "started": claim["started"] - 60})  # alive, but not the process that held it
    with running(store):
        pass


def test_a_run_on_another_machine_holds_the_folder_while_it_renews_and_no_longer(tmp_path: Path) -> None:
    """The fault: a machine that is gone, so that its file is not renewed any more."""
    store, elsewhere = Store(tmp_path), RunLock(Store(tmp_path))
    elsewhere._mine = {**elsewhere._mine, "machine": "another", "host": "far-away"}
    elsewhere.take()
    with pytest.raises(HeldError, match="on far-away"):
        RunLock(store, Clock(elsewhere.renew)).take()
    clock = Clock()
    RunLock(store, clock).take()
    assert clock.slept >= EXPIRY
    elsewhere.renew()
    with pytest.raises(HeldError):  # it lives, and notices
        elsewhere.check()


def test_a_run_on_another_machine_that_ends_meanwhile_frees_the_folder_at_once(tmp_path: Path) -> None:
    elsewhere = RunLock(Store(tmp_path))
    elsewhere._mine = {**elsewhere._mine, "machine": "another"}
    elsewhere.take()
    clock = Clock(elsewhere.release)
    RunLock(Store(tmp_path), clock).take()
    assert clock.slept < EXPIRY / 2


def test_a_run_whose_folder_was_taken_over_notices_and_leaves_the_other_its_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with running(store) as first:
        store.write_json(FILE, {**holder(store), "token": "another", "pid": 1})
        first.renew()
        with pytest.raises(HeldError, match="process 1 on"):
            first.check()
    assert holder(store)["token"] == "another"


def test_the_file_of_a_newer_version_with_more_in_it_still_holds_the_folder(tmp_path: Path) -> None:
    store, newer = Store(tmp_path), RunLock(Store(tmp_path))
    newer.take()
    store.write_json(FILE, {**holder(store), "purpose": "of a later version"})
    with pytest.raises(HeldError), running(store):
        pass


@pytest.mark.parametrize("content", [b"", b"{ half", b"[]", b"\xff\xfe"])
def test_a_file_that_makes_no_sense_holds_nothing(tmp_path: Path, content: bytes) -> None:
    Store(tmp_path).write(FILE, content)
    RunLock(Store(tmp_path), Clock()).take()
    assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
