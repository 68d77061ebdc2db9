"""Rendering of iterated function systems: many at once, by the chaos game, with logarithmic densities and glow.

S. Draves and E. Reckase, The Fractal Flame Algorithm, 2008: points wander by random maps; each carries a colour
coordinate that every map pulls halfway towards its own; a pixel's brightness is the logarithm of how many
points fell on it. Where we differ: colours are counted in a few bins, and turned into RGB by the palette afterwards;
there is a wide glow instead of adaptive filters; the background takes the palette's colour.

All systems share the random choices of each step. So a picture does not depend on which others are rendered with it,
and drawing random numbers costs next to nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from pixmix_ray.mixing_sets.fractals.iterated_systems import MAX_MAPS, VARIATIONS, Floats, Systems
from pixmix_ray.seeding import rng

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
