"""Generated fractals: a mixing set for everybody who does not have the authors' pictures.

PixMix (Hendrycks et al., CVPR 2022), section 2.1, takes 14,230 colourful fractals that people designed and curated on
DeviantArt, and Appendix B.2 finds them better than the black-and-white FractalDB. These are made in their likeness:
flames with palettes, glow and symmetry (`iterated_systems`, `flame`), and Mandelbrot, Julia and Newton sets, burning
ships and phoenixes near their boundaries (`escape_places`, `escape_time`), of which the flat, the empty and the noisy
are rejected by a measure of structure. They are no replacement for the published pictures in a comparison with
published numbers: no person chose them, and there are no feature visualizations among them.
"""

import json
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.hashing import short_hash
from pixmix_ray.mixing_sets.base import MIXING_SETS
from pixmix_ray.mixing_sets.drawing.generated import GeneratedSet, Images, Indices
from pixmix_ray.mixing_sets.drawing.shards import SHARD
from pixmix_ray.mixing_sets.fractals.escape_places import draw_escapes
from pixmix_ray.mixing_sets.fractals.escape_time import Escapes, render_escapes
from pixmix_ray.mixing_sets.fractals.flame import render
from pixmix_ray.mixing_sets.fractals.iterated_systems import Floats, Systems, draw_systems
from pixmix_ray.seeding import uniforms

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
