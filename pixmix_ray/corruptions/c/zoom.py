"""Zoom blur: the mean of a picture and of its enlargements by more and more, as if zoomed while the shutter is open.

Source: hendrycks/robustness@8190fe3, zoom_blur and clipped_zoom, over `scipy.ndimage.zoom` of order 1. The same bytes
come out, with the same traps: the enlarged picture may be a pixel too large and is then cut at its right and bottom
only, so it is not centred, and a factor just over 1 may change nothing. (SciPy leaves a black last line where its
coordinate passes the edge by a rounding error; this does not happen at 32x32 and 224x224, and is not copied for other
sizes.)

All enlargements and their mean are one linear map, so here it is one sparse matrix for all pictures. Its result is
exact; the original adds in float32, whose errors decide values that lie on a whole grey level (as on flat areas).
Those few are computed once more in its order.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

FRACTIONS = (np.arange(256) / 255.0).astype(np.float32)


def zoom_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures zoomed while exposed: the factors are 1, 1 + step, ... and end before `constants` (stop, step)."""
    count, height, width, _ = images.shape
    factors = np.arange(1, *constants)
    values = np.ascontiguousarray(images.transpose(1, 2, 0, 3)).reshape(height * width, count * 3)  # a row a pixel
    means = _mean_of_zooms(height, width, tuple(factors.tolist())) @ values.astype(np.float64)
    blurred = means.astype(np.uint8)
    np.abs(np.subtract(means, np.rint(means), out=means), out=means)
    margin = 255 * (len(factors) + 8) * 2.0**-24  # more than float32 can err
    undecided = np.nonzero(means < margin)
    blurred[undecided] = _in_float32(values, undecided, _zoom_lines(height, factors), _zoom_lines(width, factors))
    return np.ascontiguousarray(blurred.reshape(height, width, count, 3).transpose(2, 0, 1, 3))


def zoomed(layers: Floats, factor: float) -> Floats:
    """Layers (N, H, W) float64, their middle enlarged by `factor` (1 or more) to the same size."""
    row, column = (zoom_line(side, factor) for side in layers.shape[1:])
    total = np.zeros(layers.shape)
    for rows, row_weights in row.taps:
        for columns, column_weights in column.taps:
            total += layers[:, rows[:, None], columns] * row_weights[:, None] * column_weights
    return total


@dataclass(frozen=True, kw_only=True)
class ZoomLine:
    """Where each of L pixels along one side comes from: two neighbours and their weights.

    Attributes:
        taps: two pairs of (L,) positions and (L,) weights.
    """

    taps: tuple[tuple[Indices, Floats], tuple[Indices, Floats]]


@lru_cache(maxsize=256)
def zoom_line(length: int, factor: float) -> ZoomLine:
    """The enlargement of one side: its middle, at least length / factor pixels, stretched end to end."""
    kept = math.ceil(length / factor)
    stretched = round(kept * factor)
    first = (stretched - length) // 2
    ratio = (kept - 1) / (stretched - 1) if stretched > 1 else 1.0
    places = np.minimum(np.arange(first, first + length) * ratio, kept - 1)
    low = np.floor(places).astype(np.intp)
    near = 1.0 - (places - low)
    top = (length - kept) // 2
    line = ZoomLine(taps=((top + low, near), (top + np.minimum(low + 1, kept - 1), 1.0 - near)))
    for positions, weights in line.taps:  # they are shared by all callers
        positions.setflags(write=False)
        weights.setflags(write=False)
    return line


def _zoom_lines(length: int, factors: Floats) -> list[ZoomLine]:
    return [zoom_line(length, factor) for factor in factors.tolist()]


@lru_cache(maxsize=2)  # large at 224x224: 20 to 40 MB
def _mean_of_zooms(height: int, width: int, factors: tuple[float, ...]) -> sparse.csr_array:
    """The mean of the picture and its enlargements as a matrix, (H W, H W) float64."""
    total = sparse.eye_array(height * width, format="csr")
    for factor in factors:
        total = total + sparse.kron(_matrix(height, factor), _matrix(width, factor), format="csr")
    return total / (len(factors) + 1)


def _matrix(length: int, factor: float) -> sparse.coo_array:
    """The enlargement of one side as a matrix, (L, L) float64."""
    (low, near), (high, far) = zoom_line(length, factor).taps
    lines = np.arange(length)
    entries = (np.concatenate((near, far)), (np.concatenate((lines, lines)), np.concatenate((low, high))))
    return sparse.coo_array(entries, shape=(length, length))


def _in_float32(
    values: Images, chosen: tuple[Indices, ...], row_lines: list[ZoomLine], column_lines: list[ZoomLine]
) -> Images:
    """The chosen values (pixel, column of `values`) of the blurred pictures, computed in the original's order."""
    pixels, places = chosen
    width = len(column_lines[0].taps[0][0])
    rows, columns = np.divmod(pixels, width)
    total = np.zeros(len(pixels), np.float32)
    for row_line, column_line in zip(row_lines, column_lines, strict=True):
        zoomed_values = np.zeros(len(pixels))
        for lines, line_weights in row_line.taps:
            for spots, spot_weights in column_line.taps:
                tapped = FRACTIONS[values[lines[rows] * width + spots[columns], places]].astype(np.float64)
                zoomed_values += tapped * line_weights[rows] * spot_weights[columns]
        total += zoomed_values.astype(np.float32)
    total = (FRACTIONS[values[chosen]] + total) / np.float32(len(row_lines) + 1)
    levels: Images = (np.clip(total, 0, 1) * np.float32(255)).astype(np.uint8)
    return levels
