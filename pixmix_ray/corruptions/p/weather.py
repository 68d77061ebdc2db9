"""Perturbations by light and weather: brightness that grows, snow that turns, water that runs down the lens.

Source: hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py. For given layers the bytes are the
original's, black frames included: where the last drop has run off the picture, the original divides 0 by 0, and what it
stores of that is a black frame. On 32x32 some sequences in a hundred end so, with a flip.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.c.blur import blurred_along, smoothed, zoomed
from pixmix_ray.corruptions.c.digital import hsv, rgb
from pixmix_ray.corruptions.c.spatter import WATER, depths
from pixmix_ray.corruptions.c.weather import grey_of
from pixmix_ray.corruptions.corruption import Images, floor8
from pixmix_ray.corruptions.p.geometry import Frames

Floats = NDArray[np.float64]


def brightened(images: Images, *, added: Sequence[float]) -> Frames:
    """Frames with each of T numbers added to the value V of HSV, in [0, 1]; (N, T, H, W, 3) uint8."""
    hue, saturation, value = hsv(images / 255.0)
    shares = rgb(hue, saturation, np.ones_like(value))  # a channel is V times its share, whatever V is
    value = np.repeat(value[..., None], 3, axis=-1)
    frames = np.empty((len(images), len(added), *images.shape[1:]), np.uint8)
    for number, amount in enumerate(added):
        channels = np.clip(value + amount, 0, 1)
        channels *= shares
        channels *= 255
        frames[:, number] = channels
    return frames


def falling_snow(
    layers: Floats, *, zoom: float, threshold: float, radius: float, sigma: float, degrees: Sequence[float]
) -> Images:
    """Flakes driven from each of T angles, (N, T, H, W) uint8.

    Args:
        layers: (N, H, W) float64, what flakes are made of.
        zoom: by what the layers are enlarged.
        threshold: what is below it in an enlarged layer is no flake.
        radius: of the motion blur of the flakes, in pixels.
        sigma: of the motion blur of the flakes, in pixels.
        degrees: the T angles.
    """
    flakes = zoomed(layers, zoom)
    flakes[flakes < threshold] = 0
    angles = np.tile(np.asarray(degrees, np.float64), len(layers))
    blurred = blurred_along(np.repeat(floor8(flakes)[..., None], len(degrees), axis=0), radius, sigma, angles)
    return blurred.reshape(len(layers), len(degrees), *layers.shape[1:])


def with_snow(images: Images, flakes: Images, *, keep: float) -> Frames:
    """Frames in snow, (N, T, H, W, 3) uint8, of pictures (N, H, W, 3) and flakes (N, T, H, W), both uint8.

    As in the corruption, the flakes fall twice, the second time turned by 180 degrees, and the share `keep` of each
    picture is not whitened; but pixels are float64 here.
    """
    pixels = images / 255.0
    grey = grey_of(pixels.astype(np.float32)) * np.float32(1.5) + np.float32(0.5)
    whitened = keep * pixels + (1 - keep) * np.maximum(pixels, grey[..., None])
    snow = np.repeat(flakes[..., None] / 255.0, 3, axis=-1)
    return floor8(whitened[:, None] + snow + snow[:, :, ::-1, ::-1])


def flowing(layers: Floats, num_frames: int, flow: Sequence[float]) -> Floats:
    """Layers (N, H, W) running down, (N, T, H, W): from frame to frame each column is convolved with `flow`.

    The convolution keeps its size as NumPy's "same" does: with K weights, weight k moves k - (K - 1) // 2 pixels down.
    """
    height = layers.shape[1]
    frames = np.zeros((len(layers), num_frames, *layers.shape[1:]))
    frames[:, 0] = layers
    for number in range(1, num_frames):
        before, after = frames[:, number - 1], frames[:, number]
        for place, weight in enumerate(flow):
            down = place - (len(flow) - 1) // 2
            after[:, max(down, 0) : height + min(down, 0)] += weight * before[:, max(-down, 0) : height - max(down, 0)]
    return frames


def with_water(
    images: Images,
    layers: Floats,
    *,
    sigma: float,
    threshold: float,
    strength: float,
    flow: Sequence[float],
    frames: int,
) -> Frames:
    """Frames with water that runs down, (N, T, H, W, 3) uint8.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        layers: (N, H, W) float64, what drops are made of.
        sigma: of the Gaussian that smooths the layers, in pixels.
        threshold: what is below it in a smoothed layer is dry.
        strength: of the deepest water.
        flow: the weights of `running`.
        frames: T.
    """
    drops = smoothed(layers, sigma)
    drops[drops < threshold] = 0
    height, width = layers.shape[1:]
    levels = (flowing(drops, frames, flow) * 255).astype(np.uint8).reshape(-1, height, width)
    water = depths(levels)
    deepest = water.max(axis=(1, 2), keepdims=True)
    np.divide(water, deepest, out=water, where=deepest > 0)
    water *= np.float32(strength)
    pixels = images.reshape(-1, 3).astype(np.float32) / np.float32(255)
    watered = np.repeat((pixels * np.float32(255)).astype(np.uint8).reshape(images.shape), frames, axis=0)
    wet = np.flatnonzero(water)  # a small part of the pixels
    number, place = np.divmod(wet, height * width)
    coloured = pixels.take(number // frames * (height * width) + place, axis=0)
    coloured += water.ravel()[wet, None] * WATER
    np.minimum(coloured, 1, out=coloured)
    coloured *= np.float32(255)
    watered.reshape(-1, 3)[wet] = coloured.astype(np.uint8)
    watered[deepest[:, 0, 0] == 0] = 0  # 0 / 0, as the original stores it
    return watered.reshape(len(images), frames, height, width, 3)
