"""The steerable pyramid of many pictures at once, on their spectra.

E. P. Simoncelli and W. T. Freeman, The Steerable Pyramid, ICIP 1995: a picture is split into a high-pass residual,
bands of some scales, each half the size of the last, in four orientations, and a low-pass residual. Filters overlap by
an octave and their squares add up to 1. With orthonormal transforms the pyramid is a tight frame, so that the same
filters put a picture together again, and white noise has coefficients of one size at all scales. So it is in the
spatial pyramid of Simoncelli's matlabPyrTools; those of pyrtools' SteerablePyramidFreq are the ones here, within
1e-5, times 2 a scale. (pyrtools takes one picture at a time, some 11 ms for a channel of 128 pixels, and needs
matplotlib.)
"""

import math
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

NUM_ORIENTATIONS = 4

Spectra = NDArray[np.complex64]
Floats32 = NDArray[np.float32]


class SteerablePyramid:
    """The filters for square pictures of one size.

    A band is (..., s, s) float32. A spectrum is what `scipy.fft.rfft2(pictures, norm="ortho")` gives,
    (..., side, side // 2 + 1) complex64.

    Attributes:
        sizes: the sides s of the bands in pixels: the high-pass residual first, then scale after scale.
        low_pass: (side, side // 2 + 1) float32; a spectrum times it, squared, is the part of the low-pass residual.
    """

    def __init__(self, side: int, num_scales: int) -> None:
        orders = np.arange(NUM_ORIENTATIONS)
        radius, angle = _polar(side)
        remaining = _low(radius, 1.0)
        self._filters = [_high(radius, 1.0).astype(np.complex64)]
        for scale in range(num_scales):
            edge = 0.5 ** (scale + 1)
            size = side >> scale
            radial = remaining * _high(radius, edge)
            for order in orders:
                oriented = 1j * radial * _lobe(angle - math.pi * order / NUM_ORIENTATIONS)
                self._filters.append(_cropped(oriented.astype(np.complex64), size))
            remaining = remaining * _low(radius, edge)
        self.sizes = [2 * (mask.shape[1] - 1) for mask in self._filters]
        self.low_pass = remaining.astype(np.float32)

    def band(self, spectra: Spectra, number: int) -> Floats32:
        """One band of the pictures with these spectra."""
        mask, size = self._filters[number], self.sizes[number]
        band: Floats32 = scipy.fft.irfft2(_cropped(spectra, size) * mask, s=(size, size), norm="ortho")
        return band

    def add_band(self, spectra: Spectra, band: Floats32, number: int) -> None:
        """Add the part of the pictures that a band holds to their spectra, in place."""
        size = self.sizes[number]
        part = scipy.fft.rfft2(band, norm="ortho") * self._filters[number].conj()
        if size == spectra.shape[-2]:
            spectra += part
            return
        half = size // 2
        spectra[..., :half, : half + 1] += part[..., :half, :]
        spectra[..., -half:, : half + 1] += part[..., half:, :]


@lru_cache
def steerable_pyramid(side: int, num_scales: int) -> SteerablePyramid:
    """The pyramid for pictures of `side` pixels, a power of two."""
    return SteerablePyramid(side, num_scales)


def _polar(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius (1 is half the sampling frequency) and angle of each place of a spectrum, (side, side // 2 + 1)."""
    y, x = 2 * scipy.fft.fftfreq(side)[:, None], 2 * scipy.fft.rfftfreq(side)
    return np.hypot(x, y), np.arctan2(y, x)


def _high(radius: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """1 from the radius `edge` on, 0 up to half of it, half a wave of the logarithm between."""
    octaves = -np.log2(np.maximum(radius, 1e-9) / edge)
    high: NDArray[np.float64] = np.cos(np.pi / 2 * octaves.clip(0, 1))
    return high


def _low(radius: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """What `_high` leaves: the squares of both add up to 1."""
    octaves = -np.log2(np.maximum(radius, 1e-9) / edge)
    low: NDArray[np.float64] = np.sin(np.pi / 2 * octaves.clip(0, 1))
    return low


def _lobe(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The third power of the cosine, scaled so that the squares over four orientations add up to 1."""
    lobe: NDArray[np.float64] = math.sqrt(0.8) * np.cos(angle) ** 3
    return lobe


def _cropped(spectra: Spectra, size: int) -> Spectra:
    """The low frequencies of spectra, as those of pictures with `size` pixels, (..., size, size // 2 + 1)."""
    if size == spectra.shape[-2]:
        return spectra
    half = size // 2
    return np.concatenate([spectra[..., :half, : half + 1], spectra[..., -half:, : half + 1]], axis=-2)
