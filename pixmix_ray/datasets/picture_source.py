"""Pictures of the user's, out of a folder of picture files or out of one array file, as squares of a wanted size.

An array file is a .npy with one uint8 array (N, H, W, 3), or a .npz that holds one such array, or one called `images`.
The 300K Random Images of Outlier Exposure (Hendrycks et al., ICLR 2019) are published as one .npy of 32 x 32 pixels: an
array of the wanted size is opened where it lies and never copied. All else is made once a machine and then opened from
the cache. Pictures of another size are resized as in the evaluation of Outlier Exposure: shorter side, bilinear with
antialiasing, the centre cut.
"""

import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets.base import evenly_spaced
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.listing import unwanted
from pixmix_ray.datasets.picture_files import (
    DECODING,
    centre_cut,
    check_aspect,
    in_threads,
    picture_files,
    resized,
    rgb_picture,
)
from pixmix_ray.errors import DataError, one_line

Images = NDArray[np.uint8]

WANTED = "a folder of pictures, or an array file .npy or .npz of uint8 (N, H, W, 3)"
# What NumPy's and zipfile's readers raise for broken files: most were seen with damaged ones, all are possible.
BROKEN = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    TypeError,
    LookupError,
    RuntimeError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_AT_ONCE = 256  # small pictures are handed to a thread in runs of this many


def source_images(path: Path, size: int, limit: int | None = None) -> Images:
    """The pictures at `path`, (N, size, size, 3) uint8, read-only; a folder's by relative path, an array's as they lie.

    Args:
        path: a folder of pictures, searched recursively, or an array file.
        size: the side in pixels.
        limit: at most this many, evenly spaced; all of them if None.

    Raises:
        DataError: there is nothing at `path`, or it is broken, empty or of another kind (one line, with the way out).
    """
    if path.is_dir():
        return folder_images(path, size, limit)
    array = array_images(path)
    rows = evenly_spaced(len(array), limit)
    if array.shape[1:3] == (size, size) and len(rows) == len(array):
        return array

    def make() -> dict[str, Images]:
        return {"images": _resized_rows(array, rows, size)}

    entry = f"array-{source_version(path)}-{size}-{len(rows)}"
    return cast(Images, cached_arrays(entry, make)["images"])


def source_version(path: Path) -> str:
    """12 hexadecimal digits of the content at `path`; no picture is decoded.

    Raises:
        DataError: there is nothing at `path`, or it is neither a folder with pictures nor an array file by its name.
    """
    if path.is_dir():
        return folder_version([path])
    _check_kind(path)
    return combined(file_md5s([path]))


def source_reader(path: Path) -> tuple[int, Callable[[Sequence[int], int], Images]]:
    """How many pictures there are at `path`, and a function that reads some of them without keeping anything.

    The function takes indices, in the order of `source_images`, and a size, and returns (n, size, size, 3) uint8.

    Raises:
        DataError: as `source_images`; for a picture file that cannot be decoded, when it is read.
    """
    if not path.is_dir():
        array = array_images(path)
        return len(array), lambda rows, size: _resized_rows(array, np.asarray(rows, dtype=np.int64), size)
    files = picture_files(path)

    def read(rows: Sequence[int], size: int) -> Images:
        return np.stack(in_threads(lambda row: _square(rgb_picture(files[row]), size), rows))

    return len(files), read


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
        return {"images": np.stack(in_threads(lambda file: _square(rgb_picture(file), size), chosen))}

    entry = f"folder-{combined(file_md5s(chosen))}-{size}-{DECODING}"
    return cast(NDArray[np.uint8], cached_arrays(entry, make)["images"])


def folder_version(folders: Iterable[Path]) -> str:
    """12 hexadecimal digits over the bytes of all pictures, folder after folder, each by relative path.

    Nothing is decoded. Names are not part of it: renamed files that keep their order are the same data.

    Raises:
        DataError: no such folder, no pictures in it, or one that cannot be read.
    """
    return combined(file_md5s([file for folder in folders for file in picture_files(folder)]))


def to_device(images: Images, device: torch.device | str) -> Tensor:
    """The pictures as a tensor of the same shape; on the CPU it is the array itself, even a map: only to be read."""
    with warnings.catch_warnings():  # of arrays that are read-only, torch warns
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(images).to(device)


def _square(rgb: Image.Image, size: int) -> Images:
    return np.asarray(centre_cut(resized(rgb, size), size))


def _resized_rows(array: Images, rows: NDArray[np.int64], size: int) -> Images:
    """The pictures `rows` of `array` as squares, (len(rows), size, size, 3) uint8, a new array."""
    if array.shape[1:3] == (size, size):
        return array[rows]
    squares = np.empty((len(rows), size, size, 3), dtype=np.uint8)

    def fill(start: int) -> None:
        for place, row in enumerate(rows[start : start + _AT_ONCE], start):
            squares[place] = _square(Image.fromarray(np.ascontiguousarray(array[row])), size)

    in_threads(fill, range(0, len(rows), _AT_ONCE))
    return squares


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise DataError(f"there is nothing at {path}: give {WANTED}")
    if not path.is_file() or path.suffix.lower() not in (".npy", ".npz"):
        raise DataError(f"{path} is neither a folder nor a .npy or .npz file: give {WANTED}")


def array_images(path: Path) -> Images:
    """The whole array of a file, (N, H, W, 3) uint8, as a memory map; that of a .npz is laid out in the cache first.

    Raises:
        DataError: there is no such file, or it holds no such array.
    """
    _check_kind(path)
    if path.suffix.lower() == ".npz":
        entry = f"array-{source_version(path)}"
        return cast(Images, cached_arrays(entry, lambda: {"images": _unpacked(path)})["images"])
    with _reading(path):
        array = np.lib.format.open_memmap(path, mode="r")
    return _checked(array, str(path))


def _unpacked(path: Path) -> Images:
    """The array `images` of a .npz, or its only one."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        wanted = [name for name in archive.namelist() if not any(map(unwanted, name.split("/")))]
        members = {name.removesuffix(".npy"): name for name in wanted if name.endswith(".npy")}
        name = "images" if "images" in members else next(iter(members), "")
        if name != "images" and len(members) != 1:
            held = ", ".join(sorted(members)) or "no array"
            raise DataError(f"{path} holds {held}: store one array in it, or call that of the pictures 'images'")
        with archive.open(members[name]) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    return _checked(array, f"{name} in {path}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of the readers become DataErrors; their warnings, that Python 2 wrote a file, are of no use."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except DataError:  # a ValueError too
        raise
    except BROKEN as error:
        reason = one_line(error)
        raise DataError(
            f"{path} cannot be read as an array file ({type(error).__name__}: {reason}): "
            "it must be a whole .npy or .npz of uint8 (N, H, W, 3), without pickled objects"
        ) from error


def _checked(array: NDArray[np.generic], name: str) -> Images:
    """`array`, if it is one of pictures."""
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        held = f"{array.dtype} {tuple(array.shape)}"
        raise DataError(f"{name} is {held}: it must be uint8 (N, H, W, 3), RGB from 0 to 255, with N at least 1")
    check_aspect(name, array.shape[2], array.shape[1])
    return cast(Images, array)
