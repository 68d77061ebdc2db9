"""Picture files on disk: which ones a folder holds, and how one becomes RGB pixels of a wanted size.

Everything is as in torchvision's ImageFolder and Resize on Pillow images, which the reference code of PixMix uses, so
that the pixels are the same: first frame, no rotation by EXIF, `convert("RGB")`, bilinear filter with antialiasing.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from pixmix_ray.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"})
# What Pillow's readers raise for broken files.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    KeyError,
    Image.DecompressionBombError,
)

Item = TypeVar("Item")
Result = TypeVar("Result")


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder and all folders below it, told by their extension, sorted by relative path.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give the path of a folder of pictures")
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in EXTENSIONS
    ]
    if not found:
        allowed = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise DataError(f"no pictures in {folder} or below it: files must end in one of {allowed}")
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def picture_size(file: Path) -> tuple[int, int]:
    """(width, height) of a picture in pixels, from its header alone; raises DataError if it is no picture."""
    try:
        with Image.open(file) as image:
            return image.size
    except DECODING_ERRORS as error:
        raise _undecodable(file, error) from error


def resized_picture(file: Path, shorter_side: int) -> Image.Image:
    """The picture as RGB, its shorter side `shorter_side` pixels long; raises DataError if it cannot be decoded."""
    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
    except DECODING_ERRORS as error:
        raise _undecodable(file, error) from error
    wanted = resized_size(rgb.width, rgb.height, shorter_side)
    return rgb if rgb.size == wanted else rgb.resize(wanted, Image.Resampling.BILINEAR)


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

    Threads are enough, since Pillow and hashlib work outside the interpreter's lock.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


def _undecodable(file: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())
    return DataError(f"cannot decode the picture {file} ({type(error).__name__}: {reason}): replace or remove it")
