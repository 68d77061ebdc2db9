"""What the loop of a run needs of the place where its work is done: a few calls, and the events that come back.

There are three: `RayExecutor` (Ray Tune trains, Ray tasks evaluate), `LocalExecutor` (this process, without Ray), and a
simulation in the tests, which loses messages and kills workers by a seed.

Work is submitted under a number of the loop's own, its ticket; every event carries the ticket of the submission that it
is about. An executor may repeat an event, or tell of work that the loop has given up: the loop knows by the ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pixmix_ray.experiment.resources import Resources
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.retries import Problem
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress

if TYPE_CHECKING:
    from pixmix_ray.evaluation.pictures_ahead import PictureWork
    from pixmix_ray.orchestration.work import CellResult, Work
    from pixmix_ray.planning.plan import Cell

ShouldStop = Callable[[str, Progress], bool]
"""Whether a trial, by its id, is to be stopped early after this epoch."""


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What all the work of a run has in common.

    Attributes:
        store: the results folder.
        resources: what a trial and an evaluation take of the cluster.
        work: what trains a trial and evaluates a checkpoint.
        should_stop: asked after every epoch; none trains all trials to their end.
        pictures: of benchmarks, which may be made on cores that are idle, before an evaluation asks for them.
    """

    store: Store
    resources: Resources = field(default_factory=Resources)
    work: Work
    should_stop: ShouldStop | None = None
    pictures: tuple[PictureWork, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How much fits just now, whatever is running.

    Attributes:
        trials: that train at once, if one evaluation's share is kept free.
        trials_alone: that train at once, if none is.
        tasks: of evaluation at once, if no trial trains.
        cpus: of all nodes.
        gpus: of all nodes.
        waits_for: why there is room for nothing yet, and what is being waited for; "" where there is room.
    """

    trials: int
    trials_alone: int
    tasks: int
    cpus: float = 0
    gpus: float = 0
    waits_for: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """The trial has its share of the cluster, and runs at `place`."""

    ticket: int
    place: Place


@dataclass(frozen=True, kw_only=True)
class EpochDone:
    """One more epoch of the trial is safe in the store."""

    ticket: int
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class TrialEnded:
    """The trial ended: it has its checkpoint, or `problem` says why not, or `should_stop` stopped it."""

    ticket: int
    problem: Problem | None = None
    is_stopped: bool = False
    place: Place | None = None


@dataclass(frozen=True, kw_only=True)
class TaskStarted:
    """The evaluation runs at `place`."""

    ticket: int
    place: Place


@dataclass(frozen=True, kw_only=True)
class TaskEnded:
    """The evaluation of some cells ended.

    Attributes:
        ticket: of the submission.
        results: of its cells, in their order; where there are fewer than cells, the others were not begun.
        problem: why the worker could not tell; then there are no results.
    """

    ticket: int
    results: Sequence[CellResult] = ()
    problem: Problem | None = None


Event = TrialStarted | EpochDone | TrialEnded | TaskStarted | TaskEnded


class Executor(Protocol):
    """Does the work of one run at a time."""

    def start(self, setup: RunSetup) -> None:
        """Get ready for the work of a run; what was submitted to an earlier one is forgotten."""

    def capacity(self, trials: int, cells: int, *, keeps_share: bool = True) -> Capacity:
        """How much fits now. Asked again and again: clusters grow and shrink.

        Args:
            trials: that are not done.
            cells: that could be measured now; a cluster that grows is asked for room for both.
            keeps_share: whether one evaluation's share is kept free while trials train, from now on.

        Raises:
            ClusterError: there is no room, and none is to be expected.
        """

    def submit_trial(self, ticket: int, trial: Trial, *, avoid: str | None = None) -> None:
        """Have a trial trained, on another node than `avoid` if there is one."""

    def submit_cells(self, ticket: int, cells: Sequence[Cell], *, avoid: str | None = None) -> None:
        """Have the cells of one checkpoint measured one after the other, likewise."""

    def poll(self, seconds: float) -> list[Event]:
        """What happened since the last call, waiting up to `seconds` for something to happen."""

    def cancel(self) -> None:
        """End all work within seconds; what is safe in the store stays so. Safe to call twice."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def in_use(self) -> Mapping[str, tuple[float, float]]:
        """How much of each kind of resource is handed out, and how much there is; for the live view."""
