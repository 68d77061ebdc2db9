"""What all figures share: a column's width, colours, marks, names of objectives, and how a file is written.

matplotlib draws them: it is the optional extra `report`, and is imported when a figure is drawn.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics import UNITS, direction
from pixmix_ray.report.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.35  # inches: a column of a two-column paper
DOTS = 200  # an inch
ENDINGS = ("pdf", "svg", "png")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7A6A00", "#444444")
"""Okabe and Ito's, which most colour-blind people can tell apart; yellow, too light for a line, is darker."""
MARKS = "os^Dv<>P"
"""With the colours they tell 64 methods apart, also in print without colour."""
SHORT = {
    "clean.error": "clean error",
    "corruptions.mce": "corruptions mCE",
    "consistency.mfr": "consistency mFR",
    "adversaries.error": "adversaries error",
    "corruptions.rms_calibration_error": "calibration RMS",
    "anomalies.auroc": "anomalies AUROC",
}


def check_drawable() -> None:
    """Raise RequestError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise RequestError("a figure needs matplotlib: pip install 'pixmix_ray[report]'")


def check_ending(file: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        RequestError: it is none of `ENDINGS`.
    """
    ending = file.suffix.lower().lstrip(".")
    if ending not in ENDINGS:
        raise RequestError(f"a figure is written as .png, .pdf or .svg, got {file.name!r}")
    return ending


def save(figure: "Figure", file: Path) -> None:
    """Write a figure whole, as its file's name says.

    Raises:
        RequestError: the ending is another, or the file cannot be written.
    """
    ending = check_ending(file)
    with written_whole(file) as part:
        figure.savefig(part, format=ending, dpi=DOTS, metadata={} if ending == "svg" else None)


def new_figure(width: float = COLUMN, height: float = 2.5) -> "Figure":
    """An empty figure of so many inches, its texts readable at that size."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a display

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: "Axes") -> None:
    """Small ticks, no box, a light grid."""
    axes.tick_params(labelsize=6.5, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)


def look(place: int) -> dict[str, Any]:
    """Colour and mark of the entry at that place."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKS[(place // len(COLOURS) + place) % len(MARKS)]}


def plain(text: object) -> str:
    """A name as text: a dollar sign in it starts no formula, and it has a bearable length."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return (shown if len(shown) <= 40 else f"{shown[:37]}...").replace("$", r"\$")


def objective_name(objective: str) -> str:
    """What is written at an axis: name, unit, and which way is better."""
    metric = objective.rpartition(".")[2]
    unit = f" [{UNITS[metric]}]" if metric in UNITS else " [%]"
    arrow = "↓" if direction(metric) == "lower" else "↑"
    return f"{SHORT.get(objective, objective.replace('.', ' ').replace('_', ' '))} {arrow}{unit}"


def scaled(objective: str, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Values in the unit of `objective_name`."""
    return np.asarray(values, dtype=np.float64) * (1 if objective.rpartition(".")[2] in UNITS else 100)


def legend(figure: "Figure", axes: "Axes", columns: int = 3) -> None:
    """A legend below the axes, if it has entries."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        count = min(columns, max(1, math.ceil(len(labels) / 2)))
        figure.legend(handles, labels, ncols=count, fontsize=6.5, loc="outside lower center", frameon=False)
