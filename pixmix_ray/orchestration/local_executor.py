"""An executor in this process, without Ray: for debuggers, profilers, notebooks, and machines where Ray cannot start.

It does one thing at a time, with the same functions as Ray's workers, so the files are the same. Cells go before the
next epoch of a trial: what is known soonest is shown soonest. Only pictures of benchmarks, where there are many, are
made by other processes meanwhile.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from pixmix_ray.errors import ClusterError
from pixmix_ray.evaluation.pictures_ahead import made_ahead, missing
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.executor import (
    Capacity,
    EpochDone,
    Event,
    RunSetup,
    TaskEnded,
    TaskStarted,
    TrialEnded,
    TrialStarted,
)
from pixmix_ray.orchestration.retries import Problem
from pixmix_ray.orchestration.work import Job, measure_cells, train_epochs
from pixmix_ray.storage.failures import Place
from pixmix_ray.training.trial import Progress

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Cell


class LocalExecutor:
    """Does the work of a run in this process."""

    def __init__(self) -> None:
        """Without work."""
        self._setup: RunSetup | None = None
        self._trials: deque[tuple[int, Job]] = deque()
        self._tasks: deque[tuple[int, Job]] = deque()
        self._epochs: Iterator[Progress] | None = None  # of the first trial
        self._threads = torch.get_num_threads()
        self._stack = ExitStack()

    def has_gpus(self) -> bool:
        """Whether this machine has a GPU that torch can use."""
        return torch.cuda.is_available()

    def start(self, setup: RunSetup) -> None:
        """Get ready for the work of a run.

        Raises:
            ClusterError: it asks for a GPU, and this machine has none; or for several workers.
        """
        if (count := max(share.num_workers for share in setup.resources.shares)) > 1:
            raise ClusterError(
                f"resources.trial asks for {count} workers, and --local runs everything in one process: leave --local "
                "out, or set resources.trial.workers=1 and resources.trial.gpus=1 or 0"
            )
        trials = [("trial", share) for share in setup.resources.shares]
        for what, share in [*trials, ("evaluation", setup.resources.evaluation)]:
            if share.gpus > 0 and not torch.cuda.is_available():
                raise ClusterError(
                    f"a {what} asks for {share.gpus:g} GPUs and this machine has none: set resources.{what}.gpus=0"
                )
        self.cancel()
        self._setup = setup
        self._stack.enter_context(made_ahead(missing(setup.pictures)))

    def capacity(self, trials: int, cells: int, *, keeps_share: bool = True) -> Capacity:
        """One trial, or one task."""
        return Capacity(trials=1, trials_alone=1, tasks=1, cpus=1, gpus=min(1, torch.cuda.device_count()))

    def submit_trial(self, ticket: int, trial: Trial, *, avoid: str | None = None) -> None:
        """Have a trial trained; there is no other node than this one."""
        assert self._setup is not None
        self._trials.append((ticket, Job.training(self._setup, trial)))

    def submit_cells(self, ticket: int, cells: "Sequence[Cell]", *, avoid: str | None = None) -> None:
        """Have cells measured."""
        assert self._setup is not None
        self._tasks.append((ticket, Job.measuring(self._setup, cells)))

    def poll(self, seconds: float) -> list[Event]:
        """Do the next task, or the next epoch, and tell of it; at once if there is nothing to do."""
        if self._tasks:
            ticket, job = self._tasks.popleft()
            here = Place.here()
            return [TaskStarted(ticket=ticket, place=here), TaskEnded(ticket=ticket, results=measure_cells(job, here))]
        if self._trials:
            return self._train(*self._trials[0])
        return []

    def cancel(self) -> None:
        """Forget all work, end the processes that make pictures, and give torch its threads back."""
        self._trials.clear()
        self._tasks.clear()
        self._epochs = None
        self._stack.close()
        torch.set_num_threads(self._threads)

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def in_use(self) -> Mapping[str, tuple[float, float]]:
        """Nothing of a cluster."""
        return {}

    def _train(self, ticket: int, job: Job) -> list[Event]:
        """One more epoch of the first trial."""
        assert self._setup is not None
        events: list[Event] = []
        if self._epochs is None:
            self._epochs = train_epochs(job, Place.here())
            events.append(TrialStarted(ticket=ticket, place=Place.here()))
        problem, is_stopped = None, False
        try:
            progress = next(self._epochs, None)
        except Exception as error:  # the work's outermost frame: told to the loop, which records it
            progress, problem = None, Problem.of(error)
        if progress is not None:
            events.append(EpochDone(ticket=ticket, progress=progress))
            stop = self._setup.should_stop
            is_stopped = progress.is_whole and stop is not None and stop(job.trial.id, progress)
        if progress is None or is_stopped:
            self._trials.popleft()
            self._epochs = None
            events.append(TrialEnded(ticket=ticket, problem=problem, is_stopped=is_stopped))
        return events
