"""Folders of pictures without labels, as used for out-of-distribution sets (Textures, Places69, LSUN and the like).

The geometry is that of the Outlier Exposure evaluation (Hendrycks et al., ICLR 2019): Resize(size) of the shorter side,
then CenterCrop(size).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets.base import evenly_spaced
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_files import (
    DECODING,
    centre_cut,
    in_threads,
    picture_files,
    resized_picture,
)


def folder_images(folder: Path, size: int, limit: int | None = None) -> NDArray[np.uint8]:
    """The pictures of a folder, (N, size, size, 3) uint8, in the order of their relative paths; decoded once a machine.

    Args:
        folder: searched recursively.
        size: the shorter side is resized to this, then the centre is cut out.
        limit: at most this many, evenly spaced over the folder; all of them if None.

    Raises:
        DataError: no such folder, no pictures in it, or one that cannot be decoded (named).
    """
    files = picture_files(folder)
    chosen = [files[index] for index in evenly_spaced(len(files), limit)]

    def make() -> dict[str, NDArray[np.uint8]]:
        return {"images": np.stack(in_threads(lambda file: _centre(file, size), chosen))}

    entry = f"folder-{combined(file_md5s(chosen))}-{size}-{DECODING}"
    return cast(NDArray[np.uint8], cached_arrays(entry, make)["images"])


def folder_version(folders: Iterable[Path]) -> str:
    """12 hexadecimal digits over the bytes of all pictures, folder after folder, each by relative path.

    Nothing is decoded. Names are not part of it: renamed files that keep their order are the same data.

    Raises:
        DataError: no such folder, no pictures in it, or one that cannot be read.
    """
    return combined(file_md5s([file for folder in folders for file in picture_files(folder)]))


def _centre(file: Path, size: int) -> NDArray[np.uint8]:
    return np.asarray(centre_cut(resized_picture(file, size), size))
