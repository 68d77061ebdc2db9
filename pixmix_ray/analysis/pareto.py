"""Which configurations are Pareto-optimal: no other one is as good in every objective and better in one.

Definition: configuration a dominates b if a is at least as good as b in every objective and strictly better in at
least one; the Pareto front is what nothing dominates (the maxima of Kung, Luccio & Preparata, "On Finding the Maxima of
a Set of Vectors", Journal of the ACM 22(4), 1975). So of two equal configurations neither dominates the other, and both
may be on the front. Which direction is better comes from `pixmix_ray.metrics.direction`.

An objective is named benchmark.metric, such as "corruptions.mce", and means the benchmark's aggregate: no condition, no
severity. A configuration is everything of a trial but its seed; its objectives are means over its seeds. Sums are
exact, and means that differ by less than 1e-12 are equal: rounding decides nothing. Where an objective lacks some seeds
of a configuration, two configurations are compared by the means over the seeds that both have, if there are any.
Configurations trained on different data sets are never compared. One that lacks an objective is never on the front and
dominates nothing.

The front alone is moocore's (`pixmix_ray.analysis.fronts`), fast for 100,000 rows. What names who dominates whom
compares every pair: O(n^2 m) time for n configurations and m objectives, in O(n) memory, some rows at a time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.fronts import is_on_front
from pixmix_ray.analysis.means import DECIMALS, check_numbers, costs_by_seed, exact_means
from pixmix_ray.analysis.variants import OneWay, ways
from pixmix_ray.errors import ResultsError, UnknownNameError
from pixmix_ray.metrics import direction
from pixmix_ray.storage.schema import CONFIGURATION

SAFETY_OBJECTIVES: tuple[str, ...] = (
    "clean.error",
    "corruptions.mce",
    "consistency.mfr",
    "adversaries.error",
    "corruptions.rms_calibration_error",
    "anomalies.auroc",
)
"""Clean error and the paper's five safety measures (PixMix, section 3.1), in the order of its table 1."""

_LONG = ("benchmark", "metric", "value")
MANY = 10_000
"""Rows up to which all that dominate a row are named."""

_CHUNK = 256  # rows compared with all others at a time: 256 x 10,000 booleans are 2.5 MB


def pareto_front(frame: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The rows of the wide frame that no other row dominates, in their order and with their row labels.

    By hand: b is worse than a in both objectives; c is worse than a in error but better in AUROC.

    >>> wide = pd.DataFrame(
    ...     {"method": ["a", "b", "c"], "clean.error": [0.1, 0.2, 0.3], "anomalies.auroc": [0.8, 0.7, 0.9]}
    ... )
    >>> list(pareto_front(wide, ["clean.error", "anomalies.auroc"]).method)
    ['a', 'c']

    Args:
        frame: measurements as read from the store (long), or a wide frame with a column for each objective; unchanged.
        objectives: names "benchmark.metric"; at least one.

    Raises:
        UnknownNameError: an objective that the frame does not hold, or whose metric has no direction.
        ResultsError: as `by_configuration`.
    """
    comparison = _compare(frame, objectives)
    return comparison.wide[_is_on_front(comparison)]


def front(measurements: pd.DataFrame, objectives: Sequence[str] | None = None) -> pd.DataFrame:
    """The configurations that nothing dominates, a row each, with the objectives and their standard errors.

    Args:
        measurements: `pixmix_ray.read(...).measurements`, or `pixmix_ray.run(...).measurements`; unchanged.
        objectives: names "benchmark.metric"; default: clean error and the paper's safety measures.

    Raises:
        UnknownNameError: an objective that the measurements do not hold.
        ResultsError: a benchmark was measured in several variants, which are never on one front.
    """
    return pareto_front(measurements, list(objectives or default_objectives(measurements)))


def dominance(frame: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The wide frame with three more columns that say who is on the front and, if not, why.

    `on_front` (bool); `dominated_by` (list of the row labels of all that dominate the row, in their order; of more than
    `MANY` rows those on the front alone); `missing` (list of the objectives that the row lacks: such a row is not on
    the front, and nothing dominates it).

    >>> wide = pd.DataFrame({"method": ["a", "b", "c"], "clean.error": [0.1, 0.2, None]})
    >>> dominance(wide, ["clean.error"])[["on_front", "dominated_by", "missing"]].values.tolist()
    [[True, [], []], [False, [0], []], [False, [], ['clean.error']]]

    Args:
        frame: as for `pareto_front`; unchanged.
        objectives: as for `pareto_front`.

    Raises:
        UnknownNameError: as `pareto_front`.
        ResultsError: as `by_configuration`; also row labels of a wide frame that repeat.
    """
    comparison = _compare(frame, objectives)
    wide = comparison.wide.copy()
    if not wide.index.is_unique:
        twice = wide.index[wide.index.duplicated()][0]
        raise ResultsError(
            f"row label {twice!r} stands twice, and dominated_by names rows by it: give frame.reset_index(drop=True)"
        )
    among = np.flatnonzero(_is_on_front(comparison)) if len(wide) > MANY else np.arange(len(wide))
    labels = wide.index[among].tolist()
    dominated_by = [
        [labels[i] for i in np.flatnonzero(row).tolist()] for chunk in _dominators(comparison, among) for row in chunk
    ]
    wide["on_front"] = [
        complete and not rows for complete, rows in zip(comparison.is_complete.tolist(), dominated_by, strict=True)
    ]
    wide["dominated_by"] = pd.Series(dominated_by, index=wide.index, dtype=object)
    missing = [[comparison.objectives[j] for j in np.flatnonzero(row)] for row in np.isnan(comparison.costs)]
    wide["missing"] = pd.Series(missing, index=wide.index, dtype=object)
    return wide


def by_configuration(frame: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The wide frame of long measurements: one row a configuration, in the order of first appearance.

    Columns: those of `schema.CONFIGURATION` that the frame has; `seeds` (how many the configuration has); for each
    objective its mean over the seeds that have it, NaN where none has; then for each `<objective>.standard_error`: over
    the seeds where there are several, else that of the one measurement (NaN where it is not known); then for each
    `<objective>.seeds`: over how many seeds the mean is.

    >>> rows = [("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.4)]
    >>> long = pd.DataFrame(rows, columns=["method", "seed", "value"]).assign(benchmark="clean", metric="error")
    >>> by_configuration(long, ["clean.error"])[["method", "seeds", "clean.error"]].values.tolist()
    [['a', 2, 0.2], ['b', 1, 0.4]]

    Args:
        frame: measurements, with at least benchmark, metric, value and one column of `CONFIGURATION`; unchanged.
        objectives: names "benchmark.metric"; at least one.

    Raises:
        UnknownNameError: an objective of which the frame has no aggregate.
        ResultsError: the columns are missing; a benchmark was measured in several variants (settings or data version)
            on one data set, which are never averaged; or one trial has several rows for one objective.
    """
    names = _checked_names(objectives)
    aggregates = _aggregates(frame)
    for name in names:
        if name not in set(aggregates["objective"]):
            raise UnknownNameError("objective", name, set(aggregates["objective"]))
    identity = [column for column in CONFIGURATION if column in frame.columns]
    if not identity:
        raise ResultsError(f"no column of {', '.join(CONFIGURATION)} among {_listed(frame.columns)}: give measurements")
    wanted = aggregates[aggregates["objective"].isin(names) & aggregates["value"].notna()]
    _check_variants(wanted)
    # numbered over all rows: a configuration without any of the objectives is reported as missing, not left out
    numbers = aggregates.groupby(identity, dropna=False, sort=False, observed=True).ngroup()
    wide = aggregates.loc[~numbers.duplicated(), identity].reset_index(drop=True)
    wide["seeds"] = aggregates.groupby(numbers)["seed"].nunique(dropna=False)
    wanted = wanted.assign(configuration=numbers.loc[wanted.index])
    _check_repeats(wanted)
    keys = ["configuration", "objective"]
    cells = wanted.groupby(keys)
    errors = cells["value"].sem().where(cells["value"].count() > 1, cells["standard_error"].first())
    means = exact_means(wanted, keys).unstack().reindex(index=wide.index, columns=names)
    spreads = errors.unstack().reindex(index=wide.index, columns=names)
    counts = cells["value"].count().unstack().reindex(index=wide.index, columns=names).fillna(0).astype(np.int64)
    return pd.concat([wide, means, spreads.add_suffix(".standard_error"), counts.add_suffix(".seeds")], axis=1)


def code_versions(frame: pd.DataFrame) -> list[str]:
    """A line for each way in which measurements that are averaged are not of one known version of the code.

    >>> code_versions(pd.DataFrame({"code_version": ["0.1.0+a", "0.1.0+b.dirty"]}))
    ['measured by several versions of the code: 0.1.0+a, 0.1.0+b.dirty (.dirty: with uncommitted changes)']

    Args:
        frame: measurements as read from the store (long).
    """
    lines = []
    for column, done in (("code_version", "measured"), ("training_code_version", "trained")):
        versions = sorted(set(frame[column].dropna())) if column in frame.columns else []
        is_dirty = any(version.endswith(".dirty") for version in versions)
        note = " (.dirty: with uncommitted changes)" if is_dirty else ""
        if len(versions) > 1:
            lines.append(f"{done} by several versions of the code: {', '.join(versions)}{note}")
        elif is_dirty:
            lines.append(f"{done} by an unknown version of the code: {versions[0]}{note}")
    return lines


def default_objectives(frame: pd.DataFrame) -> list[str]:
    """Those of `SAFETY_OBJECTIVES` that the frame (long or wide) has, in their order; if none, all its aggregates.

    >>> default_objectives(pd.DataFrame({"anomalies.auroc": [0.9], "clean.error": [0.1], "clean.aupr": [0.2]}))
    ['clean.error', 'anomalies.auroc']
    """
    present = set(_aggregates(frame)["objective"]) if _is_long(frame) else set(frame.columns)
    known = [name for name in SAFETY_OBJECTIVES if name in present]
    return known or (sorted(present) if _is_long(frame) else [])


def not_shown(frame: pd.DataFrame, objectives: Sequence[str]) -> tuple[str, ...]:
    """A line that names the benchmarks of measurements without an objective, where all objectives are the default.

    >>> rows = {"benchmark": ["clean", "mine"], "metric": ["error", "error"], "value": [0.1, 0.2]}
    >>> not_shown(pd.DataFrame(rows), ["clean.error"])
    ('not shown: mine; name what is to be shown with --objectives, such as clean.error,mine.error',)
    """
    if list(objectives) != default_objectives(frame):
        return ()
    shown = {name.partition(".")[0] for name in objectives}
    rows = _aggregates(frame)
    rows = rows[~rows["benchmark"].astype(str).isin(shown)]
    if rows.empty:
        return ()
    names = ", ".join(dict.fromkeys(rows["benchmark"].astype(str)))
    wanted = ",".join([objectives[0], rows["objective"].iloc[0]])
    return (f"not shown: {names}; name what is to be shown with --objectives, such as {wanted}",)


def peers(wide: pd.DataFrame) -> NDArray[np.int64]:
    """(n,) a number for each row; rows of one number were trained on one data set, so they may be compared.

    >>> peers(pd.DataFrame({"dataset": ["cifar10", "cifar100", "cifar10"]})).tolist()
    [0, 1, 0]
    """
    if "dataset" not in wide.columns:
        return np.zeros(len(wide), dtype=np.int64)
    return np.asarray(pd.factorize(wide["dataset"])[0], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """n rows made ready: costs (n, m), lower is better, NaN where missing; peers (n,); m names; the wide frame.

    Where some rows lack seeds that others have, `by_seed` is (n, m, seeds), NaN where missing.
    """

    wide: pd.DataFrame
    objectives: list[str]
    costs: NDArray[np.float64]
    peers: NDArray[np.int64]
    by_seed: NDArray[np.float64] | None = None

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """(n,) whether the row has every objective."""
        return np.asarray(~np.isnan(self.costs).any(axis=1), dtype=np.bool_)


def _compare(frame: pd.DataFrame, objectives: Sequence[str]) -> _Comparison:
    names = _checked_names(objectives)
    signs = [1.0 if direction(name.rpartition(".")[2]) == "lower" else -1.0 for name in names]
    wide = frame if set(names) <= set(frame.columns) else _widened(frame, names)
    for name in names:
        check_numbers(name, wide[name])
    costs = wide[names].to_numpy(dtype=np.float64, na_value=math.nan) * np.array(signs)
    by_seed = None
    if wide is not frame:  # means, in which what is equal may differ by a rounding
        costs = costs.round(DECIMALS)
        identity = [column for column in CONFIGURATION if column in frame.columns]
        by_seed = costs_by_seed(_aggregates(frame), identity, names, np.array(signs))
    return _Comparison(wide=wide, objectives=names, costs=costs, peers=peers(wide), by_seed=by_seed)


def _widened(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    if _is_long(frame):
        return by_configuration(frame, names)
    absent = next(name for name in names if name not in frame.columns)
    raise UnknownNameError("objective", absent, [str(column) for column in frame.columns])


def _is_on_front(comparison: _Comparison) -> NDArray[np.bool_]:
    """(n,) whether a row has every objective and nothing dominates it."""
    if comparison.by_seed is not None:
        everyone = np.arange(len(comparison.costs))
        dominated = [chunk.any(axis=1) for chunk in _dominators(comparison, everyone)]
        return ~np.concatenate([*dominated, np.zeros(0, dtype=np.bool_)]) & comparison.is_complete
    found = np.zeros(len(comparison.costs), dtype=np.bool_)
    for group in np.unique(comparison.peers):
        rows = comparison.peers == group
        found[rows] = is_on_front(comparison.costs[rows])
    return found


def _dominators(comparison: _Comparison, among: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """For a few rows at a time, (rows, among): whether that one of `among` dominates the row."""
    costs = comparison.costs
    if comparison.by_seed is not None:
        yield from _dominators_by_seed(comparison, comparison.by_seed, among)
        return
    for start in range(0, len(costs), _CHUNK):
        rows = slice(start, start + _CHUNK)
        no_worse = comparison.peers[rows, None] == comparison.peers[among]
        better = np.zeros_like(no_worse)
        for column in costs.T:
            no_worse &= column[among] <= column[rows, None]  # False for NaN on either side
            better |= column[among] < column[rows, None]
        yield no_worse & better


def _dominators_by_seed(
    comparison: _Comparison, by_seed: NDArray[np.float64], among: NDArray[np.intp]
) -> Iterator[NDArray[np.bool_]]:
    """As `_dominators`, each pair by the means over the seeds that both have; if there are none, by those of each."""
    is_there, values = ~np.isnan(by_seed[among]), np.nan_to_num(by_seed[among])
    for row, costs in enumerate(comparison.costs):
        no_worse = comparison.peers[among] == comparison.peers[row]
        better = np.zeros_like(no_worse)
        for column in range(by_seed.shape[1]):
            own = by_seed[row, column]
            common = is_there[:, column] & ~np.isnan(own)
            count = common.sum(axis=1)
            total = np.where(common, np.nan_to_num(own) - values[:, column], 0).sum(axis=1)
            plain = costs[column] - comparison.costs[among, column]  # NaN where one lacks the objective
            gain = np.where(count > 0, total / np.maximum(count, 1), plain).round(DECIMALS)
            no_worse &= gain >= 0
            better |= gain > 0
        yield (no_worse & better)[None]


def _aggregates(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows over all conditions and severities, with objective added, and seed and standard_error where absent."""
    if not _is_long(frame):
        raise ResultsError(f"columns {', '.join(_LONG)} are needed, got {_listed(frame.columns)}: give measurements")
    is_aggregate = pd.Series(True, index=frame.index)
    if "condition" in frame.columns:
        is_aggregate &= frame["condition"].isna() | (frame["condition"] == "")
    if "severity" in frame.columns:
        is_aggregate &= frame["severity"].isna()
    rows = frame[is_aggregate].reset_index(drop=True)
    defaults = {"seed": 0, "standard_error": math.nan}
    rows = rows.assign(**{name: value for name, value in defaults.items() if name not in rows.columns})
    columns = {name: rows[name].to_numpy(dtype=np.float64, na_value=math.nan) for name in ("value", "standard_error")}
    return rows.assign(objective=rows["benchmark"].astype(str) + "." + rows["metric"].astype(str), **columns)


def _check_variants(rows: pd.DataFrame) -> None:
    """Raise if a benchmark was measured with several settings or data versions on one data set."""
    found: dict[tuple[str, str], list[OneWay]] = {}
    for way in ways(rows):
        found.setdefault((way.dataset, way.benchmark), []).append(way)
    for (dataset, benchmark), several in found.items():
        if len(several) > 1:
            where = f"{benchmark} on {dataset}" if dataset else benchmark
            raise ResultsError(
                f"{where} was measured with {len(several)} different settings or data, which are not averaged "
                f"({'; '.join(way.words for way in several)}): choose one, as "
                "pixmix_ray.analysis.variants.one_variant does"
            )


def _check_repeats(rows: pd.DataFrame) -> None:
    """Raise if one trial has an objective more than once: a mean over seeds would count it twice."""
    repeated = rows[rows.duplicated(["configuration", "seed", "objective"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise ResultsError(
            f"{row['objective']} of {row.get('method', 'one trial')}, seed {row['seed']}, occurs more than once: "
            "filter the frame to one row per trial and objective, for example on checkpoint_id or code_version"
        )


def _checked_names(objectives: Sequence[str]) -> list[str]:
    names = [objectives] if isinstance(objectives, str) else list(dict.fromkeys(objectives))
    if not names:
        raise ResultsError("objectives must name at least one, got none: give for example corruptions.mce")
    return names


def _is_long(frame: pd.DataFrame) -> bool:
    return set(_LONG) <= set(frame.columns)


def _listed(columns: pd.Index) -> str:
    return ", ".join(map(str, columns)) or "no columns"
