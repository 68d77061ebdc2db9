"""Spatter: drops of water or splashes of mud on the lens.

Source: hendrycks/robustness@8190fe3, spatter. A layer of normal numbers is smoothed and cut off below a threshold;
water shines at the rims of what is left , mud covers it. For a given layer the bytes are the
original's. Where no water shines the picture stays as it is but for the truncation; in the original it would be
undefined (0/0).

Drops of water on a lens: edges, distances to them, and an emboss, on 8-bit maps of whole batches.

Source: hendrycks/robustness@8190fe3, spatter, which uses OpenCV's Canny, distanceTransform, blur, equalizeHist and
filter2D. Each is here for a batch of maps (N, H, W), with the parameters of that one use, so that OpenCV is not
needed. Beside OpenCV 4.8 they give the same bytes, but that distances differ in the last place of a float32, which
changed 72 in a million values of `depths` on 4,000 random layers, and none in those of spatter.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from pixmix_ray.corruptions.c.blur import gaussian_taps, smoothed, smoothed_along
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

Maps = NDArray[np.uint8]
"""One number a pixel, (N, H, W) uint8."""

Steps = NDArray[np.int16]
Number = TypeVar("Number", np.float64, np.int16)

FAINT, STRONG = 50, 150
TAN_22_5 = 13573  # times 2^15
FARTHEST = 20  # distances are cut off here
NOWHERE = np.float32(1e6)
STRAIGHT, DIAGONAL, KNIGHT = np.array([1.0, 1.4, 2.1969], np.float32)  # lengths of the steps of the 5x5 mask
NINTHS = np.rint(np.arange(9 * 255 + 1) / 9).astype(np.float32)  # the mean of nine bytes, from their sum


def depths(maps: Maps) -> NDArray[np.float32]:
    """How strongly water shows at each pixel of a layer of drops (N, H, W) uint8, before it is scaled: float32."""
    away = np.minimum(distances(edges(maps)), np.float32(FARTHEST))
    means = (boxed(away.astype(np.float64)) / 9).astype(np.float32)
    embossed = _embossed(equalised(means.astype(np.uint8)).astype(np.int16))
    return maps.astype(np.float32) * NINTHS.take(boxed(embossed))


def edges(maps: Maps) -> NDArray[np.bool_]:
    """Canny's edges (N, H, W): ridges of the gradient above STRONG, and those above FAINT that touch such a one."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int16)
    down = padded[:, :-2] + padded[:, 2:] + 2 * padded[:, 1:-1]
    across = padded[:, :, :-2] + padded[:, :, 2:] + 2 * padded[:, :, 1:-1]
    right, below = down[:, :, 2:] - down[:, :, :-2], across[:, 2:] - across[:, :-2]
    size = np.abs(right) + np.abs(below)
    is_ridge = np.zeros(maps.shape, np.bool_)
    is_ridge.ravel()[_ridges(size, right, below)] = True
    within = np.zeros((3, 3, 3), np.int8)
    within[1] = 1  # neighbours within a map, none between maps
    parts, count = ndimage.label(is_ridge, within)
    has_strong = np.zeros(count + 1, np.bool_)
    has_strong[parts[is_ridge & (size > STRONG)]] = True
    found: NDArray[np.bool_] = has_strong[parts]
    return found


def _ridges(size: Steps, right: Steps, below: Steps) -> NDArray[np.intp]:
    """The flat places where a gradient above FAINT is not exceeded by its two neighbours in its direction, of four."""
    width = size.shape[2] + 2
    around = np.pad(size, ((0, 0), (1, 1), (1, 1))).ravel()
    places = np.flatnonzero(size > FAINT)  # a small part of the pixels
    lines, columns = np.divmod(places, size.shape[2])
    padded = (lines + 2 * (lines // size.shape[1]) + 1) * width + columns + 1
    across, down = right.ravel()[places].astype(np.int32), below.ravel()[places].astype(np.int32)
    run, rise = np.abs(across), np.abs(down) << 15
    is_flat = rise < run * TAN_22_5
    is_steep = rise > run * TAN_22_5 + (run << 16)
    diagonal = np.where((across ^ down) < 0, width - 1, width + 1)
    step = np.where(is_flat, 1, np.where(is_steep, width, diagonal))
    own, before, after = around[padded], around[padded - step], around[padded + step]
    is_even = (own == after) & (is_flat | is_steep)  # of two as steep, the first; on a diagonal neither
    kept: NDArray[np.intp] = places[(own > before) & ((own > after) | is_even)]
    return kept


def distances(marked: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far the nearest marked pixel of the map is, (N, H, W) float32: the length of the shortest way in steps.

    Steps are those of a 5x5 mask: straight 1, diagonal 1.4, a knight's move 2.1969. Without any mark: NOWHERE.
    """
    away = np.where(marked.swapaxes(0, 1), np.float32(0), NOWHERE)
    padded = np.pad(
        away, ((2, 2), (0, 0), (2, 2)), constant_values=NOWHERE
    )  # (H + 4, N, W + 4): a line of all maps a row
    lines, width = padded.reshape(len(padded), -1), padded.shape[2]
    _sweep(lines, width)
    _sweep(lines[::-1, ::-1], width)
    return padded[2:-2, :, 2:-2].swapaxes(0, 1)


def _sweep(lines: NDArray[np.float32], width: int) -> None:
    """One pass from the top, each pixel from those above and to its left; in place.

    Args:
        lines: (H + 4, N W) float32, the lines of N maps beside each other, each with two pixels of NOWHERE about it.
        width: W.
    """
    reaches = np.arange(width - 4, dtype=np.float32)
    shortest, other = np.empty((2, lines.shape[1] - 4), np.float32)
    for row in range(2, len(lines) - 2):
        far, near, own = lines[row - 2], lines[row - 1], lines[row]
        np.minimum(far[1:-3], far[3:-1], out=shortest)
        np.minimum(shortest, np.minimum(near[:-4], near[4:], out=other), out=shortest)
        shortest += KNIGHT
        np.minimum(near[1:-3], near[3:-1], out=other)
        other += DIAGONAL
        np.minimum(shortest, other, out=shortest)
        np.minimum(shortest, np.add(near[2:-2], STRAIGHT, out=other), out=shortest)
        np.minimum(shortest, own[2:-2], out=own[2:-2])
        maps = own.reshape(-1, width)
        maps[:, :2] = maps[:, -2:] = NOWHERE
        inner = maps[:, 2:-2] - reaches
        np.add(np.minimum.accumulate(inner, axis=1, out=inner), reaches, out=maps[:, 2:-2])


def boxed(maps: NDArray[Number]) -> NDArray[Number]:
    """The sum of the 3x3 pixels about each, mirrored at the edge without repeating it: (N, H, W)."""
    padded = _mirrored(maps)
    rows = padded[:, :-2] + padded[:, 1:-1]
    rows += padded[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1]
    total += rows[:, :, 2:]
    return total


def _mirrored(maps: NDArray[Number]) -> NDArray[Number]:
    """Maps with one more pixel on all sides, mirrored without repeating the edge, (N, H + 2, W + 2)."""
    count, height, width = maps.shape
    padded = np.empty((count, height + 2, width + 2), maps.dtype)  # np.pad takes several times as long
    padded[:, 1:-1, 1:-1] = maps
    padded[:, 0, 1:-1], padded[:, -1, 1:-1] = maps[:, min(1, height - 1)], maps[:, max(-2, -height)]
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, min(2, width)], padded[:, :, max(-3, -1 - width)]
    return padded


def _embossed(maps: Steps) -> Steps:
    """Maps (N, H, W) int16 correlated with [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], mirrored at the edge, as bytes."""
    padded = _mirrored(maps)
    total = padded[:, 2:, 2:] - padded[:, :-2, :-2]
    total *= 2
    total -= padded[:, :-2, 1:-1]
    total -= padded[:, 1:-1, :-2]
    for part in (padded[:, 1:-1, 1:-1], padded[:, 1:-1, 2:], padded[:, 2:, 1:-1]):
        total += part
    return np.clip(total, 0, 255, out=total)


def equalised(maps: Maps) -> Maps:
    """Maps (N, H, W) uint8 with their histograms levelled, each on its own; the darkest value there becomes 0."""
    count, pixels = len(maps), maps[0].size
    cells = maps.reshape(count, -1) + 256 * np.arange(count)[:, None]
    histogram = np.bincount(cells.ravel(), minlength=256 * count).reshape(count, 256)
    darkest = histogram[np.arange(count), (histogram > 0).argmax(axis=1)]
    rest = pixels - darkest
    scale = np.divide(np.float32(255), rest.astype(np.float32), out=np.zeros(count, np.float32), where=rest > 0)
    above = np.maximum(histogram.cumsum(axis=1) - darkest[:, None], 0)
    table: NDArray[np.uint8] = np.rint(above.astype(np.float32) * scale[:, None]).astype(np.uint8)
    even = rest == 0  # a map of one value stays as it is
    table[even] = np.arange(256)
    return table.ravel().take(cells).reshape(maps.shape)


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
