"""Figures for a paper, each one function of a DataFrame; `FIGURES` lists them, `write_figure` draws one of results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pixmix_ray.analysis.certainty import signs_of
from pixmix_ray.analysis.fronts import attainment
from pixmix_ray.analysis.histories import epochs, labelled_trials, work
from pixmix_ray.analysis.means import by_condition_and_severity, by_severity
from pixmix_ray.errors import ResultsError, UnknownNameError
from pixmix_ray.report.figures import augmented, conditions, fronts, runs, scores
from pixmix_ray.report.figures.style import check_drawable, check_ending, save
from pixmix_ray.report.tables import measures_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pixmix_ray.results import Results


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a figure is drawn of.

    Attributes:
        results: the results folder.
        variant: text in the name of one of its parts; none where there is one.
        objectives: names "benchmark.metric"; none takes the figure's own.
    """

    results: "Results"
    variant: str | None = None
    objectives: Sequence[str] | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """The measurements."""
        return self.results.part(self.variant).frame

    def judged(self, names: Sequence[str] | None) -> pd.DataFrame:
        """The configurations with their objectives and intervals."""
        found = self.results.judged(names, variant=self.variant)
        return measures_frame(found.wide, found.certainty.objectives, found.certainty)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure: what it shows, its data, and what draws them."""

    summary: str
    data: Callable[[Asked], pd.DataFrame]
    draw: Callable[[pd.DataFrame], "Figure"]


def _front(asked: Asked) -> pd.DataFrame:
    names = list(asked.objectives or asked.results.objectives(asked.results.part(asked.variant))[:2])
    found = asked.judged(names)
    if len(names) == 2:
        found.attrs[fronts.ATTAINED] = _attained(asked.frame, names)
    return found


def _attained(frame: pd.DataFrame, names: Sequence[str]) -> list[list[float]]:
    """The points that the fronts of half of the seeds attain in two objectives; none of fewer than two seeds."""
    whole = frame[frame["severity"].isna() & (frame["condition"] == "")]
    keys = whole["benchmark"].astype(str) + "." + whole["metric"].astype(str)
    rows = whole.assign(objective=keys)[keys.isin(names)]
    signs = signs_of(names)
    by_seed = [
        part.pivot_table(index="trial_id", columns="objective", values="value").reindex(columns=list(names)).dropna()
        for _, part in rows.groupby("seed")
    ]
    costs = [table.to_numpy(dtype=np.float64) * signs for table in by_seed if len(table)]
    return (attainment(costs) * signs).tolist() if len(costs) > 1 and frame["dataset"].nunique() == 1 else []


def _k_beta(asked: Asked) -> pd.DataFrame:
    known = asked.results.objectives(asked.results.part(asked.variant))
    names = asked.objectives or [name for name in known if name in ("clean.error", "corruptions.mce")] or known[:2]
    wide = asked.results.judged(names, variant=asked.variant).wide
    return wide[["k", "beta", *names]]


def _reliability(asked: Asked) -> pd.DataFrame:
    rows = _of_predictions(asked, "clean")
    is_correct = rows["predicted"] == rows["label"]
    return pd.DataFrame({"label": rows["entry"], "confidence": rows["confidence"], "is_correct": is_correct})


def _scores(asked: Asked) -> pd.DataFrame:
    rows = _of_predictions(asked, "anomalies")
    return pd.DataFrame({"label": rows["entry"], "set": rows["condition"], "score": 1 - rows["confidence"]})


def _of_predictions(asked: Asked, benchmark: str) -> pd.DataFrame:
    """The predictions of a benchmark, of one seed of each configuration, whose label is the column `entry`."""
    cells = asked.frame[asked.frame["benchmark"] == benchmark].drop_duplicates("cell")
    named = cells.merge(labelled_trials(asked.frame)[["trial_id", "label"]], on="trial_id").drop_duplicates("label")
    if named.empty:
        raise ResultsError(f"no predictions of {benchmark} in these results: measure it")
    cell_of = dict(zip(named["label"], named["cell"].astype(str), strict=True))
    return pd.concat(
        [asked.results.predictions(cell=cell).assign(entry=label) for label, cell in cell_of.items()], ignore_index=True
    )


FIGURES: Mapping[str, Plot] = {
    "front": Plot(
        summary="two or three objectives with intervals, the Pareto front filled",
        data=_front,
        draw=fronts.draw_front,
    ),
    "parallel": Plot(
        summary="all objectives side by side, best at the top",
        data=lambda asked: asked.judged(asked.objectives),
        draw=fronts.draw_parallel,
    ),
    "calibration": Plot(
        summary="RMS calibration error by severity: Figure 4 of the paper",
        data=lambda asked: by_severity(asked.frame, "rms_calibration_error"),
        draw=conditions.draw_by_severity,
    ),
    "k-beta": Plot(
        summary="objectives by PixMix's k and β: Table 13 of the paper",
        data=_k_beta,
        draw=conditions.draw_k_beta,
    ),
    "corruptions": Plot(
        summary="error by corruption and severity",
        data=lambda asked: by_condition_and_severity(asked.frame, "error"),
        draw=conditions.draw_corruptions,
    ),
    "reliability": Plot(
        summary="accuracy by confidence on the clean test pictures",
        data=_reliability,
        draw=scores.draw_reliability,
    ),
    "scores": Plot(
        summary="anomaly scores of test pictures and of each set of outliers",
        data=_scores,
        draw=scores.draw_scores,
    ),
    "training": Plot(
        summary="training loss by epoch, and the error on pictures held out",
        data=lambda asked: epochs(asked.results.store, asked.frame),
        draw=runs.draw_curves,
    ),
    "pictures": Plot(
        summary="training pictures as each method changes them: Figure 1 of the paper",
        data=lambda asked: augmented.augmented_pictures(
            asked.results.store, labelled_trials(asked.frame).drop_duplicates("label")
        ),
        draw=augmented.draw_pictures,
    ),
    "makespan": Plot(
        summary="when each trial was trained and each cell measured",
        data=lambda asked: work(asked.results.store, asked.frame),
        draw=runs.draw_makespan,
    ),
}
"""Every figure by its name."""


def write_figure(name: str, asked: Asked, file: Path) -> None:
    """Draw a figure and write it: PNG, PDF or SVG, by the ending of the file's name.

    Raises:
        UnknownNameError: there is no such figure.
        RequestError: matplotlib is missing, the file cannot be written, or the results do not hold what is drawn.
    """
    if name not in FIGURES:
        raise UnknownNameError("figure", name, FIGURES)
    check_drawable()
    check_ending(file)
    plot = FIGURES[name]
    save(plot.draw(plot.data(asked)), file)
