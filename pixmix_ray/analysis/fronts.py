"""Fronts in any number of objectives: layers, tolerance, hypervolume, and what the fronts of several seeds attain.

All take costs (n, m), lower is better, and leave their input unchanged. A row with NaN is comparable with nothing: it
is on no front and in no layer, and its number there is 0. Equal rows share their layer.

Non-dominated rows, hypervolume and attainment are moocore's (López-Ibáñez and others). Hypervolumes are exact to four
objectives, and of five and six up to `EXACT_FRONT` rows on the front; beyond, they are approximated by its `hv_approx`
(Deng and Zhang, IEEE TEVC 23(2), 2019), contributions by points drawn at random, and so are called.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import ResultsError

EXACT = 6
"""Objectives up to which hypervolumes are exact."""

EXACT_FRONT = 300
"""Rows on a front of five or six objectives, of which that takes some seconds."""

POINTS = 100_000
"""Drawn where contributions are approximated: their standard error is at most 0.2 % of the box."""

Floats = NDArray[np.float64]


def is_on_front(costs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """(n,) whether no row is as good everywhere and better somewhere; equal rows are on it together.

    >>> is_on_front(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, np.nan]])).tolist()
    [True, True, False, False]
    """
    import moocore

    complete = ~np.isnan(costs).any(axis=1)
    found = np.zeros(len(costs), dtype=np.bool_)
    if complete.any():
        found[complete] = moocore.is_nondominated(np.ascontiguousarray(costs[complete]), keep_weakly=True)
    return found


def layers(costs: Floats) -> NDArray[np.int64]:
    """(n,) 1 on the front, 2 on the front of the rest, and so on; 0 for rows with NaN.

    Deb and others, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (IEEE TEVC 6(2), 2002), section III.

    >>> layers(np.array([[1.0, 1.0], [2.0, 2.0], [2.0, 2.0], [3.0, np.nan]])).tolist()
    [1, 2, 2, 0]
    """
    found = np.zeros(len(costs), dtype=np.int64)
    left = np.flatnonzero(~np.isnan(costs).any(axis=1))
    layer = 0
    while len(left):
        layer += 1
        on = is_on_front(costs[left])
        found[left[on]] = layer
        left = left[~on]
    return found


def is_on_epsilon_front(costs: Floats, epsilon: Floats | float) -> NDArray[np.bool_]:
    """(n,) whether no row is better by at least `epsilon` in every objective, and by more in one.

    The epsilon-efficient rows of Loridan ("Epsilon-Solutions in Vector Minimization Problems", JOTA 43(2), 1984): the
    front, and what lies so near behind it that the difference does not matter. By hand: .12 is within .05 of .1.

    >>> is_on_epsilon_front(np.array([[0.1, 0.5], [0.12, 0.5], [0.2, 0.6]]), 0.05).tolist()
    [True, True, False]

    Args:
        costs: (n, m).
        epsilon: 0 or more, one or (m,), in the units of the costs.

    Raises:
        ResultsError: a tolerance below 0.
    """
    tolerance = np.broadcast_to(np.asarray(epsilon, dtype=np.float64), costs.shape[1:])
    if not (tolerance >= 0).all():
        raise ResultsError(f"epsilon must be 0 or more, got {epsilon}: give it in the unit of the objectives, as 0.01")
    found = is_on_front(costs)
    if not tolerance.any():
        return found
    front = costs[found]
    for row in np.flatnonzero(~np.isnan(costs).any(axis=1) & ~found).tolist():
        margin = costs[row] - tolerance
        found[row] = not ((front <= margin).all(axis=1) & (front < margin).any(axis=1)).any()
    return found


@dataclass(frozen=True, kw_only=True)
class Hypervolume:
    """The hypervolume of a set of rows.

    Attributes:
        value: the volume between the front and the reference point.
        contributions: (n,) how much of it is lost without the row; 0 off the front, NaN for rows with NaN.
        reference: (m,) the reference point.
        is_exact: whether it is exact, not approximated.
    """

    value: float
    contributions: Floats
    reference: Floats
    is_exact: bool


def hypervolume(costs: Floats, reference: Floats | None = None) -> Hypervolume:
    """The volume that the rows dominate up to a reference point, and what each adds (Zitzler and Thiele, PPSN 1998).

    By hand: (1, 2) and (2, 1) up to (3, 3) cover 2 + 2 less the shared 1; without either of them 1 is lost.

    >>> found = hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    >>> found.value, found.contributions.tolist()
    (3.0, [1.0, 1.0])

    Args:
        costs: (n, m).
        reference: (m,); rows beyond it in any objective add nothing. None takes the worst complete row in each
            objective and a tenth of the range beyond, so that the ends of the front count.

    Raises:
        ResultsError: no row is complete.
    """
    complete = np.flatnonzero(~np.isnan(costs).any(axis=1))
    if not len(complete):
        raise ResultsError(
            f"hypervolume needs one entry that has all {costs.shape[1]} objectives, and of {len(costs)} none has: "
            "choose "
            "fewer objectives"
        )
    points = np.ascontiguousarray(costs[complete])
    corner = _worst(points) if reference is None else np.asarray(reference, dtype=np.float64)
    front = np.flatnonzero(is_on_front(points) & (points < corner).all(axis=1))
    is_exact = costs.shape[1] <= EXACT and (costs.shape[1] < 5 or len(front) <= EXACT_FRONT)
    value = _volume(points[front], corner, is_exact)
    contributions = np.full(len(costs), math.nan)
    contributions[complete] = 0.0
    if len(front):
        contributions[complete[front]] = _contributions(points[front], corner, is_exact)
    return Hypervolume(value=value, contributions=contributions, reference=corner, is_exact=is_exact)


def attainment(costs_by_seed: Sequence[Floats], percentile: float = 50) -> Floats:
    """The points of the surface that the fronts of so many percent of the seeds attain; the median for 50.

    Grunert da Fonseca, Fonseca and Hall, "Inferential Performance Assessment of Stochastic Optimisers and the
    Attainment Function" (EMO 2001). By hand: of the fronts {(1, 2)}, {(2, 1)} and {(2, 2)}, (2, 2) is attained by
    all, and no smaller point by two.

    >>> attainment([np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]]), np.array([[2.0, 2.0]])]).tolist()
    [[2.0, 2.0]]

    Args:
        costs_by_seed: for each seed (n, m) costs, m being 2 or 3; rows with NaN are left out.
        percentile: in (0, 100].

    Raises:
        ResultsError: other than two or three objectives, for which no algorithm is known here, or no seeds.
    """
    import moocore

    if not costs_by_seed or any(costs.shape[1] not in (2, 3) for costs in costs_by_seed):
        given = sorted({costs.shape[1] for costs in costs_by_seed})
        raise ResultsError(f"an attainment surface needs seeds and 2 or 3 objectives, got {given or 'no seeds'}")
    rows = [costs[~np.isnan(costs).any(axis=1)] for costs in costs_by_seed]
    sets = np.concatenate([np.full(len(part), number) for number, part in enumerate(rows, start=1)])
    surface = moocore.eaf(np.concatenate(rows), sets=sets, percentiles=[percentile])
    points: Floats = np.asarray(surface, dtype=np.float64)[:, :-1]
    return points


def _worst(points: Floats) -> Floats:
    low, high = points.min(axis=0), points.max(axis=0)
    corner: Floats = high + np.where(high > low, 0.1 * (high - low), 0.1 * np.maximum(np.abs(high), 0.1))
    return corner


def _volume(front: Floats, corner: Floats, is_exact: bool) -> float:
    import moocore

    if not len(front):
        return 0.0
    if len(corner) == 1:  # moocore takes two objectives or more
        return float(corner[0] - front.min())
    if is_exact:
        return float(moocore.hypervolume(front, ref=corner))
    return float(moocore.hv_approx(front, ref=corner, seed=0))


def _contributions(front: Floats, corner: Floats, is_exact: bool) -> Floats:
    """(f,) what only the row itself dominates; nothing where another is equal to it."""
    import moocore

    if len(corner) == 1:  # likewise; all on the front are equal
        return np.maximum(corner - front[:, 0], 0.0) * (len(front) == 1)
    if is_exact:
        return np.asarray(moocore.hv_contributions(front, ref=corner), dtype=np.float64)
    low = front.min(axis=0)
    alone = np.zeros(len(front), dtype=np.int64)
    generator = np.random.default_rng(0)
    size = max(1, 2**22 // max(len(front), 1))
    for start in range(0, POINTS, size):
        points = low + generator.random((min(size, POINTS - start), len(corner))) * (corner - low)
        covers = np.ones((len(points), len(front)), dtype=np.bool_)
        for column, cost in enumerate(front.T):
            covers &= cost <= points[:, column, None]
        only = covers[covers.sum(axis=1) == 1]
        alone += only.sum(axis=0)
    return alone / POINTS * float(np.prod(corner - low))
