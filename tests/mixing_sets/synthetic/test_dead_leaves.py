"""Dead leaves: the same pictures as painting one leaf after the other, sizes of the right density, no ground left."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pixmix_ray.mixing_sets.synthetic import dead_leaves
from pixmix_ray.mixing_sets.synthetic.dead_leaves import BLOCK, DRAWS, KINDS, RADII, DeadLeaves, Shape
from pixmix_ray.seeding import uniforms

Images = NDArray[np.uint8]


def leaf_masks(leaves: dead_leaves._Leaves, side: int) -> NDArray[np.bool_]:
    """The pixels of each leaf, (L, side, side), by half planes: the second implementation.

    A pixel is in a convex polygon if it is on the same side of all edges, and within its corners' rectangle. A few
    quadrilaterals are not convex after cutting their corners to whole pixels; those are filled row by row, exactly.
    """
    y, x = np.mgrid[:side, :side]
    corner_x, corner_y = leaves.corners[..., None, None]
    next_x, next_y = np.roll(corner_x, -1, axis=0), np.roll(corner_y, -1, axis=0)
    sides = (next_x - corner_x) * (y - corner_y) - (next_y - corner_y) * (x - corner_x)
    inside = (sides >= 0).all(axis=0) | (sides <= 0).all(axis=0)
    inside &= (x >= corner_x.min(axis=0)) & (x <= corner_x.max(axis=0))
    inside &= (y >= corner_y.min(axis=0)) & (y <= corner_y.max(axis=0))
    for leaf in np.flatnonzero(~_is_convex(leaves.corners)):
        inside[leaf] = filled(leaves.corners[..., leaf].T.tolist(), side)
    distance = (x - leaves.centre[0][:, None, None]) ** 2 + (y - leaves.centre[1][:, None, None]) ** 2
    circle = distance <= leaves.radius[:, None, None] ** 2
    return np.asarray(np.where(leaves.is_round[:, None, None], circle, inside))


def _is_convex(corners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether polygons, (2, 4, L), turn in one direction only, (L,)."""
    edge_x, edge_y = np.roll(corners, -1, axis=1) - corners
    turns = edge_x[:, None] * edge_y - edge_y[:, None] * edge_x  # of all pairs of edges; next ones are enough
    following = turns[np.arange(4), [1, 2, 3, 0]]
    is_triangle = (corners[:, 2] == corners[:, 3]).all(axis=0)
    return np.asarray((following >= 0).all(axis=0) | (following <= 0).all(axis=0) | is_triangle)


def filled(corners: list[list[int]], side: int) -> NDArray[np.bool_]:
    """A polygon, each row from its first to its last pixel, in whole-numbered fractions."""
    mask = np.zeros((side, side), np.bool_)
    for row in range(side):
        crossings = [
            x + Fraction((row - y) * (next_x - x), next_y - y) if next_y != y else Fraction(x)
            for (x, y), (next_x, next_y) in zip(corners, corners[1:] + corners[:1], strict=True)
            if min(y, next_y) <= row <= max(y, next_y)
        ]
        if crossings:
            mask[row, max(0, ceil(min(crossings))) : max(0, floor(max(crossings)) + 1)] = True
    return mask


def painted(seed: int, index: int, shape: Shape, side: int) -> tuple[Images, int]:
    """A picture, one leaf after the other until no pixel is left, and the number of leaves."""
    picture, covered = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.bool_)
    for block in range(20):
        draws = uniforms(seed, "dead_leaves", block, indices=[index], count=BLOCK * DRAWS).reshape(BLOCK, DRAWS)
        leaves = dead_leaves._leaves(draws.T, KINDS[shape], side)
        for number, mask in enumerate(leaf_masks(leaves, side)):
            picture[mask] = (255 * draws[number, 4:7]).astype(np.uint8)
            covered |= mask
            if covered.all():
                return picture, block * BLOCK + number + 1
    return picture, 5000


@pytest.mark.parametrize("shape", KINDS)
def test_pictures_are_those_of_painting_leaf_by_leaf(shape: Shape) -> None:
    expected, num_leaves = painted(3, 4, shape, 128)
    assert np.array_equal(DeadLeaves(shape=shape, seed=3).draw(np.array([2, 4]), 36)[1], expected)
    assert 300 < num_leaves < 5000  # it stopped because all was covered


def test_squares_are_squares_by_hand() -> None:
    # By hand: the radius nearest to 0.5 of 100 pixels, half the side is radius / sqrt 2, cut, both ends included.
    nearest = int(np.searchsorted(RADII, 0.5))
    cumulative = np.cumsum(RADII**-3 - 1)
    u = np.full((DRAWS, 1), 0.5)
    u[1] = cumulative[nearest] / cumulative[-1]
    leaves = dead_leaves._leaves(u, KINDS["squares"], 100)
    radius = int(RADII[nearest] * 100)
    half = int(radius / np.sqrt(2))
    assert leaves.radius[0] == radius and leaves.centre[:, 0].tolist() == [50, 50]
    runs = dead_leaves._runs(leaves, 100)
    assert runs.row.tolist() == list(range(50 - half, 50 + half + 1))
    assert set(runs.start.tolist()) == {50 - half} and set(runs.length.tolist()) == {2 * half + 1}
    assert leaves.colour.tolist() == [127 << 16 | 127 << 8 | 127]


def test_radii_have_the_density_of_the_facts() -> None:
    u = np.random.default_rng(0).random(100_000)
    # Second implementation: the nearest value of the cumulative sum, one number at a time.
    cumulative = np.cumsum(RADII**-3 - 1)
    cumulative /= cumulative[-1]
    nearest = RADII[[int(np.abs(cumulative - value).argmin()) for value in u[:300]]]
    assert np.array_equal(dead_leaves._radii(u[:300]), nearest)
    # The density r**-3 - 1 has the distribution function (1/2 (a**-2 - r**-2) - (r - a)) / its value at 1; away from
    # the first few of the 200 steps the sum follows the integral.
    drawn = np.sort(dead_leaves._radii(u))
    ratio = (drawn > 0.2).mean() / (drawn > 0.1).mean()

    def tail(r: float) -> float:
        return 0.5 * (r**-2 - 1) - (1 - r)

    assert ratio == pytest.approx(tail(0.2) / tail(0.1), abs=0.02)


def test_no_pixel_is_left_and_colours_are_uniform() -> None:
    images = DeadLeaves().draw(np.arange(24), 36)
    assert (images.max(axis=-1) == 0).mean() < 1e-3
    # Leaves of one colour are many pixels, so that only different colours are independent.
    colours = np.unique(images.reshape(-1, 3), axis=0)
    assert len(colours) > 5000
    for channel in colours.T:
        assert stats.kstest((channel + 0.5) / 255, "uniform").pvalue > 1e-3  # whole numbers from 0 to 254


def test_the_label_names_the_shape() -> None:
    assert DeadLeaves().label("dead_leaves") == "dead_leaves_squares"
    assert DeadLeaves(shape="mixed").label("dead_leaves") == "dead_leaves_mixed"


def test_the_larger_resolution_is_drawn_in_its_own_size() -> None:
    images = DeadLeaves(resolution=256).draw(np.arange(1), 36)
    assert images.shape == (1, 256, 256, 3) and (images.max(axis=-1) > 0).mean() > 0.999


def test_mixed_leaves_are_of_all_kinds_in_equal_shares() -> None:
    u = np.random.default_rng(1).random((DRAWS, 6000))
    leaves = dead_leaves._leaves(u, KINDS["mixed"], 128)
    assert leaves.is_round.mean() == pytest.approx(1 / 6, abs=0.02)
    is_triangle = (leaves.corners[:, 2] == leaves.corners[:, 3]).all(axis=0) & ~leaves.is_round & (leaves.radius > 20)
    assert is_triangle.sum() / (leaves.radius > 20).sum() == pytest.approx(1 / 6, abs=0.06)
    reach = np.hypot(*(leaves.corners - leaves.centre[:, None]))
    assert (reach <= leaves.radius + 1.5).all()  # all corners lie on the circle, but for cutting to whole pixels
