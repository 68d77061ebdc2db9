"""Reliability diagrams, and histograms of anomaly scores: from predictions."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pixmix_ray.report.figures.style import COLOURS, COLUMN, legend, look, new_figure, plain, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 10  # of equal count
MOST_PANELS = 12


def draw_reliability(frame: pd.DataFrame) -> "Figure":
    """Accuracy over confidence in ten bins of equal count, a line a method; the diagonal is perfect.

    Niculescu-Mizil and Caruana, "Predicting Good Probabilities With Supervised Learning" (ICML 2005).

    Args:
        frame: label, confidence in [0, 1], is_correct; a row a prediction.
    """
    figure = new_figure(COLUMN, 2.9)
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color="#888888", linewidth=0.7, linestyle=":")
    for place, (label, part) in enumerate(frame.groupby("label", sort=False)):
        order = np.argsort(part["confidence"].to_numpy(), kind="stable")
        parts = [rows for rows in np.array_split(order, min(BINS, len(order))) if len(rows)]
        confidence = [100 * part["confidence"].to_numpy()[rows].mean() for rows in parts]
        accuracy = [100 * part["is_correct"].to_numpy()[rows].mean() for rows in parts]
        axes.plot(confidence, accuracy, **look(place), markersize=3.5, linewidth=1, label=plain(label))
    axes.set_xlabel("confidence [%]", fontsize=7.5)
    axes.set_ylabel("accuracy [%]", fontsize=7.5)
    tidy(axes)
    legend(figure, axes)
    return figure


def draw_scores(frame: pd.DataFrame) -> "Figure":
    """The share of pictures by anomaly score, 1 - confidence: test pictures and each set of outliers, a panel a method.

    Args:
        frame: label, set, score; a row a picture.
    """
    labels = list(dict.fromkeys(frame["label"]))[:MOST_PANELS]
    sets = list(dict.fromkeys(frame["set"]))
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    figure = new_figure(0.4 + 2.1 * columns, 0.5 + 1.5 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    edges = np.linspace(0, max(float(frame["score"].max()), 1e-6), 26)
    for axes in panels.flat[len(labels) :]:
        axes.set_visible(False)
    for axes, label in zip(panels.flat, labels, strict=False):
        part = frame[frame["label"] == label]
        for place, name in enumerate(sets):
            scores = part["score"].to_numpy()[part["set"].to_numpy() == name]
            if len(scores):
                shares = 100 * np.histogram(scores, edges)[0] / len(scores)
                axes.stairs(
                    shares, edges, color=COLOURS[place % len(COLOURS)], linewidth=1, label=plain(name).replace("_", " ")
                )
        axes.set_title(plain(label), fontsize=7)
        tidy(axes)
    panels[-1, 0].set_xlabel("anomaly score, 1 - confidence", fontsize=7)
    panels[0, 0].set_ylabel("pictures [%]", fontsize=7)
    legend(figure, panels[0, 0])
    return figure
