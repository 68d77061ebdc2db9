"""Fog: a cloud drawn by the diamond-square algorithm, laid over the picture.

Source: hendrycks/robustness@8190fe3, fog and plasma_fractal. For given draws the cloud and the picture are the same to
the last bit. The cloud's side is the power of two that covers the picture: 32 for CIFAR and 256 for 224x224, as there.
"""

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

Floats = NDArray[np.float64]

FIRST_AMPLITUDE = 100.0


def fog(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Foggy pictures: `constants` are the strength, and the decay of the cloud's detail (lower is rougher)."""
    strength, decay = constants
    height, width = images.shape[1:3]
    side = 2 ** max(1, (max(height, width) - 1).bit_length())
    return with_fog(images, plasma(draws(side * side - 1), decay)[:, :height, :width], strength)


def with_fog(images: Images, clouds: Floats, strength: float) -> Images:
    """Pictures (N, H, W, 3) uint8 under given clouds (N, H, W) in [0, 1]; none gets brighter than it was."""
    pixels = images / 255.0
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    pixels += strength * clouds[..., None]
    pixels *= brightest
    pixels /= brightest + strength
    return floor8(pixels)


def plasma(numbers: Floats, decay: float) -> Floats:
    """Clouds (N, S, S) in [0, 1] that repeat at their edges, from 0 to 1 each.

    Args:
        numbers: (N, S * S - 1) uniform in [0, 1], S a power of two from 2 up: for each step, from coarse to fine, the
            centres of the squares, then the middles of their upper edges, then those of their left edges.
        decay: by what the amplitude is divided from step to step.
    """
    count, step, amplitude, used = len(numbers), round((numbers.shape[1] + 1) ** 0.5), FIRST_AMPLITUDE, 0
    clouds = np.zeros((count, step, step))
    while step >= 2:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        size = corners[0].size
        steps = amplitude * (-amplitude + 2 * amplitude * numbers[:, used : used + 3 * size])  # amplitude squared: sic
        first, second, third = steps.reshape(count, 3, *corners.shape[1:]).swapaxes(0, 1)
        used += 3 * size
        below = corners + np.roll(corners, -1, axis=1)
        squares = clouds[:, half::step, half::step] = (below + np.roll(below, -1, axis=2)) / 4 + first
        beside = corners + np.roll(corners, -1, axis=2)
        clouds[:, ::step, half::step] = (squares + np.roll(squares, 1, axis=1) + beside) / 4 + second
        clouds[:, half::step, ::step] = (squares + np.roll(squares, 1, axis=2) + below) / 4 + third
        step, amplitude = half, amplitude / decay
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    clouds /= clouds.max(axis=(1, 2), keepdims=True)
    return clouds
