"""Why a trial or a cell failed: one JSON file beside its others, written by the run, read by `status`.

reason            one line
error             the class of the error
where             file, line and function of the user's own code that raised it; "" if none did
attempt           counted from 1 in each run
retried           whether the run that wrote this was going to try again
host, pid, node   where it failed; node is Ray's id; each none where that is not known
failed_at         UTC
log               the file of what the worker printed, in the results folder; "" if it printed nothing
traceback         of the error
earlier           the same, without traceback, of the attempts before
"""

import os
import socket
import sysconfig
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pixmix_ray.errors import ResultsError, TryAgainError, WorkError, one_line
from pixmix_ray.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something ran; none for what is not known, as of a worker that died without a word.

    Attributes:
        host: its name.
        pid: of the process.
        node: Ray's id of the node.
    """

    host: str | None = None
    pid: int | None = None
    node: str | None = None

    @staticmethod
    def here(node: str | None = None) -> "Place":
        """This process."""
        return Place(host=socket.gethostname(), pid=os.getpid(), node=node)

    def __str__(self) -> str:
        known = [f"node {self.node[:8]}" if self.node else "", f"pid {self.pid}" if self.pid else ""]
        return ", ".join([self.host or "unknown host", *filter(None, known)])


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """What is told of an error.

    Attributes:
        reason: one line.
        error: its class.
        traceback: of it.
        where: the file, line and function of the user's own code that raised it; "" if none did.
        place: the machine and process.
    """

    reason: str
    error: str
    traceback: str = ""
    where: str = ""
    place: Place = field(default_factory=Place.here)

    @staticmethod
    def of(error: BaseException, place: Place | None = None) -> "ErrorReport":
        """The report of an error; without a place: of this process."""
        return ErrorReport(
            reason=reason(error)[:500],
            error=type(error).__name__,
            traceback="".join(traceback.format_exception(error)),
            where=own_frame(error),
            place=place or Place.here(),
        )


def record_failure(
    store: Store,
    path: str,
    error: BaseException | ErrorReport,
    *,
    attempt: int = 1,
    retried: bool = False,
    log: str = "",
) -> None:
    """Write why a trial or a cell failed at this attempt, and whether it is tried again; earlier attempts are kept.

    Args:
        store: the results folder.
        path: of the record.
        error: what happened.
        attempt: from 1.
        retried: whether there is another attempt.
        log: the path of what the worker printed; "" if there is none.
    """
    report = error if isinstance(error, ErrorReport) else ErrorReport.of(error)
    earlier: list[Any] = []
    if attempt > 1:
        with suppress(ResultsError):  # a damaged record is no reason to lose this one
            before = store.read_json(path) or {}
            shown = {key: before[key] for key in before if key not in ("earlier", "traceback")}
            earlier = [*before.get("earlier", []), *([shown] if shown else [])]
    store.write_json(
        path,
        {
            "reason": report.reason,
            "error": report.error,
            "where": report.where,
            "attempt": attempt,
            "retried": retried,
            **asdict(report.place),
            "failed_at": datetime.now(UTC).isoformat(),
            "log": log,
            "traceback": report.traceback,
            "earlier": earlier,
        },
    )


def forget_failure(store: Store, path: str) -> None:
    """Remove the record of a failure, but not that of an attempt that is being tried again."""
    with suppress(ResultsError):
        if (store.read_json(path) or {}).get("retried"):
            return
    store.delete(path)


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = one_line(error, limit=2000)
    return text if isinstance(error, WorkError | TryAgainError) else f"{type(error).__name__}: {text}"


def own_frame(error: BaseException) -> str:
    """The last frame of an error that is in the user's own code, as "my_method.py:12 in augment"; "" if there is none.

    Not his own are this package, installed packages and Python's library.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def _is_own(file: str) -> bool:
    return os.path.isabs(file) and not any(file.startswith(f"{folder}{os.sep}") for folder in _NOT_OWN)


_NOT_OWN = (
    *{os.path.realpath(path) for path in sysconfig.get_paths().values()},
    *{path for path in sysconfig.get_paths().values()},
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
)


def described(record: Mapping[str, Any]) -> str:
    """A failure record in one line, for `status`."""
    parts = [str(record.get("failed_at", ""))]
    if "attempt" in record:  # records of earlier versions have none
        place = Place(host=record.get("host"), pid=record.get("pid"), node=record.get("node"))
        again = ", tried again" if record.get("retried") else ""
        log = [f"log {record['log']}"] if record.get("log") else []
        parts = [f"attempt {record['attempt']}{again}", str(record.get("error")), str(place), *parts, *log]
    where = f" at {record['where']}" if record.get("where") else ""
    return f"{record.get('reason', 'no reason recorded')}{where} ({'; '.join(parts)})"
