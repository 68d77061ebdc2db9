"""The order of work: what is expected to take longest comes first, so that no long piece is left alone at the end."""

import heapq
import itertools
from collections.abc import Callable, Iterable

from pixmix_ray.results.plan import Cell, Prices
from pixmix_ray.trial import Trial

PICTURES = 10_000  # of a test set, where a benchmark has no limit: only ratios matter


class LongestFirst:
    """A queue of cells that gives the longest first, and those of the same length in the order in which they came."""

    def __init__(self, seconds: Callable[[Cell], float]) -> None:
        """An empty queue; `seconds` says how long a cell is expected to take, in any unit."""
        self._seconds = seconds
        self._heap: list[tuple[float, int, Cell]] = []
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def append(self, cell: Cell) -> None:
        """Let a cell wait."""
        heapq.heappush(self._heap, (-self._seconds(cell), next(self._count), cell))

    def extend(self, cells: Iterable[Cell]) -> None:
        """Let several wait."""
        for cell in cells:
            self.append(cell)

    def popleft(self) -> Cell:
        """Take the longest."""
        return heapq.heappop(self._heap)[2]

    def take_those_of(self, trial: Trial) -> list[Cell]:
        """Take all cells of a trial."""
        taken = [entry for entry in self._heap if entry[2].trial is trial]
        self._heap = [entry for entry in self._heap if entry[2].trial is not trial]
        heapq.heapify(self._heap)
        return [cell for _, _, cell in sorted(taken, key=lambda entry: entry[:2])]


def longest_trials_first(trials: Iterable[Trial], prices: Prices) -> list[Trial]:
    """The trials by the seconds that they are expected to take; without history by their epochs."""
    known = [(trial, prices.trial(trial)) for trial in trials]
    epochs = sum(trial.training.epochs for trial, price in known if price is not None)
    an_epoch = sum(price for _, price in known if price is not None) / epochs if epochs else 1.0
    expected = {trial: price if price is not None else an_epoch * trial.training.epochs for trial, price in known}
    return sorted(expected, key=lambda trial: -expected[trial])  # stable: equals stay in the order of the sweep


def expected_cell_seconds(cells: Iterable[Cell], prices: Prices) -> Callable[[Cell], float]:
    """How long each cell is expected to take: from history, else in proportion to its passes through the network."""
    known = {cell.run.key: (prices.cell(cell), _passes(cell)) for cell in cells}
    seconds = sum(price for price, _ in known.values() if price is not None)
    passes = sum(passes for price, passes in known.values() if price is not None)
    a_pass = seconds / passes if seconds else 1.0

    def expected(cell: Cell) -> float:
        price = prices.cell(cell)
        return a_pass * _passes(cell) if price is None else price

    return expected


def _passes(cell: Cell) -> float:
    settings = cell.run.benchmark.settings
    return settings.passes * (settings.limit or PICTURES)
