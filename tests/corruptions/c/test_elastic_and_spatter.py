"""Elastic transform and spatter: plain loops for what OpenCV does, SciPy's map_coordinates, and small hand examples."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.c.elastic import deformed, mirrored, reflected
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.corruptions.c.spatter import boxed, depths, distances, edges, equalised, with_mud, with_water
from pixmix_ray.seeding import rng

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


def one_warp(image: NDArray[np.float32], matrix: Floats) -> NDArray[np.float32]:
    """A picture seen through (column, row) = matrix @ (column, row, 1), looked up in steps of 1/32 pixel."""
    height, width = image.shape[:2]
    result = np.zeros_like(image)
    for row, column in np.ndindex(height, width):
        places = []
        for line in matrix:
            fine = round(line[0] * column * 1024) + round((line[1] * row + line[2]) * 1024) + 16
            places.append(fine >> 5)
        taps = []
        for place, side in zip(places, (width, height), strict=True):
            whole, part = place >> 5, np.float32((place & 31) / 32)
            within = [int(np.pad(np.arange(side), 4 * side, mode="reflect")[4 * side + whole + tap]) for tap in (0, 1)]
            taps.append(((within[0], 1 - part), (within[1], part)))
        for down, down_weight in taps[1]:
            for right, right_weight in taps[0]:
                result[row, column] += image[down, right] * (down_weight * right_weight)
    return result


def one_pull(image: Bytes, jitter: Floats, fields: Floats, alpha: float, sigma: float) -> Bytes:
    pixels = image.astype(np.float32) / np.float32(255)
    height, width = image.shape[:2]
    middle, half = np.array([width // 2, height // 2]), min(height, width) // 3
    before = np.array([middle + half, middle + np.array([half, -half]), middle - half], np.float64)
    after = before.astype(np.float32) + jitter.astype(np.float32)
    corners = np.column_stack([after.astype(np.float64), np.ones(3)])
    matrix = np.linalg.solve(corners, before).T.astype(np.float64)  # from after to before
    pixels = one_warp(pixels, matrix)
    moves = [
        (ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3.0) * alpha).astype(np.float32)
        for field in fields
    ]
    rows, columns = np.mgrid[:height, :width]
    places = np.array([rows + moves[1].astype(float), columns + moves[0].astype(float)])
    moved = np.stack(
        [ndimage.map_coordinates(pixels[..., channel], places, order=1, mode="reflect") for channel in range(3)], -1
    )
    levels: Bytes = (np.clip(moved, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels


@pytest.mark.parametrize(
    ("variant", "severity"), [("cifar", 1), ("cifar", 2), ("cifar", 3), ("cifar", 5), ("imagenet", 4)]
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 27)])
def test_elastic_transform_is_the_warp_and_the_displacement_of_one_picture(
    variant: Variant, severity: int, height: int, width: int
) -> None:
    generator = rng(0, "elastic")
    alpha, sigma, strength = SEVERITIES[variant]["elastic_transform"][severity - 1]
    images = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    images[1, :10] = 90
    before = images.copy()
    jitter = generator.uniform(-strength, strength, (2, 3, 2))
    fields = generator.uniform(-1, 1, (2, 2, height, width))
    found = deformed(images, jitter, fields, alpha, sigma)
    for row in range(2):
        expected = one_pull(images[row], jitter[row], fields[row], alpha, sigma)
        assert (found[row] != expected).mean() < 0.001  # where a coordinate lies on the border of two steps
    np.testing.assert_array_equal(images, before)


def test_an_unmoved_picture_stays_as_it_is() -> None:
    images = rng(0, "still").integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    expected = (images.astype(np.float32) / np.float32(255) * np.float32(255)).astype(np.uint8)
    for alpha in (0.0, 5.0):
        found = deformed(images, np.zeros((2, 3, 2)), np.zeros((2, 2, 12, 12)), alpha, 1.0)
        np.testing.assert_array_equal(found, expected)


def test_a_picture_moved_by_whole_pixels_by_hand() -> None:
    images = np.arange(48, dtype=np.uint8).repeat(3).reshape(1, 6, 8, 3) * 5
    right_by_two = np.tile([2.0, 0.0], (1, 3, 1))
    found = deformed(images, right_by_two, np.zeros((1, 2, 6, 8)), 0, 0)
    columns = [2, 1, 0, 1, 2, 3, 4, 5]  # mirrored about the first column
    assert np.abs(found.astype(int) - images[:, :, columns]).max() <= 1
    up = deformed(images, np.zeros((1, 3, 2)), np.stack([np.zeros((1, 6, 8)), np.ones((1, 6, 8))], 1), 2.0, 0.5)
    rows = [2, 3, 4, 5, 5, 4]  # repeated, then mirrored, below the last row
    assert np.abs(up.astype(int) - images[:, rows]).max() <= 1


def test_a_flattened_picture_is_still_a_picture() -> None:
    images = rng(0, "flat").integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    jitter = np.zeros((2, 3, 2))
    jitter[0, 0] = [0, -6]  # the lower right corner falls onto the upper right one
    jitter[1, 0] = [0, -5.9999]
    assert deformed(images, jitter, np.zeros((2, 2, 9, 9)), 0, 0).shape == images.shape


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_lines_beyond_the_edge_are_numpy_s(side: int) -> None:
    lines, reach = np.arange(-3 * side, 4 * side), 3 * side
    np.testing.assert_array_equal(mirrored(lines, side), np.pad(np.arange(side), reach, mode="reflect"))
    np.testing.assert_array_equal(reflected(lines, side), np.pad(np.arange(side), reach, mode="symmetric"))


def layers(count: int) -> Floats:
    """Layers as those of spatter: smoothed noise, cut off."""
    noise = rng(0, "layers").normal(0.65, 0.3, (count, 32, 32))
    smooth = np.stack([ndimage.gaussian_filter(layer, 1.0, mode="nearest") for layer in noise])
    smooth[smooth < 0.69] = 0
    return smooth


def _canny(layer: Bytes) -> NDArray[np.bool_]:
    """Canny's edges of one map, pixel by pixel: directions by the angle, edges grown from strong ones."""
    values = layer.astype(int)
    right = ndimage.sobel(values, axis=1, mode="nearest")
    below = ndimage.sobel(values, axis=0, mode="nearest")
    size = np.pad(np.abs(right) + np.abs(below), 1)
    kind = np.zeros(values.shape, int)
    for row, column in np.ndindex(values.shape):
        x, y = right[row, column], below[row, column]
        angle = np.degrees(np.arctan2(abs(y), abs(x)))
        own = size[row + 1, column + 1]
        if angle < 22.5:
            first, second, wins_ties = size[row + 1, column], size[row + 1, column + 2], True
        elif angle > 67.5:
            first, second, wins_ties = size[row, column + 1], size[row + 2, column + 1], True
        else:
            slant = -1 if (x ^ y) < 0 else 1
            first, second, wins_ties = size[row, column + 1 - slant], size[row + 2, column + 1 + slant], False
        if own > first and (own > second or (wins_ties and own == second)):
            kind[row, column] = 2 if own > 150 else int(own > 50)
    grown: NDArray[np.bool_] = kind == 2
    while True:
        wider = ndimage.binary_dilation(grown, np.ones((3, 3))) & (kind > 0)
        if (wider == grown).all():
            return grown
        grown = wider


def test_edges_are_those_of_canny() -> None:
    maps = (layers(6) * 255).clip(0, 255).astype(np.uint8)
    maps[5] = rng(0, "grain").integers(0, 256, (32, 32))
    found = edges(maps)
    for one, marked in zip(maps, found, strict=True):
        np.testing.assert_array_equal(marked, _canny(one))
    assert 0.02 < found.mean() < 0.6


def test_distances_are_the_shortest_ways_of_three_kinds_of_steps() -> None:
    marked = rng(0, "marks").random((4, 19, 23)) < 0.01
    marked[:, 3, 4] = True
    found = distances(marked)
    rows, columns = np.mgrid[:19, :23]
    for marks, away in zip(marked, found, strict=True):
        expected = np.full((19, 23), np.inf)
        for row, column in np.argwhere(marks):
            low, high = np.sort([np.abs(rows - row), np.abs(columns - column)], axis=0)
            knights = np.minimum(low, high - low)  # as many knight's moves as fit, then diagonals or straight steps
            way = 2.1969 * knights + np.where(2 * low > high, 1.4 * (2 * low - high), high - 2 * low)
            expected = np.minimum(expected, way)
        np.testing.assert_allclose(away, expected, rtol=1e-6)
    assert distances(np.zeros((1, 4, 4), np.bool_)).min() > 1e5


def test_equalising_by_hand() -> None:
    # values 3, 3, 5, 5, 9, 200 of 6: the darkest two count 0; then 2, 3, 4 of 4 make 127.5 (to even), 191.25, 255
    maps = np.array([[[3, 3, 5, 5, 9, 200]], [[8] * 6]], np.uint8)
    np.testing.assert_array_equal(equalised(maps), [[[0, 0, 128, 128, 191, 255]], [[8] * 6]])


def test_boxes_mirror_the_second_line() -> None:
    maps = rng(0, "box").integers(0, 256, (2, 6, 5)).astype(float)
    expected = np.stack([ndimage.uniform_filter(one, 3, mode="mirror") * 9 for one in maps])
    np.testing.assert_allclose(boxed(maps), expected)


def test_water_shines_between_nothing_and_its_strength() -> None:
    images = np.zeros((4, 32, 32, 3), np.uint8)
    found = with_water(images, layers(4), 0.5)
    # the deepest pixel of each: .5 * (175, 238, 238)
    np.testing.assert_array_equal(found.max(axis=(1, 2)), np.tile([87, 119, 119], (4, 1)))
    dry = (layers(4) * 255).astype(np.uint8) == 0
    assert not found[dry].any()
    assert (depths((layers(4) * 255).astype(np.uint8)) >= 0).all()


def test_a_layer_without_water_leaves_the_picture() -> None:
    images = rng(0, "dry").integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    truncated = (images.astype(np.float32) / np.float32(255) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(with_water(images, np.zeros((1, 32, 32)), 0.5), truncated)


def _mud() -> Iterator[tuple[float, Bytes]]:
    """Sigma of the rim and what white turns into where half the picture is splashed."""
    for sigma in (0.5, 0.6, 1.5):
        splash = np.zeros((8, 16), np.float32)
        splash[:, 8:] = 1
        covered = ndimage.gaussian_filter(splash, sigma, mode="nearest", truncate=4.0)
        covered[covered < 0.8] = 0
        mud = np.array([63, 42, 20]) / 255
        white = 1 - covered[..., None].astype(float)
        yield sigma, ((white + covered[..., None] * mud) * 255).astype(np.uint8)


@pytest.mark.parametrize(("sigma", "expected"), list(_mud()))
def test_mud_covers_and_its_rims_are_soft(sigma: float, expected: Bytes) -> None:
    images = np.full((1, 8, 16, 3), 255, np.uint8)
    splashes = np.zeros((1, 8, 16), np.bool_)
    splashes[:, :, 8:] = True
    found = with_mud(images, splashes, sigma)[0]
    assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(found[0, 15], [63, 42, 20])
    assert (found[:, 0] == 255).all()


@pytest.mark.parametrize("severity", range(1, 6))
def test_spatter_is_water_at_first_and_then_mud(severity: int) -> None:
    grey = np.full((50, 32, 32, 3), 100, np.uint8)
    change = corrupt(grey, "spatter", severity).astype(int) - 100
    assert (change.max() > 0) == (severity <= 3)
    assert (change.min() < -1) == (severity > 3)
