"""The figure of mixing sets: a panel for each measure of complexity and safety measure, a point a set.

Points are letters, so that eight of them can be told apart in a small panel and in print without colour; the legend
says whose they are. Safer is up in every panel: where a lower value is better, the axis is turned round. The rank
correlation with safety stands above each panel, positive where more of the measure goes with more safety.

matplotlib draws it, and is imported here alone: it is the optional extra `report`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics import UNITS, direction
from pixmix_ray.mixing_sets.complexity import MEASURES
from pixmix_ray.report.figures.style import COLOURS, check_drawable, check_ending, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pixmix_ray.report.complexity import SetsBeside

PANEL = (1.85, 1.6)  # inches; four in a row fill the text width of a page
NAMES = {
    "compressed_ratio": "compressed size ratio",
    "spectral_slope": "spectral slope",
    "box_dimension": "box-counting dimension",
    "brightness_entropy": "entropy of brightness, bits",
    "clean.error": "clean error",
    "corruptions.mce": "corruptions mCE",
    "consistency.mfr": "consistency mFR",
    "adversaries.error": "adversaries error",
    "corruptions.rms_calibration_error": "calibration RMS",
    "anomalies.auroc": "anomalies AUROC",
}


def write_figure(beside: SetsBeside, correlations: pd.DataFrame, file: Path) -> None:
    """Draw the figure and write it: PNG, PDF or SVG, by the ending of the file's name.

    Raises:
        RequestError: nothing was measured, matplotlib is missing, the ending is another, or the file cannot be written.
    """
    check_drawable()
    check_ending(file)
    if not beside.objectives:
        raise RequestError("there are no safety measures to draw yet: run the experiment first, or leave --figure out")
    save(_draw(beside, correlations), file)


def _draw(beside: SetsBeside, correlations: pd.DataFrame) -> Figure:
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    rows, columns = len(beside.objectives), len(MEASURES)
    legend_rows = math.ceil(beside.frame["mixing_set"].nunique() / columns)
    size = (columns * PANEL[0] + 0.6, rows * PANEL[1] + 0.5 + 0.2 * legend_rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex="col", sharey="row", squeeze=False)
    marks = _marks(beside.frame["mixing_set"])
    rhos = correlations.set_index(["measure", "objective"])["rho"]
    for i, objective in enumerate(beside.objectives):
        for j, measure in enumerate(MEASURES):
            _panel(panels[i, j], beside.frame[measure], _scaled(beside.frame, objective), marks)
            rho = float(rhos[measure, objective])
            panels[i, j].set_title("" if math.isnan(rho) else f"ρ = {rho:+.2f}", fontsize=7, pad=2, loc="right")
        panels[i, 0].set_ylabel(_axis_name(objective), fontsize=7.5)
        if direction(objective.rpartition(".")[2]) == "lower":
            panels[i, 0].invert_yaxis()  # shared by the row
    for j, measure in enumerate(MEASURES):
        panels[-1, j].set_xlabel(NAMES.get(measure, measure), fontsize=7.5)
    figure.legend(
        handles=_handles(beside.frame, marks), ncols=columns, fontsize=7, loc="outside lower center", frameon=False
    )
    return figure


def _panel(axes: Axes, across: pd.Series[float], up: pd.Series[float], marks: Sequence[tuple[str, str]]) -> None:
    for x, y, (letter, colour) in zip(across, up, marks, strict=True):
        axes.plot([x], [y], marker="o", markersize=10, color=colour, alpha=0.25, markeredgewidth=0)
        axes.text(x, y, letter, color=colour, fontsize=7.5, fontweight="bold", ha="center", va="center_baseline")
    axes.margins(0.14, 0.16)
    axes.tick_params(labelsize=6.5, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)


def _marks(names: pd.Series[str]) -> list[tuple[str, str]]:
    """A letter and a colour for each row, the same for one name."""
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    letters = string.ascii_uppercase + string.ascii_lowercase
    return [(letters[order[name] % len(letters)], COLOURS[order[name] % len(COLOURS)]) for name in names]


def _handles(frame: pd.DataFrame, marks: Sequence[tuple[str, str]]) -> list[Any]:
    from matplotlib.lines import Line2D

    entries = dict(zip(frame["mixing_set"], marks, strict=True))
    return [
        Line2D([], [], linestyle="", marker=f"$\\mathbf{{{letter}}}$", markersize=6, color=colour, label=name)
        for name, (letter, colour) in entries.items()
    ]


def _scaled(frame: pd.DataFrame, objective: str) -> pd.Series[float]:
    return frame[objective] * (1 if objective.rpartition(".")[2] in UNITS else 100)


def _axis_name(objective: str) -> str:
    unit = "" if objective.rpartition(".")[2] in UNITS else ", %"
    return f"{NAMES.get(objective, objective)}{unit}"
