"""Warps of C-bar: whirls, ripples, the bottom of a pool seen through its waves, and what a lens or its motion blurs.

Source: facebookresearch/augmentation-corruption@ba4d5a5, PinchAndTwirl, Ripple and CausticRefraction (see
`sampling.py`); the first two follow filters of JH Labs. Given the draws, the result is the reference's. It takes
single precision for the first and the third, double for the second, and so do we: where a blend should be a whole grey
level, the last digit says whether it is.

Motion turns in circles, and colours come in different sizes: CircularMotionBlur and TransverseChromaticAbberation,
through SciPy's ndimage.rotate and zoom with cubic splines. Given the draws, both results are the reference's.
"""

import math
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.ndimage import gaussian_filter

from pixmix_ray.corruptions.cbar.sampling import Floats, bilinear, truncated
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

WHIRLS = 3  # on either axis

REFRACTION = 4.0


def pinch_and_twirl(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with 3 x 3 whirls of side im // 3, each turning by s pi / 20 either way, s = `constants[0]`.

    What an integer division leaves of the picture at its right and lower edge stays as it is.
    """
    angle = constants[0] * (math.pi / 2) / 10
    angles = np.where(draws(WHIRLS**2) < 0.5, angle, -angle).reshape(-1, WHIRLS, WHIRLS)
    return twirled(images, angles, constants[0] * 0.4 / 10 + 0.1)


def ripple(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures whose rows and whose columns are moved by a sine of amplitude 0.0025 s im, s = `constants[0]`."""
    size = min(images.shape[1:3])
    numbers = draws(4)
    wavelengths = (0.1 + 0.2 * numbers[:, :2]) * size
    return rippled(images, constants[0] * 0.025 / 10 * size, wavelengths, math.tau * numbers[:, 2:])


def caustic_refraction(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures seen and lit through waves: the lens moves pixels by 0.05 s im at most, s = `constants[0]`."""
    size = min(images.shape[1:3])
    numbers = draws(2)
    time, scale = 0.5 + 1.5 * numbers[:, 0], (0.75 + 0.5 * numbers[:, 1]) * size
    return refracted(images, caustics(images.shape, time, scale), constants[0] * (0.5 * size) / 10, constants[0] / 5)


def twirled(images: Images, angles: Floats, amount: float) -> Images:
    """Pictures with K x K whirls from the upper left corner on.

    The reference writes each whirl into the picture that the next one reads; none reads what was written.

    Args:
        images: (N, H, W, 3) uint8.
        angles: (N, K, K) by which the middle of a whirl turns, in radians; the first axis goes from left to right.
        amount: how much the middle is pinched (0: not at all).
    """
    count = angles.shape[1]
    cell = min(images.shape[1:3]) // count
    if cell == 0:
        return images.copy()
    middle = np.arange(cell) - cell / 2
    rows, columns = np.broadcast_arrays(middle[:, None], middle)
    distance = np.sqrt(rows**2 + columns**2)
    share = distance / (cell / 2)
    is_moved = (share <= 1) & (distance > 0)
    pinch = np.where(is_moved, np.sin(math.pi * 0.5 * np.where(is_moved, share, 1)) ** -amount, 1)
    turn = np.where(is_moved, (1 - share) ** 2, 0) * angles.swapaxes(1, 2)[..., None, None]
    cos, sin = np.cos(turn), np.sin(turn)
    starts = np.arange(count) * cell + cell / 2
    down = starts[:, None, None, None] + (rows * pinch * cos - columns * pinch * sin)
    across = starts[:, None, None] + (rows * pinch * sin + columns * pinch * cos)
    side = count * cell
    places = [np.swapaxes(place, 2, 3).reshape(-1, side, side) for place in (down, across)]
    warped = images.copy()
    warped[:, :side, :side] = truncated(bilinear(images.astype(np.float32), *places))
    return warped


def rippled(images: Images, amplitude: float, wavelengths: Floats, phases: Floats) -> Images:
    """Pictures whose pixels come from p + amplitude sin(2 pi p / wavelength + phase), on each axis by itself.

    Args:
        images: (N, H, W, 3) uint8.
        amplitude: in pixels.
        wavelengths: (N, 2), of the rows and of the columns, in pixels.
        phases: (N, 2), in radians.
    """
    rows, columns = (
        along + amplitude * np.sin(math.tau * along / wavelengths[:, [axis]] + phases[:, [axis]])
        for axis, along in enumerate(np.arange(size) for size in images.shape[1:3])
    )
    return truncated(bilinear(images.astype(np.float64), rows[:, :, None], columns[:, None]))


def caustics(shape: tuple[int, ...], time: Floats, scale: Floats) -> Floats:
    """The light at the bottom of a pool, (N, H, W) in [0, 1], smoothed with a sigma of one pixel.

    Args:
        shape: of the pictures, (N, H, W, 3).
        time: (N,), at which the moving pattern is seen.
        scale: (N,), the size of the pattern in pixels, after which it repeats.
    """
    times, scales = time[:, None, None], scale[:, None, None]
    rows, columns = (
        along / scales % 1 * 6.28318530718 - 250 for along in (np.arange(shape[1])[:, None], np.arange(shape[2]))
    )
    down, across = np.broadcast_arrays(rows, columns)
    light = np.ones(down.shape)
    for step in range(1, 6):
        t = times * (1.0 - 3.5 / step)
        down, across = (
            rows + (np.cos(t - down) + np.sin(t + across)),
            columns + (np.sin(t - across) + np.cos(t + down)),
        )
        light += 1 / np.sqrt((rows / (np.sin(down + t) / 0.005)) ** 2 + (columns / (np.cos(across + t) / 0.005)) ** 2)
    bright = np.clip(np.abs(1.17 - (light / 5) ** 1.4) ** 8, 0, 1)
    smooth: Floats = gaussian_filter(bright, sigma=(0, 1, 1))
    return smooth


def refracted(images: Images, light: Floats, lens: float, lighting: float) -> Images:
    """Pictures seen through waves whose height is `light`, and lit by their slope.

    A ray from above is bent at a surface of normal n = (nx, ny, nz), h = sqrt(nx² + ny²), to (nx, ny) times
    sqrt(1 - h²/16) - nz/4: 4 is the index of refraction, and the sign is the reference's. Where the surface is level
    within 1/1000, the ray goes straight on.

    Args:
        images: (N, H, W, 3) uint8.
        light: (N, H, W).
        lens: by how many pixels a unit of bending moves what is seen.
        lighting: what a unit of slope adds to all channels, where white is 1.
    """
    framed = np.pad(_luma(light), ((0, 0), (1, 1), (1, 1)))
    upper, lower = framed[:, :-2, 1:-1], framed[:, 2:, 1:-1]
    left, right = framed[:, 1:-1, :-2], framed[:, 1:-1, 2:]
    steep, oblique = lower - upper, right - left
    upright = 1 / np.sqrt(steep**2 + oblique**2 + 1)
    bend = np.sqrt(1 - (1 - upright**2) / REFRACTION**2) - upright / REFRACTION
    bend = np.where(upright >= 1 - 1e-3, 0, bend * upright * lens)
    rows = np.arange(images.shape[1])[:, None] + np.round(steep * bend, 3)
    columns = np.arange(images.shape[2]) + np.round(oblique * bend, 3)
    seen = bilinear(images.astype(np.float32) / 255, rows, columns)
    seen += ((left - right) * lighting).astype(np.float32)[..., None]
    seen += (steep * lighting).astype(np.float32)[..., None]
    return floor8(seen)


def _luma(light: Floats) -> Floats:
    """What the eye makes of grey light; the weights' sum is not quite 1 in floating point."""
    return light * 0.2126 + light * 0.7152 + light * 0.0722


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
