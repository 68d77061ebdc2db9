"""Pictures of benchmarks made by Ray tasks, once on every node that has a cache of its own.

They have the cores that trials leave free and no evaluation has asked for, so that most of them are there when the
first trial has its checkpoint. A node that finds them in its cache, such as one that shares it, makes nothing. A task
that fails is not tried again: whatever is missing the evaluation makes itself, and tells what is wrong.
"""

from collections import deque
from collections.abc import Sequence

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pixmix_ray.evaluation.pictures_ahead import PictureWork, make
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.orchestration.nodes import Node, fitting

CPUS = 1.0  # of a task; less where an evaluation takes less


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
