"""Digital: pixelation.

Source: hendrycks/robustness@8190fe3, pixelate, through Pillow. Small pictures are shrunk by NumPy, all at once, and
large ones by Pillow, one by one, which is faster there; the bytes are the same, those of Pillow's BOX filter.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

LARGE = 64 * 64  # pixels from which on Pillow is faster


def pixelate(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures shrunk to the share `constants[0]` of each side (BOX filter) and enlarged again.

    The width is shrunk first, then the height, whatever the shape. So does Pillow, but for recent versions on pictures
    more than about twice as tall as wide, which begin with the height; some values then differ by one.
    """
    height, width = images.shape[1:3]
    small_height, small_width = (max(1, int(side * constants[0])) for side in (height, width))
    if height * width >= LARGE:
        small = np.stack([_shrunk(Image.fromarray(image), small_height, small_width) for image in images])
    else:
        small = _box(_box(images, small_width, axis=2), small_height, axis=1)  # each pass ends in bytes
    columns, rows = _nearest(small_width, width), _nearest(small_height, height)
    return small.take(columns, axis=2).take(rows, axis=1)


def _shrunk(image: Image.Image, height: int, width: int) -> Images:
    """One picture shrunk by Pillow, (height, width, 3): the width first and then the height, asked for one by one."""
    narrow = image.resize((width, image.height), Image.Resampling.BOX)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BOX))


def _box(images: Images, size: int, axis: int) -> Images:
    """Pictures shrunk along `axis` to `size`: the mean of the pixels whose centres each target covers, rounded.

    Pillow multiplies by a reciprocal in fixed point with 22 binary digits, then rounds halves up; so do we.
    """
    first, counts = _covered(images.shape[axis], size)
    along_axis = [-1 if dimension == axis else 1 for dimension in range(images.ndim)]
    sums = images.take(first, axis=axis).astype(np.int32)
    for tap in range(1, counts.max()):
        covered = tap < counts
        sums += images.take(np.where(covered, first + tap, first), axis=axis) * covered.reshape(along_axis)
    reciprocals = np.floor(2**22 / counts + 0.5).astype(np.int32).reshape(along_axis)
    shrunk: Images = ((sums * reciprocals + 2**21) >> 22).astype(np.uint8)
    return shrunk


def _covered(length: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first of `length` pixels that each of `size` targets covers, and how many it covers, each (size,).

    In Pillow's order of operations: a centre on the border of two targets falls to either by rounding.
    """
    scale = length / size
    centres = ((np.arange(size) + 0.5) * scale)[:, None]
    pixels = np.arange(length)
    offsets = (pixels - centres + 0.5) * (1 / scale)
    within = (pixels >= (centres - scale / 2 + 0.5).astype(int)) & (pixels < (centres + scale / 2 + 0.5).astype(int))
    covered = within & (offsets > -0.5) & (offsets <= 0.5)
    return covered.argmax(axis=1), covered.sum(axis=1)


def _nearest(size: int, length: int) -> NDArray[np.intp]:
    """Which of `size` pixels each of `length` pixels shows when enlarged, (length,): what BOX does then."""
    return ((np.arange(length) + 0.5) * (size / length)).astype(np.intp)
