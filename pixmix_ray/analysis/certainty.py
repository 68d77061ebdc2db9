"""How sure a comparison is: a paired bootstrap over pictures, and over seeds where there are several.

All configurations see the same pictures, so pictures are drawn once for all of them (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993): what a draw does to one network it does to all, and differences between networks
are surer than either figure. `pixmix_ray.analysis.influence` says how far each picture moves each measurement.

Seeds are trainings of their own, and too few to draw among: two or three drawn with replacement show too little. What
they add is normal, with the covariance of the seeds' objectives over the number of seeds, and widened so that its 95 %
interval is that of Student's t. Of one seed nothing is known about others: the interval is then one of pictures alone.

A difference is real at 95 % where it is larger, in standard errors of its own, than the largest among ALL differences
of the table is in 95 % of the draws (single-step maxT of Westfall and Young, "Resampling-Based Multiple Testing", 1993,
section 2.6): of all marks of a table together one is wrong in at most one table of twenty. Of more than `MAX_T`
configurations that would take minutes, and Bonferroni's bound, which marks a little less, takes its place.

Nothing here is kept of every pair: n configurations take memory of n times the draws.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.fronts import is_on_front
from pixmix_ray.errors import ResultsError
from pixmix_ray.metrics import UNITS, direction

DRAWS, LEVEL = 1000, 0.95
PAIRS = 10**8  # compared pairs of configurations at most, over all draws
MAX_T = 1500  # configurations of which all differences are drawn together
PAIR_ROWS = 10**7  # of a table of pairs
UNBOUNDED = ("ce", "mce", "flip_rate", "mfr", "brier_score")  # fractions that may exceed 1
Floats = NDArray[np.float64]
Rows = NDArray[np.intp] | slice
Block = tuple[slice, NDArray[np.float32]]
"""Some neighbouring configurations, and (U, rows, m) how far each picture of a set moves each of their values."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What n configurations' values in m objectives vary with.

    Attributes:
        values: (n, m), NaN where it was not measured.
        strata: for each set of U pictures the blocks, which are gone through once.
        seeds: for each configuration (S, m), the values of its seeds, NaN where a seed lacks one.
        others: (n, m) standard errors of the values that no picture's effect is known of; NaN where there is none.
        groups: (n,) numbers; only configurations of one group may be compared.
    """

    values: Floats
    strata: Mapping[str, Iterable[Block]]
    seeds: Sequence[Floats]
    others: Floats
    groups: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Certainty:
    """What is known of n configurations and m objectives.

    Attributes:
        objectives: m names "benchmark.metric".
        values: (n, m), NaN where it was not measured.
        costs: (m, n, B) draws, lower is better.
        by_pictures: (n, m) standard errors over pictures; NaN where not known.
        by_seeds: (n, m) standard errors over seeds; NaN for one seed.
        seeds: (n, m) how many seeds are behind each value.
        groups: (n,) as in `Spread`.
    """

    objectives: tuple[str, ...]
    values: Floats
    costs: NDArray[np.float32]
    by_pictures: Floats
    by_seeds: Floats
    seeds: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def signs(self) -> Floats:
        """(m,) 1 where lower is better, else -1."""
        return signs_of(self.objectives)

    @cached_property
    def intervals(self) -> Floats:
        """(n, m, 2) the 95 % intervals, within the range of the metric; NaN where nothing is known of the spread."""
        tail = 50 * (1 - LEVEL)
        ends = np.percentile(self.costs, [tail, 100 - tail], axis=2).transpose(2, 1, 0).astype(np.float64)
        found = np.sort(ends * self.signs[None, :, None], axis=2)
        found[~self.is_known] = math.nan
        tops = [math.inf if name in UNITS or name in UNBOUNDED else 1.0 for name in map(_metric, self.objectives)]
        return np.clip(found, 0.0, np.array(tops)[None, :, None])

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """(n, m) whether anything is known of the spread of a value."""
        return np.asarray(~np.isnan(self.by_pictures) | ~np.isnan(self.by_seeds))

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """(n,) whether a configuration has every objective."""
        return np.asarray(~np.isnan(self.values).any(axis=1))

    @cached_property
    def on_front(self) -> Floats:
        """(n,) the probability that nothing dominates a configuration; NaN for one that lacks an objective."""
        draws = self.costs.shape[2]
        found = np.full(len(self.groups), math.nan)
        for group in np.unique(self.groups):
            rows = np.flatnonzero((self.groups == group) & self.is_complete)
            counts = np.zeros(len(rows))
            for draw in range(draws):
                counts += is_on_front(self.costs[:, rows, draw].T)
            found[rows] = counts / draws
        return found

    def dominates(self, row: int, others: Rows = slice(None)) -> Floats:
        """The probability that a configuration dominates each of the others; NaN where they cannot be compared."""
        mine, theirs = self.costs[:, row, None], self.costs[:, others]
        found = ((mine <= theirs).all(axis=0) & (mine < theirs).any(axis=0)).mean(axis=1)
        return np.where(self._complete_with(row)[others], found, math.nan)

    def better(self, objective: int, row: int) -> Floats:
        """(n,) the probability that a configuration is better than each, ties counting half; NaN: not comparable."""
        cost = self.costs[objective]
        found = ((cost[row] < cost).mean(axis=1) + (cost[row] <= cost).mean(axis=1)) / 2
        is_there = ~np.isnan(self.values[:, objective])
        return np.where((self.groups == self.groups[row]) & is_there & is_there[row], found, math.nan)

    def better_everywhere(self, row: int) -> Floats:
        """(n,) the probability that a configuration is better than that of `row` in every objective."""
        is_better = (self.costs < self.costs[:, row, None]).all(axis=0).mean(axis=1)
        return np.where(self._complete_with(row), is_better, math.nan)

    def _complete_with(self, row: int) -> NDArray[np.bool_]:
        """(n,) which configurations can be compared with one in all objectives."""
        return np.asarray((self.groups == self.groups[row]) & self.is_complete & self.is_complete[row])

    def real(self, objective: int, better: int | Rows, worse: int | Rows) -> NDArray[np.bool_]:
        """Whether some are better than others, pair by pair, at 95 % for all differences of the table together.

        Args:
            objective: number of it.
            better: rows, or one row against each of the others.
            worse: likewise.
        """
        cost, errors = self.values[:, objective] * self.signs[objective], self._errors(objective, better, worse)
        gain = np.nan_to_num(cost[worse] - cost[better])
        with np.errstate(divide="ignore", invalid="ignore"):
            # no picture moves it: such as two networks that are right on all
            ratios = np.where(errors > 0, gain / errors, np.where(gain > 0, math.inf, 0.0))
        return np.asarray(ratios > self._critical)

    @cached_property
    def comparisons(self) -> int:
        """How many differences `real` judges together."""
        sizes = [np.bincount(self.groups[judged]) for judged in self._is_judged.T]
        return sum(int((size * (size - 1) // 2).sum()) for size in sizes)

    @property
    def _is_judged(self) -> NDArray[np.bool_]:
        """(n, m) the values that are there, and whose spread is known."""
        return ~np.isnan(self.values) & self.is_known

    def _errors(self, objective: int, one: int | Rows, other: int | Rows) -> Floats:
        """Standard errors of the differences, pair by pair; infinite where they are not judged."""
        cost, judged = self.costs[objective], self._is_judged[:, objective]
        squares = (cost[one] - cost[other]).var(axis=-1, dtype=np.float64)
        variances = cost[one].var(axis=-1, dtype=np.float64) + cost[other].var(axis=-1, dtype=np.float64)
        squares = np.where(squares < 1e-9 * variances, 0.0, squares)  # dust of float32 where two rows move as one
        is_comparable = (self.groups[one] == self.groups[other]) & judged[one] & judged[other]
        return np.where(is_comparable, np.sqrt(squares), math.inf)

    @cached_property
    def _critical(self) -> float:
        """How many standard errors the largest of all differences exceeds in one draw of twenty."""
        if len(self.groups) > MAX_T:
            from scipy.special import ndtri  # slow to import

            return float(-ndtri((1 - LEVEL) / 2 / max(self.comparisons, 1)))
        largest = np.zeros(self.costs.shape[2], dtype=np.float32)
        for objective, cost in enumerate(self.costs):
            centre = (self.values[:, objective] * self.signs[objective]).astype(np.float32)
            moved = np.nan_to_num(cost - centre[:, None])
            errors = self._all_errors(objective)
            # 0 where they are not judged, or no picture moves the difference
            precision = np.divide(1, errors, out=np.zeros_like(errors), where=errors > 0)
            for row in range(len(moved) - 1):
                far = np.abs(moved[row + 1 :] - moved[row])
                far *= precision[row, row + 1 :, None]
                np.maximum(largest, far.max(axis=0), out=largest)
        return float(np.quantile(largest, LEVEL))

    def _all_errors(self, objective: int) -> NDArray[np.float32]:
        """(n, n) `_errors` of all pairs, by one product of matrices."""
        centred = self.costs[objective] - self.costs[objective].mean(axis=1, keepdims=True)
        products = (centred @ centred.T).astype(np.float64) / centred.shape[1]
        sums = np.diag(products)[:, None] + np.diag(products)
        squares = np.maximum(sums - 2 * products, 0.0)
        squares[squares < 1e-9 * sums] = 0.0
        judged = self._is_judged[:, objective]
        is_comparable = (self.groups[:, None] == self.groups) & judged & judged[:, None]
        return np.where(is_comparable, np.sqrt(squares), math.inf).astype(np.float32)


def bootstrap(
    spread: Spread, objectives: Sequence[str], *, draws: int = DRAWS, seed: int = 0, trainings: int = 0
) -> Certainty:
    """Draw pictures and seeds, and see how the values move.

    The same spread, draws and seed give the same numbers. Of many configurations fewer draws are made: pairs of them
    are compared in every draw.

    Args:
        spread: what the values vary with; unchanged.
        objectives: their m names "benchmark.metric".
        draws: how many.
        seed: of the draws.
        trainings: number of the results, where two are compared: pictures are drawn alike for all numbers, and what
            seeds add for each by itself.
    """
    n, m = spread.values.shape
    count = max(100, min(draws, PAIRS // max(n * n, 1)))
    generator = np.random.default_rng([seed, trainings, n, m])
    moved = np.zeros((count, n * m), dtype=np.float32)
    squares = np.zeros((n, m))
    drawn = moved.reshape(count, n, m)
    for name in sorted(spread.strata):
        weights: NDArray[np.float32] | None = None
        for rows, effects in spread.strata[name]:
            if weights is None:
                # of their name and number, so that two results of the same pictures see the same ones drawn
                own = np.random.default_rng([seed, zlib.crc32(name.encode()), len(effects)])
                weights = _weights(own, count, len(effects))
            flat = effects.reshape(len(effects), -1)
            drawn[:, rows] += (weights @ flat).reshape(count, -1, m)
            squares[rows] += np.einsum("ij,ij->j", flat, flat, dtype=np.float64).reshape(-1, m)
    others = np.nan_to_num(spread.others)
    moved += generator.standard_normal((count, n * m), dtype=np.float32) * others.ravel().astype(np.float32)
    counts, by_seeds = np.zeros((n, m), dtype=np.int64), np.full((n, m), math.nan)
    for row, values in enumerate(spread.seeds):
        counts[row], by_seeds[row], part = _of_seeds(generator, count, values)
        drawn[:, row] += part
    by_pictures = np.sqrt(squares + others**2)
    by_pictures[(squares == 0) & np.isnan(spread.others)] = math.nan
    costs = np.empty((m, n, count), dtype=np.float32)
    for column, sign in enumerate(signs_of(objectives)):  # one by one: the sums take twice the memory
        costs[column] = ((spread.values[:, column] + drawn[:, :, column]) * sign).T
    return Certainty(
        objectives=tuple(objectives),
        values=spread.values,
        costs=costs,
        by_pictures=by_pictures,
        by_seeds=by_seeds,
        seeds=counts,
        groups=spread.groups,
    )


def signs_of(objectives: Sequence[str]) -> Floats:
    """(m,) 1 where lower is better, else -1."""
    return np.array([1.0 if direction(_metric(name)) == "lower" else -1.0 for name in objectives])


def _metric(objective: str) -> str:
    return objective.rpartition(".")[2]


def _weights(generator: np.random.Generator, draws: int, pictures: int) -> NDArray[np.float32]:
    """(draws, pictures) how many times more than once each picture is drawn.

    Each picture by itself, a Poisson number of mean 1, which is what drawing as many as there are comes to for many
    pictures (Hanley and MacGibbon, "Creating non-parametric bootstrap samples using Poisson frequencies", Computer
    Methods and Programs in Biomedicine 83, 2006), in a fifth of the time.
    """
    return _TIMES[generator.integers(0, len(_TIMES), (draws, pictures), dtype=np.uint16)]


def _times() -> NDArray[np.float32]:
    """(65536,) a Poisson number of mean 1, less 1, for each value of 16 bits, in its share of them."""
    shares = np.exp(-1.0) / np.cumprod(np.maximum(np.arange(16), 1))
    ends = np.round(np.cumsum(shares) * 2**16).astype(np.int64)
    return np.searchsorted(ends, np.arange(2**16), side="right").astype(np.float32) - 1


_TIMES = _times()


def _of_seeds(
    generator: np.random.Generator, draws: int, values: Floats
) -> tuple[NDArray[np.int64], Floats, NDArray[np.float32]]:
    """(m,) how many seeds, (m,) their standard error, and (draws, m) what they add to each draw."""
    is_there = ~np.isnan(values)
    from scipy.special import ndtri, stdtrit  # slow to import

    counts = is_there.sum(axis=0)
    several = counts > 1
    if not several.any():
        return counts, np.full(len(counts), math.nan), np.zeros((draws, len(counts)), dtype=np.float32)
    deviations = np.where(is_there, values - np.nansum(values, axis=0) / np.maximum(counts, 1), 0.0)
    deviations[:, ~several] = 0.0
    freedom = np.maximum(counts - 1, 1)
    scaled = deviations / np.sqrt(freedom * np.maximum(counts, 1))
    errors = np.where(several, np.sqrt((scaled**2).sum(axis=0)), math.nan)
    tail = (1 + LEVEL) / 2
    widened = scaled * stdtrit(freedom, tail) / ndtri(tail)
    added = generator.standard_normal((draws, len(values)), dtype=np.float32) @ widened.astype(np.float32)
    return counts, errors, added


def summary(certainty: Certainty, labels: Sequence[str]) -> pd.DataFrame:
    """A row for each configuration and objective: value, its 95 % interval, and what of the spread is due to what.

    Columns: label, objective, value, low, high, standard_error_pictures, standard_error_seeds (NaN for one seed),
    seeds, seeds_share (of the variance), on_front (of the configuration).
    """
    n, m = certainty.values.shape
    pictures, seeds = np.nan_to_num(certainty.by_pictures) ** 2, np.nan_to_num(certainty.by_seeds) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(certainty.seeds > 1, seeds / (pictures + seeds), math.nan)
    columns = {
        "label": np.repeat(np.array(labels, dtype=object), m),
        "objective": np.tile(np.array(certainty.objectives, dtype=object), n),
        "value": certainty.values.ravel(),
        "low": certainty.intervals[..., 0].ravel(),
        "high": certainty.intervals[..., 1].ravel(),
        "standard_error_pictures": certainty.by_pictures.ravel(),
        "standard_error_seeds": certainty.by_seeds.ravel(),
        "seeds": certainty.seeds.ravel(),
        "seeds_share": share.ravel(),
        "on_front": np.repeat(certainty.on_front, m),
    }
    return pd.DataFrame(columns)


def pairs(certainty: Certainty, labels: Sequence[str]) -> pd.DataFrame:
    """A row for each ordered pair of configurations that may be compared: how surely one is better than the other.

    Columns: better, worse (labels); dominates, the probability that the first dominates the second; for each objective
    the probability that it is better there, ties counting half, NaN where one of them lacks it.

    Raises:
        ResultsError: there are more than `PAIR_ROWS`.
    """
    n = len(labels)
    if n * (n - 1) > PAIR_ROWS:
        raise ResultsError(
            f"{n:,} configurations have {n * (n - 1):,} pairs, more than {PAIR_ROWS:,}: choose with --where"
        )
    may = certainty.groups[:, None] == certainty.groups
    np.fill_diagonal(may, False)
    names = np.array(labels, dtype=object)
    columns = {"better": np.repeat(names, may.sum(axis=1)), "worse": names[np.nonzero(may)[1]]}
    columns["dominates"] = np.stack([certainty.dominates(row) for row in range(n)])[may]
    for number, name in enumerate(certainty.objectives):
        columns[name] = np.stack([certainty.better(number, row) for row in range(n)])[may]
    return pd.DataFrame(columns)


def improvers(certainty: Certainty, baseline: int) -> pd.DataFrame:
    """Which configurations improve on the one of row `baseline` in EVERY objective, and how surely.

    The claim that the paper makes of PixMix (section 4). Columns, a row each in order: better and worse, in how many
    objectives; really_better and really_worse, likewise at 95 % (`Certainty.real`); in_every (bool);
    really_in_every (bool); probability that it is better in every one. A configuration that lacks an objective, or is
    of another data set, has in_every False and probability NaN.
    """
    gain = certainty.signs * (certainty.values[baseline] - certainty.values)
    m = len(certainty.objectives)
    everyone = slice(None)
    really, really_worse = (
        np.sum([certainty.real(objective, *pair) for objective in range(m)], axis=0)
        for pair in ((everyone, baseline), (baseline, everyone))
    )
    probability = certainty.better_everywhere(baseline)
    may = ~np.isnan(probability)
    better = (gain > 0).sum(axis=1)
    return pd.DataFrame(
        {
            "better": np.where(may, better, 0),
            "worse": np.where(may, (gain < 0).sum(axis=1), 0),
            "really_better": np.where(may, really, 0),
            "really_worse": np.where(may, really_worse, 0),
            "in_every": may & (better == m),
            "really_in_every": may & (really == m),
            "probability": np.where(np.arange(len(may)) == baseline, math.nan, probability),
        }
    )
