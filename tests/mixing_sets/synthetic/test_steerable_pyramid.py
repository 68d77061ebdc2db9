"""The steerable pyramid: a tight frame, oriented, with bands of the published filters; and matching by ranks."""

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray

from pixmix_ray.mixing_sets.synthetic.spectrum_color_wmm import (
    NUM_ORIENTATIONS,
    quantiles,
    steerable_pyramid,
    with_values,
)

Floats32 = NDArray[np.float32]


def noise(side: int, count: int = 2) -> Floats32:
    return np.random.default_rng(0).standard_normal((count, side, side)).astype(np.float32)


@pytest.mark.parametrize(("side", "num_scales"), [(128, 3), (256, 4), (32, 1)])
def test_bands_and_low_pass_put_the_picture_together_and_keep_its_energy(side: int, num_scales: int) -> None:
    pictures, pyramid = noise(side), steerable_pyramid(side, num_scales)
    spectra = scipy.fft.rfft2(pictures, norm="ortho")
    bands = [pyramid.band(spectra, number) for number in range(len(pyramid.sizes))]
    expected_sizes = [side] + [side >> scale for scale in range(num_scales) for _ in range(NUM_ORIENTATIONS)]
    assert pyramid.sizes == expected_sizes and [band.shape[-1] for band in bands] == expected_sizes
    result = spectra * pyramid.low_pass**2
    residual = scipy.fft.irfft2(spectra * pyramid.low_pass, norm="ortho")
    for number, band in enumerate(bands):
        pyramid.add_band(result, band, number)
    assert np.abs(scipy.fft.irfft2(result, norm="ortho") - pictures).max() < 1e-4
    energy = sum((band**2).sum() for band in [*bands, residual])
    assert energy == pytest.approx((pictures**2).sum(), rel=1e-4)


def full_band(picture: Floats32, scale: int, order: int) -> NDArray[np.complex128]:
    """A band by a full transform with shifted frequencies, as published: the second implementation."""
    side = len(picture)
    spectrum = np.fft.fftshift(np.fft.fft2(picture.astype(np.float64)))
    y, x = np.mgrid[-side // 2 : side // 2, -side // 2 : side // 2] / (side / 2)
    with np.errstate(divide="ignore"):
        octave = np.log2(np.hypot(x, y))

    def wave(edge: float) -> NDArray[np.float64]:
        # 1 at the edge, 0 an octave below
        return np.asarray(np.sqrt(0.5 * (1 + np.cos(np.pi * np.clip(octave - edge, -1, 0)))))

    mask = wave(-scale - 1.0)
    for lower in range(scale + 1):
        mask = mask * np.sqrt(1 - wave(-float(lower)) ** 2)
    lobe = np.cos(np.arctan2(y, x) - np.pi * order / 4) ** 3 * np.sqrt(64 * 36 / (4 * 720))
    half = side >> (scale + 1)
    kept = slice(side // 2 - half, side // 2 + half)
    band = (-1j) ** 3 * (spectrum * mask * lobe)[kept, kept]
    # The published transform divides by the band's pixels; an orthonormal one by the roots of both numbers.
    return np.asarray(np.fft.ifft2(np.fft.ifftshift(band)) / 2**scale)


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("order", range(4))
def test_bands_are_those_of_the_published_filters(scale: int, order: int) -> None:
    picture = noise(64, 1)[0]
    band = steerable_pyramid(64, 3).band(scipy.fft.rfft2(picture, norm="ortho"), 1 + 4 * scale + order)
    expected = full_band(picture, scale, order)
    assert np.abs(expected.imag).max() < 1e-9
    assert np.abs(band - expected.real).max() < 1e-5


@pytest.mark.parametrize("order", range(4))
def test_a_wave_is_seen_by_the_band_of_its_direction(order: int) -> None:
    y, x = np.mgrid[:64, :64].astype(np.float32)
    direction = [(1, 0), (1, 1), (0, 1), (-1, 1)][order]
    wave = np.cos(2 * np.pi * 10 * (direction[0] * x + direction[1] * y) / 64)[None].astype(np.float32)
    pyramid = steerable_pyramid(64, 3)
    spectra = scipy.fft.rfft2(wave, norm="ortho")
    sizes = [float((pyramid.band(spectra, number) ** 2).sum()) for number in range(1, 5)]
    assert int(np.argmax(sizes)) == order


def test_matching_by_ranks_gives_the_values_in_the_order_of_the_source() -> None:
    source = np.random.default_rng(1).standard_normal((3, 2, 500)).astype(np.float32)
    values = np.sort(np.random.default_rng(2).random((3, 2, 500)).astype(np.float32))
    before = source.copy(), values.copy()
    result = with_values(source, values)
    assert np.array_equal(np.sort(result), values)
    ranks = source.argsort(axis=-1).argsort(axis=-1)  # second implementation; no two are nearer than the levels
    assert (result == np.take_along_axis(values, ranks, axis=-1)).mean() > 0.98
    assert np.abs(result - np.take_along_axis(values, ranks, axis=-1)).max() < 0.02
    assert np.array_equal(source, before[0]) and np.array_equal(values, before[1])


def test_matching_something_flat_is_no_error() -> None:
    values = np.arange(5, dtype=np.float32)[None]
    assert np.array_equal(with_values(np.zeros((1, 5), np.float32), values), values)


def test_quantiles_by_hand() -> None:
    # A quarter lies up to 0, three quarters up to 10, all up to 30; linear between.
    values = quantiles(np.array([[0.25, 0.75, 1.0]]), np.array([[0.0, 10.0, 30.0]]), 8)
    assert values[0].tolist() == [0, 0, 2.5, 5, 7.5, 10, 20, 30]
