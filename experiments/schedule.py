"""List scheduling: how long a sweep takes on given nodes if no slot waits for anything but work.

Graham, Bounds on Multiprocessing Timing Anomalies, SIAM Journal on Applied Mathematics, 1969: whenever something fits,
the first of the list that fits starts. Longest first is at most a third above the optimum for independent jobs on one
kind of slot. Here a trial's cells come to the list when the trial ends, and shares may be fractions.

What is not covered: the start of processes, transfer of data, and work that slows down beside other work.
"""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pixmix_ray.experiment.resources import Resources, Share

First = Literal["trials", "cells"]
ROUNDING = 1e-9  # ten tenths of a GPU are a GPU


@dataclass(frozen=True, kw_only=True)
class TrialTime:
    """How long a trial takes, 0 if it is done, and how long each of its cells takes after it, all in seconds."""

    seconds: float
    cells: tuple[float, ...] = ()


@dataclass
class _Free:
    """What is free on a node."""

    cpus: float
    gpus: float

    def holds(self, share: Share) -> bool:
        return self.cpus >= share.cpus - ROUNDING and self.gpus >= share.gpus - ROUNDING

    def take(self, share: Share, times: int = 1) -> None:
        self.cpus -= times * share.cpus
        self.gpus -= times * share.gpus


def list_makespan(
    trials: Sequence[TrialTime],
    nodes: Sequence[Share],
    resources: Resources,
    *,
    first: First = "trials",
    at_once: int | None = None,
) -> float:
    """Seconds until all trials and cells are done, longest first, on idle nodes; infinite if something never fits.

    Args:
        trials: what is to do.
        nodes: the CPUs and GPUs of each node.
        resources: the shares of a trial and of a cell.
        first: whether a trial or a cell starts where both could.
        at_once: so many trials run at the same time at most; None: as many as fit.

    >>> two = [TrialTime(seconds=3, cells=(1, 1)), TrialTime(seconds=2, cells=(1,))]
    >>> list_makespan(two, [Share(cpus=2)], Resources())
    4.0
    """
    schedule = _Schedule(trials, nodes, resources, at_once)
    starts = (schedule.start_trial, schedule.start_cell)
    while True:
        while any(start() for start in (starts if first == "trials" else reversed(starts))):
            pass
        if not schedule.running:
            return float("inf") if schedule.waiting or schedule.cells else schedule.now
        schedule.end_next()


class _Schedule:
    """What waits, what runs and what is free at one moment of a list schedule."""

    def __init__(
        self, trials: Sequence[TrialTime], nodes: Sequence[Share], resources: Resources, at_once: int | None
    ) -> None:
        self.free = [_Free(cpus=node.cpus, gpus=node.gpus) for node in nodes]
        self.resources, self.at_once = resources, at_once
        self.waiting = sorted((trial for trial in trials if trial.seconds > 0), key=lambda trial: trial.seconds)
        self.cells = [-cell for trial in trials if trial.seconds <= 0 for cell in trial.cells]
        heapq.heapify(self.cells)
        self.running: list[tuple[float, int, int, TrialTime | None]] = []  # end, tie breaker, node, the trial or a cell
        self.ties = itertools.count()
        self.training, self.now = 0, 0.0

    def start_trial(self) -> bool:
        """Start the longest trial, if it fits."""
        if not self.waiting or (self.at_once is not None and self.training >= self.at_once):
            return False
        node = _fitting_node(self.free, self.resources.trial)
        if node is None:
            return False
        trial = self.waiting.pop()
        self.training += 1
        self.free[node].take(self.resources.trial)
        heapq.heappush(self.running, (self.now + trial.seconds, next(self.ties), node, trial))
        return True

    def start_cell(self) -> bool:
        """Start the longest cell, if it fits."""
        node = _fitting_node(self.free, self.resources.evaluation) if self.cells else None
        if node is None:
            return False
        self.free[node].take(self.resources.evaluation)
        end = self.now - heapq.heappop(self.cells)
        heapq.heappush(self.running, (end, next(self.ties), node, None))
        return True

    def end_next(self) -> None:
        """Go to the moment at which the next trial or cell ends."""
        self.now, _, node, ended = heapq.heappop(self.running)
        self.free[node].take(self.resources.evaluation if ended is None else self.resources.trial, times=-1)
        if ended is not None:
            self.training -= 1
            for cell in ended.cells:
                heapq.heappush(self.cells, -cell)


def best_list_makespan(trials: Sequence[TrialTime], nodes: Sequence[Share], resources: Resources) -> float:
    """The shorter of the list schedules with trials first and with cells first."""
    orders: tuple[First, ...] = ("trials", "cells")
    return min(list_makespan(trials, nodes, resources, first=first) for first in orders)


def lower_bound(trials: Sequence[TrialTime], nodes: Sequence[Share], resources: Resources) -> float:
    """Seconds that no schedule can beat: all work spread evenly over each resource, or the longest trial and its cell.

    >>> two = [TrialTime(seconds=3, cells=(1, 1)), TrialTime(seconds=2, cells=(1,))]
    >>> lower_bound(two, [Share(cpus=2)], Resources())
    4.0
    """
    training = sum(trial.seconds for trial in trials)
    evaluation = sum(sum(trial.cells) for trial in trials)
    demands = [
        (sum(node.cpus for node in nodes), training * resources.trial.cpus + evaluation * resources.evaluation.cpus),
        (sum(node.gpus for node in nodes), training * resources.trial.gpus + evaluation * resources.evaluation.gpus),
    ]
    spread = [demand / capacity for capacity, demand in demands if capacity > 0]
    longest = max((trial.seconds + max(trial.cells, default=0) for trial in trials), default=0)
    return float(max([longest, *spread]))


def _fitting_node(free: Sequence[_Free], share: Share) -> int | None:
    """The node with the fewest GPUs and CPUs left that still holds the share, so that large gaps stay whole."""
    holding = [index for index, node in enumerate(free) if node.holds(share)]
    return min(holding, key=lambda index: (free[index].gpus, free[index].cpus), default=None)
