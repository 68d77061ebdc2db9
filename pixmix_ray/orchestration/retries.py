"""What is tried again, how often and where: one table by the kind of failure.

A worker or node that dies says nothing about the work, so the work is done again. Memory that runs out may be there
elsewhere. A loss that is NaN, a file that cannot be read or an exception in somebody's method comes again on every try.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from pixmix_ray.errors import DamagedError, StorageError
from pixmix_ray.memory import is_out_of_memory
from pixmix_ray.storage.failures import ErrorReport, Place


class Cause(StrEnum):
    """Why a piece of work failed, as far as it decides on trying again."""

    WORKER_DIED = "worker died"
    NODE_DIED = "node died"
    KILLED_FOR_MEMORY = "killed for memory"  # by Ray's memory monitor, before the system does it
    OUT_OF_MEMORY = "out of memory"
    DAMAGED = "checkpoint damaged"
    STORAGE = "results cannot be written"
    OWN = "failed by itself"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How work that failed is tried again.

    Attributes:
        retries: how often at most in one run.
        elsewhere: on another node, if there is one that is large enough.
    """

    retries: int
    elsewhere: bool = False


POLICIES: Mapping[Cause, Policy] = MappingProxyType(
    {
        Cause.WORKER_DIED: Policy(retries=3),
        Cause.NODE_DIED: Policy(retries=3),
        Cause.KILLED_FOR_MEMORY: Policy(retries=3, elsewhere=True),
        Cause.OUT_OF_MEMORY: Policy(retries=1, elsewhere=True),
        Cause.DAMAGED: Policy(retries=1),  # after its trial was trained again
        Cause.STORAGE: Policy(retries=0),  # it ends the run: nothing else could be kept either
        Cause.OWN: Policy(retries=0),
    }
)


def cause_of(error: BaseException) -> Cause:
    """The cause behind an error of Ray's or of the work itself."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Cause.KILLED_FOR_MEMORY
    if isinstance(error, NodeDiedError | ObjectLostError):  # the latter: its answer was lost with its node
        return Cause.NODE_DIED
    if isinstance(error, ActorDiedError | ActorUnavailableError | WorkerCrashedError):
        return Cause.WORKER_DIED
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return Cause.WORKER_DIED
    if isinstance(error, StorageError):
        return Cause.STORAGE
    if isinstance(error, DamagedError):
        return Cause.DAMAGED
    return Cause.OUT_OF_MEMORY if is_out_of_memory(error) else Cause.OWN


@dataclass(frozen=True, kw_only=True)
class Problem:
    """How a piece of work failed, told from a worker to the driver.

    Attributes:
        report: of the error.
        cause: what it means for another try.
    """

    report: ErrorReport
    cause: Cause

    @staticmethod
    def of(error: BaseException) -> "Problem":
        """What `error` in this process, a worker, means."""
        return Problem(report=ErrorReport.of(error, here()), cause=cause_of(error))

    @staticmethod
    def of_death(error: BaseException, place: Place | None = None) -> "Problem":
        """What Ray's `error` says of a worker that died without a word; `place` is where it ran, if that is known."""
        return Problem(report=ErrorReport.of(error, place or Place()), cause=cause_of(error))

    def avoided_node(self) -> str | None:
        """The node on which another try should not run, if there is another that it fits on."""
        return self.report.place.node if POLICIES[self.cause].elsewhere else None


def here() -> Place:
    """This worker."""
    return Place.here(ray.get_runtime_context().get_node_id() if ray.is_initialized() else None)


class Tries:
    """How often each piece of work failed in this run, and of what."""

    def __init__(self) -> None:
        self._causes: dict[str, list[Cause]] = {}

    def count(self, name: str, problem: Problem) -> int:
        """Count a failed attempt at the work of that name; its number, from 1."""
        self._causes.setdefault(name, []).append(problem.cause)
        return len(self._causes[name])

    def failed(self, name: str) -> bool:
        """Whether an attempt at the work of that name has failed."""
        return name in self._causes

    def allow(self, name: str, problem: Problem) -> bool:
        """Whether work that has just failed so is tried again."""
        return self._causes[name].count(problem.cause) <= POLICIES[problem.cause].retries
