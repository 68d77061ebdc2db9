"""Means over seeds that rounding does not decide: exact sums, and the values of each seed where some are missing.

And means by severity and by condition, which figures draw.
"""

import math
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.labels import with_labels
from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.schema import CONFIGURATION

DECIMALS = 12  # of means that are compared


def exact_means(rows: pd.DataFrame, by: list[str]) -> "pd.Series[float]":
    """The mean of the column `value` in each group of rows, whatever their order: sums are exact.

    >>> rows = pd.DataFrame({"group": [0, 0, 0, 1, 1, 1], "value": [0.1, 0.2, 0.3, 0.3, 0.2, 0.1]})
    >>> exact_means(rows, ["group"]).nunique()
    1

    Args:
        rows: unchanged.
        by: columns without null that make up a group.
    """
    groups = rows.groupby(by)
    counts = groups.size()
    values = rows["value"].to_numpy()[np.argsort(groups.ngroup().to_numpy(), kind="stable")].tolist()
    ends = np.cumsum(counts.to_numpy()).tolist()
    means = [math.fsum(values[end - count : end]) / count for end, count in zip(ends, counts.tolist(), strict=True)]
    return pd.Series(means, index=counts.index, dtype=np.float64)


def check_numbers(name: str, values: pd.Series) -> None:
    """Raise ResultsError if a column of an objective holds something else than real numbers, and nothing."""
    if values.dtype.kind in "iuf":
        return
    strange = [value for value in values.dropna() if isinstance(value, bool | np.bool_) or not isinstance(value, Real)]
    if strange:
        raise ResultsError(
            f"the column {name} holds {strange[0]!r}: give numbers, as fractions such as 0.1 and not percent"
        )


def costs_by_seed(
    aggregates: pd.DataFrame, identity: list[str], names: list[str], signs: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The costs of each configuration by seed, (n, m, seeds), NaN where missing; none if no seed is missing.

    Args:
        aggregates: rows with the columns of `identity`, objective, seed and value.
        identity: the columns that make up a configuration.
        names: the m objectives.
        signs: (m,) 1 where lower is better, -1 where higher is.
    """
    rows = aggregates.groupby(identity, dropna=False, sort=False, observed=True).ngroup().to_numpy()
    columns = pd.Index(names).get_indexer(pd.Index(aggregates["objective"]))
    seeds, known = pd.factorize(aggregates["seed"])
    found = np.full((rows.max() + 1, len(names), len(known)), np.nan)
    is_wanted = columns >= 0
    found[rows[is_wanted], columns[is_wanted], seeds[is_wanted]] = aggregates["value"].to_numpy()[is_wanted]
    is_there = ~np.isnan(found)
    is_even = (is_there == is_there.any(axis=0)) | ~is_there.any(axis=2, keepdims=True)
    return None if is_even.all() else found * signs[:, None]


def by_severity(frame: pd.DataFrame, metric: str, condition: str = "") -> pd.DataFrame:
    """A metric at each severity: label, benchmark, severity, value; in the order of the measurements.

    Args:
        frame: measurements; unchanged.
        metric: such as rms_calibration_error.
        condition: a corruption; "" over all of them.

    Raises:
        ResultsError: it was not measured by severity.
    """
    rows = frame[(frame["metric"] == metric) & frame["severity"].notna() & (frame["condition"] == condition)]
    return _means(frame, rows, ["benchmark", "severity"], f"{metric} by severity")


def by_condition(frame: pd.DataFrame, metric: str, severity: int | None = None) -> pd.DataFrame:
    """A metric of each condition: label, benchmark, condition, value; at a severity, or over all of them.

    Raises:
        ResultsError: it was not measured by condition.
    """
    at = frame["severity"].isna() if severity is None else frame["severity"] == severity
    rows = frame[(frame["metric"] == metric) & at & ~frame["condition"].isin(["", "pooled"])]
    return _means(frame, rows, ["benchmark", "condition"], f"{metric} by condition")


def by_condition_and_severity(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of each condition at each severity: label, benchmark, condition, severity, value.

    Raises:
        ResultsError: it was not measured so.
    """
    rows = frame[(frame["metric"] == metric) & frame["severity"].notna() & ~frame["condition"].isin(["", "pooled"])]
    return _means(frame, rows, ["benchmark", "condition", "severity"], f"{metric} by condition and severity")


def _means(frame: pd.DataFrame, rows: pd.DataFrame, by: list[str], what: str) -> pd.DataFrame:
    if rows.empty:
        raise ResultsError(f"no {what} in these results: measure a benchmark that has it, such as corruptions")
    identity = [name for name in CONFIGURATION if name in rows.columns]
    groups = rows.groupby([*identity, *by], dropna=False, sort=False, observed=True)
    return with_labels(groups["value"].mean().reset_index(), frame)[["label", *by, "value"]]
