"""Gaussian, glass, motion and zoom blur, against SciPy and against plain loops over one picture."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.c.blur import blurred_along, displaced, offsets, smoothed, zoom_line, zoomed
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.seeding import rng, uniforms

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

BOTH: list[tuple[Variant, int]] = [(variant, severity) for variant in ("cifar", "imagenet") for severity in range(1, 6)]


def noisy(count: int, height: int, width: int) -> Bytes:
    """Random pictures, each with a flat corner, where whole grey levels are met: the last bit decides truncation."""
    images = rng(0, "noisy", height, width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    images[:, : height // 2, : width // 2] = 131
    images[0] = 255
    return images


def truncated(fractions: Floats) -> Bytes:
    return (np.clip(fractions, 0, 1) * 255).astype(np.uint8)


def scipy_blur(image: Floats, sigma: float) -> Floats:
    blurred: Floats = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4.0)
    return blurred


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_gaussian_blur_is_the_filter_that_scipy_computes(variant: Variant, severity: int) -> None:
    images = noisy(6, 40, 33)
    (sigma,) = SEVERITIES[variant]["gaussian_blur"][severity - 1]
    found = corrupt(images, "gaussian_blur", severity, variant=variant)
    expected = np.stack([truncated(scipy_blur(image / 255, sigma)) for image in images])
    assert np.abs(found.astype(int) - expected).max() <= 1  # where a tap differs in its last bit
    assert (found != expected).mean() < 0.002


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.92, 30.0])
@pytest.mark.parametrize(("mode", "name"), [("edge", "nearest"), ("symmetric", "reflect")])
def test_smoothing_is_scipy_s_for_both_edges_also_beyond_the_picture(sigma: float, mode: str, name: str) -> None:
    layer = rng(0, "layer").random((1, 7, 12))
    expected = ndimage.gaussian_filter(layer[0], sigma, mode=name, truncate=3.0)
    found = smoothed(layer, sigma, truncate=3.0, mode="edge" if mode == "edge" else "symmetric")
    np.testing.assert_allclose(found[0], expected, rtol=1e-13)


def one_glass(image: Bytes, shifts: NDArray[np.intp]) -> Bytes:
    """One picture whose pixels are copied one after the other, from the bottom right; shifts as `displaced` takes."""
    result = image.copy()
    height, width = image.shape[:2]
    delta = (height - shifts.shape[1]) // 2
    for repetition in shifts:
        for row in range(height - delta, delta, -1):
            for column in range(width - delta, delta, -1):
                right, down = repetition[row - delta - 1, column - delta - 1]
                result[row, column] = result[row + down, column + right]
    return result


@pytest.mark.parametrize(("delta", "times"), [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (4, 2)])
def test_glass_copies_one_way_pixel_by_pixel_from_the_bottom_right(delta: int, times: int) -> None:
    images = noisy(5, 21, 17)
    before = images.copy()
    shape = (5, times, 21 - 2 * delta, 17 - 2 * delta, 2)
    shifts = rng(0, "glass", delta).integers(-delta, delta, shape)
    shifts[4] = delta - 1  # all from below and right: the longest chains
    found = displaced(images, shifts)
    for image, shift, moved in zip(images, shifts, found, strict=True):
        np.testing.assert_array_equal(moved, one_glass(image, shift))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_glass_blur_smooths_copies_and_smooths(variant: Variant, severity: int) -> None:
    images = noisy(2, 32, 32)
    sigma, delta, times = SEVERITIES[variant]["glass_blur"][severity - 1]
    side = 32 - 2 * int(delta)
    count = int(times) * side * side * 2
    numbers = uniforms(0, "corruptions", "glass_blur", severity, indices=range(2), count=count)
    shifts = (np.floor(numbers * 2 * delta) - delta).astype(np.intp).reshape(2, int(times), side, side, 2)
    found = corrupt(images, "glass_blur", severity, variant=variant)
    for image, shift, corrupted in zip(images, shifts, found, strict=True):
        moved = one_glass((scipy_blur(image / 255, sigma) * 255).astype(np.uint8), shift)
        expected = truncated(scipy_blur(moved / 255, sigma))
        assert np.abs(corrupted.astype(int) - expected).max() <= 1
        assert (corrupted != expected).mean() < 0.01


def test_glass_moves_nothing_in_the_first_rows_and_columns() -> None:
    images = noisy(3, 32, 32)
    moved = displaced(images, np.full((3, 1, 28, 28, 2), -2))
    np.testing.assert_array_equal(moved[:, :3], images[:, :3])
    np.testing.assert_array_equal(moved[:, 31:], images[:, 31:])
    np.testing.assert_array_equal(moved[:, 3:31, 3:31], images[:, 1:29, 1:29])


def one_motion(image: Bytes, radius: float, sigma: float, angle: float) -> Bytes:
    """One picture shaken, tap by tap, with the offsets computed from the two components as stated."""
    taps = 2 * math.ceil(radius) + 1
    weights = np.array([math.exp(-(tap**2) / (2 * sigma**2)) for tap in range(taps)])
    across, along = taps * math.sin(math.radians(angle)), taps * math.cos(math.radians(angle))
    length = math.hypot(across, along)
    height, width = image.shape[:2]
    total = np.zeros(image.shape)
    for tap, weight in enumerate(weights / weights.sum()):
        rows = np.arange(height) + math.ceil(tap * across / length - 0.5)
        columns = np.arange(width) + math.ceil(tap * along / length - 0.5)
        total += weight * image[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    return (np.floor(total * 257 + 0.5) // 257).astype(np.uint8)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_motion_blur_is_the_one_sided_kernel_at_the_drawn_angle(variant: Variant, severity: int) -> None:
    images = noisy(12, 32, 37)
    radius, sigma = SEVERITIES[variant]["motion_blur"][severity - 1]
    angles = -45 + 90 * uniforms(0, "corruptions", "motion_blur", severity, indices=range(12), count=1)[:, 0]
    found = corrupt(images, "motion_blur", severity, variant=variant)
    for image, angle, corrupted in zip(images, angles, found, strict=True):
        np.testing.assert_array_equal(corrupted, one_motion(image, radius, sigma, angle))


@pytest.mark.parametrize("angle", [-180, -135, -90, -72.3, 0, 30, 45, 90, 170])
def test_motion_may_go_in_any_direction(angle: float) -> None:
    images = noisy(2, 9, 20)
    before = images.copy()
    found = blurred_along(images, 8, 2, np.array([angle, angle + 1.0]))
    np.testing.assert_array_equal(found[0], one_motion(images[0], 8, 2, angle))
    np.testing.assert_array_equal(found[1], one_motion(images[1], 8, 2, angle + 1))
    np.testing.assert_array_equal(images, before)


def test_motion_to_the_right_by_hand() -> None:
    # radius 1, sigma 1: weights exp(0), exp(-1/2), exp(-2) over 1.741866: .574097, .348207, .077696
    image = np.array([[[[0], [100], [200], [50]]]], np.uint8)
    # 34.82 + 15.54 = 50.36; 57.41 + 69.64 + 3.88 = 130.94; 114.82 + 17.41 + 3.88 = 136.11; 50
    np.testing.assert_array_equal(blurred_along(image, 1, 1, np.array([0.0]))[0, 0, :, 0], [50, 130, 136, 50])
    rows, columns = offsets(3, np.array([0.0, 90.0, 45.0]))
    np.testing.assert_array_equal(columns, [[0, 1, 2], [0, 0, 0], [0, 1, 1]])  # 2 / sqrt 2 = 1.41, rounded
    np.testing.assert_array_equal(rows, [[0, 0, 0], [0, 1, 2], [0, 1, 1]])


def one_zoom(picture: NDArray[np.floating], factor: float) -> NDArray[np.floating]:
    """One picture's middle enlarged by SciPy, and the window of it as stated."""
    height, width = picture.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    factors = (factor, factor, 1)[: picture.ndim]
    large = ndimage.zoom(picture[top : top + rows, left : left + columns], factors, order=1)
    top, left = (len(large) - height) // 2, (large.shape[1] - width) // 2
    window: NDArray[np.floating] = large[top : top + height, left : left + width]
    return window


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_zoom_blur_is_the_mean_of_scipy_s_zooms_in_float32(variant: Variant, severity: int) -> None:
    side, count = (32, 5) if variant == "cifar" else (224, 1)
    images = noisy(count, side, side)
    if variant == "imagenet":
        images = rng(0, "zoom").integers(0, 256, images.shape, dtype=np.uint8)
        images[:, :100, :100] = 77
    factors = np.arange(1, *SEVERITIES[variant]["zoom_blur"][severity - 1])
    found = corrupt(images, "zoom_blur", severity, variant=variant)
    for image, corrupted in zip(images, found, strict=True):
        pixels = (image / 255.0).astype(np.float32)
        total = np.zeros_like(pixels)
        for factor in factors.tolist():
            total += one_zoom(pixels, factor)
        blurred = np.clip((pixels + total) / np.float32(len(factors) + 1), 0, 1) * np.float32(255)
        np.testing.assert_array_equal(corrupted, blurred.astype(np.uint8))


@pytest.mark.parametrize(
    ("variant", "counts", "last"),
    [
        ("cifar", (7, 12, 16, 21, 26), (1.06, 1.11, 1.15, 1.20, 1.25)),
        ("imagenet", (12, 16, 11, 13, 11), (1.11, 1.15, 1.20, 1.24, 1.30)),
    ],
)
def test_zoom_factors_are_as_many_as_stated(variant: Variant, counts: tuple[int, ...], last: tuple[float, ...]) -> None:
    factors = [np.arange(1, *constants) for constants in SEVERITIES[variant]["zoom_blur"]]
    assert tuple(len(row) for row in factors) == counts
    assert [row[-1] for row in factors] == pytest.approx(last)


@pytest.mark.parametrize("factor", [1.0, 1.25, 1.75, 2.25, 4.5])
def test_a_zoomed_layer_is_scipy_s(factor: float) -> None:
    layers = rng(0, "layers").normal(size=(3, 32, 24))
    found = zoomed(layers, factor)
    for layer, large in zip(layers, found, strict=True):
        np.testing.assert_array_equal(large, one_zoom(layer, factor))


def test_a_zoom_of_one_percent_changes_nothing_and_lines_stay_inside() -> None:
    layer = rng(0, "layer").random((1, 32, 32))
    np.testing.assert_array_equal(zoomed(layer, 1.01), layer)  # 32 pixels stretched to 32
    for length in range(1, 60):  # (15 pixels to 26 is where SciPy's coordinate passes the edge)
        for lines, weights in zoom_line(length, 1.75).taps:
            assert lines.min() >= 0
            assert lines.max() < length
            assert ((weights >= 0) & (weights <= 1)).all()
