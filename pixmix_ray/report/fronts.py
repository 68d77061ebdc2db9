"""The front as a person reads it: its table, what dominates the others, who improves on the baseline; how surely."""

import numpy as np

from pixmix_ray.analysis.certainty import improvers
from pixmix_ray.analysis.fronts import hypervolume, is_on_epsilon_front, layers
from pixmix_ray.analysis.labels import configuration_labels
from pixmix_ray.analysis.spread import Judged
from pixmix_ray.report.grid import Cell, Column, Grid
from pixmix_ray.report.tables import front_lines, in_sections, measures_grid, percent

BASELINE = "baseline"


def front_grid(judged: Judged, epsilon: float = 0.0) -> Grid:
    """The configurations on the front, or within `epsilon` behind it, and what each adds to the hypervolume.

    Args:
        judged: configurations and how sure they are.
        epsilon: in the unit of the objectives, fractions.
    """
    found = judged.certainty
    costs = found.values * found.signs
    rows: list[int] = []
    adds = np.full(len(costs), np.nan)
    approximate = ""
    for group in np.unique(found.groups):
        members = np.flatnonzero(found.groups == group)
        rows += members[is_on_epsilon_front(costs[members], epsilon)].tolist()
        if found.is_complete[members].any():
            volume = hypervolume(costs[members])
            adds[members] = volume.contributions / volume.value if volume.value else np.nan
            approximate = approximate if volume.is_exact else ", approximated"
    rows = sorted(rows)
    grid = measures_grid(judged.wide, found.objectives, found)
    column = Column(key="hypervolume_share", header=("adds to", "volume"))
    cells = [
        Cell(text="–" if np.isnan(adds[row]) else percent(float(adds[row])), value=float(adds[row])) for row in rows
    ]
    caption = (
        f"{grid.caption}; adds to volume: share of the hypervolume that this row alone adds; the reference point is a "
        f"tenth of the range beyond the worst{approximate}"
    )
    shown = Grid(
        columns=(*grid.columns, column),
        rows=tuple((*grid.rows[row], cell) for row, cell in zip(rows, cells, strict=True)),
        caption=caption,
        legend=grid.legend,
        notes=judged.notes,
    )
    return in_sections(shown) if grid.columns[0].key == "dataset" else shown


def front_notes(judged: Judged) -> list[str]:
    """A line for each configuration about the front, and then who improves on the baseline in every objective."""
    found = judged.certainty
    names = list(found.objectives)
    labels = configuration_labels(judged.wide)
    lines = front_lines(judged.wide.assign(label=labels), names, found)
    depth = layers(found.values * found.signs)
    if depth.max(initial=0) > 2:  # of two the lines say it
        behind = [
            f"{layer}: {', '.join(labels[row] for row in np.flatnonzero(depth == layer))}"
            for layer in range(2, depth.max() + 1)
        ]
        lines.append(f"layers behind the front: {'; '.join(behind)}")
    return [*lines, *claims(judged, labels)]


def claims(judged: Judged, labels: list[str]) -> list[str]:
    """The paper's own claim: which methods improve on the baseline in EVERY measure."""
    methods = judged.wide["method"].tolist() if "method" in judged.wide.columns else []
    if methods.count(BASELINE) != 1 or len(methods) < 2:  # none, or no telling which
        return []
    claims = improvers(judged.certainty, methods.index(BASELINE))
    lines = []
    for row in np.flatnonzero(claims["in_every"]).tolist():
        really = int(claims["really_better"].iloc[row])
        count = len(judged.certainty.objectives)
        real = "all significant at 95 %" if really == count else f"{really} of {count} significant at 95 %"
        share = percent(float(claims["probability"].iloc[row]))
        lines.append(f"{labels[row]} improves on {BASELINE} in every measure ({real}), and in {share} of the draws")
    return lines or [f"nothing improves on {BASELINE} in every measure"]
