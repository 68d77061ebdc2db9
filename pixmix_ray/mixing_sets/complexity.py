"""How complex pictures are: what compression leaves, the slope of the spectrum, fractal dimension and entropy.

PixMix (Hendrycks et al., CVPR 2022), sections 1 and 2 and Appendix B.2, explains the choice of mixing pictures by their
structural complexity, which it tells from entropy and from how long a description is, and for which it has no number.
Nor are these one: they are numbers to compare mixing sets with, and noise has most of what three of them count. Each
takes (N, H, W, 3) uint8, with H and W at least 16, and returns (N,) float64; pictures of different sizes cannot be
compared.
"""

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import RequestError

Images = NDArray[np.uint8]
Numbers = NDArray[np.float64]

SMALLEST_SIDE = 16


def compressed_ratio(images: Images) -> Numbers:
    """The size after compression over the size before; near 0 for a flat picture, about 1 for noise.

    Definition: bytes of the pixels, each less its left neighbour modulo 256, row by row, after zlib at level 9, over
    3 H W. Source: the size after compression bounds the Kolmogorov complexity from above (Li and Vitanyi, 1997); as a
    measure of pictures Forsythe et al., "Predicting beauty" (British Journal of Psychology 102, 2011). The difference
    is PNG's filter "Sub", without which a smooth gradient would count as complex. It depends on the version of zlib a
    little, and may exceed 1 by its header.

    By hand: a grey picture is a run of zeros after its first pixel of each row, which costs some bytes in all.

    >>> bool(compressed_ratio(np.full((1, 64, 64, 3), 90, np.uint8))[0] < 0.01)
    True
    """
    _check(images)
    differences = images.copy()
    differences[:, :, 1:] -= images[:, :, :-1]
    sizes = [len(zlib.compress(picture.tobytes(), 9)) for picture in differences]  # one stream a picture, by nature
    return np.array(sizes, dtype=np.float64) / float(images[0].size)


def spectral_slope(images: Images) -> Numbers:
    """The exponent alpha of the amplitude spectrum 1 / f**alpha; 0 for white noise, about 1 for photographs.

    Definition: the brightness less its mean, under a Hann window, is transformed; log mean power of rings one frequency
    wide is fitted by a line over log frequency, from 2 to half the shorter side cycles a picture; alpha is minus half
    the slope. A flat picture has no spectrum: 0. Source: Field, "Relations between the statistics of natural images"
    (JOSA A 4(12), 1987); as a property of mixing pictures Baradad et al. (NeurIPS 2021).

    By hand: the power of white noise is the same at every frequency, so the line is level.

    >>> noise = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    >>> bool(abs(spectral_slope(noise).mean()) < 0.05)
    True
    """
    _check(images)
    light = _brightness(images)
    height, width = light.shape[1:]
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
    spectra = np.abs(np.fft.rfft2((light - light.mean(axis=(1, 2), keepdims=True)) * window)) ** 2
    size = min(height, width)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) * size
    ring = np.rint(frequency).astype(np.int64)
    rings = np.arange(2, size // 2 + 1)
    power = np.stack([spectra[:, ring == number].mean(axis=1) for number in rings], axis=1)
    slopes = _slopes(np.log(rings), np.log(np.maximum(power, 1e-12)))
    return np.asarray(np.where(light.std(axis=(1, 2)) > 0, -slopes / 2, 0.0) + 0.0)  # not -0


def box_dimension(images: Images) -> Numbers:
    """The box-counting dimension of the border between light and dark, in [0, 2]; 1 for a line, 2 for noise.

    Definition: a pixel is on the border if it is brighter than the picture's median and its right or lower neighbour is
    not, or the other way round. N(s) is the number of boxes of s x s pixels with such a pixel, s = 1, 2, 4, ... up to
    an eighth of the shorter side; the dimension is minus the slope of log N(s) over log s. A flat picture has no
    border: 0. Rows and columns beyond the last whole largest box are left out. Source: Mandelbrot, The Fractal Geometry
    of Nature (1982); as a measure of pictures Forsythe et al. (2011).

    By hand: a picture half dark, half light has a column as its border, 64 / s boxes of side s, so 1.

    >>> halves = np.zeros((1, 64, 64, 3), np.uint8)
    >>> halves[:, :, 20:] = 255
    >>> float(box_dimension(halves)[0])
    1.0
    """
    _check(images)
    light = _brightness(images)
    is_light = light > np.median(light, axis=(1, 2), keepdims=True)
    spread = light.min(axis=(1, 2)) < light.max(axis=(1, 2))
    # where more than half of the pixels are the brightest, none is above the median
    is_light |= (light == light.max(axis=(1, 2), keepdims=True)) & spread[:, None, None]
    is_border = np.zeros_like(is_light)
    is_border[:, :, :-1] |= is_light[:, :, :-1] != is_light[:, :, 1:]
    is_border[:, :-1] |= is_light[:, :-1] != is_light[:, 1:]
    sizes = 2 ** np.arange(int(np.log2(min(light.shape[1:]) // 8)) + 1)
    largest = int(sizes[-1])
    kept = is_border[:, : light.shape[1] // largest * largest, : light.shape[2] // largest * largest]
    counts = np.stack([_boxes(kept, int(size)) for size in sizes], axis=1)
    slopes = _slopes(np.log(sizes), np.log(np.maximum(counts, 1)))
    return np.asarray(np.where(counts[:, 0] > 0, -slopes, 0.0) + 0.0)


def brightness_entropy(images: Images) -> Numbers:
    """The entropy of the brightness in bits, in [0, 8]; 0 for a flat picture.

    Definition: brightness is the mean of the channels, rounded down; with p_i the share of pixels of brightness i, the
    entropy is -sum p_i log2 p_i. Source: Shannon (1948). Where the pixels lie does not matter.

    By hand: a picture half black and half white has two values of probability 1/2, so 1 bit.

    >>> halves = np.zeros((1, 16, 16, 3), np.uint8)
    >>> halves[:, :8] = 255
    >>> float(brightness_entropy(halves)[0])
    1.0
    """
    _check(images)
    level = images.sum(axis=-1, dtype=np.int64) // 3
    cells = level.reshape(len(images), -1) + 256 * np.arange(len(images))[:, None]
    shares = np.bincount(cells.ravel(), minlength=256 * len(images)).reshape(-1, 256) / level[0].size
    bits = np.where(shares > 0, shares * np.log2(np.maximum(shares, 1e-300)), 0)
    return np.asarray(-bits.sum(axis=1) + 0.0)


MEASURES: Mapping[str, Callable[[Images], Numbers]] = MappingProxyType(
    {
        "compressed_ratio": compressed_ratio,
        "spectral_slope": spectral_slope,
        "box_dimension": box_dimension,
        "brightness_entropy": brightness_entropy,
    }
)
"""All measures by name."""


def _check(images: Images) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < SMALLEST_SIDE:
        held = f"{images.dtype} {images.shape}"
        raise RequestError(f"pictures must be uint8 (N, H, W, 3) with sides of at least {SMALLEST_SIDE}, got {held}")


def _brightness(images: Images) -> Numbers:
    return np.asarray(images.mean(axis=-1))


def _boxes(flags: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """In how many boxes of `size` x `size` of each picture a flag is set."""
    count, height, width = flags.shape
    boxes = flags.reshape(count, height // size, size, width // size, size).any(axis=(2, 4))
    return np.asarray(boxes.sum(axis=(1, 2)))


def _slopes(x: Numbers, y: Numbers) -> Numbers:
    """The slopes of the least-squares lines through (x, y[i]) for each row of `y`."""
    centred = x - x.mean()
    return np.asarray((y - y.mean(axis=1, keepdims=True)) @ centred / (centred @ centred))
