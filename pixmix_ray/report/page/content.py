"""What the page of a results folder shows, and of one entry, as JSON values: columns, no digit more than is drawn."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from pixmix_ray.analysis.certainty import LEVEL, Certainty
from pixmix_ray.analysis.histories import epochs, labelled_trials
from pixmix_ray.analysis.labels import flat_settings, labelled, with_labels
from pixmix_ray.analysis.means import by_condition, by_severity
from pixmix_ray.analysis.pareto import by_configuration, code_versions, default_objectives
from pixmix_ray.analysis.spread import Judged, judge
from pixmix_ray.analysis.variants import Part, apart
from pixmix_ray.errors import ResultsError
from pixmix_ray.metrics import DIRECTIONS, UNITS, direction
from pixmix_ray.report.figures.style import SHORT
from pixmix_ray.report.fronts import claims
from pixmix_ray.report.grid import Cell, Grid
from pixmix_ray.report.paper import NAMES, paper_grid
from pixmix_ray.report.tables import certain_marks, lacks_seeds, measures_grid
from pixmix_ray.storage.failures import described
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store

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


DRAW_BYTES = 1_200_000  # of the draws of a part, before base64
CURVE_POINTS = 40
MARKS = {"": 0, "best": 1, "tied": 2}


def content(store: Store, frame: pd.DataFrame) -> dict[str, Any]:
    """Everything on the page of some results.

    Args:
        store: the results folder.
        frame: its measurements; unchanged.
    """
    parts = apart(frame)
    named = [replace(part, frame=labelled(part.frame)) for part in parts]
    return {
        "title": store.uri.partition("?")[0].rstrip("/").rpartition("/")[2],
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "overview": _overview(frame),
        "parts": [_part(store, part) for part in named],
        "paper": _paper(store, parts[0].frame),
        "failures": _failures(store),
        "provenance": _provenance(store, frame),
    }


def _overview(frame: pd.DataFrame) -> list[tuple[str, str]]:
    seeds = sorted(set(frame["seed"].tolist()))
    facts = {
        "trials": str(frame["trial_id"].nunique()),
        "methods": ", ".join(frame["method"].astype(str).unique()),
        "data sets": ", ".join(frame["dataset"].astype(str).unique()),
        "networks": ", ".join(frame["model"].astype(str).unique()),
        "seeds": ", ".join(map(str, seeds)) if len(seeds) <= 12 else f"{len(seeds)}, from {seeds[0]} to {seeds[-1]}",
        "benchmarks": ", ".join(sorted(frame["benchmark"].astype(str).unique())),
        "measurements": f"{len(frame):,} in {frame['cell'].nunique():,} cells",
        "last measured": str(frame["finished_at"].max())[:19] + " UTC",
    }
    return list(facts.items())


def _provenance(store: Store, frame: pd.DataFrame) -> list[tuple[str, str]]:
    facts = [("results", store.uri)]
    for column, words in (("code_version", "measured by"), ("training_code_version", "trained by"), ("device", "on")):
        facts.append((words, ", ".join(sorted(frame[column].dropna().astype(str).unique())) or "not known"))
    facts += [("libraries", text) for text in sorted(frame["versions"].astype(str).unique())[:4]]
    ways = frame[["benchmark", "benchmark_settings", "data_version"]].astype(str).drop_duplicates()
    for benchmark, settings, version in ways.itertuples(index=False):
        facts.append((benchmark, f"{settings}, data {version}"))
    return [*facts, *(("note", line) for line in code_versions(frame))]


def _failures(store: Store) -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(store.files("trials") | store.files("cells")):
        if path.endswith("failed.json"):
            room, trial_id, name = [*path.split("/"), "", ""][:3]
            cell = name.removesuffix(".failed.json") if room == "cells" else ""
            found.append((trial_id, cell, described(store.read_json(path) or {})))
    return found


def _part(store: Store, part: Part) -> dict[str, Any]:
    """One way of measuring: its entries as columns."""
    sure = default_objectives(part.frame)
    judged = judge(store, part.frame, sure)
    names = [*sure, *(name for name in _aggregates(part.frame) if name not in sure)]
    wide = by_configuration(part.frame, names)
    labels = with_labels(wide, part.frame)["label"].tolist()
    values = [_rounded(wide[name]) for name in names]
    low, high = _intervals(judged, wide, names)
    trials = labelled_trials(part.frame)
    curves, places = _curves(store, part.frame, labels)
    of_label = trials.groupby("label")["trial_id"].agg(list).to_dict()
    chosen = list(range(len(sure)))
    partial = lacks_seeds(judged.wide, judged.certainty)
    grid = measures_grid(judged.wide, sure, judged.certainty)
    return {
        "label": part.label,
        "objectives": [_objective(name) for name in names],
        "chosen": chosen,
        "entries": {
            "label": labels,
            "dataset": wide["dataset"].astype(str).tolist(),
            "seeds": wide["seeds"].tolist(),
            "search": _search(wide),
            "trials": [of_label.get(label, []) for label in labels],
            "repeat": repeats(wide, part.frame),
        },
        "values": values,
        "low": low,
        "high": high,
        "marks": [
            [MARKS[mark] for mark in certain_marks(judged.certainty, column, partial[:, column])] for column in chosen
        ]
        + [None] * (len(names) - len(sure)),
        "front": _rounded(judged.certainty.on_front),
        "draws": _draws(judged.certainty),
        "caption": grid.text("markdown").rpartition("\n\n")[2].replace("bold:", "*").replace("italic:", "="),
        "notes": judged.notes,
        "fewer": [_fewer(wide, name) for name in names],
        "claims": claims(judged, labels),
        "conditions": by_condition_columns(part.frame, labels),
        "severities": by_severity_columns(part.frame, labels),
        "curves": curves,
        "epochs": places,
    }


def _aggregates(frame: pd.DataFrame) -> list[str]:
    """The objectives that the frame has, in its order."""
    rows = frame[frame["severity"].isna() & (frame["condition"] == "") & frame["value"].notna()]
    pairs = rows[["benchmark", "metric"]].astype(str).drop_duplicates()
    return [f"{benchmark}.{metric}" for benchmark, metric in pairs.itertuples(index=False) if metric in DIRECTIONS]


def _objective(name: str) -> dict[str, Any]:
    metric = name.rpartition(".")[2]
    has_unit = metric in UNITS
    lines = SHORT.get(name, name.replace(".", " ").replace("_", " ")).split(" ", 1)
    return {
        "name": name,
        "label": "\n".join(lines),
        "better": direction(metric),
        "factor": 1 if has_unit else 100,
        "decimals": 2 if has_unit else 1,
        "unit": UNITS.get(metric, "%"),
    }


def _intervals(judged: Judged, wide: pd.DataFrame, names: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Ends of the intervals: of the bootstrap, and for other objectives of the stored standard errors."""
    low, high = [], []
    reach = float(ndtri((1 + LEVEL) / 2))
    for column, name in enumerate(names):
        if column < len(judged.certainty.objectives):
            ends = judged.certainty.intervals[:, column].T
        else:
            values, errors = (wide[key].to_numpy(dtype=np.float64) for key in (name, f"{name}.standard_error"))
            ends = np.stack([np.maximum(values - reach * errors, 0), values + reach * errors])
        low.append(_rounded(ends[0]))
        high.append(_rounded(ends[1]))
    return low, high


def _fewer(wide: pd.DataFrame, name: str) -> list[int] | None:
    """For each entry over how many seeds a value is, 0 where these are all that it has; none if they all are."""
    counts, seeds = wide[f"{name}.seeds"], wide["seeds"]
    fewer: list[int] = counts.where(counts < seeds, 0).tolist()
    return fewer if any(fewer) else None


def _draws(certainty: Certainty) -> dict[str, Any]:
    """The draws of each objective as bytes, in 127ths of the largest deviation of each entry."""
    m, n, count = certainty.costs.shape
    kept = max(1, min(count, DRAW_BYTES // max(n * m, 1)))
    scale, packed = [], []
    for column in range(m):
        moved = certainty.signs[column] * certainty.costs[column, :, :kept] - certainty.values[:, column, None]
        moved = np.nan_to_num(moved)
        largest = np.abs(moved).max(axis=1)
        steps = np.round(127 * moved / np.maximum(largest, 1e-12)[:, None]).astype(np.int8)
        scale.append(_rounded(largest))
        packed.append(base64.b64encode(steps.tobytes()).decode())
    return {"count": kept, "objectives": list(range(m)), "scale": scale, "data": packed}


def _search(wide: pd.DataFrame) -> list[str]:
    """For each entry the settings by their path, among which the filter looks."""
    found = []
    for text, row in zip(wide["settings"].astype(str), wide.to_dict("records"), strict=True):
        try:
            settings = flat_settings(json.loads(text))
        except ValueError:
            settings = {}
        own = [f"{name}={row[name]}" for name in CONFIGURATION if name != "settings" and pd.notna(row.get(name))]
        differing = [f"{key}={value}" for key, value in settings.items() if key.startswith(("method.", "training."))]
        found.append(" ".join([*own, *differing]))
    return found


def _curves(store: Store, frame: pd.DataFrame, labels: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """For each entry the training losses of its seeds, thinned, and the epochs where they lie."""
    try:
        rows = epochs(store, frame)
    except ResultsError:
        return [[] for _ in labels], [[] for _ in labels]
    starts = np.flatnonzero(rows["epoch"].to_numpy() == 1)
    lines: dict[str, list[NDArray[np.float64]]] = {}
    for label, line in zip(
        rows["label"].to_numpy()[starts], np.split(rows["loss"].to_numpy(), starts[1:]), strict=True
    ):
        lines.setdefault(str(label), []).append(line)
    curves: list[Any] = []
    places: list[Any] = []
    for label in labels:
        if label not in lines:
            curves.append([])
            places.append([])
            continue
        longest = max(map(len, lines[label]))
        at = np.unique(np.linspace(0, longest - 1, min(longest, CURVE_POINTS)).round().astype(int))
        places.append((at + 1).tolist())
        curves.append([_rounded(line[at[at < len(line)]], digits=3) for line in lines[label]])
    return curves, places


def _paper(store: Store, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The paper's tables, those first of which something was measured."""
    found = []
    for name in NAMES[:-1]:
        beside = paper_grid(name, store, frame)
        has_ours = any(_is_measured(row) for row in beside.rows)
        found.append((not has_ours, _grid(beside if has_ours else paper_grid(name))))
    return [grid for _, grid in sorted(found, key=lambda pair: pair[0])]


def _is_measured(row: Sequence[Cell]) -> bool:
    """Whether it is a row of ours with a figure in it."""
    texts = [cell.text for cell in row]
    return "ours" in texts and any(texts[texts.index("ours") + 1 :])


def _grid(grid: Grid) -> dict[str, Any]:
    return {
        "title": grid.title,
        "caption": grid.caption,
        "notes": grid.notes,
        "columns": [{"header": column.header, "number": column.is_number} for column in grid.columns],
        "rows": [[(cell.text, cell.mark) for cell in row] for row in grid.rows],
    }


def _rounded(values: "NDArray[np.float64] | pd.Series[float]", digits: int = 5) -> list[float | None]:
    """Numbers to so many significant digits; null for what is not a finite number."""
    return [
        float(f"{value:.{digits}g}") if math.isfinite(value) else None
        for value in np.asarray(values, dtype=np.float64).tolist()
    ]
