"""What the corruptions of C-bar share: pixel positions, reading between pixels, and the truncation at the end.

Source: Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption
Robustness", NeurIPS 2021, and its code facebookresearch/augmentation-corruption@ba4d5a5, imagenet_c_bar. There a
corruption loops over the pixels of one square picture of side `im`. Here a picture may be oblong: what is a place is
taken on its own axis, what is a length is taken of the shorter side.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.corruption import Images

Floats = NDArray[np.float64]
_Real = TypeVar("_Real", np.float32, np.float64)


def truncated(values: NDArray[np.floating]) -> Images:
    """Values in grey levels as bytes: clipped to [0, 255] and truncated, not rounded; `values` is overwritten."""
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def offsets(shape: tuple[int, ...], origins: Floats) -> tuple[Floats, Floats]:
    """How far each pixel lies from its picture's origin, in pixels: rows (N, H, 1) and columns (N, 1, W).

    Args:
        shape: of the pictures, (N, H, W, 3).
        origins: (N, 2), row and column.
    """
    rows = np.arange(shape[1])[:, None] - origins[:, 0, None, None]
    columns = np.arange(shape[2]) - origins[:, 1, None, None]
    return rows, columns


def bilinear(pictures: NDArray[_Real], rows: Floats, columns: Floats) -> NDArray[_Real]:
    """Pictures read between their pixels, (N, H', W', 3); all outside a picture is black.

    In the reference's order of operations: along the columns first, and in the type of the pictures, since rounding
    decides which way a value falls that should be a whole grey level.

    Args:
        pictures: (N, H, W, 3), float32 or float64.
        rows: (N, H', W') or what broadcasts to it, in pixels; the first row is 0.
        columns: the same along the other axis.
    """
    count, height, width = pictures.shape[:3]
    framed = np.zeros((count, height + 2, width + 2, 3), pictures.dtype)
    framed[:, 1:-1, 1:-1] = pictures
    top, left = np.floor(rows), np.floor(columns)
    start = np.arange(count)[:, None, None] * (height + 2)
    upper, lower = ((start + _in_frame(top + step, height)) * (width + 2) for step in (1, 2))
    first, second = (_in_frame(left + step, width) for step in (1, 2))
    pixels = framed.reshape(-1, 3)
    near = (1.0 - columns + left).astype(pictures.dtype)[..., None]
    far = (1.0 - (left + 1) + columns).astype(pictures.dtype)[..., None]
    above = pixels.take(upper + first, axis=0) * near + pixels.take(upper + second, axis=0) * far
    below = pixels.take(lower + first, axis=0) * near + pixels.take(lower + second, axis=0) * far
    above *= (1.0 - rows + top).astype(pictures.dtype)[..., None]
    below *= (1.0 - (top + 1) + rows).astype(pictures.dtype)[..., None]
    blend: NDArray[_Real] = above + below
    return blend


def _in_frame(position: Floats, size: int) -> NDArray[np.intp]:
    """Positions in a picture with a frame of one black pixel; whatever is further out falls on the frame."""
    return np.clip(position, 0, size + 1).astype(np.intp)
