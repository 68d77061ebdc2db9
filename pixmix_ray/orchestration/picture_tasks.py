"""Pictures made as Ray tasks: those of mixing sets that are missing, and those of benchmarks ahead of their use.

Mixing sets before a run, one shard a task, on whatever node has room. The driver, which holds the lock of the cache
entry, writes each shard as its task ends, so that it does not matter whether the nodes share a file system, and whoever
is killed, a worker, its node or the driver, no finished shard is drawn again. The entry lies in the cache of the
driver's node; a node with a cache of its own makes its own when the first of its trials asks for it, under that cache's
lock.

Benchmarks' pictures while networks train, once on every node that has a cache of its own. Their tasks have the cores
that trials leave free and no evaluation has asked for, so that most of them are there when the first trial has its
checkpoint. A node that finds them in its cache, such as one that shares it, makes nothing. A task that fails is not
tried again: whatever is missing the evaluation makes itself, and tells what is wrong.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pixmix_ray.errors import one_line
from pixmix_ray.evaluation.pictures_ahead import PictureWork, make
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.mixing_sets.generated import DrawingProgress, ShardedWork, drawing_with
from pixmix_ray.orchestration import session
from pixmix_ray.orchestration.nodes import Node, fitting

RETRIES = 3  # of a task that draws a shard, whose worker or node died
POLL_SECONDS = 1.0
CPUS = 1.0  # of a task for a benchmark; less where an evaluation takes less

Images = NDArray[np.uint8]


def prepare(sweep: Experiment, connect: Callable[[], None]) -> None:
    """`Experiment.prepare`, with the pictures that are missing drawn by the Ray cluster.

    Args:
        sweep: whose data are prepared.
        connect: connects to Ray, or does nothing where that is done; called if there is much to draw, so that broken
            files are named before a cluster is started.

    Raises:
        DataError: as `Experiment.prepare`.
    """

    def draw(work: ShardedWork, numbers: Sequence[int], progress: DrawingProgress) -> None:
        connect()
        draw_as_tasks(work, numbers, progress)

    with drawing_with(draw):
        sweep.prepare()


def draw_as_tasks(work: ShardedWork, numbers: Sequence[int], progress: DrawingProgress) -> None:
    """Have Ray tasks draw the shards `numbers`, and write each as it comes; what fails there is left undone."""
    nodes = session.nodes()
    num_gpus = 1 if work.uses_network and any(node.resources.get("GPU", 0) for node in nodes) else 0
    places = sum(node.resources.get("GPU" if num_gpus else "CPU", 0) for node in nodes)
    if places < 1:  # a cluster without a free core: all is drawn here
        return
    task = _drawn.options(num_cpus=1, num_gpus=num_gpus, max_retries=RETRIES, scheduling_strategy="SPREAD")
    sent = ray.put(work)
    failures: list[str] = []
    at_once = 2 * round(places)  # so that a free place never waits for us
    for number, drawn in _as_they_end(lambda number: task.remote(sent, number), numbers, at_once, progress):
        try:
            work.write(number, ray.get(drawn))
        except ray.exceptions.RayError as error:
            failures.append(one_line(error))
    if failures:
        progress.report(f"drawing {work.name}: {len(failures)} of {len(numbers)} Ray tasks failed, as {failures[0]}")


def _as_they_end(
    start: Callable[[int], "ray.ObjectRef[Images]"], numbers: Sequence[int], at_once: int, progress: DrawingProgress
) -> Iterator[tuple[int, "ray.ObjectRef[Images]"]]:
    """Start the tasks of all numbers, so many at once, and return each with its number once it has ended."""
    waiting = deque(numbers)
    in_flight: dict[ray.ObjectRef[Images], int] = {}
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < at_once:
                number = waiting.popleft()
                in_flight[start(number)] = number
            ended, _ = ray.wait(list(in_flight), num_returns=len(in_flight), timeout=POLL_SECONDS)
            for reference in ended:
                yield in_flight.pop(reference), reference
            progress.tell()
    finally:  # also when interrupted
        for reference in in_flight:
            ray.cancel(reference, force=True)


@ray.remote
def _drawn(work: ShardedWork, number: int) -> Images:
    torch.set_num_threads(1)
    return work.drawn(number)


class PictureTasks:
    """The tasks of a run."""

    def __init__(self, works: Sequence[PictureWork], resources: Resources) -> None:
        """Without tasks in flight.

        Args:
            works: what is to be made.
            resources: what trials and evaluations take.
        """
        self._works, self._resources = works, resources
        self._cpus = min(CPUS, resources.evaluation.cpus) or CPUS
        self._left: dict[str, deque[PictureWork]] = {}  # by node
        self._running: dict[ray.ObjectRef[None], str] = {}

    def keep_going(self, nodes: Sequence[Node], evaluations: int) -> None:
        """Start as many tasks as there are cores that trials leave free on each node; called several times a second.

        Args:
            nodes: that live.
            evaluations: in flight: each takes the place of a task.
        """
        if not self._works:
            return
        if self._running:
            ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            for task in ended:
                del self._running[task]
        for number, node in enumerate(nodes):
            if node.node_id not in self._left:
                first = number * len(self._works) // len(nodes)  # nodes that share a cache do not wait for each other
                self._left[node.node_id] = deque([*self._works[first:], *self._works[:first]])
            left, here = self._left[node.node_id], list(self._running.values()).count(node.node_id)
            for _ in range(min(len(left), self._room(node) - here - evaluations)):
                at = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
                task = _make.options(num_cpus=self._cpus, scheduling_strategy=at).remote(left.popleft())
                self._running[task] = node.node_id

    def cancel(self) -> None:
        """End all tasks; what they have made stays."""
        for task in self._running if ray.is_initialized() else ():
            ray.cancel(task, force=True)
        self._running.clear()
        self._works = ()

    def _room(self, node: Node) -> int:
        """How many tasks the cores of a node hold beside as many trials as fit on it."""
        trial = self._resources.trial.of_worker()
        taken = fitting(node, trial, beside=self._resources.evaluation) * trial.cpus
        return int((node.resources.get("CPU", 0) - taken) / self._cpus)


@ray.remote(num_gpus=0, max_retries=0)
def _make(work: PictureWork) -> None:
    torch.set_num_threads(1)
    make(work)
