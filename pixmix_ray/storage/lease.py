"""Who is running on a results folder: one run at a time, by a file that it renews while it lives.

Two runs at once would lose nothing, since every file is written whole and the same work makes the same bytes, but they
would compute everything twice. So a run writes `lease.json` and renews it every few seconds. A lease is dead

- on this machine, as soon as its process is gone (a number that was given to another process since counts as gone);
- on another, when it was not renewed while we looked at it for 30 seconds: no clocks are compared.

Storage that knows no lock gives no certainty: two runs that start in the same moment are told apart half a second
later, by whose lease stands; a run that finds another's in the place of its own stops. Commands that only read do not
look at it.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pixmix_ray.errors import HeldError, ResultsError
from pixmix_ray.storage.store import Store

FILE = "lease.json"
RENEWAL_SECONDS = 5.0
EXPIRY_SECONDS = 30.0
SETTLING_SECONDS = 0.5
LOOK_SECONDS = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease.

    Attributes:
        token: of this lease alone.
        host: its name.
        machine: tells machines and containers of one name apart, and a machine before from after its restart.
        pid: of the process.
        process_started: in the kernel's own count, so that a number given to another process is seen.
        since: UTC.
        renewed: how often.
    """

    token: str
    host: str
    machine: str
    pid: int
    process_started: str
    since: str
    renewed: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def held(store: Store) -> Iterator["Lease"]:
    """The lease on a results folder for the time of a `with` block.

    Raises:
        HeldError: another run holds it; the message says who.
    """
    lease = Lease(store)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


class Lease:
    """This process's claim on a results folder."""

    def __init__(self, store: Store) -> None:
        """Claim nothing yet."""
        self._store = store
        self._mine = Holder(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process_started=_process_started(os.getpid()),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._lost_to: Holder | None = None
        self._released = threading.Event()
        self._renewals = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self) -> None:
        """Claim the folder.

        Raises:
            HeldError: another run holds it.
        """
        found = _read(self._store)
        if found is not None and self._is_alive(found):
            raise _held_by(found, self._store)
        self._write(self._mine)
        time.sleep(SETTLING_SECONDS)
        found = _read(self._store)
        if found is not None and found.token != self._mine.token:  # it claimed the folder in the same moment
            raise _held_by(found, self._store)
        self._renewals.start()

    def check(self) -> None:
        """Return if the folder is still ours.

        Raises:
            HeldError: another run took it over.
        """
        if self._lost_to is not None:
            raise _held_by(self._lost_to, self._store)

    def release(self) -> None:
        """Let other runs have the folder."""
        self._released.set()
        self._renewals.join()
        with suppress(ResultsError, OSError):  # what cannot be removed expires
            found = _read(self._store)
            if found is not None and found.token == self._mine.token:
                self._store.delete(FILE)

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS):
            with suppress(ResultsError, OSError):  # a full disk or a lost connection says nothing of other runs
                found = _read(self._store)
                if found is not None and found.token != self._mine.token:
                    self._lost_to = found
                    return
                self._mine = replace(self._mine, renewed=self._mine.renewed + 1)
                self._write(self._mine)

    def _write(self, holder: Holder) -> None:
        self._store.write(FILE, json.dumps(asdict(holder), indent=1).encode())

    def _is_alive(self, holder: Holder) -> bool:
        if holder.machine == self._mine.machine:
            return holder.process_started == _process_started(holder.pid) != ""
        log.warning("results %s are held by %s; looking whether it is alive", self._store.uri, holder)
        deadline = time.monotonic() + EXPIRY_SECONDS
        while time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            found = _read(self._store)
            if found is None:
                return False
            if found != holder:
                return True
        return False


def _held_by(holder: Holder, store: Store) -> HeldError:
    return HeldError(
        f"another run is at work on results {store.uri}: {holder}. Wait until it ends, end it, or give another folder: "
        "--set results=PATH"
    )


def _read(store: Store) -> Holder | None:
    """Who holds the folder; none too if the file makes no sense, since nobody writes it in place."""
    content = store.read(FILE)
    try:
        return None if content is None else Holder(**json.loads(content))
    except (TypeError, ValueError):
        return None


def _machine() -> str:
    """Names the running kernel and, in a container, its own numbers of processes."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not on Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _process_started(pid: int) -> str:
    """When a process of this machine started, in the kernel's count; "" if there is none, or none but its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self").exists():
            return ""
    try:  # not on Linux: that the number is in use is all that is known
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"
