"""The order of cells: what is expected to take longest comes first, so that no long piece is left alone at the end."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pixmix_ray.experiment.external import Source

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Cell

TOGETHER_SECONDS = 1.0  # at most, for cells that share a task: it ends soon enough for whatever waits behind it


class LongestFirst:
    """A queue of cells that gives the longest first, and those of the same length in the order in which they came."""

    def __init__(self, length: Mapping[str, float]) -> None:
        """An empty queue; `length` says by key of the benchmark how long a cell is expected to take, in any unit."""
        self._length = length
        self._heap: list[tuple[float, int, Cell]] = []  # with cells that were taken out of turn
        self._of_trial: dict[str, dict[int, Cell]] = {}  # all that wait, by the numbers that they have in the heap
        self._count = itertools.count()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def append(self, cell: Cell) -> None:
        """Let a cell wait."""
        number = next(self._count)
        heapq.heappush(self._heap, (-self._length.get(cell.run.key, 0.0), number, cell))
        self._of_trial.setdefault(cell.trial.id, {})[number] = cell
        self._waiting += 1

    def extend(self, cells: Iterable[Cell]) -> None:
        """Let several wait."""
        for cell in cells:
            self.append(cell)

    def popleft(self) -> Cell:
        """Take the longest."""
        while True:
            _, number, cell = heapq.heappop(self._heap)
            if number in self._of_trial.get(cell.trial.id, ()):
                return self._take(cell.trial.id, number)

    def take_together(self, seconds: Callable[[Cell], float | None], at_most: int) -> list[Cell]:
        """Take the longest, and with it others of its trial, as long as all together are known to be short.

        Args:
            seconds: that a cell takes; None where that is not known.
            at_most: so many.
        """
        taken = [self.popleft()]
        total, trial_id = seconds(taken[0]), taken[0].trial.id
        for number, cell in list(self._of_trial.get(trial_id, {}).items()):
            if total is None or len(taken) >= at_most:
                break
            more = seconds(cell)
            if more is not None and total + more <= TOGETHER_SECONDS:
                taken.append(self._take(trial_id, number))
                total += more
        return taken

    def take_those_of(self, trial: Source) -> list[Cell]:
        """Take all cells of a trial."""
        return [self._take(trial.id, number) for number in list(self._of_trial.get(trial.id, ()))]

    def _take(self, trial_id: str, number: int) -> Cell:
        others = self._of_trial[trial_id]
        cell = others.pop(number)
        if not others:
            del self._of_trial[trial_id]
        self._waiting -= 1
        return cell
