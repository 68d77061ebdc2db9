"""The paper's tables in the paper's own layout: its figures alone, or ours below them.

A figure of ours that differs from the paper's is marked where it lies outside our 95 % interval over pictures and
seeds, corrected for the number of figures compared (Bonferroni). How far the paper's own figures spread is published
nowhere, so they are taken as they are printed.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from pixmix_ray.analysis.cell_effects import Measured, measured_of
from pixmix_ray.analysis.certainty import LEVEL
from pixmix_ray.analysis.departures import departures
from pixmix_ray.analysis.labels import remarks
from pixmix_ray.analysis.published import LAYOUTS, SCALES, WHAT, WHO, Layout, Setting, as_published, published_figures
from pixmix_ray.analysis.spread import standard_errors
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.metrics import direction
from pixmix_ray.report.grid import Cell, Column, Grid, Mark
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store

FIGURE = "figure4"
NAMES = (*map(str, LAYOUTS), FIGURE)
SEVERITIES = (1, 2, 3, 4, 5)
Key = tuple[Hashable, ...]
Figure = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """A figure of ours in the paper's unit: value, half of its 95 % interval (NaN: not known), seeds."""

    value: float
    half: float
    seeds: int


def paper_grid(
    name: int | str, store: Store | None = None, frame: pd.DataFrame | None = None, across: Sequence[Setting] = ()
) -> Grid:
    """A table of the paper, with a row of ours below each of its own where there are results.

    Args:
        name: 1 to 15, or "figure4": calibration by severity, of which the paper prints no figures.
        store: the results folder; none for the paper's table alone.
        frame: its measurements, one variant of each benchmark; unchanged.
        across: of dataset and model, those that need not be the paper's.

    Raises:
        UnknownNameError: there is no such table.
        RequestError: Figure 4 without results.
    """
    if str(name) == FIGURE:
        return _calibration_by_severity(frame)
    if str(name) not in NAMES:
        raise UnknownNameError("table of the paper", str(name), NAMES)
    number = int(name)
    layout, figures = LAYOUTS[number], published_figures([number])
    records = [{str(key): value for key, value in record.items()} for record in figures.to_dict("records")]
    title = f"Table {number}: {layout.title}"
    alone, numbers = _arranged(layout, records)
    if store is None or frame is None:
        return replace(alone, title=title)
    ours, notes = _matched(store, frame, figures, across)
    grid = _beside(alone, numbers, records, [ours.get(_key(record, across)) for record in records])
    counted = f"{len(ours)} of {len(records)} figures measured"
    return replace(grid, title=title, caption=f"{grid.caption}; {counted}", notes=notes)


def _key(record: Mapping[Any, Any], across: Sequence[Setting]) -> Key:
    names = [name for name in (*WHO, *WHAT) if name not in across]
    return tuple(None if pd.isna(record[name]) else record[name] for name in names)


def _matched(
    store: Store, frame: pd.DataFrame, figures: pd.DataFrame, across: Sequence[Setting]
) -> tuple[dict[Key, _Ours], tuple[str, ...]]:
    """Our figures by the paper's keys, and what must be said of them: a line each."""
    asked = frame["severity"].isna()
    for name in (*WHAT, *(name for name in ("dataset", "model") if name not in across)):
        asked &= frame[name].isin(set(figures[name]))
    rows = as_published(frame[asked]).astype({"k": "float64", "beta": "float64"})
    scales = {_key(record, across): SCALES[str(record["unit"])] for record in figures.to_dict("records")}
    places = {key: place for place, key in enumerate(scales)}
    keys = [places.get(_key(record, across), -1) for record in rows[[*WHO, *WHAT]].to_dict("records")]
    rows = rows.assign(_key=keys)[np.array(keys, dtype=np.int64) >= 0]
    chosen, several = _chosen(rows)
    measured = measured_of(frame, chosen["cell"].astype(str))
    names = list(scales)
    found = {
        names[place]: _figure(store, measured, chosen[chosen["_key"] == place], scales[names[place]])
        for place in chosen["_key"].unique().tolist()
    }
    notes = (
        [f"{', '.join(several)}: of several configurations, the one with the most seeds is shown"] if several else []
    )
    shown = frame[frame["cell"].isin(set(chosen["cell"]))]
    benchmarks = [f"{benchmark}." for benchmark in dict.fromkeys(shown["benchmark"].astype(str))]
    below = [f"ours: {line}" for line in departures(shown)]
    return found, (*notes, *below, *remarks(shown, benchmarks))


def _chosen(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of one configuration for each key, and the methods of which there were several.

    The one with the most seeds, of equals the latest.
    """
    identity = [name for name in CONFIGURATION if name in rows.columns]
    numbers = rows.groupby(identity, dropna=False, sort=False, observed=True).ngroup()
    groups = rows.assign(_number=numbers).groupby(["_key", "_number"], sort=False)
    about = groups.agg(seeds=("seed", "nunique"), latest=("finished_at", "max"), method=("method", "first"))
    best = about.reset_index().sort_values(["seeds", "latest"], ascending=False).drop_duplicates("_key")
    several = about["method"][about.index.get_level_values("_key").duplicated()]
    is_best = pd.MultiIndex.from_arrays([rows["_key"], numbers]).isin(best.set_index(["_key", "_number"]).index)
    return rows[is_best], sorted(set(several.astype(str)))


def _figure(store: Store, measured: Mapping[str, Measured], rows: pd.DataFrame, scale: float) -> _Ours:
    by_pictures, by_seeds = standard_errors(store, measured, rows)
    seeds = rows["seed"].nunique()
    reach = ndtri((1 + LEVEL) / 2) * np.nan_to_num(by_pictures)
    wide = stdtrit(seeds - 1, (1 + LEVEL) / 2) * by_seeds if seeds > 1 else 0.0
    is_known = not (math.isnan(by_pictures) and math.isnan(by_seeds))
    half = float(np.hypot(reach, wide)) if is_known else math.nan
    return _Ours(value=float(rows["value"].mean()) * scale, half=half * scale, seeds=seeds)


def _arranged(layout: Layout, records: Sequence[Figure]) -> tuple[Grid, list[list[int | None]]]:
    """The paper's figures in their rows and columns, best and second best marked; and the number of each."""
    row_names, column_names = (list(dict.fromkeys(map(axis, records))) for axis in (layout.row, layout.column))
    places = {(layout.row(record), layout.column(record)): number for number, record in enumerate(records)}
    numbers = [[places.get((names, column)) for column in column_names] for names in row_names]
    marks = _marks(records)
    rows: list[tuple[Cell, ...]] = []
    breaks: set[int] = set()
    for names, own in zip(row_names, numbers, strict=True):
        if rows and len(layout.stub) > 1 and names[0] != rows[-1][0].value:
            breaks.add(len(rows) - 1)
        first = own[0] if layout.shows_change else None
        stub = (Cell(text=text, value=text) for text in names)
        rows.append((*stub, *(_published(records, number, marks, first) for number in own)))
    columns = [Column(key=f"row{at or ''}", header=(text,), is_number=False) for at, text in enumerate(layout.stub)]
    columns += [Column(key=" ".join(filter(None, name)), header=name) for name in column_names]
    legend: tuple[tuple[Mark, str], ...] = (("best", "best"), ("second", "second best"))
    caption, between = _units(records), frozenset(breaks)
    return Grid(columns=tuple(columns), rows=tuple(rows), caption=caption, legend=legend, breaks=between), numbers


def _beside(
    alone: Grid, numbers: Sequence[Sequence[int | None]], records: Sequence[Figure], ours: Sequence[_Ours | None]
) -> Grid:
    """The paper's table with a row of ours below each of its own, in which is marked what differs."""
    compared = sum(one is not None and not math.isnan(one.half) for one in ours)
    factor = float(ndtri(1 - (1 - LEVEL) / 2 / max(compared, 1)) / ndtri((1 + LEVEL) / 2))
    count = len(alone.columns) - len(numbers[0])
    rows: list[tuple[Cell, ...]] = []
    for row, own in zip(alone.rows, numbers, strict=True):
        stub, figures = row[:count], row[count:]
        rows.append((*stub, Cell(text="paper", value="paper"), *(replace(cell, mark="") for cell in figures)))
        blank = (replace(cell, text="") for cell in stub)
        rows.append((*blank, Cell(text="ours", value="ours"), *(_own(records, ours, at, factor) for at in own)))
    whose = Column(key="of", header=("",), is_number=False)
    differs: tuple[Mark, str] = ("differs", f"outside our interval at 95 %, over {compared} values")
    return replace(
        alone,
        columns=(*alone.columns[:count], whose, *alone.columns[count:]),
        rows=tuple(rows),
        caption=_caption(records, ours, compared),
        legend=(differs,) if compared else (),
        breaks=frozenset(2 * row + 1 for row in alone.breaks),
    )


def _published(records: Sequence[Figure], number: int | None, marks: Mapping[int, Mark], first: int | None) -> Cell:
    if number is None:
        return Cell(text="")
    value = float(str(records[number]["value"]))
    is_whole = bool(records[number]["condition"]) and records[number]["metric"] in ("ce", "flip_rate", "error")
    change = "" if first is None else f" {value - float(str(records[first]['value'])):+.1f}"
    text = f"{value:.0f}" if is_whole else f"{value:.1f}"
    return Cell(text=text + change, value=value, mark=marks.get(number, ""))


def _own(records: Sequence[Figure], ours: Sequence[_Ours | None], number: int | None, factor: float) -> Cell:
    one = None if number is None else ours[number]
    if number is None or one is None:
        return Cell(text="")
    half = "" if math.isnan(one.half) else f" ± {one.half:.1f}"
    differs = one.half * factor < abs(one.value - float(str(records[number]["value"])))  # False for NaN
    interval = None if math.isnan(one.half) else (one.value - one.half, one.value + one.half)
    return Cell(text=f"{one.value:.1f}{half}", value=one.value, mark="differs" if differs else "", interval=interval)


def _marks(records: Sequence[Figure]) -> dict[int, Mark]:
    """Best and second best of each measure, as the paper marks them."""
    groups: dict[Key, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault((record["dataset"], *(record[name] for name in WHAT)), []).append(number)
    marks: dict[int, Mark] = {}
    for numbers in groups.values():
        sign = 1 if direction(str(records[numbers[0]]["metric"])) == "lower" else -1
        costs = {number: sign * float(str(records[number]["value"])) for number in numbers}
        best_first: list[tuple[Mark, float]] = list(zip(("best", "second"), sorted(set(costs.values())), strict=False))
        marks.update({number: mark for mark, cost in best_first for number in numbers if costs[number] == cost})
    return marks


def _units(records: Sequence[Figure]) -> str:
    words = {
        "percent": "percent",
        "percent_of_alexnet": "mCE, mFR and mT5D in percent of AlexNet's",
        "distance": "mT5D in ranks",
    }
    return ", ".join(words[unit] for unit in dict.fromkeys(str(record["unit"]) for record in records))


def _caption(records: Sequence[Figure], ours: Sequence[_Ours | None], compared: int) -> str:
    seeds = sorted({one.seeds for one in ours if one is not None})
    counted = f", {seeds[0]} seed{'s' if seeds[0] > 1 else ''}" if len(seeds) == 1 else ""
    counted = f", {seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else counted
    spread = f"; ± half of our 95 % interval{counted}" if compared else ""
    has_bins = any("calibration" in str(record["metric"]) for record in records)
    last_bin = "; the paper's RMS leaves out the most confident bin" if has_bins else ""
    return f"{_units(records)}{spread}{last_bin}"


def _calibration_by_severity(frame: pd.DataFrame | None) -> Grid:
    """RMS calibration error by severity, what Figure 4 draws: a row a configuration."""
    from pixmix_ray.analysis.means import by_severity
    from pixmix_ray.errors import RequestError

    if frame is None:
        raise RequestError("figure4 has no published figures: give a results folder too")
    found = by_severity(frame, "rms_calibration_error")
    benchmarks = list(dict.fromkeys(found["benchmark"]))
    columns = [Column(key="method", header=("method",), is_number=False)]
    columns += [
        Column(key=f"{name} {severity}", header=(name, str(severity))) for name in benchmarks for severity in SEVERITIES
    ]
    rows = []
    for label, part in found.groupby("label", sort=False):
        values = {(row.benchmark, row.severity): float(str(row.value)) for row in part.itertuples()}
        cells = [values.get((name, severity), math.nan) for name in benchmarks for severity in SEVERITIES]
        shown = [Cell(text="" if math.isnan(value) else f"{100 * value:.1f}", value=value) for value in cells]
        rows.append((Cell(text=str(label), value=str(label)), *shown))
    return Grid(
        columns=tuple(columns),
        rows=tuple(rows),
        title="Figure 4: RMS calibration error by severity",
        caption="percent; means over seeds; the paper draws it for ImageNet and prints no figures",
    )
