"""What the page shows of one entry: conditions, severities, and the experiment that makes it again."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pixmix_ray.analysis.means import by_condition, by_severity
from pixmix_ray.errors import ResultsError
from pixmix_ray.metrics import UNITS, direction

OF_CONDITIONS = ("ce", "error", "flip_rate", "flip_rate_unnormalised", "auroc")
OF_SEVERITIES = ("error", "rms_calibration_error")
NOT_SETTINGS = ("version", "identity_version", "revision", "others", "missing", "averaged_over")
"""What identifies a part, or says what it does, and cannot be asked for."""


def by_condition_columns(frame: pd.DataFrame, labels: Sequence[str]) -> list[dict[str, Any]]:
    """For each benchmark and metric of conditions a column a condition, percent to three digits, an entry a row."""
    found: list[dict[str, Any]] = []
    for metric in OF_CONDITIONS:
        try:
            rows = by_condition(frame, metric)
        except ResultsError:
            continue
        for benchmark, part in rows.groupby("benchmark", sort=False):
            about = {"benchmark": benchmark, "metric": metric, "better": direction(metric)}
            if metric == "error" and any(one["benchmark"] == benchmark for one in found):
                continue  # ce says the same
            columns = _columns(part, "condition", labels)
            factor = 1 if metric in UNITS else 100
            found.append({**about, "factor": factor, "names": list(columns), "values": list(columns.values())})
    return found


def by_severity_columns(frame: pd.DataFrame, labels: Sequence[str]) -> list[dict[str, Any]]:
    """For each benchmark and metric of severities a column a severity, an entry a row."""
    found = []
    for metric in OF_SEVERITIES:
        try:
            rows = by_severity(frame, metric)
        except ResultsError:
            continue
        for benchmark, part in rows.groupby("benchmark", sort=False):
            columns = _columns(part, "severity", labels)
            about = {"benchmark": benchmark, "metric": metric.replace("_", " ")}
            found.append(
                {**about, "severities": [int(float(str(key))) for key in columns], "values": list(columns.values())}
            )
    return found


def _columns(rows: pd.DataFrame, by: str, labels: Sequence[str]) -> dict[Any, list[float | None]]:
    names = list(dict.fromkeys(rows[by]))
    table = rows.pivot_table(index="label", columns=by, values="value").reindex(index=list(labels), columns=names)
    return {
        name: [
            float(f"{value:.4g}") if math.isfinite(value) else None for value in table[name].to_numpy(dtype=np.float64)
        ]
        for name in names
    }


def repeats(wide: pd.DataFrame, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """For each row the experiment that trains and measures it again, as its file holds it; where data lie is not known.

    Args:
        wide: configurations.
        frame: the measurements, for seeds and benchmarks.
    """
    texts = frame["settings"].astype(str)
    seeds = frame.groupby(texts, sort=False)["seed"].agg(lambda found: sorted(set(found.tolist()))).to_dict()
    ways = (
        frame["benchmark_settings"]
        .astype(str)
        .groupby(texts, sort=False)
        .agg(lambda found: sorted(set(found)))
        .to_dict()
    )
    benchmarks = {text: _askable(_parsed(text)) for texts in ways.values() for text in texts}
    return [
        _repeat(text, seeds.get(text, []), [benchmarks[way] for way in ways.get(text, [])])
        for text in wide["settings"].astype(str)
    ]


def _repeat(text: str, seeds: Sequence[int], benchmarks: Sequence[Any]) -> dict[str, Any]:
    settings = _parsed(text)
    if not isinstance(settings, dict):
        return {"settings": text}
    experiment = {
        "results": "results/again",
        "dataset": settings.get("dataset"),
        "model": settings.get("model"),
        "methods": [settings.get("method")],
        "mixing_set": settings.get("mixing_set"),
        "seeds": list(seeds),
        "training": settings.get("training"),
    }
    asked = {name: _askable(value) for name, value in experiment.items() if value is not None}
    return {**asked, "benchmarks": list(benchmarks)}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _askable(value: Any) -> Any:
    """Settings without what only identifies, and without what is not set."""
    if isinstance(value, dict):
        return {key: _askable(one) for key, one in value.items() if key not in NOT_SETTINGS and one is not None}
    return [_askable(one) for one in value] if isinstance(value, list) else value
