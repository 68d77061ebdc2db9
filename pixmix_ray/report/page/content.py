"""What the page of a results folder shows, as JSON values: columns, and no digit more than is drawn."""

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
from pixmix_ray.analysis.pareto import by_configuration, code_versions, default_objectives
from pixmix_ray.analysis.spread import Judged, judge
from pixmix_ray.analysis.variants import Part, apart
from pixmix_ray.errors import ResultsError
from pixmix_ray.metrics import DIRECTIONS, UNITS, direction
from pixmix_ray.report.figures.style import SHORT
from pixmix_ray.report.fronts import claims
from pixmix_ray.report.grid import Cell, Grid
from pixmix_ray.report.page.details import by_condition_columns, by_severity_columns, repeats
from pixmix_ray.report.paper import NAMES, paper_grid
from pixmix_ray.report.tables import certain_marks, lacks_seeds, measures_grid
from pixmix_ray.storage.failures import described
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store

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
