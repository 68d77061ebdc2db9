"""Perturbations by blur: motion blur that turns, zoom blur that grows, Gaussian blur that grows.

Source: hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py. Zoom blur here is no sum over SciPy's
enlargements as in the corruption: it is the running mean of Pillow's, in float32. Same bytes as there.
"""

from collections.abc import Sequence

import numpy as np

from pixmix_ray.corruptions.c.motion import blurred_along
from pixmix_ray.corruptions.c.smoothing import smoothed
from pixmix_ray.corruptions.corruption import Images, floor8
from pixmix_ray.corruptions.p.geometry import Frames, Size, centre, inverse_affine, resampled

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
