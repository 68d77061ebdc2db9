"""One run at a time on a results folder: who holds it, and when it is free again."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pixmix_ray.errors import HeldError
from pixmix_ray.storage import lease
from pixmix_ray.storage.lease import FILE, Holder, Lease, held
from pixmix_ray.storage.store import Store

FAST = {"RENEWAL_SECONDS": 0.05, "EXPIRY_SECONDS": 0.6, "SETTLING_SECONDS": 0.05, "LOOK_SECONDS": 0.05}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in FAST.items():
        monkeypatch.setattr(lease, name, seconds)


def holder(store: Store) -> Holder:
    content = store.read(FILE)
    assert content is not None
    return Holder(**json.loads(content))


def write(store: Store, claim: Holder) -> None:
    store.write(FILE, json.dumps(asdict(claim)).encode())


def test_a_second_run_is_told_who_holds_the_results_and_the_first_keeps_them(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with held(store) as first:
        with (
            pytest.raises(HeldError, match=rf"another run is at work on .*: process {os.getpid()} on .*, since 20"),
            held(store),
        ):
            pass
        first.check()
        assert holder(store).pid == os.getpid()
    assert store.read(FILE) is None
    with held(store):
        pass


def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    """The fault: SIGKILL of the process that holds the lease."""
    code = (
        "import sys, time; from pixmix_ray.storage.lease import held; from pixmix_ray.storage.store import Store\n"
        "with held(Store(sys.argv[1])):\n    print('held', flush=True); time.sleep(100)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(HeldError, match=f"process {child.pid} on"), held(Store(tmp_path)):
        pass
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with held(Store(tmp_path)):
        assert holder(Store(tmp_path)).pid == os.getpid()


def test_a_number_that_was_given_to_another_process_since_is_no_holder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with held(store):
        claim = holder(store)
    write(store, replace(claim, process_started="1"))  # this process is alive, but not the one that held it
    with held(store):
        pass


def test_the_lease_of_another_host_holds_while_it_is_renewed_and_no_longer(tmp_path: Path) -> None:
    """The fault: a host that is gone, so that its lease is not renewed any more."""
    store = Store(tmp_path)
    elsewhere = Lease(store)
    elsewhere._mine = replace(elsewhere._mine, machine="another", host="far-away")
    elsewhere.take()
    with pytest.raises(HeldError, match="on far-away"), held(store):
        pass
    elsewhere._released.set()  # dies without a word
    elsewhere._renewals.join()
    started = time.monotonic()
    with held(store):
        assert time.monotonic() - started > FAST["EXPIRY_SECONDS"]


def test_a_run_whose_lease_was_taken_over_notices(tmp_path: Path) -> None:
    """The fault: two runs that both saw the folder free, as on storage without locks."""
    store = Store(tmp_path)
    with held(store) as first:
        write(store, replace(holder(store), token="another", pid=1))
        deadline = time.monotonic() + 10
        while first._lost_to is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(HeldError, match="process 1 on"):
            first.check()
    assert holder(store).token == "another"  # not ours to remove


@pytest.mark.parametrize("content", [b"", b"{ half", b"[]", b'{"pid": 3}'])
def test_a_lease_that_makes_no_sense_holds_nothing(tmp_path: Path, content: bytes) -> None:
    Store(tmp_path).write(FILE, content)
    with held(Store(tmp_path)):
        pass
