"""Picture files on disk: which ones a folder holds, and how one becomes RGB pixels of a wanted size.

Everything is as in torchvision's ImageFolder and Resize on Pillow images, which the reference code of PixMix uses, so
that the pixels are the same: first frame, no rotation by EXIF, `convert("RGB")`, bilinear filter with antialiasing.
Transparency is dropped on purpose, as there. Where `convert` would turn a picture white or black, of 16 bits or of
floating point, it is brought to 8 bits by its range, or refused.

A picture that differs from its neighbours is taken as it is; one that cannot be decoded, is larger than Pillow allows
(twice Image.MAX_IMAGE_PIXELS) or longer than wide beyond all use is a DataError that names it. Which files of a folder
are pictures is said in `listing`.

`cached_squares` decodes files once a machine into one array, in parallel, from front to back, a run of pictures at a
time: it never holds all of it in memory, as ImageNet's training pictures at 224 pixels are 193 GB.
"""

import io
import math
import os
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pixmix_ray.cache import Streamed, cache_folder, cached_arrays
from pixmix_ray.datasets.encoded import Encoded
from pixmix_ray.datasets.listing import SHOWN, PassedOver, files_below, not_picture, packed
from pixmix_ray.errors import DataError, one_line

DECODING = 2  # raised when the same files come to have other pixels: part of the names of cached entries
# A line of 1 x 5000 pixels resized to a shorter side of 256 would be a gigabyte.
LONGEST_ASPECT = 1000
# What Pillow's readers raise for broken files.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


def picture_files(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """The pictures of a folder and all folders below it, sorted by relative path.

    Args:
        folder: where to look.
        passed_over: what is no picture is counted here; none says it, in a warning of one line.

    Raises:
        DataError: there is no such folder, no picture in it, a folder below cannot be read, or holds a link to itself.
    """
    if not folder.is_dir():
        if (file := packed(folder)) is not None:
            raise DataError(f"{file} is a file and not a folder: unpack it, and give the folder")
        raise DataError(f"there is no folder {folder}: give the path of a folder of pictures")
    counted = PassedOver() if passed_over is None else passed_over
    found = files_below(folder, not_picture, counted)
    if passed_over is None:
        counted.say(folder)
    if not found:
        raise DataError(f"no pictures in {folder} or below it: files must end in {SHOWN}")
    return found


def decoded(content: bytes, name: str) -> Image.Image:
    """Encoded bytes, `name` in messages, as RGB; raises DataError as `rgb_picture` does."""
    return _rgb(io.BytesIO(content), name)


def picture_size(file: Path) -> tuple[int, int]:
    """(width, height) of a picture in pixels, from its header alone; raises DataError as `rgb_picture` does."""
    with _opened(file, str(file)) as image:
        return image.size


def rgb_picture(file: Path) -> Image.Image:
    """The picture as RGB, in its own size.

    Raises:
        DataError: it cannot be decoded, is too large, or is longer than wide beyond all use (named).
    """
    return _rgb(file, str(file))


def _rgb(source: Path | io.BytesIO, name: str) -> Image.Image:
    with _opened(source, name) as image:
        size = image.size
        rgb = to_rgb(image, name)
    if rgb.size != size:  # a TIFF that is turned by its XMP text: places are laid out by the header
        raise DataError(f"the picture {name} is {size} by its header and {rgb.size} decoded: save it again")
    return rgb


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """An opened picture, `name` in messages, as 8-bit RGB: 16-bit integers as a share of 65,535, floats of 1 or 255.

    Raises:
        DataError: its values are of no such range.
    """
    if image.mode == "RGB":
        image.load()
        return image  # what `convert` would make a copy of
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    return _of_wide_values(image, np.asarray(image), name)


def _of_wide_values(image: Image.Image, values: NDArray[Any], name: str) -> Image.Image:
    """A picture of one channel of more than 8 bits as 8-bit RGB; see `to_rgb`."""
    low, high = float(values.min()), float(values.max())
    is_float = values.dtype.kind == "f"
    if image.mode.startswith("I;16") or (not is_float and 255 < high <= 65_535):
        scale = 1 / 257
    else:
        scale = 255.0 if is_float and high <= 1 else 1.0
    if not (low >= 0 and high * scale <= 255):  # NaN is of no range
        kind = "floating point" if is_float else "integers"
        raise DataError(
            f"the picture {name} holds {kind} from {low:g} to {high:g}: they must be in [0, 255], "
            f"{'or [0, 1]' if is_float else 'or [0, 65535]'}; save it with 8 bits"
        )
    if scale == 1:
        return image.convert("RGB")
    return Image.fromarray(np.floor(values * scale + 0.5).astype(np.uint8)).convert("RGB")


def check_aspect(name: str, width: int, height: int) -> None:
    """Refuse a picture, `name` in messages, with one side more than `LONGEST_ASPECT` times the other: DataError."""
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        sizes = f"{width} x {height} pixels, one side more than {LONGEST_ASPECT} times the other"
        raise DataError(f"{name} is {sizes}: crop or remove it")


def resized(rgb: Image.Image, shorter_side: int) -> Image.Image:
    """The picture with its shorter side `shorter_side` pixels long, as by torchvision's Resize."""
    wanted = resized_size(rgb.width, rgb.height, shorter_side)
    return rgb if rgb.size == wanted else rgb.resize(wanted, Image.Resampling.BILINEAR)


def resized_box(image: Image.Image, box: tuple[int, int, int, int], size: int) -> Image.Image:
    """The part (left, top, right, bottom) as a square of `size` pixels, as by torchvision's resized_crop."""
    return image.crop(box).resize((size, size), Image.Resampling.BILINEAR)


def centre_cut(image: Image.Image, size: int) -> Image.Image:
    """The square of `size` pixels in the middle, as by torchvision's CenterCrop (halves rounded to even)."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def resized_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """(width, height) after Resize(shorter_side): the longer side is int(shorter_side * longer / shorter).

    >>> resized_size(500, 375, 36)
    (48, 36)
    """
    if width <= height:
        return shorter_side, int(shorter_side * height / width)
    return int(shorter_side * width / height), shorter_side


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` of each item, in order; the first error ends it.

    Threads are enough, since Pillow and hashlib work outside the interpreter's lock. Warnings are silent meanwhile:
    Pillow's are about metadata and size, and what it cannot decode it raises. They are switched here since in the
    threads themselves, which share the switch, it would not be safe.
    """
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


@contextmanager
def _opened(source: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """The picture with its header read; errors of the readers, also while it is decoded, become DataErrors."""
    try:
        with Image.open(source) as image:
            check_aspect(name, *image.size)
            yield image
    except DataError:  # a ValueError too
        raise
    except DECODING_ERRORS as error:
        raise _undecodable(name, error) from error


def _undecodable(name: str, error: Exception) -> DataError:
    # Pillow names the stream, an object in memory, where it knows no format
    reason = "no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else one_line(error)
    return DataError(f"cannot decode the picture {name} ({type(error).__name__}: {reason}): replace or remove it")


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
