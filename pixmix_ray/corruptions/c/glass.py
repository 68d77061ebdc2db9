"""Glass blur: smoothing, pixels that show a near one instead of themselves, and smoothing again.

Source: hendrycks/robustness@8190fe3, glass_blur. It is written there as a swap of neighbouring pixels, but both sides
of that swap are views of one array, so the neighbour stays as it is: a copy one way, which is what CIFAR-10-C holds.
Pixels are visited from the bottom right; one that takes a pixel visited before takes what stands there by then. Here
every pixel looks up where its colour comes from in the end, for all pictures at once. For given offsets the same bytes
come out.
"""

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.c.smoothing import smoothed
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8


def glass_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures seen through rough glass: `constants` are sigma, the largest offset (in pixels) and the repetitions."""
    sigma, (delta, times) = constants[0], (int(constant) for constant in constants[1:])
    height, width = (max(0, side - 2 * delta) for side in images.shape[1:3])
    softened = (smoothed(images / 255.0, sigma) * 255).astype(np.uint8)
    if height and width:  # smaller pictures have no pixel that moves
        numbers = draws(times * height * width * 2).reshape(len(images), times, height, width, 2)
        softened = displaced(softened, np.floor(numbers * (2 * delta)).astype(np.intp) - delta)
    return floor8(smoothed(softened / 255.0, sigma))


def displaced(images: Images, offsets: NDArray[np.intp]) -> Images:
    """Pictures whose inner pixels show others, (N, H, W, 3) uint8.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        offsets: (N, T, H - 2 D, W - 2 D, 2) from -D to D - 1, for T repetitions: pixel (D + 1 + r, D + 1 + c) shows the
            one that lies `offsets[..., r, c, 0]` columns and `offsets[..., r, c, 1]` rows further.
    """
    pixels = np.arange(images[..., 0].size).reshape(images.shape[:3])
    height, width = images.shape[1:3]
    delta = (height - offsets.shape[2]) // 2
    moving = np.zeros(pixels.shape, np.bool_)
    inner = (slice(None), slice(delta + 1, height - delta + 1), slice(delta + 1, width - delta + 1))
    moving[inner] = True
    sources = pixels.ravel()
    for columns, rows in offsets.transpose(1, 4, 0, 2, 3):
        source = pixels.copy()
        source[inner] += rows * width + columns
        sources = sources[_origins(source.ravel(), moving.ravel())]
    return images.reshape(-1, 3).take(sources, axis=0).reshape(images.shape)


def _origins(source: NDArray[np.intp], moving: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where the colour of each pixel lay before one repetition, (P,) int: chains of pixels visited before are followed.

    Each round doubles the length of the chains that are done, so a few rounds do for any picture.
    """
    # its source is a pixel visited before: one to the right or below
    waiting = moving[source] & (source > np.arange(len(source)))
    while len(pixels := np.flatnonzero(waiting)):
        via = source[pixels]
        source[pixels], waiting[pixels] = source[via], waiting[via]
    return source
