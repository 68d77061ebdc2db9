"""Measurements by severity and by condition, means over the seeds: what figures draw."""

import pandas as pd

from pixmix_ray.analysis.labels import with_labels
from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.schema import CONFIGURATION


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
