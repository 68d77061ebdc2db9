"""Evaluation half: one Ray task evaluates one checkpoint on one benchmark."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pixmix_ray.checkpoints import set_aside
from pixmix_ray.distributed.retries import Cause, Problem
from pixmix_ray.distributed.session import node_beside
from pixmix_ray.plugins import BENCHMARKS
from pixmix_ray.results.plan import Cell
from pixmix_ray.results.store import Store, cell_file
from pixmix_ray.sweep import Share
from pixmix_ray.trial import BenchmarkRun, Trial
from pixmix_ray.work import Work, free_memory


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


def submit(cell: Cell, terms: Terms, near: str | None = None, avoid: str | None = None) -> "ray.ObjectRef[Evaluated]":
    """Start the evaluation of a cell: on the node `near`, which holds its checkpoint in its caches, if that has room.

    After a failure that asks for another node than `avoid`, there, if there is another. Ray does not retry it, not even
    where its worker died: the driver does, by the one table of retries.
    """
    share, store = terms.share, terms.store
    node = node_beside(avoid, share) or near
    # without spilling the cell would wait for that node while others are idle
    place = "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
    task = _evaluate.options(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0, scheduling_strategy=place)
    job = {
        "work": terms.work,
        "trial": cell.trial.dump(),
        "benchmark": cell.run.benchmark.dump(),
        "version": cell.run.version,
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


@ray.remote
def _evaluate(job: Mapping[str, Any]) -> Evaluated:
    started = time.perf_counter()
    torch.set_num_threads(max(1, round(job["cpus"])))
    store = Store(job["results"])
    device = torch.device("cuda" if job["gpus"] > 0 else "cpu")
    problem = None
    try:
        trial = Trial.load(job["trial"])
        run = BenchmarkRun(benchmark=BENCHMARKS.read(job["benchmark"]), version=job["version"])
        if not store.files(cell_file(trial.id, run.key)):  # else an attempt whose worker died after its last write
            job["work"].evaluate(trial, run, store, device, job["code_version"])
    except Exception as error:  # the task's outermost frame: returned to the driver, which records it
        problem = Problem.of(error)
        if problem.cause is Cause.DAMAGED:
            set_aside(trial, store)
    if problem is not None:
        free_memory(device)  # after the error and all that its frames held
    return Evaluated(seconds=time.perf_counter() - started, problem=problem)
