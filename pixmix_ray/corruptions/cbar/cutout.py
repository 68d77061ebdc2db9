"""Grey things of C-bar in front of the picture: the squares of a turned checkerboard, and lines.

Source: facebookresearch/augmentation-corruption@ba4d5a5, CheckerBoardCutOut and Lines, the latter through
scikit-image's line_aa (see `sampling.py`). Given the draws, the result is the reference's.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.cbar.sampling import Floats
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

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
