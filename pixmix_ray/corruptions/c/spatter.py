"""Spatter: drops of water or splashes of mud on the lens.

Source: hendrycks/robustness@8190fe3, spatter. A layer of normal numbers is smoothed and cut off below a threshold;
water shines at the rims of what is left (see `water.py`), mud covers it. For a given layer the bytes are the
original's. Where no water shines the picture stays as it is but for the truncation; in the original it would be
undefined (0/0).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pixmix_ray.corruptions.c.smoothing import gaussian_taps, smoothed, smoothed_along
from pixmix_ray.corruptions.c.water import depths
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

Floats = NDArray[np.float64]
Fractions = NDArray[np.float32]

WATER = (np.array([175, 238, 238]) / 255.0).astype(np.float32)  # pale turquoise
MUD = (np.array([63, 42, 20]) / 255.0).astype(np.float32)
THINNEST = 0.8  # mud that covers less is not there


def spatter(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Spattered pictures.

    `constants` are mean and standard deviation of the layer, the sigma that smooths it, its threshold, the strength of
    water or the sigma of the rims of mud, and 1 for mud or 0 for water.
    """
    mean, std, sigma, threshold, strength, is_mud = constants
    height, width = images.shape[1:3]
    layers = mean + std * ndtri(draws(height * width)).reshape(-1, height, width)
    layers = smoothed(layers, sigma)
    if is_mud:
        return with_mud(images, layers > threshold, strength)
    layers[layers < threshold] = 0
    return with_water(images, layers, strength)


def with_water(images: Images, layers: Floats, strength: float) -> Images:
    """Pictures (N, H, W, 3) uint8 with water, given its layers (N, H, W) in [0, 1], 0 where there is none."""
    water = depths((layers * 255).astype(np.uint8))
    deepest = water.max(axis=(1, 2), keepdims=True)
    np.divide(water, deepest, out=water, where=deepest > 0)
    water *= np.float32(strength)
    pixels = images.astype(np.float32) / np.float32(255)
    for channel, colour in enumerate(WATER):
        pixels[..., channel] += water * colour
    return _truncated(pixels)


def with_mud(images: Images, splashes: NDArray[np.bool_], sigma: float) -> Images:
    """Pictures (N, H, W, 3) uint8 with mud, given where it fell (N, H, W) and the sigma that softens its rims."""
    taps = gaussian_taps(sigma)
    covered = splashes.astype(np.float32)
    for axis in (1, 2):  # rounded to float32 each time, as there
        covered = smoothed_along(covered.astype(np.float64), taps, axis).astype(np.float32)
    covered[covered < THINNEST] = 0
    pixels = images.astype(np.float32) / np.float32(255)
    for channel, colour in enumerate(MUD):
        pixels[..., channel] *= 1 - covered
        pixels[..., channel] += covered * colour
    return _truncated(pixels)


def _truncated(pixels: Fractions) -> Images:
    levels: Images = (np.clip(pixels, 0, 1, out=pixels) * np.float32(255)).astype(np.uint8)
    return levels
