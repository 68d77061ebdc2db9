"""The complexity of an experiment's mixing sets, beside the safety measures of what was trained with them.

PixMix (Hendrycks et al., CVPR 2022), Appendix B.2, claims that structural complexity of the mixing pictures helps and
that entropy alone does not. Here every set is measured by `pixmix_ray.mixing_sets.complexity` on crops as training sees
them, and stands beside what its trainings reached. A rank correlation over eight sets is a weak witness: beyond 0.74 in
size, chance alone would go one time in twenty (Zar, 1972), and there are as many chances as pairs of measures.

The figure has a panel for each measure of complexity and safety measure, a point a set. Points are letters, so that
eight of them can be told apart in a small panel and in print without colour; the legend says whose they are. Safer is
up in every panel: where a lower value is better, the axis is turned round. The rank correlation with safety stands
above each panel, positive where more of the measure goes with more safety.

matplotlib draws it, and is imported here alone: it is the optional extra `report`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table
from rich.text import Text
from scipy.stats import spearmanr

from pixmix_ray.analysis.pareto import by_configuration, default_objectives
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.metrics import UNITS, direction
from pixmix_ray.mixing_sets.complexity import MEASURES
from pixmix_ray.report.figures.style import COLOURS, check_drawable, check_ending, save
from pixmix_ray.report.files import written_whole
from pixmix_ray.report.sheet import measured, sampled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_SETS = 3  # two points are always in order


@dataclass(frozen=True, kw_only=True)
class SetsBeside:
    """Mixing sets beside safety measures.

    Attributes:
        frame: a row for each set and method: mixing_set, version, pictures, crops, side, seed; each measure of
            complexity, its mean over the crops, and its `.standard_deviation`; method; then each objective, NaN where
            it was not measured.
        objectives: names "benchmark.metric", none if nothing was measured.
    """

    frame: pd.DataFrame
    objectives: tuple[str, ...]


def sets_beside_safety(sweep: Experiment, measurements: pd.DataFrame | None, count: int, seed: int) -> SetsBeside:
    """Every mixing set of an experiment measured, beside the means over seeds of the trials that mixed with it.

    Args:
        sweep: the experiment.
        measurements: of its results folder, one variant of each benchmark; none if there are none yet.
        count: crops of each set.
        seed: picks the crops.

    Raises:
        RequestError: the pictures are too small to measure, or no method of the experiment uses a mixing set.
        DataError: the files of a set are missing or broken.
    """
    used = {trial.id: trial for trial in sweep.trials() if trial.mixing_set is not None}
    if not used:
        methods = ", ".join(method.name for method in sweep.methods) or "none"
        raise RequestError(f"no method of this experiment ({methods}) uses a mixing set: name one that does, as pixmix")
    if len(sweep.dataset) * len(sweep.training) > 1:
        raise RequestError(
            f"mixing sets are measured for one data set and recipe, and here are {len(sweep.dataset)} and "
            f"{len(sweep.training)}: choose one, as with --set dataset=NAME"
        )
    side = sweep.training[0].side(sweep.dataset[0].settings.load().test_images.shape[1])
    rows = []
    for part in sweep.mixing_set:
        sample = sampled(part, count, side, seed)
        row = {"mixing_set": sample.label, "version": sample.version, "pictures": sample.total, "crops": count}
        row |= {"side": side, "seed": seed}
        for name, values in measured(sample.crops).items():
            row |= {name: float(values.mean()), f"{name}.standard_deviation": float(values.std())}
        rows.append(row)
    sets = pd.DataFrame(rows).drop_duplicates("version")
    of_trials = _safety(measurements, {name: trial.pictures_version for name, trial in used.items()})
    if of_trials is None:
        return SetsBeside(frame=sets, objectives=())
    objectives = tuple(name for name in of_trials.columns if name not in ("version", "method"))
    return SetsBeside(frame=sets.merge(of_trials, on="version", how="left"), objectives=objectives)


def rank_correlations(beside: SetsBeside) -> pd.DataFrame:
    """A row for each measure of complexity and objective: Spearman's rho with safety, its p, and how many sets.

    rho > 0: the more of it, the safer, whatever the direction of the objective; NaN where fewer than three sets have
    both or one does not vary. p is two-sided, of each pair alone.
    """
    rows = []
    for measure in MEASURES:
        for objective in beside.objectives:
            pair = beside.frame[[measure, objective]].dropna()
            rho, p = math.nan, math.nan
            if len(pair) >= FEWEST_SETS and (pair.nunique() > 1).all():
                sign = 1 if direction(objective.rpartition(".")[2]) == "higher" else -1
                found = spearmanr(pair[measure], sign * pair[objective])
                rho, p = float(found.statistic), float(found.pvalue)
            rows.append({"measure": measure, "objective": objective, "rho": rho, "p": p, "sets": len(pair)})
    return pd.DataFrame(rows, columns=["measure", "objective", "rho", "p", "sets"])


def sets_table(beside: SetsBeside) -> Table:
    """A row a set: its measures of complexity, and its safety measures."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("mixing set", overflow="fold")
    for name in (*MEASURES, *beside.objectives):
        table.add_column(name.replace("_", " ").replace(".", " "), justify="right")
    for _, row in beside.frame.iterrows():
        safety = [_value(name, float(row[name])) for name in beside.objectives]
        table.add_row(Text(str(row["mixing_set"])), *(f"{row[name]:.2f}" for name in MEASURES), *safety)
    return table


def correlations_table(correlations: pd.DataFrame) -> Table:
    """A row a measure of complexity, a column an objective: rank correlation with safety, an asterisk if p < 0.05."""
    title = "rank correlation with safety; positive: more complex is safer; * p < 0.05 for this pair alone"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("measure")
    for name in correlations["objective"].unique():
        table.add_column(str(name).replace("_", " ").replace(".", " "), justify="right")
    for measure, rows in correlations.groupby("measure", sort=False):
        table.add_row(str(measure), *(_shown(rho, p) for rho, p in zip(rows["rho"], rows["p"], strict=True)))
    return table


def write_sets(beside: SetsBeside, file: Path) -> None:
    """Write the frame as Parquet.

    Raises:
        RequestError: the file cannot be written.
    """
    with written_whole(file) as part:
        beside.frame.to_parquet(part, index=False)


def _safety(measurements: pd.DataFrame | None, versions: dict[str, str]) -> pd.DataFrame | None:
    """version, method and each objective, of the trials whose mixing set's version is given; none if there are none."""
    if measurements is None:
        return None
    frame = measurements[measurements["trial_id"].isin(list(versions))]
    if frame.empty:
        return None
    objectives = default_objectives(frame)
    parts: Sequence[pd.DataFrame] = [
        by_configuration(rows, [name for name in objectives if name in set(default_objectives(rows))]).assign(
            version=version
        )
        for version, rows in frame.groupby(frame["trial_id"].map(versions), sort=False)
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=["version", "method", *objectives])


def _value(objective: str, value: float) -> str:
    """Percent, but for what is no fraction."""
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if objective.rpartition(".")[2] in UNITS else f"{100 * value:.1f}"


def _shown(rho: float, p: float) -> str:
    return "–" if math.isnan(rho) else f"{rho:+.2f}{'*' if p < 0.05 else ''}"


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
