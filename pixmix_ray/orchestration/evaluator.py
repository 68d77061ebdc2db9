"""Evaluation half: one Ray task evaluates one checkpoint, on one benchmark or on several that take no time to speak of.

Each cell is written, answered for, recorded and tried again by itself; a task with several only reads the checkpoint
once. They are measured in turn, so a worker that dies takes no more with it than the cell that it was at.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pixmix_ray.errors import DamagedError
from pixmix_ray.evaluation.cell import Measure
from pixmix_ray.experiment.experiment import Share
from pixmix_ray.experiment.plugins import BENCHMARKS
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.memory import free_memory
from pixmix_ray.orchestration.retries import Cause, Problem, here
from pixmix_ray.orchestration.session import node_beside
from pixmix_ray.orchestration.work import Work
from pixmix_ray.planning.cell_names import cell_names
from pixmix_ray.planning.plan import Cell
from pixmix_ray.storage.cell import read_footer
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import set_aside


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """How the evaluation of a cell ended.

    Attributes:
        seconds: wall time in the worker.
        problem: why the cell could not be measured; none if it was.
    """

    seconds: float
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How the cells of a run are evaluated.

    Attributes:
        store: the results folder.
        share: of the cluster, for each cell.
        code_version: of the driver, for the rows.
        work: what evaluates a cell.
    """

    store: Store
    share: Share
    code_version: str
    work: Work


Answers = Sequence[Evaluated]
"""How the cells of a task ended, in their order. Where there are fewer than cells, the others were not begun."""


@dataclass(kw_only=True)
class InFlight:
    """A task that was submitted.

    Attributes:
        cells: that it measures, in this order.
        place: where it runs, once it has told.
    """

    cells: Sequence[Cell]
    place: Place | None = None


def submit(
    cells: Sequence[Cell], terms: Terms, near: str | None = None, avoid: str | None = None
) -> ray.ObjectRefGenerator:
    """Start the evaluation of cells of one checkpoint: on the node `near`, that has it in its caches, if it has room.

    After a failure that asks for another node than `avoid`, there, if there is another. Ray does not retry it, not even
    where its worker died: the driver does, by the one table of retries.

    What is returned gives references to where the task runs, a `Place`, as soon as it does, and then to its `Answers`.
    """
    share, store = terms.share, terms.store
    node = node_beside(avoid, share) or near
    # without spilling the task would wait for that node while others are idle
    place = "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
    task = _evaluate.options(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0, scheduling_strategy=place)
    job = {
        "work": terms.work,
        "trial": cells[0].trial.dump(),
        "benchmarks": [(cell.run.benchmark.dump(), cell.run.version) for cell in cells],
        "results": store.uri,
        "code_version": terms.code_version,
        "cpus": share.cpus,
        "gpus": share.gpus,
    }
    return task.remote(job)


def warm_up(share: Share) -> None:
    """Start a worker for evaluations, so that the first checkpoint does not wait for its imports (seconds)."""
    _import_all.options(num_cpus=share.cpus, num_gpus=share.gpus).remote()


@ray.remote
def _import_all() -> bool:
    """Have all that `_evaluate` needs imported: Ray sends a function with the globals that it names, and no more."""
    return callable(Work().evaluate)


@ray.remote(num_returns="streaming")
def _evaluate(job: Mapping[str, Any]) -> Iterator[Place | Answers]:
    yield here()  # at once: a worker that dies tells nothing more
    yield _measured(job)


def _measured(job: Mapping[str, Any]) -> Answers:
    torch.set_num_threads(max(1, round(job["cpus"])))
    store = Store(job["results"])
    device = torch.device("cuda" if job["gpus"] > 0 else "cpu")
    measure: Measure | None = None
    answers: list[Evaluated] = []
    for benchmark, version in job["benchmarks"]:
        started = time.perf_counter()
        problem = None
        try:
            if measure is None:
                trial = Trial.load(job["trial"])
                measure = job["work"].evaluate(trial, store, device, job["code_version"])
            measure(BenchmarkRun(benchmark=BENCHMARKS.read(benchmark), version=version))
        except Exception as error:  # the task's outermost frame: returned to the driver, which records it
            problem = Problem.of(error)
            if problem.cause is Cause.DAMAGED:
                set_aside(trial, store)
        if problem is not None:
            free_memory(device)  # after the error and all that its frames held
        answers.append(Evaluated(seconds=time.perf_counter() - started, problem=problem))
        if measure is None:
            break  # without its checkpoint no other cell can be measured either
    return answers


def answers_of_the_dead(cells: Sequence[Cell], store: Store, problem: Problem) -> Answers:
    """What the files say of the cells of a task whose worker died: some are done, and at the next one it died."""
    answers: list[Evaluated] = []
    for cell in cells:
        seconds = _seconds_written(cell, store)
        answers.append(Evaluated(seconds=seconds or 0.0, problem=problem if seconds is None else None))
        if seconds is None:
            break
    return answers


def _seconds_written(cell: Cell, store: Store) -> float | None:
    """How long a cell took, if its file is there."""
    with suppress(DamagedError):
        for name in cell_names(store, [cell.trial], [cell.run]).values():
            footer = read_footer(store, name)
            return None if footer is None else float(footer.common["seconds"])
    return None
