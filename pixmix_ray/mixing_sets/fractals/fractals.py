"""Generated fractals: a mixing set for everybody who does not have the authors' pictures.

PixMix (Hendrycks et al., CVPR 2022), section 2.1, takes 14,230 colourful fractals that people designed and curated on
DeviantArt, and Appendix B.2 finds them better than the black-and-white FractalDB. These are made in their likeness:
flames with palettes, glow and symmetry (`flame`), and Mandelbrot, Julia and Newton sets, burning
ships and phoenixes near their boundaries (`escape_time`), of which the flat, the empty and the noisy
are rejected by a measure of structure. They are no replacement for the published pictures in a comparison with
published numbers: no person chose them, and there are no feature visualizations among them.

Places worth looking at lie near the boundary. Of some random numbers that run away, the one that takes longest lies
nearest to the boundary; how near follows from the slope of the count, and the picture is so wide that the boundary
crosses it. Constants of Julia sets are chosen in the same way near the boundary of the Mandelbrot set, where Julia sets
are between one piece and dust.

Every number is a function of (seed, attempt, index of the picture), by `pixmix_ray.seeding`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.identity import short_hash
from pixmix_ray.mixing_sets.base import MIXING_SETS
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
    render_escapes,
)
from pixmix_ray.mixing_sets.fractals.flame import Floats, Systems, draw_systems, render
from pixmix_ray.mixing_sets.generated import SHARD, GeneratedSet, Images, Indices
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


PROBE_SIDE = 32
MAX_ATTEMPTS = 120  # a fifth of the candidates pass, so what is left after these is less than one in 10**11
MOST_AT_ONCE = 16  # attempts
_PIXELS_AT_ONCE = 2**22  # rendered ones


@MIXING_SETS.add("fractals")
class Fractals(GeneratedSet):
    """Colourful fractals: flames of random iterated function systems, and escape-time fractals.

    On one core 1,000 take some 17 s for 36 pixels, 45 s for 96 and 340 s for 256.

    Attributes:
        count: how many. The paper's set has 14,230.
        escape_time: the share of escape-time fractals (Mandelbrot, Julia and the like); the others are flames.
    """

    summary: ClassVar[str] = "generated colourful fractals; needs no files"
    source: ClassVar[str] = "made here, after Draves and Reckase 2008, Anderson and Farrell 2022, and Peitgen 1986"
    generator: ClassVar[str] = "fractals"
    generator_version: ClassVar[int] = 2
    chunk: ClassVar[int] = SHARD

    count: int = Field(default=1000, ge=1)
    escape_time: float = Field(default=0.5, ge=0, le=1)

    def version(self) -> str:
        """`fractals-`, the version of the generator, and a hash of the settings, as ever."""
        text = json.dumps([self.count, self.seed, self.escape_time])
        return f"{self.generator}-{self.generator_version}-{short_hash(text)}"

    def draw(self, indices: Indices, side: int) -> Images:
        """The pictures of these indices, (N, side, side, 3) uint8."""
        pictures = np.empty((len(indices), side, side, 3), dtype=np.uint8)
        kind = uniforms(self.seed, "fractals", "kind", indices=indices, count=1)[:, 0]
        flames, escapes = np.flatnonzero(kind >= self.escape_time), np.flatnonzero(kind < self.escape_time)
        pictures[flames] = _reduced(choose_systems(self.seed, indices[flames]), render, side)
        pictures[escapes] = _reduced(choose_escapes(self.seed, indices[escapes]), render_escapes, side)
        return pictures


class _Candidates(Protocol):
    """Settings of some pictures."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Indices, /) -> Self: ...
    def replaced(self, index: Indices, others: Self, /) -> Self: ...


Candidates = TypeVar("Candidates", bound=_Candidates)
Render = Callable[[Candidates, int], Floats]


def choose_systems(seed: int, indices: Indices) -> Systems:
    """For each picture the first of its candidates that has structure, a function of (seed, index) alone."""
    return _first_good(lambda attempts, missing: draw_systems(seed, attempts, missing), render, indices)


def choose_escapes(seed: int, indices: Indices) -> Escapes:
    """Likewise, of the escape-time fractals."""
    return _first_good(lambda attempts, missing: draw_escapes(seed, attempts, missing), render_escapes, indices)


def _first_good(
    draw: Callable[[Sequence[int], Indices], Candidates], rendered: Render[Candidates], indices: Indices
) -> Candidates:
    """For each index its first candidate that has structure.

    Args:
        draw: returns the candidates of some attempts for some indices, attempt after attempt.
        rendered: returns pictures of candidates.
        indices: of the pictures.
    """
    chosen = draw([0], indices)
    missing = np.flatnonzero(~_has_structure(rendered(chosen, PROBE_SIDE)))
    attempt = 1
    while len(missing) and attempt < MAX_ATTEMPTS:
        # the fewer are missing, the more attempts at once: small batches take as long as larger ones
        attempts = range(attempt, attempt + min(MOST_AT_ONCE, len(indices) // len(missing), MAX_ATTEMPTS - attempt))
        candidates = draw(attempts, indices[missing])
        is_good = _has_structure(rendered(candidates, PROBE_SIDE)).reshape(len(attempts), len(missing))
        found = np.flatnonzero(is_good.any(axis=0))
        first = is_good.argmax(axis=0)[found] * len(missing) + found
        chosen = chosen.replaced(missing[found], candidates[first])
        missing = np.delete(missing, found)
        attempt += len(attempts)
    return chosen


def complexity(images: Floats) -> Floats:
    """Contrast, detail and coherence of each picture, (F, 3), from images (F, S, S, 3) in [0, 1], S even.

    - contrast: the standard deviation of the brightness; 0 for a flat picture.
    - detail: the share of pixels whose brightness differs from that of the right or lower neighbour by more than
      0.05; small for a picture that is empty in most places, or a soft blob.
    - coherence: the share of the brightness' variance that is left after averaging squares of 2x2 pixels; 1/4 for white
      noise, near 1 for smooth pictures, and about 1/4 too for dust.
    """
    light = images.mean(axis=-1)
    contrast = light.std(axis=(1, 2))
    across, down = np.abs(np.diff(light, axis=2))[:, :-1], np.abs(np.diff(light, axis=1))[:, :, :-1]
    detail = (np.maximum(across, down) > 0.05).mean(axis=(1, 2))
    half = light.shape[1] // 2
    coarse = light.reshape(-1, half, 2, half, 2).mean(axis=(2, 4))
    coherence = coarse.var(axis=(1, 2)) / np.maximum(light.var(axis=(1, 2)), 1e-12)
    return np.stack([contrast, detail, coherence], axis=1)


def _has_structure(images: Floats) -> NDArray[np.bool_]:
    contrast, detail, coherence = complexity(images).T
    accepted: NDArray[np.bool_] = (contrast > 0.1) & (detail > 0.45) & (coherence > 0.5)
    return accepted


def _reduced(chosen: Candidates, rendered: Render[Candidates], side: int) -> NDArray[np.uint8]:
    """Pictures (F, side, side, 3), rendered at twice the side, or the first multiple of it from 64 on, and averaged."""
    factor = max(2, -(-64 // side))
    at_once = max(1, _PIXELS_AT_ONCE // (side * factor) ** 2)
    pictures = np.empty((len(chosen), side, side, 3), dtype=np.uint8)
    for start in range(0, len(chosen), at_once):
        part = np.arange(start, min(start + at_once, len(chosen)))
        large = rendered(chosen[part], side * factor).reshape(len(part), side, factor, side, factor, 3)
        pictures[part] = np.rint(255 * large.mean(axis=(2, 4)))
    return pictures
