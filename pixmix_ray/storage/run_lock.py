"""One run at a time on a results folder, by `running.json`: two at once would lose nothing, but compute all twice."""

import json
import socket
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from time import sleep
from typing import Any, Self

import psutil

from pixmix_ray.errors import DamagedError, HeldError, ResultsError, StorageError
from pixmix_ray.storage.store import Store

FILE, RENEWAL, EXPIRY, SETTLING = "running.json", 5.0, 30.0, 0.5  # in seconds


class RunLock:
    """This process's claim on a results folder, for the time of a `with` block."""

    def __init__(self, store: Store) -> None:
        self._store, self._other, self._end = store, dict[str, Any](), threading.Event()
        self._renewals = threading.Thread(target=self._renew_until_end, daemon=True)
        me, machine = psutil.Process(), f"{socket.gethostname()} ({uuid.getnode():x})"
        self._mine: dict[str, Any] = {"token": uuid.uuid4().hex, "machine": machine, "renewed": 0}
        self._mine |= {"pid": me.pid, "started": me.create_time(), "since": f"{datetime.now(UTC):%F %T} UTC"}

    def __enter__(self) -> Self:
        if self._store.is_local and not self._store.exists(FILE):
            self._store.write_new(FILE, json.dumps(self._mine).encode())
        elif not ((found := self._read()) and self._is_alive(found)):  # no way to put if absent: the last one stands
            self._store.write_json(FILE, self._mine)
            sleep(SETTLING)
        self.renew()
        self.check()
        self._renewals.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._renewals.join()
        with suppress(ResultsError, StorageError):  # what cannot be removed is free after a while
            if self._read().get("token") == self._mine["token"]:
                self._store.delete(FILE)

    def check(self) -> None:
        """Return if the folder is still ours; raises HeldError if another run has it."""
        if self._other:
            who = "process {} on {}, since {}".format(*map(self._other.get, ("pid", "machine", "since")))
            raise HeldError(f"another run is at work on results {self._store.uri}: {who}. End it, or set results")

    def renew(self) -> None:
        """Write the file again, or notice that it is another's."""
        with suppress(ResultsError, StorageError):  # a full disk or a lost connection says nothing of other runs
            if (found := self._read()).get("token", self._mine["token"]) == self._mine["token"]:
                self._mine["renewed"] += 1
                self._store.write_json(FILE, self._mine)
            else:
                self._other = found

    def _renew_until_end(self) -> None:
        while not self._end.wait(RENEWAL):
            self.renew()

    def _read(self) -> dict[str, Any]:
        with suppress(DamagedError):  # what makes no sense holds nothing
            return self._store.read_json(FILE) or {}
        return {}

    def _is_alive(self, holder: dict[str, Any]) -> bool:
        """Whether its process is there; on another machine, whether it renews its file: no clocks are compared."""
        if holder.get("machine") != self._mine["machine"]:
            sleep(EXPIRY)
            return self._read() != holder
        with suppress(psutil.Error, TypeError, ValueError, KeyError):
            process = psutil.Process(holder["pid"])
            return bool(abs(process.create_time() - holder["started"]) < 1) and process.status() != psutil.STATUS_ZOMBIE
        return False
