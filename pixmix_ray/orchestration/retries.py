"""What is tried again, how often and where: one table by the kind of failure.

A worker or node that dies says nothing about the work, so the work is done again; attempts are counted between two
steps of progress, so a trial on machines that come and go is not given up as long as it advances. Memory that runs out
may be there elsewhere. A loss that is NaN, a file that cannot be read or an exception in somebody's method comes again
on every attempt. A lost message costs time alone; where half of all are lost, one epoch in five comes through, so there
are many more attempts, but not without end.
"""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pixmix_ray.errors import DamagedError, PreemptedError, ResultsError, TryAgainError
from pixmix_ray.memory import is_out_of_memory
from pixmix_ray.storage.failures import ErrorReport, Place, record_failure
from pixmix_ray.storage.store import Store

log = logging.getLogger(__name__)
FIRST_DELAY, LONGEST_DELAY = 0.5, 5.0  # seconds before work is tried again whose message was lost; doubled each time
TOLD_DELAY = 2.0  # seconds: a message that was lost for the third time in a row


class Cause(StrEnum):
    """Why a piece of work failed, as far as it decides on another attempt."""

    WORKER_DIED = "worker died"
    NODE_DIED = "node died"
    KILLED_FOR_MEMORY = "killed for memory"  # by Ray's memory monitor, before the system does it
    PREEMPTED = "preempted"
    MESSAGE_LOST = "message lost"  # the worker lives, or was never reached
    OUT_OF_MEMORY = "out of memory"
    DAMAGED = "checkpoint damaged"
    STORAGE = "results cannot be read or written"
    OWN = "failed by itself"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How work that failed is tried again.

    Attributes:
        retries: how often at most between two steps of progress.
        elsewhere: on another node, if there is one that is large enough.
        is_charged: whether it counts as an attempt, with a record; if not, it is tried again after a delay.
    """

    retries: int
    elsewhere: bool = False
    is_charged: bool = True


POLICIES: Mapping[Cause, Policy] = MappingProxyType(
    {
        Cause.WORKER_DIED: Policy(retries=3),
        Cause.NODE_DIED: Policy(retries=3),
        Cause.KILLED_FOR_MEMORY: Policy(retries=3, elsewhere=True),
        Cause.PREEMPTED: Policy(retries=100, elsewhere=True, is_charged=False),
        Cause.MESSAGE_LOST: Policy(retries=100, is_charged=False),
        Cause.OUT_OF_MEMORY: Policy(retries=1, elsewhere=True),
        Cause.DAMAGED: Policy(retries=1),  # after its trial was trained again
        Cause.STORAGE: Policy(retries=0),  # it ends the run: nothing else could be kept either
        Cause.OWN: Policy(retries=0),
    }
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """How a piece of work failed.

    Attributes:
        report: of the error.
        cause: what it means for another attempt.
    """

    report: ErrorReport
    cause: Cause

    @staticmethod
    def of(error: BaseException, place: Place | None = None) -> "Problem":
        """What an error that the work itself raised means; `place` is where, by default this process."""
        return Problem(report=ErrorReport.of(error, place or Place.here()), cause=_cause_of(error))

    @staticmethod
    def because(cause: Cause, reason: str, place: Place | None = None) -> "Problem":
        """A problem that no error of the work tells of, such as the death of its worker."""
        report = ErrorReport(reason=reason, error=cause.name, place=place or Place())
        return Problem(report=report, cause=cause)

    def avoided_node(self) -> str | None:
        """The node on which another attempt should not run, if there is another that it fits on."""
        return self.report.place.node if POLICIES[self.cause].elsewhere else None


def _cause_of(error: BaseException) -> Cause:
    if isinstance(error, PreemptedError):
        return Cause.PREEMPTED
    if isinstance(error, DamagedError):
        return Cause.DAMAGED
    if isinstance(error, TryAgainError | ResultsError):  # results that cannot be read are no fault of the work either
        return Cause.STORAGE
    return Cause.OUT_OF_MEMORY if is_out_of_memory(error) else Cause.OWN


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows from a failure.

    Attributes:
        attempt: the number of the attempt that failed, from 1, since the last step of progress.
        is_retried: whether there is another.
        is_charged: whether the failure is recorded.
        delay: seconds to wait before.
    """

    attempt: int
    is_retried: bool
    is_charged: bool = True
    delay: float = 0.0


class Attempts:
    """How often each piece of work, by its name, failed in this run since it last advanced, and of what."""

    def __init__(self) -> None:
        self._causes: dict[str, list[Cause]] = {}

    def failed(self, name: str, problem: Problem) -> Verdict:
        """Count a failure."""
        causes = self._causes.setdefault(name, [])
        causes.append(problem.cause)
        policy, count = POLICIES[problem.cause], causes.count(problem.cause)
        charged = [cause for cause in causes if POLICIES[cause].is_charged]
        return Verdict(
            attempt=max(1, len(charged)),
            is_retried=count <= policy.retries,
            is_charged=policy.is_charged or count > policy.retries,
            delay=0.0 if policy.is_charged else min(LONGEST_DELAY, FIRST_DELAY * 2 ** (count - 1)),
        )

    def advanced(self, name: str) -> None:
        """The work made a step of progress: earlier failures say nothing any more."""
        self._causes.pop(name, None)

    def has_failed(self, name: str) -> bool:
        """Whether the work failed since it last advanced."""
        return name in self._causes


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """A trial or a cell: its name among the attempts, its label for people, the files of its record and of its log."""

    name: str
    label: str
    record: str
    log: str


def note_failure(store: Store, work: WorkItem, problem: Problem, verdict: Verdict) -> None:
    """Record a failure that is charged, and tell of one that is tried again."""
    report = problem.report
    if verdict.is_charged:
        record_failure(
            store,
            work.record,
            report,
            attempt=verdict.attempt,
            retried=verdict.is_retried,
            log=work.log if store.exists(work.log) else "",
        )
    if verdict.is_retried and verdict.is_charged:
        log.warning(
            "%s: attempt %d failed on %s: %s; trying again", work.label, verdict.attempt, report.place, report.reason
        )
    elif verdict.is_retried:
        level = logging.WARNING if verdict.delay >= TOLD_DELAY else logging.DEBUG  # now and then it is nothing
        log.log(level, "%s: %s; trying again in %.1f s", work.label, report.reason, verdict.delay)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial or cell that failed for good, and why."""

    label: str
    reason: str

    @staticmethod
    def of(label: str, problem: Problem, store: Store, log_file: str) -> "Failure":
        """For the end of the run: why, the line of the user's own code, and how to see what was printed."""
        where = f" at {problem.report.where}" if problem.report.where else ""
        name = log_file.removeprefix("logs/").removesuffix(".log").removesuffix("/training")
        shown = f" (pixmix-ray logs {shlex.quote(store.uri)} {name})"
        return Failure(label=label, reason=f"{problem.report.reason}{where}{shown}")
