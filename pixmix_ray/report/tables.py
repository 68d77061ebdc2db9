"""Tables that a person reads: configuration by safety measure, in percent, and one line each about the Pareto front.

The input is the wide frame of `pixmix_ray.analysis.pareto.by_configuration` (or `dominance`): one row a configuration,
one column an objective. Only here do fractions become percent. The marks survive without colour: the best of a column
is bold with an asterisk before it, what cannot be told from it has = there; equal values share a mark. Configurations
trained on different data sets are marked apart.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.certainty import Certainty
from pixmix_ray.analysis.labels import configuration_labels
from pixmix_ray.analysis.pareto import peers
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.metrics import UNITS, direction
from pixmix_ray.report.grid import Cell, Column, Grid, Mark

_ARROWS = {"lower": "↓", "higher": "↑"}
_ABSENT = "–"
NAMED_DOMINATORS = 3  # of a configuration on a line; a sweep over every method has dozens


def measures_grid(wide: pd.DataFrame, objectives: Sequence[str], certainty: Certainty | None = None) -> Grid:
    """A table of one row a configuration and one column an objective.

    Percent with one decimal (mt5d, a distance, with two and as it is); "–" where the objective was not measured. With
    `certainty` ± is half of the 95 % interval, those that cannot be told from the best are marked like it, and the last
    column says in how many of the draws a configuration is on the front. Without, ± is the standard error over seeds
    where there are several, and best and second best are marked. The number of seeds is in the caption if it is that of
    all rows, else in a column.

    Args:
        wide: a row for each configuration, with a column for each objective; unchanged.
        objectives: names "benchmark.metric".
        certainty: of the rows and objectives, in their order.

    Raises:
        UnknownNameError: an objective that is no column of the frame, or whose metric has no direction.
    """
    seeds, sections = _seeds(wide), _sections(wide)
    differ = len(set(seeds.tolist())) > 1
    parts: list[tuple[Column, list[Cell]]] = []
    if sections:
        parts.append((Column(key="dataset", header=("data set",), is_number=False), _texts(sections)))
    parts.append((Column(key="method", header=("method",), is_number=False), _texts(_labels_in_sections(wide))))
    if differ:
        counts = [Cell(text=str(count), value=int(count)) for count in seeds]
        parts.append((Column(key="seeds", header=("seeds",)), counts))
    for number, name in enumerate(objectives):
        parts.append((Column(key=name, header=_header(name)), _cells(wide, name, certainty, number)))
    if certainty is not None and len(objectives) > 1 and len(wide) > 1:
        shares = [_share(float(share)) for share in certainty.on_front]
        parts.append((Column(key="on_front", header=("on the", "front")), shares))
    columns, cells = zip(*parts, strict=True)
    caption = _caption(objectives, None if differ else seeds, certainty)
    grid = Grid(columns=columns, rows=tuple(zip(*cells, strict=True)), caption=caption, legend=_legend(certainty))
    return in_sections(grid) if sections else grid


def _texts(names: Sequence[str]) -> list[Cell]:
    return [Cell(text=name, value=name) for name in names]


def in_sections(grid: Grid) -> Grid:
    """A table whose first column names sections: the name stands at the first row of each, a line below its last."""
    names = [row[0].value for row in grid.rows]
    is_first = [number == 0 or names[number - 1] != name for number, name in enumerate(names)]
    rows = tuple(
        (replace(row[0], text=str(name) if first else ""), *row[1:])
        for row, name, first in zip(grid.rows, names, is_first, strict=True)
    )
    return replace(
        grid, rows=rows, breaks=frozenset(number - 1 for number, first in enumerate(is_first) if first) - {-1}
    )


def _sections(wide: pd.DataFrame) -> list[str]:
    """The data set of each row; none where there is one alone."""
    if "dataset" not in wide.columns or wide["dataset"].nunique() < 2:
        return []
    return [str(name) for name in wide["dataset"]]


def _labels_in_sections(wide: pd.DataFrame) -> list[str]:
    """The name of each row within its section."""
    if not _sections(wide):
        return configuration_labels(wide)
    labels = [""] * len(wide)
    for group in np.unique(peers(wide)):
        rows = np.flatnonzero(peers(wide) == group)
        for row, label in zip(rows.tolist(), configuration_labels(wide.iloc[rows]), strict=True):
            labels[row] = label
    return labels


def measures_frame(wide: pd.DataFrame, objectives: Sequence[str], certainty: Certainty) -> pd.DataFrame:
    """The same for programs, fractions: for each objective its value, `<objective>.low` and `.high`; `on_front`."""
    frame = pd.DataFrame({"method": configuration_labels(wide), "seeds": _seeds(wide)})
    for column, name in enumerate(objectives):
        _check_objective(wide, name)
        frame[name] = _numbers(wide, name)
        frame[f"{name}.low"], frame[f"{name}.high"] = certainty.intervals[:, column].T
    return frame.assign(on_front=certainty.on_front)


def front_lines(
    dominance_frame: pd.DataFrame, objectives: Sequence[str], certainty: Certainty | None = None
) -> list[str]:
    """One line a configuration: it is on the Pareto front, or what dominates it and by how much, or what it lacks.

    The margins are those of the first that dominates it; of many, the first three are named. With `certainty` each
    line says how surely: in what share of the draws.

    >>> frame = pd.DataFrame({"method": ["pixmix", "cutout"], "clean.error": [0.042, 0.057]})
    >>> frame = frame.assign(on_front=[True, False], dominated_by=[[], [0]], missing=[[], []])
    >>> for line in front_lines(frame, ["clean.error"]):
    ...     print(line)
    pixmix is on the Pareto front
    cutout is dominated by pixmix (which is better in clean.error by 1.5 points)

    Args:
        dominance_frame: what `pixmix_ray.analysis.pareto.dominance` returned; unchanged.
        objectives: the names that it was given.
        certainty: of its rows, in their order.

    Raises:
        UnknownNameError: as `measures_grid`.
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
    places = {row: place for place, row in enumerate(labels)}
    for row, on_front, dominators, missing in verdicts:
        if on_front:
            verdict = "is on the Pareto front" + _how_often(certainty, places[row])
        elif missing:
            verdict = f"is not compared, as it lacks {', '.join(missing)}"
        else:
            which = "which" if len(dominators) == 1 else labels[dominators[0]]
            margins = _margins(dominance_frame.loc[dominators[0]], dominance_frame.loc[row], objectives)
            named = [labels[other] for other in dominators[:NAMED_DOMINATORS]]
            if rest := len(dominators) - len(named):
                named.append(f"{rest} more")
            share = "" if certainty is None else _how_surely(certainty, places[dominators[0]], places[row])
            verdict = f"is dominated by {', '.join(named)} ({which} is {margins}{share})"
        lines.append(f"{labels[row]} {verdict}")
    return lines


def _how_often(certainty: Certainty | None, row: int) -> str:
    return "" if certainty is None else f", in {percent(float(certainty.on_front[row]))} of the draws"


def _how_surely(certainty: Certainty, better: int, worse: int) -> str:
    """In what share of the draws one dominates the other, and in which objectives the difference is not significant."""
    names = enumerate(certainty.objectives)
    doubtful = [name for column, name in names if not certainty.real(column, better, worse)]
    rest = "" if not doubtful else f", no significant difference in {', '.join(doubtful)}"
    share = float(certainty.dominates(better, np.array([worse]))[0])
    return f"; dominates in {percent(share)} of the draws{rest}"


def _share(value: float) -> Cell:
    return Cell(text=_ABSENT if math.isnan(value) else percent(value), value=value)


def _cells(wide: pd.DataFrame, objective: str, certainty: Certainty | None, column: int) -> list[Cell]:
    """The column of one objective as it is shown."""
    _check_objective(wide, objective)
    values = _numbers(wide, objective)
    if certainty is not None:
        low, high = certainty.intervals[:, column].T
        halves, marks = (high - low) / 2, certain_marks(certainty, column, lacks_seeds(wide, certainty)[:, column])
        ends = [
            None if math.isnan(one) else (one, other) for one, other in zip(low.tolist(), high.tolist(), strict=True)
        ]
    else:
        ends = [None] * len(values)
        spread = f"{objective}.standard_error"
        errors = _numbers(wide, spread) if spread in wide.columns else np.full(len(wide), math.nan)
        halves = np.where(_seeds(wide) > 1, errors, math.nan)
        marks = _marks(values if direction(_metric(objective)) == "lower" else -values, peers(wide))
    counts = _fewer_seeds(wide, objective)
    return [
        Cell(text=_shown(_metric(objective), value, half) + count, value=float(value), mark=mark, interval=interval)
        for value, half, mark, interval, count in zip(values, halves, marks, ends, counts, strict=True)
    ]


def _fewer_seeds(wide: pd.DataFrame, objective: str) -> list[str]:
    """What a value is followed by where it is a mean over fewer seeds than its row has: " (1 of 3 seeds)"."""
    name, all_seeds = f"{objective}.seeds", _seeds(wide).tolist()
    if name not in wide.columns:
        return [""] * len(wide)
    return [
        f" ({count} of {whole} seeds)" if 0 < count < whole else ""
        for count, whole in zip(wide[name].tolist(), all_seeds, strict=True)
    ]


def lacks_seeds(wide: pd.DataFrame, certainty: Certainty) -> NDArray[np.bool_]:
    """(n, m) whether a value is a mean over fewer seeds than its configuration has."""
    return np.asarray((certainty.seeds > 0) & (certainty.seeds < _seeds(wide)[:, None]))


def certain_marks(certainty: Certainty, column: int, is_partial: NDArray[np.bool_] | None = None) -> list[Mark]:
    """Best, and tied where the best is not really better.

    Args:
        certainty: of the rows.
        column: which objective.
        is_partial: (n,) the rows whose value lacks seeds; they are not marked while others lack none.
    """
    partial = np.zeros(len(certainty.values), dtype=np.bool_) if is_partial is None else is_partial
    costs = certainty.values[:, column] * certainty.signs[column]
    marks: list[Mark] = [""] * len(costs)
    for group in np.unique(certainty.groups):
        rows = np.flatnonzero((certainty.groups == group) & ~np.isnan(costs))
        if not partial[rows].all():
            rows = rows[~partial[rows]]
        if not len(rows):
            continue
        best = int(rows[np.argmin(costs[rows])])
        is_known = certainty.is_known[rows, column] & certainty.is_known[best, column]
        is_tied = is_known & ~certainty.real(column, best, rows)
        for row, tied in zip(rows.tolist(), is_tied.tolist(), strict=True):
            if costs[row] == costs[best]:
                marks[row] = "best"
            elif tied:
                marks[row] = "tied"
    return marks


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


def _caption(objectives: Sequence[str], seeds: NDArray[np.int64] | None, certainty: Certainty | None) -> str:
    others = sorted({_metric(name) for name in objectives} & UNITS.keys())
    unit = ", ".join(["percent", *(f"{name} in {UNITS[name]}" for name in others)])
    several = seeds is not None and len(seeds) > 0 and seeds[0] > 1
    if certainty is None:
        return unit + (f"; {seeds[0]} seeds, ± standard error" if several and seeds is not None else "")
    over = "pictures alone" if int(certainty.seeds.max(initial=0)) < 2 else "pictures and seeds"
    count = f"; {seeds[0]} seed{'s' if several else ''}" if seeds is not None and len(seeds) else ""
    return f"{unit}; ± half of the 95 % interval over {over}{count}"


def _legend(certainty: Certainty | None) -> tuple[tuple[Mark, str], ...]:
    if certainty is None:
        return (("best", "best"), ("second", "second best"))
    judged = f", over {certainty.comparisons} comparisons" if certainty.comparisons > 1 else ""
    return (("best", "best"), ("tied", f"not significantly different from the best at 95 %{judged}"))


def _header(objective: str) -> tuple[str, ...]:
    """The header in short lines, so that the six safety measures fit beside each other in 80 columns."""
    benchmark, _, metric = objective.partition(".")
    arrow = _ARROWS[direction(_metric(objective))]
    return (benchmark, *textwrap.wrap(f"{metric.replace('_', ' ')} {arrow}", width=11))


def _margins(better: "pd.Series[float]", worse: "pd.Series[float]", objectives: Sequence[str]) -> str:
    """In which objectives one row is better than another and by how much: 'better in clean.error by 1.5 points'."""
    gains, equal = [], []
    for name in objectives:
        difference = abs(float(better[name]) - float(worse[name]))
        if better.get(f"{name}.seeds") != worse.get(f"{name}.seeds"):  # the means are of other seeds
            gains.append(f"in {name} on the seeds that both have")
            continue
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


def percent(share: float) -> str:
    """Whole percent; 100 % and 0 % only where it is exact.

    >>> percent(0.5), percent(0.999), percent(1.0)
    ('50 %', '>99 %', '100 %')
    """
    text = f"{100 * share:.0f} %"
    return {"100 %": ">99 %", "0 %": "<1 %"}.get(text, text) if 0 < share < 1 else text
