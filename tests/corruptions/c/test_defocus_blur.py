"""Defocus blur against the stated kernels and against scipy.ndimage and a plain loop."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.c.blur import disk
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.seeding import rng

BOTH = [(variant, severity) for variant in ("cifar", "imagenet") for severity in range(1, 6)]


def kernel(variant: str, severity: int) -> NDArray[np.float32]:
    return disk(*SEVERITIES[variant]["defocus_blur"][severity - 1])


@pytest.mark.parametrize(("severity", "sigma"), [(1, 0.4), (2, 0.5), (3, 0.6)])
def test_the_first_cifar_kernels_are_three_by_three_gaussians(severity: int, sigma: float) -> None:
    side = np.exp(-1 / (2 * sigma**2))
    taps = np.array([side, 1, side]) / (1 + 2 * side)
    np.testing.assert_allclose(kernel("cifar", severity), np.outer(taps, taps), rtol=1e-6)


def test_the_fourth_cifar_kernel_is_a_plus_sign() -> None:
    plus = ndimage.generate_binary_structure(2, 1) / 5
    middle = kernel("cifar", 4)[1:-1, 1:-1]
    np.testing.assert_allclose(middle, plus, atol=5e-6)
    assert kernel("cifar", 4).sum() == pytest.approx(1, abs=1e-6)


def test_the_fifth_cifar_kernel_is_a_box() -> None:
    np.testing.assert_array_equal(kernel("cifar", 5), np.full((3, 3), 1 / 9, np.float32))


@pytest.mark.parametrize("severity", range(1, 6))
def test_the_imagenet_kernels_are_softened_disks(severity: int) -> None:
    radius, sigma = SEVERITIES["imagenet"]["defocus_blur"][severity - 1]
    reach, width = (8, 3) if radius <= 8 else (10, 5)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (rows**2 + columns**2 <= radius**2).astype(float)
    taps = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * sigma**2))
    softened = ndimage.correlate(inside / inside.sum(), np.outer(taps, taps) / taps.sum() ** 2, mode="mirror")
    found = kernel("imagenet", severity)
    rim = (len(softened) - len(found)) // 2
    np.testing.assert_allclose(found, softened[rim : rim + len(found), rim : rim + len(found)], atol=1e-8)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_blur_is_the_correlation_that_scipy_computes(variant: Variant, severity: int) -> None:
    images = rng(0, "blur").integers(0, 256, (4, 40, 33, 3), dtype=np.uint8)
    weights = kernel(variant, severity).astype(np.float64)[None, :, :, None]
    blurred = ndimage.correlate(images / 255, weights, mode="mirror")
    expected = (np.clip(blurred, 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(corrupt(images, "defocus_blur", severity, variant=variant), expected)


def test_blur_is_what_a_plain_loop_over_pixels_gives() -> None:
    image = rng(0, "loop").integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.zeros_like(image)
    mirrored = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect") / 255
    for row, column, channel in np.ndindex(image.shape):
        window = mirrored[row : row + 3, column : column + 3, channel]
        expected[row, column, channel] = int(float((window * np.float64(np.float32(1 / 9))).sum()) * 255)
    np.testing.assert_array_equal(corrupt(image[None], "defocus_blur", 5)[0], expected)


def test_the_error_of_a_float32_weight_decides_ties() -> None:
    # nine pixels of 51 with one raised by 9: the mean is exactly 52, and float32(1/9) is a little more than 1/9
    image = np.full((1, 5, 5, 3), 51, np.uint8)
    image[0, 2, 2] += 9
    assert (corrupt(image, "defocus_blur", 5)[0, 1:4, 1:4] == 52).all()
