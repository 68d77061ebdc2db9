"""What C-bar lays over a picture: sparkles (stars of light, or one star that is all that is left), squares, lines.

Source: facebookresearch/augmentation-corruption@ba4d5a5, Sparkles and InverseSparkles (see `sampling.py`). A star
has 50 to 199 rays of random length around a centre; a pixel at distance d in the direction between two rays, at the
share f of the way from one to the other, has light clip((1 - (f - 0.5)²) (length² / (d² + 1e-4)) ** sharpness), where
length is between the two rays' lengths. Given centres and rays, the result is the reference's.

The squares are of a turned checkerboard. Source: CheckerBoardCutOut and Lines, the latter through
scikit-image's line_aa. Given the draws, the result is the reference's.
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


GREY = 128

_GRID = 32  # more than the squares that a square picture reaches at any angle, 14 on either side of the first


def checkerboard_cutout(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with the share s / 10 of a checkerboard's dark squares grey, s = `constants[0]`.

    The board lies at any angle; the side of its squares is 0.1 to 0.25 of the picture's.
    """
    numbers = draws(2 + _GRID**2)
    cells = np.maximum((0.1 + 0.15 * numbers[:, 1]) * min(images.shape[1:3]), 1)
    is_cut = (numbers[:, 2:] < constants[0] / 10).reshape(-1, _GRID, _GRID)
    return with_checkerboard(images, math.tau * numbers[:, 0], cells, is_cut)


def lines(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with int(0.1 s im) grey lines, s = `constants[0]`, each through a random point, 2 im long."""
    height, width = images.shape[1:3]
    count = int(constants[0] / 10 * min(height, width))
    numbers = draws(2 + 3 * count)
    base, variation = math.tau * numbers[:, :1], 0.1 + 0.9 * numbers[:, 1:2]
    rows, columns, angles = numbers[:, 2:].reshape(len(images), count, 3).transpose(2, 0, 1)
    turned = base + math.tau * variation * (angles - 0.5)
    reach = min(height, width) * np.stack((np.cos(turned), np.sin(turned)), axis=-1)
    middle = np.stack((rows * height, columns * width), axis=-1)
    return with_lines(images, (middle - reach).astype(np.int64), (middle + reach).astype(np.int64))


def with_checkerboard(images: Images, angles: Floats, cells: Floats, is_cut: NDArray[np.bool_]) -> Images:
    """Pictures with some squares of a checkerboard grey.

    Args:
        images: (N, H, W, 3) uint8.
        angles: (N,) of the boards, in radians.
        cells: (N,), the side of a square in pixels, 1 or more.
        is_cut: (N, G, G), whether a square is grey if it is dark; squares before the first are counted from the end.
    """
    rows, columns = np.arange(images.shape[1])[:, None], np.arange(images.shape[2])
    cos, sin, cell = (values[:, None, None] for values in (np.cos(angles), np.sin(angles), cells))
    along, across = (cos * rows + sin * columns) / cell, (-sin * rows + cos * columns) / cell
    is_dark = _parity(along) == _parity(across)
    # truncation towards 0: the squares on both sides of an axis are grey together
    grid = is_cut.shape[1]
    row, column = along.astype(np.intp) % grid, across.astype(np.intp) % grid
    board = np.arange(len(images))[:, None, None] * grid
    is_grey = is_dark & is_cut.take((board + row) * grid + column)
    return np.where(is_grey[..., None], np.uint8(GREY), images)


def with_lines(images: Images, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Images:
    """Pictures with K anti-aliased grey lines each, drawn in their order.

    A pixel within the rectangle of the two ends is covered by 1 minus its distance from the line in pixels. Each line
    ends in bytes, truncated, before the next is drawn.

    Args:
        images: (N, H, W, 3) uint8.
        starts: (N, K, 2), row and column.
        ends: the same; either may lie outside the picture.
    """
    values = images.astype(np.float64)
    for line in range(starts.shape[1]):
        cover = _cover(images.shape, starts[:, line], ends[:, line])[..., None]
        values *= 1 - cover
        values += cover * GREY
        np.floor(values, out=values)
    return values.astype(np.uint8)


def _parity(positions: Floats) -> NDArray[np.int8]:
    """Whether an odd number of squares lies before each position."""
    parity: NDArray[np.int8] = (positions - 2 * np.floor(positions / 2)).astype(np.int8)
    return parity


def _cover(shape: tuple[int, ...], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Floats:
    """How much of each pixel one line a picture covers, (N, H, W) in [0, 1]."""
    height, width = (np.abs(ends - starts).T)[:, :, None, None]
    down, right = (np.where(ends >= starts, 1, -1).T)[:, :, None, None]
    rows = (np.arange(shape[1])[:, None] - starts[:, 0, None, None]) * down  # in the line's own direction
    columns = (np.arange(shape[2]) - starts[:, 1, None, None]) * right
    length = np.sqrt(height * height + width * width)
    cover: Floats = 1 - np.abs(width * rows - height * columns) / np.maximum(length, 1)
    np.maximum(cover, 0, out=cover)
    cover *= ((rows >= 0) & (rows <= height)) * ((columns >= 0) & (columns <= width))
    return cover
