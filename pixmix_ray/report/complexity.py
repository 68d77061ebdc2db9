"""The complexity of an experiment's mixing sets, beside the safety measures of what was trained with them.

PixMix (Hendrycks et al., CVPR 2022), Appendix B.2, claims that structural complexity of the mixing pictures helps and
that entropy alone does not. Here every set is measured by `pixmix_ray.mixing_sets.complexity` on crops as training sees
them, and stands beside what its trainings reached. A rank correlation over eight sets is a weak witness: beyond 0.74 in
size, chance alone would go one time in twenty (Zar, 1972), and there are as many chances as pairs of measures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text
from scipy.stats import spearmanr

from pixmix_ray.analysis.pareto import by_configuration, default_objectives
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.metrics import UNITS, direction
from pixmix_ray.mixing_sets.complexity import MEASURES
from pixmix_ray.report.files import written_whole
from pixmix_ray.report.sheet import measured, sampled

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
