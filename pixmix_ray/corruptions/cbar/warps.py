"""Warps of C-bar: whirls, ripples, and the bottom of a pool seen through its waves.

Source: facebookresearch/augmentation-corruption@ba4d5a5, PinchAndTwirl, Ripple and CausticRefraction (see
`sampling.py`); the first two follow filters of JH Labs. Given the draws, the result is the reference's. It takes
single precision for the first and the third, double for the second, and so do we: where a blend should be a whole grey
level, the last digit says whether it is.
"""

import math

import numpy as np
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
