"""Evaluation on Ray: one task evaluates one checkpoint, on one benchmark or on several that take no time to speak of.

Each cell is written, answered for, recorded and tried again by itself; a task with several only reads the checkpoint
once. They are measured in turn, so a worker that dies takes no more with it than the cell that it was at.
"""

from collections.abc import Iterator

import ray

from pixmix_ray.experiment.resources import Share
from pixmix_ray.orchestration.executor import Event, TaskEnded, TaskStarted
from pixmix_ray.orchestration.nodes import bundle
from pixmix_ray.orchestration.session import node_selector, place_here, problem_of
from pixmix_ray.orchestration.work import CellResult, Job, measure_cells
from pixmix_ray.storage.failures import Place


class EvaluationTasks:
    """The tasks in flight."""

    def __init__(self) -> None:
        """Without tasks."""
        self._tickets: dict[ray.ObjectRefGenerator, int] = {}
        self._places: dict[int, Place] = {}
        self._is_warm = False

    def __len__(self) -> int:
        return len(self._tickets)

    def submit(self, ticket: int, job: Job, *, avoid: str | None = None) -> None:
        """Start the evaluation of the cells of a job, on another node than `avoid` if there is one.

        Ray does not retry it, not even where its worker died: the loop does, by the one table of retries.
        """
        task = _evaluate.options(**_options(job.share, node_selector(job.share, avoid)))
        self._tickets[task.remote(job)] = ticket

    def warm_up(self, share: Share) -> None:
        """Start a worker for evaluations, once, so that the first checkpoint does not wait for its imports."""
        if not self._is_warm:
            self._is_warm = True
            _import_all.options(**_options(share, dict(share.labels))).remote()

    def poll(self, seconds: float) -> list[Event]:
        """What the tasks tell, waiting up to `seconds` for one of them."""
        if not self._tickets:
            return []
        tasks = list(self._tickets)
        ray.wait(tasks, timeout=seconds)  # for one, then all that are there
        ready, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0)
        return [self._receive(task) for task in ready]

    def cancel(self) -> None:
        """End all tasks."""
        for task in self._tickets if ray.is_initialized() else ():
            ray.cancel(task, force=True)
        self._tickets.clear()

    def _receive(self, task: ray.ObjectRefGenerator) -> Event:
        ticket = self._tickets[task]
        try:
            message = ray.get(next(task))
        except ray.exceptions.RayError as error:  # its worker or node died, or the message was lost
            del self._tickets[task]
            return TaskEnded(ticket=ticket, problem=problem_of(error, self._places.pop(ticket, None)))
        if isinstance(message, Place):
            self._places[ticket] = message
            return TaskStarted(ticket=ticket, place=message)
        del self._tickets[task]
        self._places.pop(ticket, None)
        return TaskEnded(ticket=ticket, results=message)


def _options(share: Share, selector: dict[str, str]) -> dict[str, object]:
    """Ray's options of a task that takes a share."""
    resources = bundle(share)
    options: dict[str, object] = {
        "num_cpus": resources.pop("CPU", 0),
        "num_gpus": resources.pop("GPU", 0),
        "memory": int(resources.pop("memory", 0)) or None,
        "resources": resources or None,
        "max_retries": 0,
    }
    if selector:
        options["label_selector"] = selector
        # the node to be avoided may be the only one left
        options["fallback_strategy"] = [{"label_selector": dict(share.labels)}]
    return options


@ray.remote
def _import_all() -> bool:
    """Have all that `_evaluate` needs imported: Ray sends a function with the globals that it names, and no more."""
    return callable(measure_cells)


@ray.remote(num_returns="streaming")
def _evaluate(job: Job) -> Iterator[Place | list[CellResult]]:
    place = place_here()
    yield place  # at once: a worker that dies tells nothing more
    yield measure_cells(job, place)
