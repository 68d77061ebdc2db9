"""The two pieces of work that an executor does, with the same functions on Ray and in this process.

A simulation puts other functions in their place, and changes nothing else.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from pixmix_ray.benchmarks import Clean
from pixmix_ray.evaluation.cell import evaluate_cell, input_notice
from pixmix_ray.evaluation.checkpoints import opened
from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.hardware import free_memory
from pixmix_ray.orchestration.retries import Cause, Problem
from pixmix_ray.orchestration.worker_logs import logged
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.provenance import code_version
from pixmix_ray.storage.store import Store, cell_file, log_file
from pixmix_ray.training.trial import Progress, set_aside, train_trial
from pixmix_ray.training.workers import ALONE, Workers

if TYPE_CHECKING:
    from pixmix_ray.orchestration.executor import RunSetup
    from pixmix_ray.planning.plan import Cell


Measure = Callable[[BenchmarkRun], str | None]
"""Measures one cell of a checkpoint that was opened, and returns what its owner should know; "" or None for nothing."""


def open_checkpoint(source: Source, store: Store, device: torch.device) -> Measure:
    """A function that evaluates a checkpoint on a benchmark, as `evaluate_cell`, if that is not done.

    Raises:
        DamagedError: that of a trial is missing, or its bytes are not those that were written.
        CheckpointError: somebody else's is missing, or changed.
    """
    checkpoint = opened(source, store)

    def measure(run: BenchmarkRun) -> str:
        if store.exists(cell_file(checkpoint.cell(run))):
            return ""
        evaluate_cell(checkpoint, run, store, device, code_version())
        # with the clean error, which shows it: once for each checkpoint
        is_asked = checkpoint.is_external and isinstance(run.benchmark.settings, Clean)
        return input_notice(checkpoint, device) if is_asked else ""

    return measure


@dataclass(frozen=True, kw_only=True)
class Work:
    """What trains a trial, as `train_trial`, and what opens a checkpoint for evaluation, as `open_checkpoint`.

    Where several workers train a trial, `train` is given them as `workers`, too.
    """

    train: Callable[..., Iterator[Progress]] = train_trial
    evaluate: Callable[[Source, Store, torch.device], Measure] = open_checkpoint


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """How the evaluation of a cell ended.

    Attributes:
        seconds: wall time in the worker.
        problem: why the cell could not be measured; none if it was.
        notice: something that its owner should know, such as a normalisation that would fit better.
    """

    seconds: float
    problem: Problem | None = None
    notice: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs for a trial, or for cells of its checkpoint.

    Attributes:
        trial: which; or a checkpoint that is there already.
        results: URI of the results folder.
        work: the functions that do it.
        share: of the machine.
        runs: the benchmarks to evaluate it on; empty: it is to be trained.
        folder: the current folder of the run; a worker on a machine that has it works there.
        is_logged: whether what the worker prints is kept in the results folder, and not shown.
    """

    trial: Source
    results: str
    work: Work
    share: Share
    runs: tuple[BenchmarkRun, ...] = ()
    folder: str = field(default_factory=os.getcwd)
    is_logged: bool = False

    @staticmethod
    def training(setup: "RunSetup", trial: Trial, *, is_logged: bool = False) -> "Job":
        """A trial to be trained in a run."""
        share = setup.resources.shares[trial.share]
        return Job(trial=trial, results=setup.store.uri, work=setup.work, share=share, is_logged=is_logged)

    @staticmethod
    def measuring(setup: "RunSetup", cells: "Sequence[Cell]", *, is_logged: bool = False) -> "Job":
        """Cells of one checkpoint to be measured in a run."""
        return Job(
            trial=cells[0].trial,
            results=setup.store.uri,
            work=setup.work,
            share=setup.resources.evaluation,
            runs=tuple(cell.run for cell in cells),
            is_logged=is_logged,
        )

    def __deepcopy__(self, _: object) -> "Job":
        return self  # nobody changes it, and Ray Tune copies it for every trial

    def __repr__(self) -> str:
        return self.trial.id  # Ray Tune makes names of it

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device("cuda" if self.share.gpus > 0 else "cpu")


def train_epochs(job: Job, place: Place, workers: Workers = ALONE) -> Generator[Progress, None, None]:
    """Train the trial of a job, yielding each state once it is safe in the store; raises what the work raises."""
    store, together = Store(job.results), {} if workers.share.of == 1 else {"workers": workers}
    with _log(job, store, log_file(job.trial.id), place) if workers.is_first else nullcontext():
        _prepare(job)
        assert isinstance(job.trial, Trial)
        yield from job.work.train(job.trial, store, job.device, **together)


def measure_cells(job: Job, place: Place) -> list[CellResult]:
    """How the cells of a job ended, one after the other; fewer than cells if the checkpoint could not be opened."""
    store = Store(job.results)
    measure: Measure | None = None
    ended: list[CellResult] = []
    for run in job.runs:
        started, problem, notice = time.perf_counter(), None, ""
        try:
            with _log(job, store, log_file(job.trial.id, run.key), place):
                if measure is None:
                    _prepare(job)
                    measure = job.work.evaluate(job.trial, store, job.device)
                notice = measure(run) or ""
        except Exception as error:  # the worker's outermost frame: returned to the loop, which records it
            problem = Problem.of(error, place)
            if problem.cause is Cause.DAMAGED and isinstance(job.trial, Trial):
                set_aside(job.trial, store)
        if problem is not None:
            free_memory(job.device)  # after the error and all that its frames held
        ended.append(CellResult(seconds=time.perf_counter() - started, problem=problem, notice=notice))
        if measure is None:
            break
    return ended


def _log(job: Job, store: Store, path: str, place: Place) -> AbstractContextManager[None]:
    return logged(store, path, place) if job.is_logged else nullcontext()


def _prepare(job: Job) -> None:
    if os.path.isdir(job.folder):
        os.chdir(job.folder)
    torch.set_num_threads(max(1, round(job.share.of_worker().cpus)))
