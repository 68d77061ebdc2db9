"""FractalDB: grey fractals of random affine maps, drawn with random stamps.

H. Kataoka et al., Pre-training without Natural Images, ACCV 2020; a row of Table 4 of PixMix (Hendrycks et al., CVPR
2022). Each of 1,000 categories is a system of 2 to 7 random maps whose fractal fills at least a fifth of its picture.
Its instances differ by a factor on one of the six parameters of all maps, by the stamps that are drawn at the points,
and by flips. (Some factors make a fractal sparse, and a few make it burst: those pictures are almost black.)

How it is computed: see `chaos_game` and `stamped`; 200 times as fast as a point and a stamp after the other.

Where we differ. The data set has 1,000 instances of each category, 25 factors x 10 draws of stamps x 4 flips; picture i
is a random one of category i mod 1,000, with its own stamps. All fractals share the random choices of the maps in the
search too, where the reference goes on in one stream. A candidate whose first 10,000 points light too few pixels
is given up at once (see PREVIEW_LIT). Paths that leave all bounds are cut there.

The chaos game: a point wanders, each step applies one of the system's maps, chosen at random. The steps depend on each
other, so that one path of 200,000 points is as many steps of a loop. But affine maps compose: the path is cut into
pieces, what a piece does to its first point is found for all pieces at once, the first points are found one after the
other, and then all pieces are walked at once. That is some thousand steps of a loop, and the same path but for
rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import cached_arrays
from pixmix_ray.mixing_sets.base import MIXING_SETS
from pixmix_ray.mixing_sets.generated import GeneratedSet, Images, generated_version
from pixmix_ray.seeding import rng, uniforms

MAX_MAPS = 7
PIECE = 500  # points; the loops have PIECE + points / PIECE + PIECE steps

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AffineSystems:
    """Systems of affine maps x' = a x + b y + e, y' = c x + d y + f.

    Attributes:
        maps: (F, MAX_MAPS, 6) float64, a, b, c, d, e, f; unused ones are 0.
        thresholds: (F, MAX_MAPS), cumulative probabilities; a number u in [0, 1) stands for the first map that has
            a larger one.
    """

    maps: Floats
    thresholds: Floats

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: Ints | slice) -> "AffineSystems":
        """The systems of these indices."""
        return AffineSystems(maps=self.maps[index], thresholds=self.thresholds[index])

    @classmethod
    def joined(cls, parts: Sequence["AffineSystems"]) -> "AffineSystems":
        """The systems of all parts, one part after the other."""
        return cls(
            maps=np.concatenate([part.maps for part in parts]),
            thresholds=np.concatenate([part.thresholds for part in parts]),
        )


def paths(systems: AffineSystems, numbers: Floats) -> Floats:
    """The paths from (0, 0), (2, F, P) float64, x before y; not finite from where they leave all bounds.

    Args:
        systems: F of them.
        numbers: (P - 1,) in [0, 1), which choose the maps, the same for all systems; P must be a multiple of PIECE.
    """
    num_pieces = (len(numbers) + 1) // PIECE
    choice = np.zeros((len(systems), len(numbers) + 1), dtype=np.int64)  # the last one is not walked
    for threshold in systems.thresholds.T[:-1]:
        choice[:, :-1] += numbers >= threshold[:, None]
    choice += np.arange(len(systems))[:, None] * MAX_MAPS
    choice = np.ascontiguousarray(choice.reshape(len(systems), num_pieces, PIECE).transpose(2, 0, 1))
    tables = [np.ascontiguousarray(column) for column in systems.maps.reshape(-1, 6).T]
    with np.errstate(over="ignore", invalid="ignore"):
        points = np.empty((PIECE, 2, len(systems), num_pieces))
        points[0] = _first_points(_composed(choice, tables))
        for step in range(PIECE - 1):
            a, b, c, d, e, f = (table.take(choice[step]) for table in tables)
            x, y = points[step]
            points[step + 1] = a * x + b * y + e, c * x + d * y + f
    return points.transpose(1, 2, 3, 0).reshape(2, len(systems), -1)


def _composed(choice: Ints, tables: list[Floats]) -> Floats:
    """The affine map that each piece is in whole, (6, F, pieces)."""
    a, b, c, d, e, f = (table.take(choice[0]) for table in tables)
    for chosen in choice[1:]:
        p, q, r, s, t, u = (table.take(chosen) for table in tables)
        a, b, c, d = p * a + q * c, p * b + q * d, r * a + s * c, r * b + s * d
        e, f = p * e + q * f + t, r * e + s * f + u
    return np.stack([a, b, c, d, e, f])


def _first_points(pieces: Floats) -> Floats:
    """Where each piece begins, (2, F, pieces), from the affine maps of the pieces."""
    first = np.zeros((2, *pieces.shape[1:]))
    for number in range(1, pieces.shape[2]):
        a, b, c, d, e, f = pieces[:, :, number - 1]
        x, y = first[:, :, number - 1]
        first[:, :, number] = a * x + b * y + e, c * x + d * y + f
    return first


NUM_CATEGORIES = 1000
SEARCH_SIDE, SEARCH_POINTS, FEWEST_LIT = 512, 100_000, 0.2
SIDE, POINTS, PADDING = 362, 200_000, 6  # in pixels; the padding is the search's too
# A candidate that lights fewer pixels by its first 10,000 points is given up. Of 3,840 candidates 82 passed the whole
# search; with these points the least of the 82 lit 9,198 pixels, and the least of those that lit 17 % in the end 8,924.
PREVIEW_POINTS, PREVIEW_LIT = 10_000, 8_500
AT_ONCE = 32  # candidates that are tried together
MAX_ATTEMPTS = 4000  # one candidate in 47 passes, so that a category is left after these in one of 10**36 searches
LARGEST = 1e100  # a path is cut where it goes beyond: differences of larger numbers may overflow
GREY = 127
FACTORS = (0.2, 0.6, 1.4, 1.8)  # the reference's weights_0.4.csv: each on each parameter, and one row of ones


@MIXING_SETS.add("fractaldb")
class FractalDb(GeneratedSet):
    """FractalDB's fractals: black and grey; on one core 10,000 take six minutes, two of them for the search."""

    summary: ClassVar[str] = "generated black-and-grey fractals of random affine maps"
    source: ClassVar[str] = "made here, after Kataoka et al., ACCV 2020; PixMix (Hendrycks et al., 2022), Table 4"
    generator: ClassVar[str] = "fractaldb"
    chunk: ClassVar[int] = 4

    def draw(self, indices: Ints, side: int) -> Images:
        """The pictures of these indices in their own size, (N, SIDE, SIDE, 3) uint8, 0 or GREY."""
        systems = self._categories()[indices % NUM_CATEGORIES]
        u = uniforms(self.seed, "fractaldb", "instance", indices=indices, count=3)
        numbers = rng(self.seed, "fractaldb", "walk").random(POINTS - 1)
        factors = weight_rows()[(u[:, 0] * len(weight_rows())).astype(np.int64)]
        points = paths(AffineSystems(maps=systems.maps * factors[:, None], thresholds=systems.thresholds), numbers)
        stamps = uniforms(self.seed, "fractaldb", "stamps", indices=indices, count=SIDE**2)
        grey = GREY * stamped(pixels_of(points, SIDE), (511 * stamps).astype(np.int32) + 1)[:, ::-1]
        grey = np.where(u[:, 1, None, None] < 0.5, grey, grey[:, ::-1])
        grey = np.where(u[:, 2, None, None] < 0.5, grey, grey[:, :, ::-1])
        return np.repeat(grey[..., None], 3, axis=3)

    def _categories(self) -> AffineSystems:
        """The systems of the categories that the pictures need; searched once a machine."""
        count = min(self.count, NUM_CATEGORIES)

        def search() -> dict[str, Floats]:
            found = find_categories(self.seed, count)
            return {"maps": found.maps, "thresholds": found.thresholds}

        arrays = cached_arrays(generated_version("fractaldb_search", 1, {"seed": self.seed, "n": count}), search)
        return AffineSystems(maps=np.asarray(arrays["maps"]), thresholds=np.asarray(arrays["thresholds"]))


def find_categories(seed: int, count: int) -> AffineSystems:
    """The systems of the first `count` categories: of each the first candidate that fills enough of its picture.

    Each is a function of (seed, number of the category) alone.
    """
    maps, thresholds = np.zeros((count, MAX_MAPS, 6)), np.zeros((count, MAX_MAPS))
    numbers = rng(seed, "fractaldb", "search walk").random(SEARCH_POINTS - 1)
    missing, attempt = np.arange(count), 0
    while len(missing) and attempt < MAX_ATTEMPTS:
        attempts = np.arange(attempt, attempt + max(1, AT_ONCE // len(missing)))
        passed = np.zeros((len(attempts), len(missing)), dtype=np.bool_)
        candidates = [_candidates(seed, int(number), missing) for number in attempts]
        for start in range(0, len(missing), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            together = AffineSystems.joined([systems[part] for systems in candidates])
            passed[:, part] = _fills_enough(together, numbers).reshape(len(attempts), -1)
        first = passed.argmax(axis=0)
        for number, systems in enumerate(candidates):
            chosen = passed[number] & (first == number)
            maps[missing[chosen]], thresholds[missing[chosen]] = systems.maps[chosen], systems.thresholds[chosen]
        missing, attempt = missing[~passed.any(axis=0)], attempt + len(attempts)
    if len(missing):
        raise RuntimeError(f"no fractal of {attempt} fills {FEWEST_LIT} of its picture, for {len(missing)} categories")
    return AffineSystems(maps=maps, thresholds=thresholds)


def weight_rows() -> Floats:
    """The factors on a, ..., f of the kinds of instances, (25, 6)."""
    rows = np.ones((1 + 6 * len(FACTORS), 6))
    for parameter in range(6):
        rows[1 + parameter * len(FACTORS) : 1 + (parameter + 1) * len(FACTORS), parameter] = FACTORS
    return rows


def pixels_of(points: Floats, side: int) -> Ints:
    """The pixels that points (2, F, P) fall on, (F, P), counted row by row in pictures of `side` pixels.

    Each path is stretched to the picture less its padding, in x and y by itself. Points after the first one that is
    beyond all bounds fall on the pixel of the path's beginning.
    """
    with np.errstate(invalid="ignore"):
        is_inside = (np.abs(points) < LARGEST).all(axis=0)
    if not is_inside.all():
        is_inside = np.logical_and.accumulate(is_inside, axis=1)
        points = np.where(is_inside, points, 0)  # paths begin at (0, 0)
    low, high = points.min(axis=2, keepdims=True), points.max(axis=2, keepdims=True)
    extent = np.maximum(high - low, np.finfo(np.float64).tiny)
    column, row = ((points - low) / extent * (side - 2 * PADDING) + PADDING).astype(np.int64)
    pixels: Ints = row * side + column
    return pixels


def stamped(pixels: Ints, patterns: NDArray[np.int32]) -> Images:
    """Which pixels are grey after stamping one point after the other, (F, SIDE, SIDE), 0 or 1.

    A stamp covers the 3x3 pixels to the right of its point and below, grey where its bit is 1 and black elsewhere.

    Args:
        pixels: (F, P), where the points fall, none in the last three rows and columns.
        patterns: (F, SIDE * SIDE), the stamp for each pixel, nine bits, the highest one for the first cell. One a pixel
            is enough, since of the stamps at one pixel the last covers the others.
    """
    count, num_points = pixels.shape
    time = np.full(count * SIDE**2, -1, dtype=np.int32)
    flat = pixels + np.arange(count)[:, None] * SIDE**2
    # Of several values for one place numpy keeps the last.
    time[flat.ravel()] = np.broadcast_to(np.arange(num_points, dtype=np.int32), pixels.shape).ravel()
    time, patterns = time.reshape(count, SIDE, SIDE), patterns.reshape(count, SIDE, SIDE)
    newest = np.full_like(time, -2)  # of the stamps that cover a pixel: twice its time, plus its bit there
    for cell in range(9):
        down, right = cell // 3 + 1, cell % 3 + 1
        here = newest[:, down:, right:]
        bit = patterns >> (8 - cell) & 1
        np.maximum(here, (time * 2 + bit)[:, :-down, :-right], out=here)
    is_grey: Images = ((newest > 0) & (newest & 1 == 1)).astype(np.uint8)
    return is_grey


def _candidates(seed: int, attempt: int, categories: Ints) -> AffineSystems:
    """A candidate for each category: 2 to 7 maps of numbers uniform in (-1, 1), with probabilities as |ad - bc|."""
    u = uniforms(seed, "fractaldb", "system", attempt, indices=categories, count=1 + 6 * MAX_MAPS)
    is_used = np.arange(MAX_MAPS) < 2 + np.floor(6 * u[:, :1])
    maps = np.where(is_used[..., None], 2 * u[:, 1:].reshape(-1, MAX_MAPS, 6) - 1, 0)
    determinants = np.abs(maps[..., 0] * maps[..., 3] - maps[..., 1] * maps[..., 2])
    thresholds = np.cumsum(determinants, axis=1) / determinants.sum(axis=1, keepdims=True)
    return AffineSystems(maps=maps, thresholds=thresholds)


def _fills_enough(systems: AffineSystems, numbers: Floats) -> NDArray[np.bool_]:
    """Whether each fractal lights at least the share FEWEST_LIT of its picture, (F,)."""
    passed = _num_lit(paths(systems, numbers[: PREVIEW_POINTS - 1])) >= PREVIEW_LIT
    hopeful = np.flatnonzero(passed)
    if len(hopeful):
        passed[hopeful] = _num_lit(paths(systems[hopeful], numbers)) >= FEWEST_LIT * SEARCH_SIDE**2
    return passed


def _num_lit(points: Floats) -> Ints:
    """How many pixels of the search's pictures the points (2, F, P) fall on, (F,)."""
    is_lit = np.zeros((points.shape[1], SEARCH_SIDE**2), dtype=np.bool_)
    is_lit[np.arange(len(is_lit))[:, None], pixels_of(points, SEARCH_SIDE)] = True
    num_lit: Ints = is_lit.sum(axis=1)
    return num_lit
