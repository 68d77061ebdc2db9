"""Who is running on a results folder: one run at a time, by the file `running.json`, renewed while it runs.

Two runs at once would lose nothing, but would compute everything twice. A run is over on this machine when its process
is gone, and on another when its file was not renewed for 30 seconds while we looked: no clocks are compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from pixmix_ray.errors import HeldError, ResultsError, StorageError
from pixmix_ray.storage.store import Store

FILE = "running.json"
RENEWAL, EXPIRY, SETTLING, LOOK = 5.0, 30.0, 0.5, 1.0  # seconds


@contextmanager
def running(store: Store, sleep: Callable[[float], None] = time.sleep) -> Iterator["RunLock"]:
    """The lock of a results folder for the time of a `with` block; raises HeldError if another run is at work."""
    lock = RunLock(store, sleep)
    lock.take()
    renewals = threading.Thread(target=lock.renew_until_released, daemon=True)
    renewals.start()
    try:
        yield lock
    finally:
        lock.release()
        renewals.join()


class RunLock:
    """This process's claim on a results folder; `sleep` waits for another's."""

    def __init__(self, store: Store, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store, self._sleep = store, sleep
        self._released, self._taken_by = threading.Event(), dict[str, Any]()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._mine = {"token": uuid.uuid4().hex, "since": since, "renewed": 0, **_process()}

    def take(self) -> None:
        """Claim the folder; raises HeldError if another run is at work."""
        found = self._read()
        if found and self._is_alive(found):
            raise self._held_by(found)
        if self._store.is_local and self._store.read(FILE) is None:
            self._store.write_new(FILE, self._content())
        else:  # over what a dead run left, or where no file can be made that must be new: the last one stands
            self._store.write(FILE, self._content())
            self._sleep(SETTLING)
        if (found := self._read()).get("token") != self._mine["token"]:
            raise self._held_by(found)

    def check(self) -> None:
        """Return if the folder is still ours; raises HeldError if another run took it over."""
        if self._taken_by:
            raise self._held_by(self._taken_by)

    def renew_until_released(self) -> None:
        """Write the file again every few seconds, for as long as it is ours."""
        while not self._released.wait(RENEWAL) and not self._taken_by:
            self.renew()

    def renew(self) -> None:
        """Write the file again, or notice that it is another's."""
        with suppress(ResultsError, StorageError):  # a full disk or a lost connection says nothing of other runs
            found = self._read()
            if found and found.get("token") != self._mine["token"]:
                self._taken_by = found
            else:
                self._mine["renewed"] += 1
                self._store.write(FILE, self._content())

    def release(self) -> None:
        """Let other runs have the folder."""
        self._released.set()
        with suppress(ResultsError, StorageError):  # what cannot be removed expires
            if self._read().get("token") == self._mine["token"]:
                self._store.delete(FILE)

    def _content(self) -> bytes:
        return json.dumps(self._mine, indent=1).encode()

    def _read(self) -> dict[str, Any]:
        """The file of whoever runs; empty if there is none that makes sense."""
        with suppress(ValueError):
            found = json.loads(self._store.read(FILE) or b"{}")
            return found if isinstance(found, dict) else {}
        return {}

    def _is_alive(self, holder: Mapping[str, Any]) -> bool:
        if holder.get("machine") == self._mine["machine"]:
            with suppress(psutil.Error, TypeError, ValueError):
                process = psutil.Process(holder.get("pid"))
                is_same = abs(process.create_time() - float(holder.get("started", 0))) < 1
                return is_same and process.status() != psutil.STATUS_ZOMBIE
            return False
        for _ in range(round(EXPIRY / LOOK)):
            self._sleep(LOOK)
            if (found := self._read()) != holder:
                return bool(found)
        return False

    def _held_by(self, holder: Mapping[str, Any]) -> HeldError:
        who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        return HeldError(
            f"another run is at work on results {self._store.uri}: {who}. Wait until it ends, end it, or give another "
            "folder: --set results=PATH"
        )


def _process() -> dict[str, Any]:
    """This process, in words that no other has; `machine` names the running kernel and its own numbers of processes."""
    machine = [socket.gethostname()]
    with suppress(OSError):  # not on Linux
        machine.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        machine.append(str(Path("/proc/self/ns/pid").readlink()))
    pid = os.getpid()
    host, started = socket.gethostname(), psutil.Process(pid).create_time()
    return {"host": host, "machine": " ".join(machine), "pid": pid, "started": started}
