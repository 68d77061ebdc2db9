"""The order of work: what is expected to take longest comes first, so that no long piece is left alone at the end."""

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from statistics import median

from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning.plan import Cell, Prices

TOGETHER_SECONDS = 1.0  # at most, for cells that share a task: it ends soon enough for whatever waits behind it
MEASURED = 9  # cells of each benchmark
PICTURES = 10_000  # of a test set, where a benchmark has no limit: only ratios matter


class LongestFirst:
    """A queue of cells that gives the longest first, and those of the same length in the order in which they came."""

    def __init__(self, seconds: Callable[[Cell], float]) -> None:
        """An empty queue; `seconds` says how long a cell is expected to take, in any unit."""
        self._seconds = seconds
        self._heap: list[tuple[float, int, Cell]] = []  # with cells that were taken out of turn
        self._of_trial: dict[str, dict[int, Cell]] = {}  # all that wait, by the numbers that they have in the heap
        self._count = itertools.count()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def append(self, cell: Cell) -> None:
        """Let a cell wait."""
        number = next(self._count)
        heapq.heappush(self._heap, (-self._seconds(cell), number, cell))
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

    def take_those_of(self, trial: Trial) -> list[Cell]:
        """Take all cells of a trial."""
        return [self._take(trial.id, number) for number in list(self._of_trial.get(trial.id, ()))]

    def _take(self, trial_id: str, number: int) -> Cell:
        others = self._of_trial[trial_id]
        cell = others.pop(number)
        if not others:
            del self._of_trial[trial_id]
        self._waiting -= 1
        return cell


class CellSeconds:
    """How long a cell takes: what this run has measured of its benchmark, before that what is known from others."""

    def __init__(self, prices: Prices) -> None:
        """Nothing is measured yet."""
        self._prices = prices
        self._measured: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MEASURED))

    def add(self, cell: Cell, seconds: float) -> None:
        """A cell took so long."""
        self._measured[cell.run.key].append(seconds)

    def known(self, cell: Cell) -> float | None:
        """The median of the newest; not the mean, as the first cell of each worker pays for its imports."""
        measured = self._measured.get(cell.run.key)
        return median(measured) if measured else self._prices.cell(cell)


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
