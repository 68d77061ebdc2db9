"""Random iterated function systems, and their rendering: many at once, by the chaos game, with densities and glow.

S. Draves and E. Reckase, The Fractal Flame Algorithm, 2008: points wander by random maps; each carries a colour
coordinate that every map pulls halfway towards its own; a pixel's brightness is the logarithm of how many
points fell on it. Where we differ: colours are counted in a few bins, and turned into RGB by the palette afterwards;
there is a wide glow instead of adaptive filters; the background takes the palette's colour.

All systems share the random choices of each step. So a picture does not depend on which others are rendered with it,
and drawing random numbers costs next to nothing.

A system is a few affine maps, each with a probability and a colour, and one curved function ("variation") that all
maps share. Two kinds of families:

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
from scipy.ndimage import gaussian_filter

from pixmix_ray.seeding import rng, uniforms

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


NUM_COLOURS = 8
NUM_STEPS = 48  # that are counted, after BURN_IN others
BURN_IN = 16
POINTS_A_PIXEL = 12
SCOUTS = 256  # points that find the part of the plane to show
CHUNK = 2**17  # points that wander at once: more is no faster, and the counts of larger pictures grow with it


def render(systems: Systems, side: int) -> Floats:
    """Pictures of the systems, (F, side, side, 3) float32 in [0, 1].

    Each is a function of its own system and of `side` alone, and another `side` shows the same part of the plane.
    """
    pictures = np.empty((len(systems), side, side, 3), dtype=np.float32)
    num_points = max(64, POINTS_A_PIXEL * side * side // NUM_STEPS)
    at_once = max(1, CHUNK // num_points)
    for variation in np.unique(systems.variation):
        members = np.flatnonzero(systems.variation == variation)
        for start in range(0, len(members), at_once):
            chosen = members[start : start + at_once]
            pictures[chosen] = _developed(_counted(systems[chosen], side, num_points), systems[chosen])
    return pictures


@dataclass
class _Points:
    """Where the points are, (F, W) float32 each: position and colour coordinate."""

    x: Floats
    y: Floats
    colour: Floats


@dataclass
class _Window:
    """The part of the plane that is shown, (F, 2) float32 each, x before y."""

    corner: Floats
    size: Floats


def _counted(systems: Systems, side: int, num_points: int) -> Floats:
    """How many points of each colour fell on each pixel, (F, side, side, NUM_COLOURS) float32."""
    window = _window(systems)
    generator = rng(0, "fractals", "walk", num_points)
    points = _settled(systems, num_points, generator)
    shape = (len(systems), side, side, NUM_COLOURS)
    picture = np.arange(len(systems))[:, None] * (side * side * NUM_COLOURS)
    counts = np.zeros(int(np.prod(shape)), dtype=np.int64)
    hits = []
    for step in range(NUM_STEPS):
        choice, turn, dither = generator.random((3, num_points), dtype=np.float32)
        points = _moved(points, systems, choice)
        column, row = _projected(points, systems, turn, window, side)
        inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        colour = np.minimum((points.colour * (NUM_COLOURS - 1) + dither).astype(np.int64), NUM_COLOURS - 1)
        cell = (row.astype(np.int64) * side + column.astype(np.int64)) * NUM_COLOURS + colour
        hits.append((cell + picture)[inside])
        if step % 8 == 7:  # bincount goes over all cells, so not after each step
            counts += np.bincount(np.concatenate(hits), minlength=len(counts))
            hits = []
    return counts.reshape(shape).astype(np.float32)


def _settled(systems: Systems, num_points: int, generator: np.random.Generator) -> _Points:
    """Points that have found the attractors."""
    start = generator.random((3, num_points), dtype=np.float32)
    ones = np.ones((len(systems), 1), dtype=np.float32)
    points = _Points(ones * (2 * start[0] - 1), ones * (2 * start[1] - 1), ones * start[2])
    for _ in range(BURN_IN):
        points = _moved(points, systems, generator.random(num_points, dtype=np.float32))
    return points


def _moved(points: _Points, systems: Systems, choice: Floats) -> _Points:
    """The points after one step: each by the map that its number in `choice`, (W,) in [0, 1), falls to."""
    index = np.zeros(points.x.shape, dtype=np.int64)
    for threshold in systems.thresholds.T[:-1]:
        index += choice >= threshold[:, None]
    index += np.arange(len(systems))[:, None] * MAX_MAPS
    a, b, c, d, e, f = (np.ascontiguousarray(values).take(index) for values in np.moveaxis(systems.affine, -1, 0))
    x, y = a * points.x + b * points.y + e, c * points.x + d * points.y + f
    curved_x, curved_y = VARIATIONS[systems.variation[0]](x, y)
    share = systems.curved[:, None]
    x, y = x + share * (curved_x - x), y + share * (curved_y - y)
    np.clip(x, -1e3, 1e3, out=x)  # some systems are no contractions; those are rejected by their looks
    np.clip(y, -1e3, 1e3, out=y)
    return _Points(x, y, (points.colour + systems.colours.take(index)) / 2)


def _window(systems: Systems) -> _Window:
    """The part of the plane that is shown: nearly all points, or some of them where the system asks for a zoom."""
    points = _settled(systems, SCOUTS, rng(0, "fractals", "window"))
    low_x, high_x = np.quantile(points.x, [0.03, 0.97], axis=1)[..., None]
    low_y, high_y = np.quantile(points.y, [0.03, 0.97], axis=1)[..., None]
    radius = np.quantile(np.hypot(points.x, points.y), 0.9, axis=1)[:, None]
    symmetric = systems.rotations[:, None] > 1
    left, right = np.where(symmetric, -radius, low_x), np.where(symmetric, radius, high_x)
    top, bottom = np.where(symmetric, -radius, low_y), np.where(symmetric, radius, high_y)
    size = np.maximum(np.concatenate([right - left, bottom - top], axis=1), 1e-3)
    middle = np.concatenate([right + left, bottom + top], axis=1) / 2
    share = 1 - 0.6 * systems.zoom[:, None]  # of the full width; what is zoomed in on lies around one of the points
    target = np.clip(np.stack([points.x[:, 0], points.y[:, 0]], axis=1), middle - size / 2, middle + size / 2)
    middle += (1 - share) * (target - middle)
    return _Window((middle - share * size / 2).astype(np.float32), (share * size).astype(np.float32))


def _projected(points: _Points, systems: Systems, turn: Floats, window: _Window, side: int) -> tuple[Floats, Floats]:
    """Column and row of each point, (F, W) float32, turned by a random multiple of the symmetry's angle."""
    order = systems.rotations[:, None].astype(np.float32)
    angle = np.floor(turn * order) * (np.float32(2 * np.pi) / order)
    cosine, sine = np.cos(angle), np.sin(angle)
    corner, scale = window.corner, side / window.size
    column = (cosine * points.x - sine * points.y - corner[:, :1]) * scale[:, :1]
    row = (sine * points.x + cosine * points.y - corner[:, 1:]) * scale[:, 1:]
    return column, row


def _developed(counts: Floats, systems: Systems) -> Floats:
    """The counts as pictures, (F, side, side, 3) float32 in [0, 1]."""
    side = counts.shape[1]
    bins = np.broadcast_to(np.linspace(0, 1, NUM_COLOURS, dtype=np.float32), (len(systems), NUM_COLOURS))
    palette = cosine_colours(systems.palette, bins)
    exponent, glow, background = (values[:, None, None, None] for values in systems.tone.T)
    light = np.einsum("fyxk,fkc->fyxc", counts, palette, optimize=True)
    density: Floats = counts.sum(axis=-1, keepdims=True)
    sigma = side / 12
    halo = gaussian_filter(light, (0, sigma, sigma, 0), truncate=2.5)
    halo_density = gaussian_filter(density, (0, sigma, sigma, 0), truncate=2.5)
    colour = light / np.maximum(density, 1)
    halo_colour = halo / np.maximum(halo_density, 1e-6)
    brightness = _logarithmic(density) ** (0.6 + 0.6 * exponent)
    halo_brightness = (0.15 + 0.55 * glow) * _logarithmic(halo_density)
    ground = palette[:, :1, None] * (0.5 * background)
    dark = ground + (halo_colour - ground) * halo_brightness
    picture: Floats = np.clip(dark + (colour - dark) * brightness, 0, 1)
    return picture


def _logarithmic(density: Floats) -> Floats:
    """Densities in [0, 1] on a logarithmic scale, the 99.5th hundredth of each picture being 1; (F, side, side, 1)."""
    bright = np.quantile(density, 0.995, axis=(1, 2), keepdims=True)
    scaled: Floats = np.log1p(4 * density) / np.log1p(4 * np.maximum(bright, 1e-3))
    return np.minimum(scaled, 1).astype(np.float32)


def cosine_colours(palette: Floats, t: Floats) -> Floats:
    """The colours of palettes (F, 3, 3) at `t` (F, ...), (F, ..., 3) float32 in [0, 1]: a cosine each, after I. Quilez.

    A palette has a frequency, a phase and an amplitude for each channel, all in [0, 1].
    """
    axes = (slice(None), *[None] * (t.ndim - 1), slice(None))
    frequency, phase, amplitude = (palette[:, :, i][axes] for i in range(3))
    wave = np.cos(2 * np.pi * ((0.5 + 1.1 * frequency) * t[..., None] + phase))
    return (0.55 + (0.35 + 0.2 * amplitude) * wave).clip(0, 1).astype(np.float32)
