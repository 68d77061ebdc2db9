"""As conditions get worse: error by corruption and severity, calibration by severity (Figure 4); and k and β."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pixmix_ray.errors import ResultsError
from pixmix_ray.report.figures.style import COLUMN, legend, look, new_figure, objective_name, plain, scaled, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST_PANELS = 12


def draw_by_severity(frame: pd.DataFrame) -> "Figure":
    """RMS calibration error over the severities, a line a method, a panel a benchmark: Figure 4 of the paper.

    Args:
        frame: of `by_severity`: label, benchmark, severity, value.
    """
    benchmarks = list(dict.fromkeys(frame["benchmark"]))
    figure = new_figure(COLUMN * min(len(benchmarks), 2), 2.5)
    panels = figure.subplots(1, len(benchmarks), sharey=True, squeeze=False)[0]
    labels = list(dict.fromkeys(frame["label"]))
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        for place, label in enumerate(labels):
            rows = frame[(frame["benchmark"] == benchmark) & (frame["label"] == label)].sort_values("severity")
            axes.plot(
                rows["severity"], 100 * rows["value"], **look(place), markersize=3.5, linewidth=1.1, label=plain(label)
            )
        axes.set_title(plain(benchmark), fontsize=7.5)
        axes.set_xlabel("severity", fontsize=7.5)
        axes.set_xticks([int(severity) for severity in sorted(set(frame["severity"]))])
        tidy(axes)
    panels[0].set_ylabel("RMS calibration error [%]", fontsize=7.5)
    legend(figure, panels[0])
    return figure


def draw_corruptions(frame: pd.DataFrame) -> "Figure":
    """Error by corruption and severity: a panel of numbers a method, darker for more error.

    Args:
        frame: of `by_condition_and_severity`: label, benchmark, condition, severity, value.

    Raises:
        ResultsError: there are more methods than panels fit a page.
    """
    labels = list(dict.fromkeys(frame["label"]))
    if len(labels) > MOST_PANELS:
        raise ResultsError(f"{len(labels)} methods are too many panels for a page: choose {MOST_PANELS} with --where")
    conditions, severities = list(dict.fromkeys(frame["condition"])), sorted(set(frame["severity"]))
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    figure = new_figure(0.9 + 1.5 * columns, (0.45 + 0.15 * len(conditions)) * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    top = float(frame["value"].max())
    for axes in panels.flat[len(labels) :]:
        axes.set_visible(False)
    for axes, label in zip(panels.flat, labels, strict=False):
        part = frame[frame["label"] == label]
        table = part.pivot_table(index="condition", columns="severity", values="value").reindex(
            conditions, columns=severities
        )
        _numbers(axes, 100 * table.to_numpy(), 100 * top)
        axes.set_title(plain(label), fontsize=7)
        axes.set_xticks(range(len(severities)), [str(int(severity)) for severity in severities])
        axes.set_yticks(range(len(conditions)), [plain(name).replace("_", " ") for name in conditions])
        axes.tick_params(labelsize=6, length=0)
    figure.supxlabel("severity; error in percent", fontsize=7)
    return figure


def draw_k_beta(frame: pd.DataFrame) -> "Figure":
    """A panel an objective, a cell for each k and β, its mean in it: Table 13 of the paper.

    Args:
        frame: k, beta and a column for each objective; a row a configuration.

    Raises:
        ResultsError: there is no grid: fewer than two values of k and β together.
    """
    rows = frame.dropna(subset=["k", "beta"])
    ks, betas = sorted(set(rows["k"])), sorted(set(rows["beta"]), reverse=True)
    if len(ks) * len(betas) < 2:
        raise ResultsError("there is no grid of k and β: train PixMix with several, such as k: [2, 3, 4]")
    names = [str(name) for name in rows.columns if name not in ("k", "beta")]
    figure = new_figure(min(2.1, len(names)) * COLUMN, 0.8 + 0.45 * len(betas))
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        table = rows.pivot_table(index="beta", columns="k", values=name).reindex(betas, columns=ks)
        values = scaled(name, table.to_numpy().ravel()).reshape(table.shape)
        _numbers(axes, values, None)
        axes.set_title(objective_name(name), fontsize=7)
        axes.set_xticks(range(len(ks)), [f"k = {k:g}" for k in ks])
        axes.set_yticks(range(len(betas)), [f"β = {beta:g}" for beta in betas])
        axes.tick_params(labelsize=6.5, length=0)
    return figure


def _numbers(axes: "Axes", values: "NDArray[np.float64]", top: float | None) -> None:
    """Cells with their numbers; darker is more. `top`: what is darkest; none takes the range of the values."""
    low, high = (0.0, top) if top is not None else (np.nanmin(values), np.nanmax(values))
    axes.imshow(values, cmap="Blues", vmin=low, vmax=high if high > low else low + 1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            is_dark = high > low and (value - low) / (high - low) > 0.6
            colour = "white" if is_dark else "#222222"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=5.5, color=colour)
    axes.spines[:].set_visible(False)
