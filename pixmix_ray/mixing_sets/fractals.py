"""Generated fractals: a mixing set for everybody who does not have the authors' pictures.

PixMix (Hendrycks et al., CVPR 2022), section 2.1, takes 14,230 colourful fractals that people designed and curated on
DeviantArt, and Appendix B.2 finds them better than the black-and-white FractalDB. These are made in their likeness:
flames with palettes, glow and symmetry (`iterated_systems`, `flame`), of which the flat, the empty and the noisy are
rejected by a measure of structure. They are no replacement for the published pictures in a comparison with published
numbers: no person chose them, and there are no feature visualizations among them.
"""

import hashlib
import json
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.mixing_sets.base import MixingSet, Pictures, cached_pictures
from pixmix_ray.mixing_sets.flame import render
from pixmix_ray.mixing_sets.iterated_systems import Floats, Systems, draw_systems

VERSION = 1  # to be raised with any change of the pictures
PROBE_SIDE = 32
MAX_ATTEMPTS = 100  # a fifth of the candidates pass, so what is left after these is less than one in 10**9


class Fractals(MixingSet):
    """Colourful fractals from random iterated function systems.

    Attributes:
        count: how many; the first ones do not depend on it.
        seed: picks the fractals.
    """

    summary: ClassVar[str] = "generated colourful fractals; needs no files"
    source: ClassVar[str] = "made here, after Draves and Reckase 2008 and Anderson and Farrell, WACV 2022"
    count: int = Field(default=1000, ge=1)
    seed: int = 0

    def version(self) -> str:
        """`fractals-`, the version of this generator, and a hash of the settings."""
        text = json.dumps([self.count, self.seed])
        return f"fractals-{VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def pictures(self, shorter_side: int) -> Pictures:
        """Square pictures; made once a machine.

        On one core, 1,000 of them take some 10 s for 36 pixels, and for larger ones more in proportion to their area.
        """
        return cached_pictures(self.version(), shorter_side, lambda: self._make(shorter_side))

    def _make(self, side: int) -> dict[str, NDArray[np.generic]]:
        systems = choose_systems(self.seed, self.count)
        pixels = np.empty((self.count, side, side, 3), dtype=np.uint8)
        for start in range(0, self.count, 64):
            part = np.arange(start, min(start + 64, self.count))
            pixels[part] = np.rint(255 * _reduced(systems[part], side))
        sides = np.full(self.count, side, dtype=np.int64)
        return {"pixels": pixels.reshape(-1, 3), "heights": sides, "widths": sides}


def choose_systems(seed: int, count: int) -> Systems:
    """For each of `count` pictures the first of its candidates that has structure.

    Each is a function of (seed, index of the picture) alone.
    """
    chosen = draw_systems(seed, 0, np.arange(count))
    missing = np.flatnonzero(~_has_structure(chosen))
    for attempt in range(1, MAX_ATTEMPTS):
        if not len(missing):
            break
        candidates = draw_systems(seed, attempt, missing)
        accepted = _has_structure(candidates)
        chosen = chosen.replaced(missing[accepted], candidates[accepted])
        missing = missing[~accepted]
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


def _has_structure(systems: Systems) -> NDArray[np.bool_]:
    contrast, detail, coherence = complexity(render(systems, PROBE_SIDE)).T
    accepted: NDArray[np.bool_] = (contrast > 0.1) & (detail > 0.45) & (coherence > 0.5)
    return accepted


def _reduced(systems: Systems, side: int) -> Floats:
    """Pictures (F, side, side, 3), rendered at twice the side, or the first multiple of it from 64 on, and averaged."""
    factor = max(2, -(-64 // side))
    large = render(systems, side * factor).reshape(len(systems), side, factor, side, factor, 3)
    reduced: Floats = large.mean(axis=(2, 4))
    return reduced
