"""Blur of C-bar through a lens or its motion: circular motion blur, and colours of different sizes.

Source: facebookresearch/augmentation-corruption@ba4d5a5, CircularMotionBlur and TransverseChromaticAbberation, through
SciPy's ndimage.rotate and zoom with cubic splines (see `sampling.py`). Given the draws, both results are the
reference's.
"""

import math
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from pixmix_ray.corruptions.cbar.sampling import Floats, truncated
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

TURNS = 21

MOST_PIXELS = 2**12  # of a picture whose turning is kept as a sparse matrix, of 200 bytes a pixel and angle

_ORDERS = np.array(list(permutations(range(3))))


def circular_motion_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures turned about their middle while they were taken, by up to 1.5 `constants[0]` degrees either way.

    They are black where what was outside came into view. Each of the 21 turned pictures is rounded to single precision,
    and they are added in it: the last digit says whether a sum that should be a whole grey level is one.
    """
    times = [2 * turn / (TURNS - 1) - 1 for turn in range(TURNS)]
    weights = [np.float32(math.exp(-2 * time**2)) for time in times]
    along_rows = ndimage.spline_filter1d(images.astype(np.float32) / 255, order=3, axis=1, mode="mirror")
    along_both = ndimage.spline_filter1d(along_rows, order=3, axis=2, mode="mirror")
    splines: Floats = np.ascontiguousarray(along_both.transpose(1, 2, 0, 3), np.float64)
    total = np.zeros(splines.shape, np.float32)
    for time, weight in zip(times, weights, strict=True):
        total += weight * _turned(splines, time * (constants[0] * 15 / 10)).astype(np.float32)
    total /= np.float32(sum(math.exp(-2 * time**2) for time in times))
    total *= 255
    return np.ascontiguousarray(truncated(total).transpose(2, 0, 1, 3))


def transverse_chromatic_abberation(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures whose colours are 1, 1 + s/40 and 1 + s/20 times as large, in any order, s = `constants[0]`."""
    scale = constants[0] * 0.5 / 10
    sizes = np.array((1.0, 1.0 + scale / 2, 1.0 + scale))
    return enlarged(images, sizes[_ORDERS[(6 * draws(1)[:, 0]).astype(np.intp)]])


def enlarged(images: Images, scales: Floats) -> Images:
    """Pictures whose channels are enlarged from the middle, rounded to bytes.

    The cubic spline goes without the filter that would let it pass through the pixels: at scale 1 there is still a blur
    of [1, 4, 1]/6. Sums are taken in SciPy's order, as one in 36 falls between two bytes.

    Args:
        images: (N, H, W, 3) uint8.
        scales: (N, 3), 1 or more.
    """
    enlarged_images = np.empty_like(images)
    planes = images.transpose(0, 3, 1, 2)
    for scale in np.unique(scales):
        chosen = scales == scale
        enlarged_images.transpose(0, 3, 1, 2)[chosen] = _enlarged_planes(planes[chosen], float(scale))
    return enlarged_images


def _enlarged_planes(planes: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """The middle of planes enlarged by `scale`, (P, H, W)."""
    rows, row_weights = _window(planes.shape[1], scale)
    columns, column_weights = _window(planes.shape[2], scale)
    total = np.zeros(planes.shape)
    for row, row_weight in zip(rows, row_weights, strict=True):
        lines = planes.take(row, axis=1) * row_weight[:, None]
        for column, column_weight in zip(columns, column_weights, strict=True):
            total += lines.take(column, axis=2) * column_weight
    return (total + 0.5).astype(np.uint8)


@lru_cache(maxsize=64)
def _window(size: int, scale: float) -> tuple[NDArray[np.intp], Floats]:
    """Which pixels a window of `size` in the middle of an enlarged line sees, and their weights, each (4, size)."""
    enlarged_size = round(size * scale)
    step = (size - 1) / (enlarged_size - 1) if enlarged_size > 1 else 1.0
    positions = np.arange(size, dtype=np.float64) + (enlarged_size - size) // 2
    positions *= step
    taps, weights = _taps(positions, size)
    taps.setflags(write=False)  # they are shared by all callers
    weights.setflags(write=False)
    return taps, weights


def _taps(positions: Floats, size: int) -> tuple[NDArray[np.intp], Floats]:
    """The four pixels of a line of `size` around each position, and the cubic B-spline's weights, each (4, ...).

    Beyond the ends, the line is mirrored without repeating its last pixel.
    """
    before = np.floor(positions)
    y = positions - before
    z = 1 - y
    weights = np.empty((4, *positions.shape))
    weights[0] = z * z * z / 6
    weights[1] = (y * y * (y - 2) * 3 + 4) / 6
    weights[2] = (z * z * (z - 2) * 3 + 4) / 6
    weights[3] = 1.0 - weights[0] - weights[1] - weights[2]
    period = max(1, 2 * size - 2)
    around = np.stack([before + tap for tap in (-1, 0, 1, 2)]).astype(np.intp) % period
    return np.minimum(around, period - around) if size > 1 else around, weights


def _turned(splines: Floats, degrees: float) -> Floats:
    """Pictures given by their spline coefficients, (H, W, N, 3), turned; the same shape."""
    height, width = splines.shape[:2]
    if height * width > MOST_PIXELS:
        far: Floats = ndimage.rotate(splines, degrees, reshape=False, prefilter=False)
        return far
    near: Floats = (_turning(height, width, degrees) @ splines.reshape(height * width, -1)).reshape(splines.shape)
    return near


@lru_cache(maxsize=5 * TURNS)
def _turning(height: int, width: int, degrees: float) -> sparse.csr_array:
    """The turning of spline coefficients about the middle as a matrix, (H W, H W): ndimage.rotate, only faster.

    What is seen from outside is 0.
    """
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    middle = (height - 1) / 2, (width - 1) / 2
    row, column = np.mgrid[:height, :width].reshape(2, -1)
    rows = middle[0] - (cos * middle[0] + sin * middle[1]) + cos * row + sin * column
    columns = middle[1] - (-sin * middle[0] + cos * middle[1]) - sin * row + cos * column
    is_inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    row_taps, row_weights = _taps(rows, height)
    column_taps, column_weights = _taps(columns, width)
    sources = row_taps[:, None] * width + column_taps
    weights = row_weights[:, None] * column_weights * is_inside
    targets = np.broadcast_to(np.arange(height * width), sources.shape)
    matrix = sparse.csr_array((weights.ravel(), (targets.ravel(), sources.ravel())), shape=(height * width,) * 2)
    matrix.eliminate_zeros()
    return matrix
