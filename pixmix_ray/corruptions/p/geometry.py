"""Perturbations that move the picture: translate, rotate, scale, shear and tilt; zoom blur resamples as they do.

Source: hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py. The first four call `affine` of
torchvision 0.2.1, whose centre is half a pixel to the right of and below the one that later versions take; it ends in
Pillow's Image.transform(AFFINE). Tilt is OpenCV's warpPerspective in its fixed-point form: source positions are rounded
to 1/32 of a pixel and blends to whole levels. All give the same bytes as these (seen beside Pillow 9.5, OpenCV 4.8).

A frame moves all pictures alike. So pictures are turned inside out first, one row of numbers for each pixel, and a
frame is made of whole rows. A sparse product adds the terms of a row in their order, and rounds each, as Pillow does.

Perturbations by blur: motion blur that turns, zoom blur that grows, Gaussian blur that grows.

Source: hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py. Zoom blur here is no sum over SciPy's
enlargements as in the corruption: it is the running mean of Pillow's, in float32. Same bytes as there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pixmix_ray.corruptions.c.blur import blurred_along, smoothed
from pixmix_ray.corruptions.corruption import Images, floor8

Frames = NDArray[np.uint8]
"""Sequences of pictures, (N, T, H, W, 3) uint8."""

Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): pixel centre (x, y) of the result shows the source at (a x + b y + c, d x + e y + f)."""

Size = tuple[int, int]
"""Height and width of the centre that is kept."""

BLOCK_PIXELS = 512  # pixels of a frame worked on at once, which then stay in the processor's cache

SUBPIXELS = 32  # the grid to which OpenCV rounds source positions


@dataclass(frozen=True, kw_only=True)
class Taps:
    """Where P pixels of a frame come from.

    Attributes:
        pixels: (P,) their positions in the frame, row by row.
        lines: (2 P, 2 H W) float64; times the values of all source pixels, and then the steps from each to the next, it
            gives what lies between the two upper of the four neighbours of each source position, then the two lower.
        down: (P, 1) how far the source position lies below the upper ones, in [0, 1).
    """

    pixels: NDArray[np.intp]
    lines: sparse.csr_array
    down: NDArray[np.float64]


def centre(height: int, width: int, size: Size) -> tuple[slice, slice]:
    """The rows and columns of the centre of this size, as torchvision's CenterCrop takes it."""
    top, left = round((height - size[0]) / 2.0), round((width - size[1]) / 2.0)
    return slice(top, top + size[0]), slice(left, left + size[1])


def inverse_affine(height: int, width: int, *, degrees: float = 0, scale: float = 1, shear: float = 0) -> Matrix:
    """Where a picture turned clockwise, enlarged and sheared about its centre comes from, as torchvision 0.2.1 has it.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        degrees: of the turn.
        scale: of the enlargement, above 0.
        shear: in degrees; the lower half moves to the left, and heights shrink by its cosine.
    """
    angle, slant = math.radians(degrees), math.radians(shear)
    cosine, sine = math.cos(angle), math.sin(angle)
    slanted_cosine, slanted_sine = math.cos(angle + slant), math.sin(angle + slant)
    factor = 1.0 / scale / (slanted_cosine * cosine + slanted_sine * sine)
    a, b, d, e = (factor * entry for entry in (slanted_cosine, slanted_sine, -sine, cosine))
    x, y = width * 0.5 + 0.5, height * 0.5 + 0.5  # the half pixel is the trap
    return a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y


def resampled(images: Images, size: Size, *, matrices: Sequence[Matrix]) -> Frames:
    """Frames whose pixels come from where each matrix says, bilinear, black outside; their centre of this size.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        size: of the centre that is kept.
        matrices: T of them.

    Returns:
        (N, T, *size, 3) uint8, bit for bit what Pillow's Image.transform gives.
    """
    frames = np.zeros((len(images), len(matrices), *size, 3), np.uint8)
    sources = _values_and_steps(images)
    for number, matrix in enumerate(matrices):
        frame = np.zeros((math.prod(size), sources.shape[1]), np.uint8)
        for taps in affine_taps(matrix, images.shape[1:3], size):
            frame[taps.pixels] = _blended(sources, taps)
        frames[:, number].reshape(len(images), -1)[...] = frame.reshape(-1, len(images)).T
    return frames


@lru_cache(maxsize=32)  # one sequence
def affine_taps(matrix: Matrix, shape: Size, size: Size) -> tuple[Taps, ...]:
    """Where a frame made by `matrix` from pictures of this shape comes from, its centre of this size, in blocks."""
    a, b, c, d, e, f = matrix
    height, width = shape
    rows, columns = centre(height, width, size)
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5
    x = np.arange(columns.start, columns.stop) + 0.5
    across, along = (a * x + b * y + c).ravel(), (d * x + e * y + f).ravel()
    is_inside = (across >= 0) & (across < width) & (along >= 0) & (along < height)
    pixels = np.flatnonzero(is_inside)
    # at the edge Pillow repeats the pixel: here its neighbour gets no weight
    across, along = np.clip(across[pixels] - 0.5, 0, width - 1), np.clip(along[pixels] - 0.5, 0, height - 1)
    left, top = np.floor(across).astype(np.intp), np.floor(along).astype(np.intp)
    blocks = [slice(start, start + BLOCK_PIXELS) for start in range(0, len(pixels), BLOCK_PIXELS)]
    return tuple(
        Taps(
            pixels=pixels[block],
            lines=_lines(top[block], left[block], (across - left)[block], shape),
            down=(along - top)[block, None],
        )
        for block in blocks
    )


def _lines(top: NDArray[np.intp], left: NDArray[np.intp], right: NDArray[np.float64], shape: Size) -> sparse.csr_array:
    """`Taps.lines` for source positions whose upper left neighbours are `top` and `left`: value + right * step."""
    height, width = shape
    values = np.concatenate((top, np.minimum(top + 1, height - 1))) * width + np.tile(left, 2)
    places = np.stack((values, values + height * width), axis=1)
    weights = np.stack((np.ones(len(values)), np.tile(right, 2)), axis=1)
    ends = np.arange(0, 2 * len(values) + 1, 2)
    return sparse.csr_array((weights.ravel(), places.ravel(), ends), shape=(len(values), 2 * height * width))


def _values_and_steps(images: Images) -> NDArray[np.float64]:
    """The values of each pixel and then how much more the next pixel has, (2 H W, 3 N) float64."""
    count, height, width = images.shape[:3]
    both = np.zeros((2, height * width, 3 * count))
    both[0].reshape(-1, count)[...] = images.reshape(count, -1).T
    np.subtract(both[0, 1:], both[0, :-1], out=both[1, :-1])
    return both.reshape(2 * height * width, 3 * count)


def _blended(sources: NDArray[np.float64], taps: Taps) -> Images:
    """The pixels (P, 3 N) uint8: blended in Pillow's order, each product rounded before its sum, then truncated."""
    upper, lower = np.split(taps.lines @ sources, 2)
    lower -= upper
    lower *= taps.down
    upper += lower
    return upper.astype(np.uint8)


def shifted(images: Images, size: Size, *, offsets: Sequence[int]) -> Frames:
    """Frames moved to the right by each of T numbers of pixels, black where nothing was; (N, T, *size, 3) uint8."""
    count, height, width = images.shape[:3]
    rows, columns = centre(height, width, size)
    frames = np.zeros((count, len(offsets), *size, 3), np.uint8)
    for number, offset in enumerate(offsets):
        first, last = (min(max(column - offset, 0), width) for column in (columns.start, columns.stop))
        start = first + offset - columns.start
        frames[:, number, :, start : start + last - first] = images[:, rows, first:last]
    return frames


def homography(height: int, width: int, degrees: float) -> NDArray[np.float64]:
    """How a picture turned out of its plane about both of its axes is seen from one diagonal away, (3, 3) float64.

    The trap: the original lets it float one pixel behind the plane, so that no turn at all still shrinks it a little.
    """
    angle, distance = math.radians(degrees), math.sqrt(width**2 + height**2)
    cosine, sine = math.cos(angle), math.sin(angle)
    lift = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, distance], [0, 0, 0, 1]])
    seen = np.array([[distance, 0, width / 2, 0], [0, distance, height / 2, 0], [0, 0, 1, 0]])
    matrix: NDArray[np.float64] = seen @ away @ about_x @ about_y @ lift
    return matrix


def tilted(images: Images, size: Size, *, degrees: Sequence[float]) -> Frames:
    """Frames turned out of their plane by each of T angles, black outside; (N, T, *size, 3) uint8."""
    count, height, width = images.shape[:3]
    frames = np.empty((count, len(degrees), *size, 3), np.uint8)
    values = images.reshape(count, -1).T.astype(np.float32, order="C").reshape(height * width, 3 * count)
    for number, angle in enumerate(degrees):
        blended = _tilting(height, width, angle, size) @ values  # exact: thousandths of whole numbers
        blended += 0.5
        frames[:, number].reshape(count, -1)[...] = blended.astype(np.uint8).reshape(-1, count).T
    return frames


@lru_cache(maxsize=32)
def _tilting(height: int, width: int, degrees: float, size: Size) -> sparse.csr_array:
    """A tilt as a matrix, (h w, H W) float32, whose entries are multiples of 1/1024."""
    rows, columns = centre(height, width, size)
    y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)
    inverse = _inverse(homography(height, width, degrees))
    across, along, depth = ((line[0] * x + line[1] * y + line[2]).ravel() for line in inverse)
    share = SUBPIXELS / depth
    left, right = np.divmod(np.rint(across * share).astype(np.intp), SUBPIXELS)
    top, down = np.divmod(np.rint(along * share).astype(np.intp), SUBPIXELS)
    entries, targets, sources = [], [], []
    for below, beside in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = top + below, left + beside
        weights = np.where(below, down, SUBPIXELS - down) * np.where(beside, right, SUBPIXELS - right)
        kept = np.flatnonzero((row >= 0) & (row < height) & (column >= 0) & (column < width) & (weights > 0))
        entries.append(weights[kept].astype(np.float32) / SUBPIXELS**2)
        targets.append(kept)
        sources.append(row[kept] * width + column[kept])
    placed = (np.concatenate(entries), (np.concatenate(targets), np.concatenate(sources)))
    return sparse.csr_array(placed, shape=(len(across), height * width))


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a (3, 3) matrix by its cofactors, as OpenCV computes it."""
    first, second, third = matrix
    cofactors = np.stack([np.cross(second, third), np.cross(third, first), np.cross(first, second)], axis=1)
    inverse: NDArray[np.float64] = cofactors * (1.0 / (first @ cofactors[:, 0]))
    return inverse


WHITE = np.float32(255)


def motion_blurred(images: Images, *, radius: float, sigma: float, degrees: Sequence[float]) -> Frames:
    """Frames shaken at each of T angles, (N, T, H, W, 3) uint8; radius and sigma in pixels as in `blurred_along`."""
    count, num_frames = len(images), len(degrees)
    angles = np.tile(np.asarray(degrees, np.float64), count)
    blurred = blurred_along(np.repeat(images, num_frames, axis=0), radius, sigma, angles)
    return blurred.reshape(count, num_frames, *images.shape[1:])


def zoom_blurred(images: Images, size: Size, *, scales: Sequence[float]) -> Frames:
    """The centres of the pictures, and then the means of them and their first 1, 2, ... enlargements by `scales`.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        size: of the centre that is kept.
        scales: T of them.

    Returns:
        (N, 1 + T, *size, 3) uint8.
    """
    height, width = images.shape[1:3]
    rows, columns = centre(height, width, size)
    clean = images[:, rows, columns]
    matrices = [inverse_affine(height, width, scale=scale) for scale in scales]
    enlarged = resampled(images, size, matrices=matrices)
    total = clean.astype(np.float32) / WHITE
    frames = np.empty((len(images), 1 + len(scales), *size, 3), np.uint8)
    frames[:, 0] = clean
    for number in range(len(scales)):
        total += enlarged[:, number].astype(np.float32) / WHITE
        frames[:, number + 1] = (total / np.float32(number + 2) * WHITE).astype(np.uint8)
    return frames


def gaussian_blurred(images: Images, *, sigmas: Sequence[float], truncate: float) -> Frames:
    """Frames blurred by each of T sigmas (in pixels), the tails cut off at `truncate` sigmas: (N, T, H, W, 3) uint8."""
    pixels = images / 255.0
    return np.stack([floor8(smoothed(pixels, sigma, truncate=truncate)) for sigma in sigmas], axis=1)
