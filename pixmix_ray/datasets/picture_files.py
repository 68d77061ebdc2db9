"""Picture files on disk: which ones a folder holds, and how one becomes RGB pixels of a wanted size.

Everything is as in torchvision's ImageFolder and Resize on Pillow images, which the reference code of PixMix uses, so
that the pixels are the same: first frame, no rotation by EXIF, `convert("RGB")`, bilinear filter with antialiasing.
`convert` has its odd sides, kept on purpose: transparency is dropped, and 16-bit grey is cut off at 255.

A picture that differs from its neighbours is taken as it is; one that cannot be decoded, is larger than Pillow allows
(twice Image.MAX_IMAGE_PIXELS) or longer than wide beyond all use is a DataError that names it. Nothing is left out.
"""

import os
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from PIL import Image

from pixmix_ray.errors import DataError, one_line

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})
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


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder and all folders below it, told by their extension, sorted by relative path.

    Links are followed; one that leads nowhere counts as a picture, and is an error when that is read.

    Raises:
        DataError: there is no such folder, no picture in it, a folder below cannot be read, or holds a link to itself.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give the path of a folder of pictures")
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        _check_links(parent, folders)
        found += [Path(parent, name) for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS]
    if not found:
        allowed = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise DataError(f"no pictures in {folder} or below it: files must end in one of {allowed}")
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def picture_size(file: Path) -> tuple[int, int]:
    """(width, height) of a picture in pixels, from its header alone; raises DataError as `rgb_picture` does."""
    with _opened(file) as image:
        return image.size


def rgb_picture(file: Path) -> Image.Image:
    """The picture as RGB, in its own size.

    Raises:
        DataError: it cannot be decoded, is too large, or is longer than wide beyond all use (named).
    """
    with _opened(file) as image:
        size = image.size
        rgb = image.convert("RGB")
    if rgb.size != size:  # a TIFF that is turned by its XMP text: places are laid out by the header
        raise DataError(f"the picture {file} is {size} by its header and {rgb.size} decoded: save it anew")
    return rgb


def check_aspect(name: str, width: int, height: int) -> None:
    """Refuse a picture, `name` in messages, with one side more than `LONGEST_ASPECT` times the other: DataError."""
    if max(width, height) > LONGEST_ASPECT * min(width, height):
        sizes = f"{width} x {height} pixels, one side more than {LONGEST_ASPECT} times the other"
        raise DataError(f"{name} is {sizes}: crop or remove it")


def resized_picture(file: Path, shorter_side: int) -> Image.Image:
    """The picture as RGB, its shorter side `shorter_side` pixels long; raises DataError as `rgb_picture` does."""
    return resized(rgb_picture(file), shorter_side)


def resized(rgb: Image.Image, shorter_side: int) -> Image.Image:
    """The picture with its shorter side `shorter_side` pixels long, as by torchvision's Resize."""
    wanted = resized_size(rgb.width, rgb.height, shorter_side)
    return rgb if rgb.size == wanted else rgb.resize(wanted, Image.Resampling.BILINEAR)


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
def _opened(file: Path) -> Iterator[Image.Image]:
    """The picture with its header read; errors of the readers, also while it is decoded, become DataErrors."""
    try:
        with Image.open(file) as image:
            check_aspect(str(file), *image.size)
            yield image
    except DataError:  # a ValueError too
        raise
    except DECODING_ERRORS as error:
        raise _undecodable(file, error) from error


def _check_links(parent: str, folders: Sequence[str]) -> None:
    """Raise DataError if one of the folders in `parent` is a link to `parent` or to a folder that holds it."""
    for folder in folders:
        link = os.path.join(parent, folder)
        if os.path.islink(link) and Path(parent).resolve().is_relative_to(os.path.realpath(link)):
            raise DataError(f"{link} is a link to a folder that holds it, an endless path: remove the link")


def _unreadable(error: OSError) -> None:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}. Check its permissions") from error


def _undecodable(file: Path, error: Exception) -> DataError:
    reason = one_line(error)
    way_out = "replace or remove it"
    if file.name.startswith("._"):
        way_out = "macOS leaves such files beside copies, remove them all with find FOLDER -name '._*' -delete"
    return DataError(f"cannot decode the picture {file} ({type(error).__name__}: {reason}): {way_out}")
