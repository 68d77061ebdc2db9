"""Elastic transform: a random affine map, then small smooth displacements of every pixel.

Source: hendrycks/robustness@8190fe3, elastic_transform, which moves the picture by OpenCV 4's warpAffine and then by
`scipy.ndimage.map_coordinates`. For given draws the same bytes come out as with OpenCV 4.8: its warp looks up places in
steps of 1/32 pixel, and so does this. OpenCV 5 does not, and differs by up to 4 levels. On pictures that are not square
we move the corners of a square about the centre; the original mixes up the two sides of the picture there.

With the 32x32 constants, the error of the pixels falls as severity rises.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.c.blur import smoothed
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Edge = Callable[[Indices, int], Indices]
Planes = NDArray[np.float32]
"""Pictures in [0, 1] as three rows of pixels, (3, N H W) float32."""

FAR = 2**15  # pixels beyond which places are not followed, as in OpenCV: only a nearly flattened picture gets there
FRACTIONS = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)


def elastic_transform(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures pulled like rubber: `constants` are the displacement's strength and smoothness and the map's jitter."""
    alpha, sigma, jitter = constants
    count, height, width, _ = images.shape
    numbers = 2 * draws(6 + 2 * height * width) - 1
    corners = (jitter * numbers[:, :6]).reshape(count, 3, 2)
    return deformed(images, corners, numbers[:, 6:].reshape(count, 2, height, width), alpha, sigma)


def deformed(images: Images, jitter: Floats, fields: Floats, alpha: float, sigma: float) -> Images:
    """Pictures (N, H, W, 3) uint8, pulled by given draws.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        jitter: (N, 3, 2) in pixels: by how much columns (0) and rows (1) of three corners about the centre are moved,
            the lower right, the upper right and the upper left one.
        fields: (N, 2, H, W) in [-1, 1], smoothed here into the displacement of the columns (0) and of the rows (1).
        alpha: what the smoothed fields are multiplied by, in pixels.
        sigma: of the Gaussian that smooths them, in pixels.
    """
    count, height, width, _ = images.shape
    planes = FRACTIONS.take(images.reshape(-1, 3).T)
    planes = _mapped(planes, _inverse_maps(jitter, height, width), height, width)
    if alpha:
        flat = smoothed(fields.reshape(-1, height, width), sigma, truncate=3.0, mode="symmetric")
        moves = (flat * alpha).astype(np.float32).reshape(count, 2, height, width)
        planes = _displaced(planes, moves)
    levels: Images = (np.clip(planes, 0, 1, out=planes) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(levels.T).reshape(images.shape)


def _inverse_maps(jitter: Floats, height: int, width: int) -> Floats:
    """From places in the result to places in the picture, (N, 2, 3): (column, row) = map @ (column, row, 1)."""
    half = max(1, min(height, width) // 3)
    before = np.array([[half, half], [half, -half], [-half, -half]]) + np.array([width // 2, height // 2])
    after = (before.astype(np.float32) + jitter.astype(np.float32)).astype(np.float64)
    by_column = (after[:, 1] - after[:, 2]) / (2 * half)
    by_row = (after[:, 0] - after[:, 1]) / (2 * half)
    shift = after[:, 0] - by_column * before[0, 0] - by_row * before[0, 1]
    (a, d), (b, e), (c, f) = by_column.T, by_row.T, shift.T
    area = a * e - b * d
    scale = np.divide(1.0, area, out=np.zeros_like(area), where=area != 0)  # a flattened picture shows one pixel
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    return np.stack([np.stack([a, b, -a * c - b * f], -1), np.stack([d, e, -d * c - e * f], -1)], 1)


def _mapped(planes: Planes, maps: Floats, height: int, width: int) -> Planes:
    """Pictures seen through `maps` as by OpenCV 4: places in 1/32 pixel, mirrored at the edge without repeating it."""
    steps = np.rint(maps[:, :, :1] * np.arange(width) * 1024)  # (N, 2, W)
    lines = np.rint((maps[:, :, 1:2] * np.arange(height) + maps[:, :, 2:]) * 1024) + 16  # (N, 2, H)
    fine = lines[:, :, :, None] + steps[:, :, None, :]
    places = np.clip(fine, -FAR * 1024, FAR * 1024 - 1, out=fine).astype(np.intp) >> 5
    columns, rows = places[:, 0] >> 5, places[:, 1] >> 5
    right, down = ((places[:, axis] & 31).astype(np.float32) / np.float32(32) for axis in (0, 1))
    total = np.zeros_like(planes)
    for row, row_weights in zip(_row_starts(rows, height, width, mirrored), (1 - down, down), strict=True):
        for column, column_weights in zip(_lines(columns, width, mirrored), (1 - right, right), strict=True):
            tapped = planes.take((row + column).ravel(), axis=1)
            tapped *= (row_weights * column_weights).ravel()
            total += tapped
    return total


def _displaced(planes: Planes, moves: NDArray[np.float32]) -> Planes:
    """Pictures whose pixels are looked up `moves` (N, 2, H, W) further, mirrored at the edge with repeating it."""
    height, width = moves.shape[2:]
    places = moves.astype(np.float64)
    places[:, 0] += np.arange(width)
    places[:, 1] += np.arange(height)[:, None]
    whole = np.floor(places)
    near = 1.0 - (places - whole)
    far = 1.0 - near
    (columns, rows), exact = np.moveaxis(whole.astype(np.intp), 1, 0), planes.astype(np.float64)
    total = np.zeros(planes.shape)
    for row, row_weights in zip(_row_starts(rows, height, width, reflected), (near[:, 1], far[:, 1]), strict=True):
        for column, column_weights in zip(_lines(columns, width, reflected), (near[:, 0], far[:, 0]), strict=True):
            tapped = exact.take((row + column).ravel(), axis=1)
            tapped *= row_weights.ravel()
            tapped *= column_weights.ravel()
            total += tapped
    return total.astype(np.float32)


def _row_starts(rows: Indices, height: int, width: int, edge: Edge) -> list[Indices]:
    """The first pixel of each of `rows` (N, H, W) and of the row below it, counted through all pictures."""
    first = (np.arange(len(rows)) * (height * width))[:, None, None]
    return [lines * width + first for lines in _lines(rows, height, edge)]


def _lines(places: Indices, side: int, edge: Edge) -> list[Indices]:
    """Each of `places` and the next one, brought within 0 and side - 1."""
    table = _edge_table(side, edge)
    return [table.take(places + (FAR + tap), mode="clip") for tap in (0, 1)]


@lru_cache(maxsize=8)
def _edge_table(side: int, edge: Edge) -> Indices:
    """Where the lines from -FAR to FAR lie within 0 and side - 1."""
    table = edge(np.arange(-FAR, FAR + 1), side)
    table.setflags(write=False)  # it is shared by all callers
    return table


def mirrored(lines: Indices, side: int) -> Indices:
    """Lines brought within 0 and side - 1, the edge not repeated: 2 1 0 1 2 ... 2 1 0 1."""
    period = max(1, 2 * side - 2)
    within = lines % period
    return np.minimum(within, period - within)


def reflected(lines: Indices, side: int) -> Indices:
    """Lines brought within 0 and side - 1, the edge repeated: 1 0 0 1 2 ... 2 1 1 0."""
    within = lines % (2 * side)
    return np.minimum(within, 2 * side - 1 - within)
