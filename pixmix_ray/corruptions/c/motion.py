"""Motion blur: a Gaussian tail in one direction, as ImageMagick draws it.

Source: hendrycks/robustness@8190fe3, motion_blur, which calls ImageMagick's MagickMotionBlurImage on an 8-bit picture.
No ImageMagick is needed here; for a given angle the same bytes come out. Its traps: the kernel is one-sided, offsets
are whole pixels, and the result is rounded to 16 bit but truncated to 8.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms


def motion_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures shaken along a line: `constants` are radius and sigma in pixels; the angle is within 45 degrees of 0."""
    radius, sigma = constants
    return blurred_along(images, radius, sigma, -45 + 90 * draws(1)[:, 0])


def blurred_along(images: Images, radius: float, sigma: float, angles: NDArray[np.float64]) -> Images:
    """Pictures (N, H, W, C) uint8, each shaken at its own angle; the edge pixels go on beyond the edge.

    Args:
        images: (N, H, W, C) uint8 with any number of channels; not changed.
        radius: the kernel has 2 ceil(radius) + 1 taps.
        sigma: of the half Gaussian that weighs them, in pixels.
        angles: (N,) in degrees; at 0 each pixel gathers from those to its right, at 90 from those below.
    """
    taps = range(2 * math.ceil(radius) + 1)
    weights = np.array([math.exp(-(tap**2) / (2 * sigma**2)) for tap in taps])
    weights /= weights.sum()
    rows, columns = offsets(len(weights), angles)
    count, height, width, channels = images.shape
    reach = int(np.abs(columns).max(initial=0))
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (0, 0)), mode="edge").reshape(count, height, -1)
    windows = sliding_window_view(padded, width * channels, axis=2)[:, :, ::channels]  # (N, H, places, W C)
    pictures = np.arange(count)[:, None]
    total = np.zeros((count, height, width * channels))
    for tap, weight in enumerate(weights):
        lines = np.clip(np.arange(height) + rows[:, tap, None], 0, height - 1)
        total += windows[pictures, lines, reach + columns[:, tap, None]] * weight
    total *= 257  # ImageMagick's 16 bits: rounded there, then truncated to 8
    total += 0.5
    return (np.floor(total, out=total) / 257).astype(np.uint8).reshape(images.shape)


def offsets(taps: int, angles: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many rows and columns away each tap looks, for angles (N,) in degrees: two arrays (N, taps), int."""
    radians = np.radians(angles)
    across, along = taps * np.sin(radians), taps * np.cos(radians)
    length = np.hypot(across, along)
    steps = np.arange(taps)
    rows = np.ceil(steps * across[:, None] / length[:, None] - 0.5).astype(np.intp)
    columns = np.ceil(steps * along[:, None] / length[:, None] - 0.5).astype(np.intp)
    return rows, columns
