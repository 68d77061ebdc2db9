"""Random settings of escape-time fractals, and places in them worth looking at: those near the boundary.

Of some random numbers that run away, the one that takes longest lies nearest to the boundary; how near follows from the
slope of the count, and the picture is so wide that the boundary crosses it. Constants of Julia sets are chosen
in the same way near the boundary of the Mandelbrot set, where Julia sets are between one piece and dust.

Every number is a function of (seed, attempt, index of the picture), by `pixmix_ray.seeding`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pixmix_ray.mixing_sets.fractals.escape_time import (
    CROSS,
    JULIA,
    MANDELBROT,
    NEWTON,
    PHOENIX,
    PLAIN,
    RING,
    SHIP,
    Doubles,
    Escapes,
    Ints,
    counted,
)
from pixmix_ray.seeding import uniforms

CANDIDATES = 32
LONGEST = 120  # steps of a candidate; around slower ones most numbers never run away
ROUNDS = 3  # of candidates, each around the best one of the last
NUM_DRAWS = 40  # uniform numbers beside the candidates; part of the stream's layout
KINDS = ((MANDELBROT, 0.25), (JULIA, 0.6), (SHIP, 0.7), (PHOENIX, 0.8), (NEWTON, 1.0))  # cumulative probabilities
DEGREES = (0.62, 0.82, 0.93)  # likewise of 2, 3 and 4, the rest being 5; a ship and a phoenix have 2
TRAPS = ((PLAIN, 0.6), (RING, 0.8), (CROSS, 1.0))  # of Mandelbrot and Julia sets
# left, right, top and bottom of where candidates are looked for; beyond degree 2 the first is not used
BOXES = {
    MANDELBROT: (-2.0, 0.5, -1.2, 1.2),
    JULIA: (-1.5, 1.5, -1.5, 1.5),
    SHIP: (-2.1, 1.2, -1.8, 0.8),
    PHOENIX: (-1.3, 1.3, -1.3, 1.3),
    NEWTON: (-1.5, 1.5, -1.5, 1.5),
}


def draw_escapes(seed: int, attempts: Sequence[int], indices: Ints) -> Escapes:
    """The candidates of each attempt in turn for the pictures `indices`, each a function of its own index alone."""
    count = NUM_DRAWS + 4 * ROUNDS * CANDIDATES
    u = np.concatenate(
        [uniforms(seed, "fractals", "escapes", attempt, indices=indices, count=count) for attempt in attempts]
    )
    u, candidates = u[:, :NUM_DRAWS], u[:, NUM_DRAWS:].reshape(len(u), 2, ROUNDS, CANDIDATES, 2)
    kind, trap = _chosen(u[:, 0], KINDS), _chosen(u[:, 1], TRAPS)
    degree = np.searchsorted(DEGREES, u[:, 2]) + 2
    degree = np.where(kind == NEWTON, np.maximum(degree, 3), np.where(np.isin(kind, (SHIP, PHOENIX)), 2, degree))
    trap = np.where(np.isin(kind, (MANDELBROT, JULIA)), trap, PLAIN)
    plain = Escapes(
        kind=kind,
        degree=degree,
        trap=trap,
        constant=np.zeros((len(u), 2)),
        memory=np.zeros((len(u), 2)),
        middle=np.zeros((len(u), 2)),
        width=np.full(len(u), 3.0),
        angle=2 * np.pi * u[:, 3],
        palette=_palette(u[:, 4:13].reshape(-1, 3, 3), u[:, 29]).astype(np.float32),
        tint=(1 - u[:, 30:31] ** 2 * 0.8 * u[:, 31:34]).astype(np.float32),
        tone=u[:, 13:19].astype(np.float32),
    )
    with_constants = _with_constants(plain, u[:, 19:25], candidates[:, 0])
    return _with_windows(with_constants, u[:, 25:29], candidates[:, 1])


def _palette(u: Doubles, harmony: Doubles) -> Doubles:
    """Palettes (F, 3, 3) whose channels are the more alike, the smaller `harmony` (F,)."""
    first = u[:, :1]
    return first + (0.3 + 0.7 * harmony[:, None, None] ** 2) * (u - first)


def _chosen(u: Doubles, table: tuple[tuple[int, float], ...]) -> Ints:
    values, cumulated = zip(*table, strict=True)
    return np.asarray(np.array(values)[np.searchsorted(cumulated, u)])


def _with_constants(escapes: Escapes, u: Doubles, candidates: Doubles) -> Escapes:
    """The maps' constants: near the boundary of the Mandelbrot set for Julia sets, small ones for Newton's method."""
    constant, memory = np.zeros((len(u), 2)), np.zeros((len(u), 2))
    signed = 2 * u - 1
    rows = np.flatnonzero(escapes.kind == JULIA)
    parents = replace(escapes[rows], kind=np.full(len(rows), MANDELBROT))
    found, distance = _near_boundary(parents, candidates[rows], 0.4 + 0.6 * u[rows, 0])
    constant[rows] = found + distance[:, None] * signed[rows, 1:3]  # a little in or out
    rows = np.flatnonzero(escapes.kind == PHOENIX)  # around S. Ushiki's
    constant[rows] = np.array([0.5667, 0]) + 0.05 * signed[rows, 1:3]
    memory[rows] = np.array([-0.5, 0]) + np.array([0.1, 0.075]) * signed[rows, 4:6]
    rows = np.flatnonzero(escapes.kind == NEWTON)
    constant[rows] = 0.3 * signed[rows, 1:3] * (u[rows, 3:4] < 0.6)
    memory[rows] = np.array([1.1, 0]) + np.array([0.35, 0.4]) * signed[rows, 4:6]
    return replace(escapes, constant=constant, memory=memory)


def _with_windows(escapes: Escapes, u: Doubles, candidates: Doubles) -> Escapes:
    """The parts of the plane to show: near the boundary, or for some Julia sets all of them."""
    found, distance = _near_boundary(escapes, candidates, u[:, 0])
    is_whole = np.isin(escapes.kind, (JULIA, PHOENIX)) & (u[:, 2] < 0.3)
    middle = np.where(is_whole[:, None], 0, found)
    width = np.where(is_whole, 2.2 + u[:, 3], np.clip(distance * 12 * 8 ** u[:, 1], 1e-8, 3))
    return replace(escapes, middle=middle, width=width)


def _near_boundary(escapes: Escapes, u: Doubles, share: Doubles) -> tuple[Doubles, Doubles]:
    """For each picture the candidate nearest to the boundary, (F, 2), and about how far from it that is, (F,).

    Args:
        escapes: the maps.
        u: (F, ROUNDS, CANDIDATES, 2) uniform numbers.
        share: (F,) in (0, 1], of the rounds: fewer lead less near.
    """
    boxes = np.array([BOXES[int(kind)] for kind in range(len(BOXES))])[escapes.kind]
    boxes[(escapes.kind == MANDELBROT) & (escapes.degree > 2)] = (-1.3, 1.3, -1.3, 1.3)
    escapes = replace(escapes, trap=np.full(len(escapes), PLAIN))  # which is faster
    low, high = boxes[:, ::2], boxes[:, 1::2]
    middle, size = (low + high) / 2, high - low
    distance = np.ones(len(u))
    num_rounds = np.ceil(share * ROUNDS)
    every = np.arange(len(u))
    for number in range(ROUNDS):
        points = middle[:, None] + size[:, None] * (u[:, number] - 0.5)
        steps, slopes = _slopes(escapes, points)
        best = np.argmax(np.where(steps < LONGEST, steps, -1), axis=1)
        is_moved = number < num_rounds
        middle = np.where(is_moved[:, None], points[every, best], middle)
        # the count grows by about one whenever the distance halves
        distance = np.where(is_moved, 1 / np.maximum(slopes[every, best], 0.5), distance)
        size = np.where(is_moved[:, None], np.minimum(size, 20 * distance[:, None]), size)
    return middle, distance


def _slopes(escapes: Escapes, points: Doubles) -> tuple[Doubles, Doubles]:
    """How many steps `points` (F, P, 2) take, and how steeply that changes there, (F, P) each."""
    small = 1e-8
    around = points[:, :, None] + small * np.array([[0, 0], [1, 0], [0, 1]])
    steps = counted(escapes, around.reshape(len(points), 3 * points.shape[1], 2), LONGEST).steps.reshape(
        *points.shape[:2], 3
    )
    return steps[..., 0], np.hypot(steps[..., 1] - steps[..., 0], steps[..., 2] - steps[..., 0]) / small
