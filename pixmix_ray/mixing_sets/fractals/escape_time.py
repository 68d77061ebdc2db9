"""Rendering of escape-time fractals: Mandelbrot and Julia sets, burning ships, phoenixes and Newton's method.

A pixel is a number of the plane that a map is applied to again and again; its colour says how soon that runs away, or
settles, and how near it came to a ring or a cross on the way (H.-O. Peitgen and P. H. Richter, The Beauty of Fractals,
1986; the smooth count is that of L. Vepstas, 1997; orbit traps after C. Pickover). Surfaces are lit as if the counts
were heights. Colours and light of a picture are functions of its own settings and pixels alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.mixing_sets.fractals.flame import cosine_colours

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

MANDELBROT, JULIA, SHIP, PHOENIX, NEWTON = range(5)
PLAIN, RING, CROSS = range(3)
NUM_STEPS = 200
BLOCK = 8  # steps between two looks at what has run away
FAR = 100.0  # a number beyond this runs away
NEAR = 1e-4  # a step of Newton's method below this has settled
CHUNK = 2**15  # numbers at once: what fits a core's cache


@dataclass(frozen=True, kw_only=True)
class Escapes:
    """F pictures.

    Attributes:
        kind: (F,) int64, MANDELBROT to NEWTON.
        degree: (F,) int64, 2 or more: the power in the map; 3 or more for Newton's method.
        trap: (F,) int64: PLAIN, or what the colours measure the distance to, RING or CROSS.
        constant: (F, 2) float64, the c of a Julia set and of a phoenix; what is added in a step of Newton's method.
        memory: (F, 2) float64, the share of the last number in a phoenix; the relaxation of Newton's method.
        middle: (F, 2) float64, the middle of the picture.
        width: (F,) float64, its width and height.
        angle: (F,) float64, by which it is turned.
        palette: (F, 3, 3) float32, as in `flame`.
        tint: (F, 3) float32 in [0, 1], which all colours are multiplied with.
        tone: (F, 6) float32 in [0, 1]: cycles of the palette, shift, darkness of the far, depth of the light, its
            direction, colour of the inside.
    """

    kind: Ints
    degree: Ints
    trap: Ints
    constant: Doubles
    memory: Doubles
    middle: Doubles
    width: Doubles
    angle: Doubles
    palette: Singles
    tint: Singles
    tone: Singles

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: Ints | NDArray[np.bool_]) -> "Escapes":
        """The pictures at `index`."""
        return Escapes(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def replaced(self, index: Ints | NDArray[np.bool_], others: "Escapes") -> "Escapes":
        """A copy in which the pictures at `index` are `others`."""
        copies = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, copy in copies.items():
            copy[index] = getattr(others, name)
        return Escapes(**copies)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of numbers, (F, P) each.

    Attributes:
        steps: float64, how many steps it took to run away or settle, with a fraction; `num_steps` if it did not.
        trap: float32, how near they came to the trap.
        end: float32 in [0, 1), the direction in which they ended.
    """

    steps: Doubles
    trap: Singles
    end: Singles


def render_escapes(escapes: Escapes, side: int) -> Singles:
    """The pictures, (F, side, side, 3) float32 in [0, 1]; another `side` shows the same part of the plane."""
    pictures = np.empty((len(escapes), side, side, 3), dtype=np.float32)
    at_once = max(1, 2**20 // (side * side))
    for start in range(0, len(escapes), at_once):
        some = escapes[np.arange(start, min(start + at_once, len(escapes)))]
        pictures[start : start + at_once] = _developed(some, counted(some, _grid(some, side)), side)
    return pictures


def counted(escapes: Escapes, points: Doubles, num_steps: int = NUM_STEPS) -> Counts:
    """What becomes of `points` (F, P, 2) float64 within `num_steps`, those of a row under the map of one picture."""
    shape = points.shape[:2]
    steps = np.empty(shape)
    trap, end = (np.empty(shape, dtype=np.float32) for _ in range(2))
    family = np.where(escapes.kind == MANDELBROT, JULIA, escapes.kind)  # the same map
    keys = np.stack([family, escapes.degree, escapes.trap], axis=1)
    for key in np.unique(keys, axis=0):
        rows = np.flatnonzero((keys == key).all(axis=1))
        at_once = max(1, CHUNK // shape[1])
        for start in range(0, len(rows), at_once):
            chosen = rows[start : start + at_once]
            found = _followed(_start(escapes[chosen], points[chosen]), num_steps, *(int(part) for part in key))
            steps[chosen], trap[chosen], end[chosen] = (part.reshape(-1, shape[1]) for part in found)
    return Counts(steps=steps, trap=trap, end=end)


def _grid(escapes: Escapes, side: int) -> Doubles:
    """The numbers of the pixels, (F, side * side, 2)."""
    line = (np.arange(side) + 0.5) / side - 0.5
    x, y = (axis.ravel() * escapes.width[:, None] for axis in np.meshgrid(line, line))
    cosine, sine = np.cos(escapes.angle)[:, None], np.sin(escapes.angle)[:, None]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1) + escapes.middle[:, None]


@dataclass
class _Orbits:
    """Numbers on their way, (A,) float64 each: place, last place, what is added and remembered, nearness to a trap."""

    x: Doubles
    y: Doubles
    last_x: Doubles
    last_y: Doubles
    add_x: Doubles
    add_y: Doubles
    memory_x: Doubles
    memory_y: Doubles
    trap: Doubles

    def __getitem__(self, index: Ints) -> "_Orbits":
        return _Orbits(
            x=self.x.take(index),
            y=self.y.take(index),
            last_x=self.last_x.take(index),
            last_y=self.last_y.take(index),
            add_x=self.add_x.take(index),
            add_y=self.add_y.take(index),
            memory_x=self.memory_x.take(index),
            memory_y=self.memory_y.take(index),
            trap=self.trap.take(index),
        )


def _followed(orbits: _Orbits, num_steps: int, kind: int, degree: int, trap: int) -> tuple[Doubles, Doubles, Doubles]:
    """Steps, nearness to the trap and direction of the end, (A,) each, for numbers of pictures of one kind."""
    total = orbits.x.size
    steps, near, end = np.full(total, float(num_steps)), np.empty(total), np.empty(total)
    where = np.arange(total)
    with np.errstate(all="ignore"):  # numbers run on to infinity until the next look
        for first in range(0, num_steps, BLOCK):
            before = orbits
            for _ in range(BLOCK):
                orbits = _moved(orbits, kind, degree, trap)
            goes_on = _goes_on(orbits, kind)
            if not goes_on.all():
                kept, gone = np.flatnonzero(goes_on), np.flatnonzero(~goes_on)
                ended = where[gone]
                steps[ended], near[ended], end[ended] = _ends(before[gone], first, kind, degree, trap)
                orbits, where = orbits[kept], where[kept]
            if not len(where):
                break
    near[where], end[where] = orbits.trap, _direction(orbits)
    return steps, near, end


def _start(escapes: Escapes, points: Doubles) -> _Orbits:
    """The points themselves, or 0 where they are what is added."""
    is_added = np.isin(escapes.kind, (MANDELBROT, SHIP))[:, None, None]
    start, add = np.where(is_added, 0, points), np.where(is_added, points, escapes.constant[:, None])
    memory = np.broadcast_to(escapes.memory[:, None], points.shape)
    (x, y), (add_x, add_y), (memory_x, memory_y) = (np.moveaxis(of, 2, 0).reshape(2, -1) for of in (start, add, memory))
    zero = np.zeros_like(x)
    return _Orbits(x, y, zero, zero, add_x, add_y, memory_x, memory_y, np.full_like(x, 9.0))


def _moved(o: _Orbits, kind: int, degree: int, trap: int) -> _Orbits:
    """The orbits one step on."""
    x, y = MAPS[kind](o, degree)
    near = o.trap
    if trap == RING:
        near = np.fmin(near, np.abs(x * x + y * y - 0.25))
    elif trap == CROSS:
        near = np.fmin(near, np.fmin(np.abs(x), np.abs(y)))
    return _Orbits(x, y, o.x, o.y, o.add_x, o.add_y, o.memory_x, o.memory_y, near)


def _power(x: Doubles, y: Doubles, degree: int) -> tuple[Doubles, Doubles]:
    real, imaginary = x * x - y * y, 2 * x * y
    for _ in range(degree - 2):
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
    return real, imaginary


def _polynomial(o: _Orbits, degree: int) -> tuple[Doubles, Doubles]:
    real, imaginary = _power(o.x, o.y, degree)
    return real + o.add_x, imaginary + o.add_y


def _ship(o: _Orbits, degree: int) -> tuple[Doubles, Doubles]:
    real, imaginary = _power(np.abs(o.x), np.abs(o.y), degree)
    return real + o.add_x, imaginary + o.add_y


def _phoenix(o: _Orbits, degree: int) -> tuple[Doubles, Doubles]:
    real, imaginary = _power(o.x, o.y, degree)
    real += o.add_x + o.memory_x * o.last_x - o.memory_y * o.last_y
    imaginary += o.add_y + o.memory_x * o.last_y + o.memory_y * o.last_x
    return real, imaginary


def _newton(o: _Orbits, degree: int) -> tuple[Doubles, Doubles]:
    """One step towards a root of z**degree = 1, relaxed, and something added."""
    real, imaginary = _power(o.x, o.y, degree - 1)
    square = degree * (real * real + imaginary * imaginary) + 1e-30
    # (z - z**(1 - degree)) / degree is the step; one over a number is its conjugate over its square
    step_x, step_y = o.x / degree - real / square, o.y / degree + imaginary / square
    x = o.x - (o.memory_x * step_x - o.memory_y * step_y) + o.add_x
    y = o.y - (o.memory_x * step_y + o.memory_y * step_x) + o.add_y
    return x, y


MAPS: tuple[Callable[[_Orbits, int], tuple[Doubles, Doubles]], ...] = (
    _polynomial,
    _polynomial,
    _ship,
    _phoenix,
    _newton,
)


def _goes_on(o: _Orbits, kind: int) -> NDArray[np.bool_]:
    """Which numbers neither ran away nor settled; False for what is no number any more."""
    if kind == NEWTON:
        return np.asarray((o.x - o.last_x) ** 2 + (o.y - o.last_y) ** 2 > NEAR**2)
    return np.asarray(o.x**2 + o.y**2 <= FAR**2)


def _ends(o: _Orbits, first: int, kind: int, degree: int, trap: int) -> tuple[Doubles, Doubles, Doubles]:
    """Of numbers that end within the next block: steps with a fraction, nearness to the trap, direction."""
    steps, near, end = (np.zeros(o.x.shape) for _ in range(3))
    is_left = np.ones(o.x.shape, dtype=np.bool_)
    for number in range(first, first + BLOCK):
        before, o = o, _moved(o, kind, degree, trap)
        done = np.flatnonzero(is_left & ~_goes_on(o, kind))
        ended = o[done]
        steps[done] = number + _fraction(before[done], ended, kind, degree)
        near[done], end[done] = ended.trap, _direction(ended)
        is_left[done] = False
    return steps, near, end


def _fraction(before: _Orbits, o: _Orbits, kind: int, degree: int) -> Doubles:
    """What makes the count smooth, from 0 for a number that all but ended a step before, to 1."""
    if kind == NEWTON:
        last, now = (np.hypot(of.x - of.last_x, of.y - of.last_y) for of in (before, o))
        ratio = np.log(np.maximum(last, NEAR) / NEAR) / np.log(np.maximum(last, NEAR) / np.maximum(now, 1e-300))
        return np.asarray(np.nan_to_num(ratio).clip(0, 1))
    return np.asarray(1 - np.log(0.5 * np.log(o.x**2 + o.y**2) / np.log(FAR)) / np.log(degree))


def _direction(o: _Orbits) -> Doubles:
    return np.asarray(np.nan_to_num(np.arctan2(o.y, o.x)) / (2 * np.pi) % 1)


def _developed(escapes: Escapes, counts: Counts, side: int) -> Singles:
    """The pictures of one batch, (F, side, side, 3) float32."""
    cycles, shift, darkness, depth, direction, inside_colour = (values[:, None, None] for values in escapes.tone.T)
    steps, trap, end = (part.reshape(-1, side, side) for part in (counts.steps, counts.trap, counts.end))
    is_inside = steps >= NUM_STEPS
    height = _levelled(np.log(np.maximum(steps, 0) + 2), ~is_inside)
    near = _levelled(-np.log(trap + 1e-3), np.ones_like(is_inside))
    is_trapped = (escapes.trap != PLAIN)[:, None, None]
    is_newton = (escapes.kind == NEWTON)[:, None, None]
    value = np.where(is_trapped, 0.5 * height + near, height)
    value = np.where(is_inside, near * is_trapped + inside_colour, value * (0.5 + cycles) + shift)
    value = value + np.where(is_newton, 0.4 * end, 0)
    colour = cosine_colours(escapes.palette, value)
    light = 1 - 0.85 * depth * (1 - _lit(height, 2 * np.pi * direction))
    fade = np.where(darkness > 0.35, height, 1) ** (3 * darkness)
    inside_light = np.where(is_trapped, near, 0.25 * inside_colour)
    bright = np.where(is_inside, inside_light, light * (0.12 + 0.88 * fade))
    picture = colour * escapes.tint[:, None, None] * bright[..., None]
    brightest = np.quantile(picture.max(axis=-1), 0.97, axis=(1, 2))[:, None, None, None]
    gained: Singles = (picture / np.clip(brightest, 0.3, 1)).clip(0, 1).astype(np.float32)
    return gained


def _levelled(values: Singles, counts: NDArray[np.bool_]) -> Singles:
    """`values` (F, S, S) moved and scaled so that the 2nd and 98th hundredth of those that count are 0 and 1."""
    flat = np.where(counts, values, np.nan).reshape(len(values), -1)
    flat[np.isnan(flat).all(axis=1)] = 0  # nothing ran away: rejected by its looks
    low, high = np.nanquantile(flat, [0.02, 0.98], axis=1)[..., None, None]
    scaled: Singles = ((values - low) / np.maximum(high - low, 1e-6)).clip(-0.2, 1.3).astype(np.float32)
    return scaled.clip(0, 1.2)


def _lit(height: Singles, direction: Singles) -> Singles:
    """How bright a surface of these heights is, in [0, 1], under light from `direction` and from above."""
    side = height.shape[1]
    down, across = (slope * (side / 6) for slope in np.gradient(height, axis=(1, 2)))
    norm = np.sqrt(1 + down**2 + across**2)
    lit: Singles = (0.5 + 0.7 * (np.cos(direction) * across + np.sin(direction) * down + 0.6) / norm - 0.2).clip(0, 1)
    return lit
