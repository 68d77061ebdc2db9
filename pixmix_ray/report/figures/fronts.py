"""Pareto fronts of two or three objectives with intervals, and parallel coordinates over any number."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics import direction
from pixmix_ray.report.figures.style import COLUMN, legend, look, new_figure, objective_name, plain, scaled, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def objectives_of(frame: pd.DataFrame) -> list[str]:
    """The objectives of a frame of `measures_frame`: the columns that have an interval."""
    return [name for name in frame.columns if f"{name}.low" in frame.columns]


def draw_front(frame: pd.DataFrame) -> "Figure":
    """A point an entry at two objectives; of three the third is the size of the point, larger where better.

    Entries that are on the front in half of the draws or more are filled and joined by a line (of two objectives); the
    others are hollow. Bars are 95 % intervals.

    Args:
        frame: of `measures_frame`: method, objectives, `<objective>.low`, `<objective>.high`, on_front.

    Raises:
        RequestError: the frame has other than two or three objectives.
    """
    names = objectives_of(frame)
    if len(names) not in (2, 3):
        raise RequestError(f"a front is drawn of 2 or 3 objectives, got {len(names)}: choose with --objectives a,b")
    figure = new_figure(COLUMN, 2.9)
    axes = figure.subplots()
    whole = frame.dropna(subset=names).reset_index(drop=True)
    is_on = np.nan_to_num(whole["on_front"].to_numpy(dtype=np.float64)) >= 0.5
    x, y = (scaled(name, whole[name].to_numpy()) for name in names[:2])
    sizes = _sizes(whole[names[2]], names[2]) if len(names) == 3 else np.full(len(whole), 26.0)
    for place in range(len(whole)):
        style = look(place)
        spans = [_span(whole, name, place) for name in names[:2]]
        axes.errorbar(
            x[place], y[place], xerr=spans[0], yerr=spans[1], color=style["color"], linewidth=0.8, alpha=0.6, zorder=1
        )
        face = style["color"] if is_on[place] else "white"
        axes.scatter(
            x[place],
            y[place],
            s=sizes[place],
            marker=style["marker"],
            facecolor=face,
            edgecolor=style["color"],
            linewidth=0.9,
            label=plain(whole["method"][place]),
            zorder=2,
        )
    if len(names) == 2 and is_on.sum() > 1:
        order = np.argsort(x[is_on])
        axes.plot(x[is_on][order], y[is_on][order], color="#888888", linewidth=0.7, linestyle=":", zorder=0)
    axes.set_xlabel(objective_name(names[0]), fontsize=7.5)
    axes.set_ylabel(objective_name(names[1]), fontsize=7.5)
    if len(names) == 3:
        axes.set_title(f"larger: better {objective_name(names[2])}", fontsize=7)
    tidy(axes)
    legend(figure, axes)
    return figure


def draw_parallel(frame: pd.DataFrame) -> "Figure":
    """A line an entry over all objectives, each axis from the worst at the bottom to the best at the top.

    Entries that are on the front in half of the draws or more are drawn strong, the others thin.

    Args:
        frame: as for `draw_front`, of two objectives or more.

    Raises:
        RequestError: the frame has fewer.
    """
    names = objectives_of(frame)
    if len(names) < 2:
        raise RequestError(f"parallel coordinates need 2 objectives or more, got {len(names)}")
    figure = new_figure(2.1 * COLUMN, 2.9)
    axes = figure.subplots()
    goodness = np.stack([_goodness(frame[name], name) for name in names], axis=1)
    is_on = np.nan_to_num(frame["on_front"].to_numpy(dtype=np.float64)) >= 0.5
    for place, line in enumerate(goodness):
        style = look(place)
        strong: dict[str, Any] = (
            {"linewidth": 1.6} if is_on[place] else {"linewidth": 0.8, "alpha": 0.55, "linestyle": "--"}
        )
        axes.plot(range(len(names)), line, **style, markersize=4, label=plain(frame["method"].iloc[place]), **strong)
    for place, name in enumerate(names):
        values = scaled(name, frame[name].to_numpy())
        ends = (np.nanmin(values), np.nanmax(values)) if not np.isnan(values).all() else (np.nan, np.nan)
        best, worst = ends if direction(name.rpartition(".")[2]) == "lower" else ends[::-1]
        axes.text(place, 1.04, f"{best:.1f}", ha="center", va="bottom", fontsize=6)
        axes.text(place, -0.04, f"{worst:.1f}", ha="center", va="top", fontsize=6)
    axes.set_xticks(range(len(names)), [objective_name(name).replace(" ", "\n", 1) for name in names], fontsize=6.5)
    axes.tick_params(axis="x", pad=12, length=0)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.6, alpha=0.5)
    legend(figure, axes, columns=5)
    return figure


def _span(frame: pd.DataFrame, name: str, place: int) -> NDArray[np.float64] | None:
    """How far the interval reaches below and above a value, (2, 1); none where it is not known."""
    value, low, high = (float(frame[column][place]) for column in (name, f"{name}.low", f"{name}.high"))
    if np.isnan(low) or np.isnan(high):
        return None
    return scaled(name, [max(value - low, 0.0), max(high - value, 0.0)]).reshape(2, 1)


def _goodness(values: "pd.Series[float]", name: str) -> NDArray[np.float64]:
    """0 for the worst of the values, 1 for the best."""
    numbers = values.to_numpy(dtype=np.float64)
    cost = numbers if direction(name.rpartition(".")[2]) == "lower" else -numbers
    low, high = np.nanmin(cost), np.nanmax(cost)
    return (high - cost) / (high - low) if high > low else np.where(np.isnan(cost), np.nan, 0.5)


def _sizes(values: "pd.Series[float]", name: str) -> NDArray[np.float64]:
    return 14 + 90 * np.nan_to_num(_goodness(values, name))
