"""Random iterated function systems: the shapes, symmetries and palettes of the generated fractals.

A system is a few affine maps, each with a probability and a colour, and one curved function ("variation") that all
maps share (S. Draves and E. Reckase, The Fractal Flame Algorithm, 2008). Two kinds of families:

- random maps whose singular values are drawn so that sum(s1 + 2 s2) has a prescribed size: C. Anderson and R. Farrell,
  Improving Fractal Pre-training, WACV 2022, found that this one number separates structure from dust and
  from blobs. FractalDB (Kataoka et al., ACCV 2020) draws six uniform numbers a map and rejects most of them.
- a few classic systems, each map shaken a little.

Every number is a function of (seed, attempt, index of the picture), by `pixmix_ray.seeding`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.seeding import uniforms

Floats = NDArray[np.floating]  # float32 where it matters for speed
MAX_MAPS = 6
SYMMETRIES = (0.66, 0.76, 0.84, 0.9, 0.95)  # cumulative probabilities of 1 to 5-fold rotations, the rest being 6-fold
NUM_DRAWS = 96  # uniform numbers a system is made of; part of the stream's layout


def _spherical(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    scale = 1 / (x * x + y * y + np.float32(0.05))
    return x * scale, y * scale


def _swirl(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    square = x * x + y * y
    sine, cosine = np.sin(square), np.cos(square)
    return x * sine - y * cosine, x * cosine + y * sine


def _horseshoe(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    radius = np.sqrt(x * x + y * y) + np.float32(1e-6)
    return (x - y) * (x + y) / radius, 2 * x * y / radius


def _disc(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    angle, radius = np.arctan2(x, y) / np.float32(np.pi), np.sqrt(x * x + y * y) * np.float32(np.pi)
    return angle * np.sin(radius), angle * np.cos(radius)


def _heart(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    radius, angle = np.sqrt(x * x + y * y), np.arctan2(x, y)
    return radius * np.sin(angle * radius), -radius * np.cos(angle * radius)


def _bubble(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    scale = 4 / (x * x + y * y + 4)
    return x * scale, y * scale


VARIATIONS: tuple[Callable[[Floats, Floats], tuple[Floats, Floats]], ...] = (
    lambda x, y: (x, y),
    lambda x, y: (np.sin(x), np.sin(y)),
    _spherical,
    _swirl,
    _horseshoe,
    _disc,
    _heart,
    _bubble,
)

# Rows (a, b, c, d, e, f, weight) of x' = a x + b y + e, y' = c x + d y + f.
SQRT3_4 = 0.4330127
CLASSICS: tuple[tuple[tuple[float, ...], ...], ...] = (
    # the Sierpinski triangle
    ((0.5, 0, 0, 0.5, -0.5, -SQRT3_4, 1), (0.5, 0, 0, 0.5, 0.5, -SQRT3_4, 1), (0.5, 0, 0, 0.5, 0, SQRT3_4, 1)),
    # the Sierpinski carpet's cousin of five squares
    tuple((1 / 3, 0, 0, 1 / 3, x, y, 1) for x, y in ((-0.6, -0.6), (0.6, -0.6), (-0.6, 0.6), (0.6, 0.6), (0, 0))),
    # the pentagon flake
    tuple((0.4, 0, 0, 0.4, 0.6 * np.cos(t), 0.6 * np.sin(t), 1) for t in np.arange(5) * 2 * np.pi / 5),
    # the twin dragon, the Heighway dragon and the Levy C curve
    ((0.5, -0.5, 0.5, 0.5, 0.5, 0, 1), (0.5, -0.5, 0.5, 0.5, -0.5, 0, 1)),
    ((0.5, -0.5, 0.5, 0.5, 0, 0, 1), (-0.5, -0.5, 0.5, -0.5, 1, 0, 1)),
    ((0.5, -0.5, 0.5, 0.5, 0, 0, 1), (0.5, 0.5, -0.5, 0.5, 0.5, 0.5, 1)),
    # Barnsley's fern, scaled to unit size
    (
        (0, 0, 0, 0.16, 0, -0.42, 0.02),
        (0.85, 0.04, -0.04, 0.85, 0, 0.16, 0.84),
        (0.2, -0.26, 0.23, 0.22, 0, -0.22, 0.07),
        (-0.15, 0.28, 0.26, 0.24, 0, -0.36, 0.07),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Systems:
    """F systems of up to MAX_MAPS maps.

    Attributes:
        affine: (F, MAX_MAPS, 6) float32 rows (a, b, c, d, e, f).
        thresholds: (F, MAX_MAPS) float32, cumulative probabilities of the maps; the last ones are 1.
        colours: (F, MAX_MAPS) float32 in [0, 1], the colour coordinate that a map pulls towards.
        variation: (F,) int64 index into VARIATIONS.
        curved: (F,) float32 in [0, 1], the share of the variation beside the identity.
        rotations: (F,) int64, the order of the picture's rotational symmetry, 1 for none.
        palette: (F, 3, 3) float32: for each channel the frequency, phase and amplitude of a cosine.
        tone: (F, 3) float32 in [0, 1]: exponent, glow and background, as the renderer reads them.
        zoom: (F,) float32 in [0, 1]: how far the renderer goes into the picture.
    """

    affine: Floats
    thresholds: Floats
    colours: Floats
    variation: NDArray[np.int64]
    curved: Floats
    rotations: NDArray[np.int64]
    palette: Floats
    tone: Floats
    zoom: Floats

    def __len__(self) -> int:
        return len(self.variation)

    def __getitem__(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Systems":
        """The systems at `index`."""
        return Systems(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def replaced(self, index: NDArray[np.int64], others: "Systems") -> "Systems":
        """A copy in which the systems at `index` are `others`."""
        copies = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, copy in copies.items():
            copy[index] = getattr(others, name)
        return Systems(**copies)


def draw_systems(seed: int, attempts: Sequence[int], indices: NDArray[np.int64]) -> Systems:
    """The candidates of each attempt in turn for the pictures `indices`, each a function of its own index alone."""
    u = np.concatenate(
        [uniforms(seed, "fractals", "systems", attempt, indices=indices, count=NUM_DRAWS) for attempt in attempts]
    )
    maps = u[:, : MAX_MAPS * 7].reshape(len(u), MAX_MAPS, 7)
    rest = u[:, MAX_MAPS * 7 :]
    affine, weights = _random_maps(maps, num_maps=2 + (rest[:, 0] * 4).astype(np.int64), target=rest[:, 1])
    is_classic = rest[:, 2] < 0.2
    affine[is_classic], weights[is_classic] = _classic_maps(maps[is_classic], rest[is_classic, 3])
    cumulated = np.cumsum(weights, axis=1)
    return Systems(
        affine=affine.astype(np.float32),
        thresholds=(cumulated / cumulated[:, -1:]).astype(np.float32),
        colours=rest[:, 4 : 4 + MAX_MAPS].astype(np.float32),
        variation=np.where(rest[:, 10] < 0.25, 0, (rest[:, 11] * len(VARIATIONS)).astype(np.int64)),
        curved=np.where(is_classic, 0.5 * rest[:, 12], 0.3 + 0.7 * rest[:, 12]).astype(np.float32),
        rotations=np.searchsorted(SYMMETRIES, rest[:, 13]) + 1,
        palette=rest[:, 14:23].reshape(-1, 3, 3).astype(np.float32),
        tone=rest[:, 23:26].astype(np.float32),
        zoom=rest[:, 26].astype(np.float32),
    )


def _random_maps(
    u: NDArray[np.float64], num_maps: NDArray[np.int64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Affine rows (F, M, 6) and weights (F, M) with sum(s1 + 2 s2) between (5 + n) / 2 and (6 + n) / 2 for n maps."""
    is_there = np.arange(MAX_MAPS) < num_maps[:, None]
    large = (0.4 + 0.6 * u[..., 0]) * is_there
    small = large * (0.2 + 0.8 * u[..., 1])
    wanted = (5 + num_maps + target) / 2
    scale = (wanted / (large + 2 * small).sum(axis=1))[:, None]
    large, small = np.minimum(large * scale, 0.95), np.minimum(small * scale, 0.9)
    weights = (large * small + 0.02) * is_there
    mirrored = np.where(u[..., 6] < 0.25, -small, small)
    left, right = 2 * np.pi * u[..., 2], 2 * np.pi * u[..., 3]
    matrix = np.einsum("...ij,...j,...jk->...ik", _turn(left), np.stack([large, mirrored], -1), _turn(right))
    shift = 2 * u[..., 4:6] - 1
    return np.concatenate([matrix.reshape(*large.shape, 4), shift], axis=-1), weights


def _classic_maps(
    u: NDArray[np.float64], which: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Affine rows (F, M, 6) and weights (F, M) of classic systems, every number shaken by up to 0.06."""
    table = np.zeros((len(CLASSICS), MAX_MAPS, 7))
    for place, rows in zip(table, CLASSICS, strict=True):
        place[: len(rows)] = rows
    chosen = table[(which * len(CLASSICS)).astype(np.int64)]
    return chosen[..., :6] + 0.12 * (u[..., :6] - 0.5), chosen[..., 6]


def _turn(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation matrices, (..., 2, 2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(*angle.shape, 2, 2)
