"""How training went and what the time went to: training curves, and the makespan of a run."""

from typing import TYPE_CHECKING

import pandas as pd

from pixmix_ray.report.figures.style import COLOURS, COLUMN, legend, look, new_figure, plain, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 60


def draw_curves(frame: pd.DataFrame) -> "Figure":
    """Training loss over the epochs, a line a trial, those of one method alike; on pictures held out, the error too.

    Args:
        frame: label, seed, epoch, loss, validation_error (NaN without); a row an epoch.
    """
    has_error = frame["validation_error"].notna().any()
    figure = new_figure(COLUMN * (2 if has_error else 1), 2.5)
    panels = figure.subplots(1, 2 if has_error else 1, squeeze=False)[0]
    drawn = [("loss", "training loss", 1.0), ("validation_error", "validation error [%]", 100.0)][: len(panels)]
    for axes, (column, name, factor) in zip(panels, drawn, strict=True):
        for place, (label, trials) in enumerate(frame.groupby("label", sort=False)):
            for number, (_, rows) in enumerate(trials.groupby("seed", sort=False)):
                title = plain(label) if number == 0 else None
                colour = look(place)["color"]
                axes.plot(rows["epoch"], factor * rows[column], color=colour, linewidth=1, alpha=0.8, label=title)
        axes.set_xlabel("epoch", fontsize=7.5)
        axes.set_ylabel(name, fontsize=7.5)
        tidy(axes)
    panels[0].set_yscale("log")
    legend(figure, panels[0])
    return figure


def draw_makespan(frame: pd.DataFrame) -> "Figure":
    """When each trial was trained and each of its cells measured: a row a trial, bars over the hours since the start.

    Args:
        frame: label, what (training, or a benchmark), start and end (timestamps); a row a piece of work.
    """
    labels = list(dict.fromkeys(frame.sort_values("start")["label"]))[:MOST_ROWS]
    kinds = ["training", *sorted(set(frame["what"]) - {"training"})]
    figure = new_figure(2.1 * COLUMN, 0.9 + 0.14 * len(labels))
    axes = figure.subplots()
    origin = frame["start"].min()
    total = (frame["end"].max() - origin).total_seconds()
    unit, seconds = ("hours", 3600.0) if total > 7200 else ("minutes", 60.0)
    for place, kind in enumerate(kinds):
        rows = frame[(frame["what"] == kind) & frame["label"].isin(labels)]
        starts = (rows["start"] - origin).dt.total_seconds() / seconds
        widths = (rows["end"] - rows["start"]).dt.total_seconds() / seconds
        height = 0.8 if kind == "training" else 0.5
        places = [labels.index(label) for label in rows["label"]]
        colour = COLOURS[place % len(COLOURS)]
        axes.barh(places, widths, left=starts, height=height, color=colour, label=plain(kind).replace("_", " "))
    axes.set_yticks(range(len(labels)), [plain(label) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit} since the start", fontsize=7.5)
    tidy(axes)
    axes.tick_params(axis="y", labelsize=5.5)
    legend(figure, axes, columns=6)
    return figure
