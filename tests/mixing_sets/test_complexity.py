"""Complexity of pictures: known dimensions and slopes, second implementations, flat pictures, errors."""

import io
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.errors import RequestError
from pixmix_ray.mixing_sets.complexity import (
    MEASURES,
    box_dimension,
    brightness_entropy,
    compressed_ratio,
    spectral_slope,
)

Images = NDArray[np.uint8]
NOISE = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
FLAT = np.full((2, 64, 64, 3), 77, np.uint8)


def coloured_noise(exponent: float, side: int = 128, count: int = 8) -> Images:
    """Pictures whose amplitude spectrum is 1 / f**exponent with random phases, made by numpy's inverse transform."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(np.random.default_rng(1).normal(size=(count, side, side)))
    images = np.fft.irfft2(noise / np.maximum(frequency, 1e-9) ** exponent, s=(side, side))
    images = 128 + 40 * images / images.std(axis=(1, 2), keepdims=True)
    return np.repeat(images.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=-1)


def fractal(rule: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]], side: int) -> Images:
    y, x = np.mgrid[:side, :side]
    return np.repeat((255 * rule(x, y)).astype(np.uint8)[None, ..., None], 3, axis=-1)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5])
def test_the_spectral_slope_is_the_exponent_that_the_noise_was_made_with(exponent: float) -> None:
    assert spectral_slope(coloured_noise(exponent)).mean() == pytest.approx(exponent, abs=0.08)


def test_the_box_dimension_of_known_sets() -> None:
    # By hand: a diagonal line has dimension 1; so has a square's outline; noise fills the plane; the Sierpinski
    # triangle (x and y have no bit in common) has log 3 / log 2 = 1.585, and its border is all of it.
    line = fractal(lambda x, y: x > y, 256)
    square = fractal(lambda x, y: (x > 40) & (x < 200) & (y > 50) & (y < 220), 256)
    sierpinski = fractal(lambda x, y: (x & y) == 0, 256)
    assert box_dimension(line)[0] == pytest.approx(1, abs=0.05)
    assert box_dimension(square)[0] == pytest.approx(1, abs=0.05)
    assert box_dimension(sierpinski)[0] == pytest.approx(np.log2(3), abs=0.12)
    assert box_dimension(NOISE).min() > 1.85


def test_the_compressed_ratio_agrees_with_pngs_where_its_filter_is_the_same() -> None:
    # second implementation: the same bytes in a PNG, which adds a filter byte a row and some headers
    smooth = np.broadcast_to((np.arange(64) * 3).astype(np.uint8)[None, None, :, None], (1, 64, 64, 3)).copy()
    for images in (NOISE[:1], smooth):
        stream = io.BytesIO()
        Image.fromarray(images[0]).save(stream, "PNG", compress_level=9)
        assert compressed_ratio(images)[0] == pytest.approx(stream.tell() / images[0].size, abs=0.03)
    assert compressed_ratio(NOISE).min() > 0.99 and compressed_ratio(smooth)[0] < 0.02


def test_the_compressed_ratio_by_hand() -> None:
    pictures = NOISE.copy()
    pictures[0, :, 1:] = pictures[0, :, :1]  # each row one colour: zeros after the first pixel
    expected = np.zeros_like(pictures[0])
    expected[:, 0] = pictures[0, :, 0]
    size = len(zlib.compress(expected.tobytes(), 9))
    assert compressed_ratio(pictures)[0] == size / (64 * 64 * 3)


def test_the_entropy_by_hand() -> None:
    quarters = np.zeros((1, 64, 64, 3), np.uint8)
    quarters[:, 32:, :32], quarters[:, :32, 32:], quarters[:, 32:, 32:] = 10, 20, 30
    assert brightness_entropy(quarters).tolist() == [2.0]  # four values of probability 1/4
    one_in_four = np.where(np.arange(64)[None, :, None, None] < 16, 0, 255).astype(np.uint8)
    pictures = np.broadcast_to(one_in_four, (1, 64, 64, 3))
    assert brightness_entropy(pictures)[0] == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3))
    every = np.arange(256, dtype=np.uint8).repeat(16).reshape(1, 64, 64, 1).repeat(3, axis=-1)
    assert brightness_entropy(every).tolist() == [8.0]


def test_a_flat_picture_is_simple_by_every_measure() -> None:
    for name, measure in MEASURES.items():
        assert measure(FLAT).max() < 0.01, name
        assert measure(FLAT).min() >= 0 and not np.signbit(measure(FLAT)).any(), name


@pytest.mark.parametrize("name", MEASURES)
def test_each_picture_is_measured_by_itself_and_not_changed(name: str) -> None:
    images = np.concatenate([NOISE[:1], FLAT[:1], coloured_noise(1, side=64, count=2)])
    before = images.copy()
    together = MEASURES[name](images)
    assert together.shape == (4,) and together.dtype == np.float64 and np.isfinite(together).all()
    assert together.tolist() == pytest.approx([float(MEASURES[name](images[i : i + 1])[0]) for i in range(4)])
    assert np.array_equal(images, before)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("shape", [(16, 16), (40, 33), (17, 90)])
def test_pictures_need_not_be_square(name: str, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(3).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    assert np.isfinite(MEASURES[name](images)).all()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    "images", [np.zeros((1, 15, 64, 3), np.uint8), np.zeros((1, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8)]
)
def test_other_arrays_are_errors(name: str, images: Images) -> None:
    with pytest.raises(RequestError, match="pictures must be uint8"):
        MEASURES[name](images)
