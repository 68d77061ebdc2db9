"""Sparkles of C-bar: stars of light on the picture, and one star that is all that is left of it.

Source: facebookresearch/augmentation-corruption@ba4d5a5, Sparkles and InverseSparkles (see `sampling.py`). A star
has 50 to 199 rays of random length around a centre; a pixel at distance d in the direction between two rays, at the
share f of the way from one to the other, has light clip((1 - (f - 0.5)²) (length² / (d² + 1e-4)) ** sharpness), where
length is between the two rays' lengths. Given centres and rays, the result is the reference's.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pixmix_ray.corruptions.cbar.sampling import Floats, offsets, truncated
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

NUM_STARS = 5
MOST_RAYS = 199


def sparkles(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with five white stars, one over the other; their radius is 0.01 s im, s = `constants[0]`."""
    size = images.shape[1:3]
    places, counts, rays = np.split(draws(NUM_STARS * (3 + MOST_RAYS)), (2 * NUM_STARS, 3 * NUM_STARS), axis=1)
    radius = constants[0] * 0.1 / 10 * min(size)
    lengths = np.maximum(1, _lengths(rays, radius)).reshape(-1, NUM_STARS, MOST_RAYS)
    return with_stars(images, places.reshape(-1, NUM_STARS, 2) * size, lengths, _num_rays(counts))


def inverse_sparkles(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures seen through one star of radius im / 4, fading to white around it, faster with s = `constants[0]`."""
    size = images.shape[1:3]
    places, counts, rays = np.split(draws(3 + MOST_RAYS), (2, 3), axis=1)
    lengths = _lengths(rays, 0.25 * min(size))
    amount = 100 - constants[0] * 65 / 10
    return through_star(images, (0.25 + places / 2) * size, lengths, _num_rays(counts)[:, 0], (100 - amount) / 50)


def with_stars(images: Images, centres: Floats, lengths: Floats, num_rays: NDArray[np.intp]) -> Images:
    """Pictures with K white stars each, drawn in their order, of sharpness 1.

    Args:
        images: (N, H, W, 3) uint8.
        centres: (N, K, 2), row and column in pixels.
        lengths: (N, K, R) of the rays, in pixels.
        num_rays: (N, K), how many of the R lengths count.
    """
    values = images.astype(np.float64)
    for star in range(centres.shape[1]):
        # each star is painted on single precision: a pixel within 1e-5 of white becomes white
        values = values.astype(np.float32).astype(np.float64)
        light = star_light(images.shape, centres[:, star], lengths[:, star], num_rays[:, star])
        values += light[..., None] * (255 - values)
    return truncated(values)


def through_star(
    images: Images, centres: Floats, lengths: Floats, num_rays: NDArray[np.intp], sharpness: float
) -> Images:
    """Pictures where the star's light falls, white elsewhere; the arguments are those of `star_light`."""
    light = star_light(images.shape, centres, lengths, num_rays, sharpness)
    return truncated(light[..., None] * (images - 255.0) + 255)


def star_light(
    shape: tuple[int, ...], centres: Floats, lengths: Floats, num_rays: NDArray[np.intp], sharpness: float = 1.0
) -> Floats:
    """The light of one star a picture, (N, H, W) in [0, 1].

    Args:
        shape: of the pictures, (N, H, W, 3).
        centres: (N, 2), row and column in pixels.
        lengths: (N, R) of the rays, in pixels, the first one towards smaller rows and on by way of smaller columns.
        num_rays: (N,), how many of the R lengths count.
        sharpness: 0 for no falling off with the distance, 1 for the inverse square.
    """
    rows, columns = offsets(shape, centres)
    turns = np.arctan2(columns, rows)
    turns += math.pi
    turns /= math.tau
    turns *= num_rays[:, None, None]
    ray = turns.astype(np.intp)
    turns -= ray
    table = _wrapped(lengths, num_rays)
    ray += (np.arange(len(table)) * table.shape[1])[:, None, None]
    length = table.take(ray)
    length += turns * (table.ravel()[1:].take(ray) - length)
    length *= length
    length /= rows**2 + columns**2 + 1e-4
    if sharpness != 1:
        length **= sharpness
    turns -= 0.5
    turns *= turns
    length *= 1 - turns
    return np.clip(length, 0, 1, out=length)


def _wrapped(lengths: Floats, num_rays: NDArray[np.intp]) -> Floats:
    """The lengths, (N, R + 2), where the first two rays follow the last one that counts."""
    around = np.arange(lengths.shape[1] + 2) % num_rays[:, None]
    table: Floats = np.take_along_axis(lengths, around, axis=1)
    return table


def _num_rays(numbers: Floats) -> NDArray[np.intp]:
    """From uniform numbers to 50, 51, ..., 199."""
    return (50 + 150 * numbers).astype(np.intp)


def _lengths(numbers: Floats, radius: float) -> Floats:
    """From uniform numbers to lengths of rays: normal around the radius, with a quarter of it as spread."""
    lengths: Floats = radius + 0.25 * radius * ndtri(numbers)
    return lengths
