"""Spectrum + Color + WMM: noise that is given the spectrum, the colours and the wavelet statistics of natural pictures.

M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021; a row of Table 4 of PixMix (Hendrycks et al., CVPR
2022). Ten times, uniform noise is given in turn a random power-law spectrum (its phases are kept), heavy-tailed
histograms of its wavelet coefficients (WMM, the wavelet marginal model), and the histograms of a few random colours.
All that in the principal axes of these colours, from which the result is turned back and stretched.

The pictures of Baradad et al. come from a MATLAB program; their Python port is called visually matched. Where the two
differ this follows the former: the axes are turned back by the inverse, and the random colours get noise at each pixel
(in the port its eigenvectors are not transposed, and the noise cancels).

Where we differ. The steerable pyramid is computed on spectra and not by convolution. Histograms are matched by ranks,
so that means and deviations before a match do not matter, and after it are those of the wanted values.
The spectrum is imposed and the pyramid built without a picture in between. Blurring reflects the colours at the border.
There is no JPEG compression.

The pyramid: E. P. Simoncelli and W. T. Freeman, The Steerable Pyramid, ICIP 1995: a picture is split into a high-pass
residual, bands of some scales, each half the size of the last, in four orientations, and a low-pass residual. Filters
overlap by an octave and their squares add up to 1. With orthonormal transforms the pyramid is a tight frame, so that
the same filters put a picture together again, and white noise has coefficients of one size at all scales. So it is in
the spatial pyramid of Simoncelli's matlabPyrTools; those of pyrtools' SteerablePyramidFreq are the ones here, within
1e-5, times 2 a scale. (pyrtools takes one picture at a time, some 11 ms for a channel of 128 pixels, and needs
matplotlib.)
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.special import ndtri

from pixmix_ray.mixing_sets.base import MIXING_SETS
from pixmix_ray.mixing_sets.generated import GeneratedSet, Images
from pixmix_ray.seeding import uniforms

Floats32 = NDArray[np.float32]

NUM_ORIENTATIONS = 4

Spectra = NDArray[np.complex64]


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


ROUNDS = 10
NUM_SCALES = {128: 3, 256: 4}
SLOPES = (0.5, 3.5)
SLOPE_SPREAD = (SLOPES[1] - SLOPES[0]) / 60
FEWEST_COLOURS, MOST_COLOURS = 3, 22
LARGEST_BLUR = 10
NUM_BINS = 256
COEFFICIENTS = np.arange(-200, 200.5, 0.5)  # the values that wavelet coefficients may have

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@MIXING_SETS.add("spectrum_color_wmm")
class SpectrumColorWmm(GeneratedSet):
    """Pictures of a statistical model: power-law spectrum, a few colours, heavy-tailed wavelet coefficients.

    On one core 10,000 take about half an hour (6.5 a second), of 256 pixels some hours.

    Attributes:
        resolution: the side at which they are made, in pixels: 128 in the paper's source for small pictures, with 3
            scales of wavelets, 256 for ImageNet's size, with 4.
    """

    summary: ClassVar[str] = "noise with the spectrum, colours and wavelet statistics of natural pictures"
    source: ClassVar[str] = "made here, after Baradad et al., NeurIPS 2021; PixMix (Hendrycks et al., 2022), Table 4"
    generator: ClassVar[str] = "spectrum_color_wmm"
    chunk: ClassVar[int] = 4
    resolution: Literal[128, 256] = 128

    def draw(self, indices: Ints, side: int) -> Images:
        """The pictures of these indices in their own size, (N, resolution, resolution, 3) uint8."""
        size = self.resolution
        pyramid = steerable_pyramid(size, NUM_SCALES[size])
        colours = colour_model(self.seed, indices, size)
        magnitude = spectrum_model(self.seed, indices, size)
        bands = wavelet_model(self.seed, indices, pyramid)
        noise = uniforms(self.seed, "spectrum_color_wmm", "noise", indices=indices, count=3 * size**2)
        pictures = (256 * noise).astype(np.float32).reshape(-1, 3, size, size)
        for _ in range(ROUNDS):
            spectra = with_spectrum(pictures, magnitude)
            pictures = with_wavelets(spectra, bands, pyramid)
            pictures = with_values(pictures.reshape(-1, 3, size**2), colours.values).reshape(pictures.shape)
        return _stretched(colours.turned_back(pictures))


@dataclass(frozen=True, kw_only=True)
class ColourModel:
    """The colours of some pictures.

    Attributes:
        values: (N, 3, P) float32, the wanted values along each principal axis, ascending, one a pixel.
        axes: (N, 3, 3), the principal axes as columns, in RGB.
        mean: (N, 3).
    """

    values: Floats32
    axes: Floats
    mean: Floats

    def turned_back(self, pictures: Floats32) -> Floats32:
        """The pictures, (N, 3, S, S) in principal axes, in RGB."""
        turned: Floats32 = np.einsum("nrc,nchw->nrhw", self.axes.astype(np.float32), pictures)
        turned += self.mean[:, :, None, None].astype(np.float32)
        return turned


def colour_model(seed: int, indices: Ints, side: int) -> ColourModel:
    """The colours of the pictures: those of stripes in 3 to 22 random colours, blurred."""
    reference = _stripes(seed, indices, side).reshape(len(indices), 3, -1)
    mean = reference.mean(axis=2)
    centred = reference - mean[:, :, None]
    axes = _principal_axes(centred @ centred.transpose(0, 2, 1))
    decorrelated = (axes.transpose(0, 2, 1) @ centred).reshape(-1, side**2)
    return ColourModel(values=_histogram_values(decorrelated).reshape(reference.shape), axes=axes, mean=mean)


def _principal_axes(scatter: Floats) -> Floats:
    """The eigenvectors of matrices (N, 3, 3) as columns, the largest eigenvalue's first.

    The largest component of each is positive: without a rule the sign, and so the picture, is the library's choice.
    """
    axes = np.linalg.eigh(scatter)[1][:, :, ::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    signed: Floats = axes * np.sign(largest)
    return signed


def _stripes(seed: int, indices: Ints, side: int) -> Floats:
    """Stripes of random widths in random colours, blurred, with a little noise, in [0, 256], (N, 3, side, side)."""
    u = uniforms(seed, "spectrum_color_wmm", "colours", indices=indices, count=2 + 4 * MOST_COLOURS)
    num_colours = FEWEST_COLOURS + np.floor(u[:, :1] * (MOST_COLOURS - FEWEST_COLOURS + 1))
    blur = np.ceil(LARGEST_BLUR * u[:, 1]).astype(np.int64)
    shares = (0.001 + u[:, 2 : 2 + MOST_COLOURS]) * (np.arange(MOST_COLOURS) < num_colours)
    ends = np.cumsum(shares, axis=1) / shares.sum(axis=1, keepdims=True)
    pixel = uniforms(seed, "spectrum_color_wmm", "proportions", indices=indices, count=side**2)
    colours = 256 * u[:, 2 + MOST_COLOURS :].reshape(-1, MOST_COLOURS, 3)
    index = np.zeros(pixel.shape, dtype=np.int64)
    for end in ends.T[:-1]:
        index += pixel >= end[:, None]
    index = np.sort(index, axis=1)  # pixels of one colour are neighbours
    images = colours[np.arange(len(index))[:, None], index].reshape(-1, side, side, 3)
    for size in np.unique(blur):
        images[blur == size] = uniform_filter(images[blur == size], (0, size, size, 0), mode="reflect")
    noise = uniforms(seed, "spectrum_color_wmm", "dither", indices=indices, count=3 * side**2)
    images = np.moveaxis(images, 3, 1) + 10 * noise.reshape(-1, 3, side, side)
    images -= images.min(axis=(1, 2, 3), keepdims=True)
    stretched: Floats = 256 * images / images.max(axis=(1, 2, 3), keepdims=True)
    return stretched


def _histogram_values(samples: Floats) -> Floats32:
    """Ascending values, as many, of the histogram of each row with NUM_BINS bins, (R, K); samples (R, K)."""
    low, high = samples.min(axis=1, keepdims=True), samples.max(axis=1, keepdims=True)
    width = (high - low) / NUM_BINS
    bins = np.minimum(((samples - low) / np.maximum(width, 1e-12)).astype(np.int64), NUM_BINS - 1)
    bins += np.arange(len(samples))[:, None] * NUM_BINS
    counts = np.bincount(bins.ravel(), minlength=len(samples) * NUM_BINS).reshape(len(samples), NUM_BINS)
    centres = low + width * (np.arange(NUM_BINS) + 0.5)
    return quantiles(np.cumsum(counts, axis=1) / samples.shape[1], centres, samples.shape[1])


def spectrum_model(seed: int, indices: Ints, side: int) -> Floats32:
    """The magnitudes of the spectra, (N, side, side // 2 + 1): 1 / (|fx|**(s + d) + |fy|**(s - d)), 0 for the mean."""
    u = uniforms(seed, "spectrum_color_wmm", "spectrum", indices=indices, count=2)
    slope = (SLOPES[0] + (SLOPES[1] - SLOPES[0]) * u[:, 0])[:, None, None]
    difference = (SLOPE_SPREAD * ndtri(u[:, 1]))[:, None, None]
    x, y = np.abs(scipy.fft.rfftfreq(side)), np.abs(scipy.fft.fftfreq(side))[:, None]
    inverse = x ** (slope + difference) + y ** (slope - difference)
    inverse[:, 0, 0] = np.inf
    magnitude: Floats32 = (1 / inverse).astype(np.float32)
    return magnitude


def wavelet_model(seed: int, indices: Ints, pyramid: SteerablePyramid) -> list[Floats32]:
    """The wanted coefficients of each band, (N, 3, K) ascending: densities exp(-|x / 4**scale|**r), r from .4 to .8."""
    u = uniforms(seed, "spectrum_color_wmm", "wavelets", indices=indices, count=3 * len(pyramid.sizes))
    exponents = 0.4 + 0.4 * u.reshape(len(indices) * 3, -1, 1)
    bands = []
    for number, size in enumerate(pyramid.sizes):
        density = np.exp(-(np.abs(COEFFICIENTS / 4.0 ** (pyramid.sizes[0] // size)) ** exponents[:, number]))
        share = density / density.sum(axis=1, keepdims=True)
        values = quantiles(np.cumsum(share, axis=1), np.broadcast_to(COEFFICIENTS, share.shape), size**2)
        std = np.sqrt((share * COEFFICIENTS**2).sum(axis=1, keepdims=True))  # the density's mean is 0
        values -= values.mean(axis=1, keepdims=True)
        values *= std / values.std(axis=1, keepdims=True)
        bands.append(values.reshape(len(indices), 3, -1))
    return bands


def with_spectrum(pictures: Floats32, magnitude: Floats32) -> Spectra:
    """The spectra of the pictures (N, 3, S, S), with other magnitudes, (N, S, S // 2 + 1), and the same phases.

    Their means and standard deviations are kept.
    """
    spectra: Spectra = scipy.fft.rfft2(pictures, norm="ortho")
    mean = spectra[..., 0, 0].copy()
    size = np.abs(spectra)
    size[size == 0] = 1  # no phase: the spectrum stays 0 there
    power = np.full(magnitude.shape[2], 2.0)  # all columns but two stand for two frequencies
    power[[0, -1]] = 1
    wanted = np.sqrt((magnitude.astype(np.float64) ** 2 * power).sum(axis=(1, 2)) / pictures[0, 0].size)
    factor = (pictures.std(axis=(2, 3)) / wanted[:, None]).astype(np.float32)
    spectra *= magnitude[:, None] * factor[:, :, None, None] / size
    spectra[..., 0, 0] = mean
    return spectra


def with_wavelets(spectra: Spectra, bands: list[Floats32], pyramid: SteerablePyramid) -> Floats32:
    """Pictures (N, 3, S, S) of the spectra, whose wavelet coefficients are replaced by those of `bands`, by rank.

    The low-pass residual is kept.
    """
    result = spectra * pyramid.low_pass**2
    for number, values in enumerate(bands):
        band = pyramid.band(spectra, number)
        matched = with_values(band.reshape(values.shape), values)
        pyramid.add_band(result, matched.reshape(band.shape), number)
    side = spectra.shape[-2]
    pictures: Floats32 = scipy.fft.irfft2(result, s=(side, side), norm="ortho")
    return pictures


def _stretched(pictures: Floats32) -> Images:
    """The pictures (N, 3, S, S), each stretched to [0, 255], (N, S, S, 3) uint8."""
    low, high = pictures.min(axis=(1, 2, 3), keepdims=True), pictures.max(axis=(1, 2, 3), keepdims=True)
    images: Images = np.rint(255 * (pictures - low) / (high - low)).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images)


LEVELS = 2**16


def with_values(source: Floats32, values: Floats32) -> Floats32:
    """`values` in the order of `source`, (..., K), so that the results have exactly the wanted distribution.

    Numbers that differ by less than 1/65535 of the range of their row count as equal; of equal ones the first is
    the smallest. That makes a radix sort possible, three times as fast as an exact one.

    Args:
        source: (..., K), finite; not changed.
        values: (..., K), ascending.
    """
    low, high = source.min(axis=-1, keepdims=True), source.max(axis=-1, keepdims=True)
    extent = np.where(high > low, high - low, 1)
    levels = ((source - low) * ((LEVELS - 1) / extent)).astype(np.uint16)
    result = np.empty_like(source)
    np.put_along_axis(result, np.argsort(levels, axis=-1, kind="stable"), values, axis=-1)
    return result


def quantiles(cumulative: NDArray[np.float64], points: NDArray[np.float64], count: int) -> Floats32:
    """The values at `count` evenly spaced ranks of distributions, (R, count) ascending, the last at rank 1.

    Args:
        cumulative: (R, B), ascending to 1, at `points`; linear between them.
        points: (R, B), ascending.
        count: how many.
    """
    ranks = np.arange(1, count + 1) / count
    # A row after the other: one interpolation of rows that are moved apart would round each by its place.
    return np.array([np.interp(ranks, *row) for row in zip(cumulative, points, strict=True)], dtype=np.float32)
