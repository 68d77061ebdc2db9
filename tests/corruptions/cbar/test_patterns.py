"""The patterns that C-bar lays over a picture beside their definitions, written out pixel by pixel, on given draws."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.corruptions.cbar.patterns import plasma, turbulence, with_rings, with_wave
from pixmix_ray.seeding import rng

SIZES = [(16, 16), (13, 18), (9, 7)]


def pictures(height: int, width: int) -> NDArray[np.uint8]:
    return rng(0, "bar pattern pictures", height, width).integers(0, 256, (2, height, width, 3), np.uint8)


def as_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    truncated: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return truncated


def by_pixel(height: int, width: int, at: Callable[..., object], k: int) -> NDArray[np.float64]:
    """What `at(row, column, k)` gives for every pixel of picture k."""
    return np.array([[at(row, column, k) for column in range(width)] for row in range(height)], np.float64)


def test_a_wave_is_the_sine_of_a_plane() -> None:
    images = pictures(9, 7)
    frequencies, phases = np.array([[0.3, -2.9], [1.1, 0.2]]), np.array([0.4, 5.0])

    def at(row: int, column: int, k: int) -> float:
        return 40 * math.sin(frequencies[k, 0] * column + frequencies[k, 1] * row + phases[k])

    expected = [as_bytes(images[k] + by_pixel(9, 7, at, k)[..., None]) for k in range(2)]
    np.testing.assert_array_equal(with_wave(images, frequencies, phases, 40), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_rings_rise_from_one_side_to_the_other(height: int, width: int) -> None:
    images = pictures(height, width)
    origins, frequencies = rng(1, "origins", height, width).random((2, 2)) * (height, width), np.array([2.5, 7.1])
    amplitudes, rings = np.array([0.7, 1.9]), np.array([2.2, 1.3])
    expected = []

    def at(row: int, column: int, k: int) -> float:
        down, across = row - origins[k, 0], column - origins[k, 1]
        wobble = amplitudes[k] * math.sin(math.atan2(across, down) * frequencies[k])
        return float((math.hypot(down, across) + wobble) % rings[k] / rings[k] - 0.5)

    for k, image in enumerate(images):
        expected.append(as_bytes(image + 90 * by_pixel(height, width, at, k)[..., None]))
    corrupted = with_rings(images, origins, frequencies, amplitudes, rings, 90)
    assert (corrupted != np.stack(expected)).mean() < 0.002  # where a sum should be a whole grey level


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_plasma_is_a_sine_of_warped_coordinates(height: int, width: int) -> None:
    time, warps, sharpness, scale = np.array([3.0, 14.0]), np.array([4, 6]), np.array([0.6, 0.95]), np.array([2.0, 5.0])

    def at(row: int, column: int, k: int) -> list[float]:
        x, y, t = column / scale[k], row / scale[k], time[k]
        for step in range(warps[k]):
            fineness, delay, weakness = 1.93**step, 1.15**step, (2.25 - sharpness[k]) ** step
            first = math.cos(y * fineness + t / delay) / weakness
            second = math.sin(x * fineness + t / delay) / weakness
            x, y = x + first - 0.3 * second, y + second + 0.3 * first
        return [math.sin(x - t), math.sin((x + y + math.sin(t)) / 2), math.sin(y + t)]

    noise = plasma((2, height, width, 3), time, warps, sharpness, scale)
    for k in range(2):
        expected = by_pixel(height, width, at, k)
        np.testing.assert_allclose(noise[k], expected, atol=1e-9)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_turbulence_is_perlins_noise_in_five_octaves(height: int, width: int) -> None:
    generator = rng(3, "perlin")
    permutation = np.stack([generator.permutation(256) for _ in range(2)])
    angles = 6.28 * generator.random((2, 256))
    gradients = np.stack((np.cos(angles), np.sin(angles)), axis=2)

    def noise(x: float, y: float, k: int) -> float:
        left, top = math.floor(x), math.floor(y)
        slopes = np.empty((2, 2))
        for i in range(2):
            for j in range(2):
                chosen = permutation[k, (permutation[k, (left + i) % 256] + (top + j) % 256) % 256]
                slopes[i, j] = gradients[k, chosen] @ (x - left - i, y - top - j)
        smooth = [part * part * (3 - 2 * part) for part in (x - left, y - top)]
        ends = slopes[0] + smooth[0] * (slopes[1] - slopes[0])
        return float(1.5 * (ends[0] + smooth[1] * (ends[1] - ends[0])))

    def at(row: int, column: int, k: int) -> float:
        return sum(abs(noise(0.21 * f * row, 0.21 * f * column, k)) / f for f in (1, 2, 4, 8, 16))

    turbulent = turbulence((2, height, width, 3), permutation, gradients, 0.21)
    for k in range(2):
        expected = by_pixel(height, width, at, k)
        np.testing.assert_allclose(turbulent[k], expected, atol=1e-9)
