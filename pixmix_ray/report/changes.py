"""What changed between two results, as a person reads it."""

import math

import pandas as pd

from pixmix_ray.analysis.comparison import Comparison
from pixmix_ray.analysis.labels import configuration_labels
from pixmix_ray.metrics import UNITS
from pixmix_ray.report.grid import Cell, Column, Grid


def changes_grid(found: Comparison) -> Grid:
    """A row a configuration and objective: before, after, the difference with its interval, and whether it is real."""
    labels = configuration_labels(found.before.wide)
    names = ("method", "objective", "before", "after", "difference", "verdict", "note")
    columns = tuple(Column(key=name, header=(name,), is_number=name in names[2:5]) for name in names)
    rows = []
    for change in found.changes.to_dict("records"):
        factor, decimals = (1, 2) if change["objective"].rpartition(".")[2] in UNITS else (100, 1)
        half = (change["high"] - change["low"]) / 2
        spread = "" if math.isnan(half) else f" ± {factor * half:.{decimals}f}"
        difference = change["difference"]
        shown = "–" if math.isnan(difference) else f"{factor * difference:+.{decimals}f}{spread}"
        label = labels[change["row"]]
        rows.append(
            (
                Cell(text=label, value=label),
                Cell(text=change["objective"], value=change["objective"]),
                *(
                    Cell(text="–" if pd.isna(value) else f"{factor * value:.{decimals}f}", value=value)
                    for value in (change["before"], change["after"])
                ),
                Cell(text=shown, value=difference),
                Cell(text=_verdict(change["is_real"], change["is_better"], difference), value=change["is_real"]),
                Cell(text=change["note"], value=change["note"]),
            )
        )
    caption = (
        "percent; difference: B minus A, ± half of its 95 % interval; better or worse where significant at 95 %, "
        f"over {found.comparisons} comparisons"
    )
    return Grid(columns=columns, rows=tuple(rows), caption=caption)


def changes_notes(found: Comparison) -> list[str]:
    """A line for the configurations that only one side has."""
    sides = (("A", found.before, found.only_before), ("B", found.after, found.only_after))
    lines = []
    for side, judged, rows in sides:
        labels = configuration_labels(judged.wide)
        if rows:
            lines.append(f"only in {side}: {', '.join(labels[row] for row in rows)}")
    return lines


def _verdict(is_real: object, is_better: bool, difference: float) -> str:
    if is_real is None or math.isnan(difference):
        return "not known"
    if not is_real:
        return "same" if difference == 0 else "no significant difference"
    return "better" if is_better else "worse"
