"""Tables that a person reads: configuration by safety measure, in percent, and one line each about the Pareto front.

The input is the wide frame of `pixmix_ray.analysis.pareto.by_configuration` (or `dominance`): one row a configuration,
one column an objective. Only here do fractions become percent. The marks survive without colour: the best of a column
is bold with an asterisk before it, the second best underlined; equal values share a mark. Configurations trained on
different data sets are marked apart.
"""

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from pixmix_ray.analysis.pareto import peers
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.metrics import UNITS, direction

Mark = Literal["best", "second", ""]

_ARROWS = {"lower": "↓", "higher": "↑"}
_MARKDOWN: dict[Mark, str] = {"best": "**{}**", "second": "*{}*", "": "{}"}
_DISTINGUISHING = ("mixing_set", "k", "beta")  # columns that tell two configurations of one method apart
_LABEL_COLUMNS = ("method", "dataset", "model", *_DISTINGUISHING)
_ABSENT = "–"
NAMED_DOMINATORS = 3  # of a configuration on a line; a sweep over every method has dozens


def measures_table(wide: pd.DataFrame, objectives: Sequence[str]) -> Table:
    """A table of one row a configuration and one column an objective, for a terminal.

    Percent with one decimal (mt5d, a distance, with two and as it is); ± its standard error where the row has more than
    one seed; "–" where the objective was not measured. The number of seeds is in the caption if it is that of all
    rows, else in a column.

    Args:
        wide: a row for each configuration, with a column for each objective; unchanged.
        objectives: names "benchmark.metric".

    Raises:
        UnknownNameError: an objective that is no column of the frame, or whose metric has no direction.
    """
    seeds = _seeds(wide)
    differ = len(set(seeds.tolist())) > 1
    # no box: six measures with their errors, and short labels, fit 80 columns
    table = Table(caption=_caption(objectives, None if differ else seeds), box=None, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold")
    if differ:
        table.add_column("seeds", justify="right", no_wrap=True)
    for name in objectives:
        table.add_column(_narrow_header(name), justify="right", no_wrap=True)
    columns = [_cells(wide, name) for name in objectives]
    for i, label in enumerate(configuration_labels(wide)):
        count = [str(seeds[i])] if differ else []
        table.add_row(Text(label), *count, *(_styled(column[i]) for column in columns))
    return table


def markdown_table(wide: pd.DataFrame, objectives: Sequence[str]) -> str:
    """The same table as Markdown, for a README: the best is bold, the second best in italics; no column of seeds.

    Args:
        wide: as for `measures_table`; unchanged.
        objectives: names "benchmark.metric".

    Raises:
        UnknownNameError: as `measures_table`.
    """
    columns = [[_MARKDOWN[cell.mark].format(cell.text) for cell in _cells(wide, name)] for name in objectives]
    labels = [label.replace("|", "\\|") for label in configuration_labels(wide)]
    lines = [
        ["method", *(_header(name, " ") for name in objectives)],
        [":---", *("---:" for _ in objectives)],
        *([label, *(column[i] for column in columns)] for i, label in enumerate(labels)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def front_lines(dominance_frame: pd.DataFrame, objectives: Sequence[str]) -> list[str]:
    """One line a configuration: it is on the Pareto front, or what dominates it and by how much, or what it lacks.

    The margins are those of the first that dominates it; of many, the first three are named.

    >>> frame = pd.DataFrame({"method": ["pixmix", "cutout"], "clean.error": [0.042, 0.057]})
    >>> frame = frame.assign(on_front=[True, False], dominated_by=[[], [0]], missing=[[], []])
    >>> for line in front_lines(frame, ["clean.error"]):
    ...     print(line)
    pixmix is on the Pareto front
    cutout is dominated by pixmix (which is better in clean.error by 1.5 points)

    Args:
        dominance_frame: what `pixmix_ray.analysis.pareto.dominance` returned; unchanged.
        objectives: the names that it was given.

    Raises:
        UnknownNameError: as `measures_table`.
    """
    for name in objectives:
        _check_objective(dominance_frame, name)
    labels = dict(zip(dominance_frame.index.tolist(), configuration_labels(dominance_frame), strict=True))
    verdicts = zip(
        labels,
        dominance_frame["on_front"].tolist(),
        dominance_frame["dominated_by"].tolist(),
        dominance_frame["missing"].tolist(),
        strict=True,
    )
    lines = []
    for row, on_front, dominators, missing in verdicts:
        if on_front:
            verdict = "is on the Pareto front"
        elif missing:
            verdict = f"is not compared: it lacks {', '.join(missing)}"
        else:
            which = "which" if len(dominators) == 1 else labels[dominators[0]]
            margins = _margins(dominance_frame.loc[dominators[0]], dominance_frame.loc[row], objectives)
            named = [labels[other] for other in dominators[:NAMED_DOMINATORS]]
            if rest := len(dominators) - len(named):
                named.append(f"{rest} more")
            verdict = f"is dominated by {', '.join(named)} ({which} is {margins})"
        lines.append(f"{labels[row]} {verdict}")
    return lines


def configuration_labels(wide: pd.DataFrame) -> list[str]:
    """A short name for each row, no two the same: the method and what tells it from the method's other rows.

    That is first mixing set, k and beta; where these do not tell two rows apart, the settings that differ, by their
    path in the trial's settings; at last a number. Data set and model are named if the frame has several. A column
    `label` is taken as it is: made of the whole frame, it keeps the names when only some rows are shown.

    >>> configuration_labels(pd.DataFrame({"method": ["pixmix", "pixmix", "baseline"], "k": [3, 4, None]}))
    ['pixmix (k=3)', 'pixmix (k=4)', 'baseline']
    """
    if "label" in wide.columns:
        return [str(label) for label in wide["label"]]
    texts = {name: [_plain(value) for value in wide[name]] for name in _LABEL_COLUMNS if name in wide.columns}
    methods = texts.pop("method", ["configuration"] * len(wide))
    parts = _column_parts(methods, texts)
    if "settings" in wide.columns:
        settings = [_settings(text) for text in wide["settings"]]
        for group in _groups(_joined(methods, parts)):
            for i, differences in zip(group, _differences([settings[i] for i in group]), strict=True):
                parts[i] += differences
    return _numbered(_joined(methods, parts))


def _column_parts(methods: Sequence[str], texts: dict[str, list[str]]) -> list[list[str]]:
    """What the columns that tell rows apart add to each label."""
    parts: list[list[str]] = [[] for _ in methods]
    for group in _groups(methods):
        for column, values in texts.items():
            scope = group if column in _DISTINGUISHING else range(len(methods))
            if len({values[i] for i in scope}) > 1:
                for i in group:
                    parts[i] += _part(column, values[i])
    return parts


@dataclass(frozen=True, kw_only=True)
class _Cell:
    text: str
    mark: Mark


def _cells(wide: pd.DataFrame, objective: str) -> list[_Cell]:
    """The column of one objective as it is shown."""
    _check_objective(wide, objective)
    values = _numbers(wide, objective)
    spread = f"{objective}.standard_error"
    errors = _numbers(wide, spread) if spread in wide.columns else np.full(len(wide), math.nan)
    errors = np.where(_seeds(wide) > 1, errors, math.nan)
    marks = _marks(values if direction(_metric(objective)) == "lower" else -values, peers(wide))
    shown = [_shown(_metric(objective), value, error) for value, error in zip(values, errors, strict=True)]
    return [_Cell(text=text, mark=mark) for text, mark in zip(shown, marks, strict=True)]


def _marks(costs: NDArray[np.float64], groups: NDArray[np.int64]) -> list[Mark]:
    """The mark of each row within its group; the lowest cost is best, NaN is nothing."""
    marks: list[Mark] = [""] * len(costs)
    for group in np.unique(groups):
        best_first = np.unique(costs[(groups == group) & ~np.isnan(costs)])
        names: tuple[Mark, Mark] = ("best", "second")
        for name, cost in zip(names, best_first, strict=False):
            for i in np.flatnonzero((groups == group) & (costs == cost)):
                marks[i] = name
    return marks


def _shown(metric: str, value: float, error: float) -> str:
    if math.isnan(value):
        return _ABSENT
    factor, decimals = (1, 2) if metric in UNITS else (100, 1)
    spread = "" if math.isnan(error) else f" ± {factor * error:.{decimals}f}"
    return f"{factor * value:.{decimals}f}{spread}"


def _styled(cell: _Cell) -> Text:
    # assembled, so that the style is on the figures alone and not on the padding before them
    if cell.mark == "best":
        return Text.assemble((f"*{cell.text}", "bold"))
    return Text.assemble((cell.text, "underline" if cell.mark == "second" else ""))


def _caption(objectives: Sequence[str], seeds: NDArray[np.int64] | None) -> str:
    others = sorted({_metric(name) for name in objectives} & UNITS.keys())
    unit = ", ".join(["percent", *(f"{name} in {UNITS[name]}" for name in others)])
    count = f"; {seeds[0]} seeds, ± standard error" if seeds is not None and len(seeds) and seeds[0] > 1 else ""
    return f"{unit}; * best, underlined: second best{count}"


def _header(objective: str, separator: str) -> str:
    name = objective.replace(".", separator, 1)
    return f"{name} {_ARROWS[direction(_metric(objective))]}"


def _narrow_header(objective: str) -> Text:
    """The header in short lines, so that the six safety measures fit beside each other in 80 columns."""
    benchmark, _, metric = _header(objective, " ").partition(" ")
    return Text("\n".join([benchmark, *textwrap.wrap(metric.replace("_", " "), width=11)]))


def _margins(better: "pd.Series[float]", worse: "pd.Series[float]", objectives: Sequence[str]) -> str:
    """In which objectives one row is better than another and by how much: 'better in clean.error by 1.5 points'."""
    gains, equal = [], []
    for name in objectives:
        difference = abs(float(better[name]) - float(worse[name]))
        if difference == 0:
            equal.append(f"equal in {name}")
            continue
        has_unit = _metric(name) in UNITS
        amount = difference if has_unit else 100 * difference
        decimals = 2 if has_unit else 1
        text = f"{amount:.{decimals}f}" if amount >= 0.05 else f"{amount:.1g}"  # 0.0 points would read as equal
        gains.append(f"in {name} by {text}{'' if has_unit else ' points'}")
    return ", ".join(["better " + ", ".join(gains), *equal])


def _metric(objective: str) -> str:
    return objective.rpartition(".")[2]


def _numbers(wide: pd.DataFrame, column: str) -> NDArray[np.float64]:
    return wide[column].to_numpy(dtype=np.float64, na_value=math.nan)


def _seeds(wide: pd.DataFrame) -> NDArray[np.int64]:
    return wide["seeds"].to_numpy(dtype=np.int64) if "seeds" in wide.columns else np.ones(len(wide), dtype=np.int64)


def _check_objective(wide: pd.DataFrame, objective: str) -> None:
    direction(_metric(objective))
    if objective not in wide.columns:
        raise UnknownNameError("objective", objective, [str(column) for column in wide.columns])


def _plain(value: object) -> str:
    """A cell of a configuration column as text; null is empty, 4.0 is 4."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _part(column: str, text: str) -> list[str]:
    """What one configuration column adds to a label."""
    if column == "mixing_set":
        return [text or "no mixing set"]
    if not text:
        return []
    return [f"{column}={text}" if column in _DISTINGUISHING else text]


def _joined(methods: Sequence[str], parts: Sequence[Sequence[str]]) -> list[str]:
    return [f"{method} ({', '.join(part)})" if part else method for method, part in zip(methods, parts, strict=True)]


def _groups(labels: Sequence[str]) -> list[list[int]]:
    """The positions of each distinct label, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        groups.setdefault(label, []).append(i)
    return list(groups.values())


def _settings(text: object) -> dict[str, str]:
    """The JSON of a settings cell by dotted path; what is no JSON is taken as one value."""
    if not isinstance(text, str):
        return {}
    try:
        return _flat(json.loads(text))
    except ValueError:
        return {"settings": text}


def _flat(settings: object, path: str = "") -> dict[str, str]:
    """Nested settings by their dotted path, values as JSON."""
    if not isinstance(settings, dict):
        return {path: json.dumps(settings)}
    parts = [_flat(value, f"{path}.{key}" if path else str(key)) for key, value in settings.items()]
    return {key: value for part in parts for key, value in part.items()}


def _differences(settings: Sequence[dict[str, str]]) -> list[list[str]]:
    """For each of some settings, path=value for every path whose value is not the same in all of them."""
    keys = dict.fromkeys(key for one in settings for key in one)
    differing = [key for key in keys if len({one.get(key) for one in settings}) > 1]
    return [[f"{key}={one.get(key, 'unset')}" for key in differing] for one in settings]


def _numbered(labels: Sequence[str]) -> list[str]:
    """The labels, those that repeat with a number."""
    numbered = list(labels)
    for group in _groups(labels):
        if len(group) > 1:
            for number, i in enumerate(group, start=1):
                numbered[i] += f" #{number}"
    return numbered
