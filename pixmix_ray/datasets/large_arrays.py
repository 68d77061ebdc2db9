"""Picture files decoded once a machine into one array, in parallel, without ever holding all of it in memory.

For data sets of the size of ImageNet: its training pictures at 224 pixels are 193 GB. The array is written from front
to back, a run of pictures at a time.
"""

import math
import shutil
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import Streamed, cache_folder, cached_arrays
from pixmix_ray.datasets.encoded import Encoded
from pixmix_ray.datasets.picture_files import DECODING, centre_cut, decoded, in_threads, resized
from pixmix_ray.errors import DataError

Images = NDArray[np.uint8]

AT_ONCE = 512  # pictures in memory at a time: 77 MB of them at 224 pixels


def cached_squares(entry: str, pictures: Encoded, rows: NDArray[np.int64], resize: int, size: int) -> Images:
    """The pictures `rows`, (N, size, size, 3) uint8, as a read-only memory map; decoded where it is not there yet.

    Args:
        entry: the name in the cache, which must hold everything that the pixels depend on.
        pictures: encoded.
        rows: (N,) int64, places in `pictures`.
        resize: the shorter side in pixels, before the centre is cut out.
        size: the side in pixels.

    Raises:
        DataError: the cache cannot be written or is too small, or a picture cannot be decoded (named).
    """
    shape = (len(rows), size, size, 3)

    def make() -> dict[str, Streamed]:
        check_space(cache_folder(), math.prod(shape))
        runs = (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))
        pieces = (squares(pictures, run, resize, size) for run in runs)
        return {"images": Streamed(shape=shape, dtype=np.uint8, pieces=pieces)}

    return cast(Images, cached_arrays(f"{entry}-{DECODING}", make)["images"])


def has_squares(entry: str) -> bool:
    """Whether `cached_squares` would find this entry."""
    return (cache_folder() / f"{entry}-{DECODING}").is_dir()


def square(pictures: Encoded, row: int, resize: int | None, size: int) -> Images:
    """One picture as (size, size, 3) uint8.

    Args:
        pictures: encoded.
        row: which of them.
        resize: its shorter side is resized to this, as by torchvision's Resize; none leaves it as it is.
        size: then the centre is cut out, as by torchvision's CenterCrop.

    Raises:
        DataError: it cannot be decoded, or is smaller than the square.
    """
    rgb = decoded(pictures.read(row), pictures.name(row))
    if resize is not None:
        rgb = resized(rgb, resize)
    if min(rgb.size) < size:
        raise DataError(
            f"the picture {pictures.name(row)} is {rgb.width} x {rgb.height} pixels: it must be at least "
            f"{size} x {size}, the size of the data set's test pictures"
        )
    return np.asarray(centre_cut(rgb, size))


def squares(pictures: Encoded, rows: NDArray[np.int64], resize: int | None, size: int) -> Images:
    """The pictures `rows`, (N,) int64, as (N, size, size, 3) uint8, each as by `square`; decoded in threads."""
    found = np.empty((len(rows), size, size, 3), np.uint8)
    for place, picture in enumerate(in_threads(lambda row: square(pictures, row, resize, size), rows.tolist())):
        found[place] = picture
    return found


def check_space(folder: Path, needed: int) -> None:
    """Raise DataError if so many bytes do not fit: better now than after an hour."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"the cache {folder} has {free / 1e9:.1f} GB free and the decoded pictures take {needed / 1e9:.1f} GB: "
            "set PIXMIX_RAY_CACHE to a larger disk, or a limit on the pictures"
        )
