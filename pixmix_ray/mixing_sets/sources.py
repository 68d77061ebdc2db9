"""Where a user's pictures lie: a folder of picture files, a zip file of them, or an array file.

A zip file is read where it lies: no name in it becomes a path, and nothing is unpacked to the disk. A member may be at
most `LARGEST_MEMBER` bytes, whatever its header claims, and Pillow bounds the pixels, so no small file becomes a large
one. Which members are pictures is told as in folders, and what is passed over is said.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pixmix_ray.datasets.listing import SHOWN, PassedOver, not_picture, unwanted
from pixmix_ray.datasets.picture_files import (
    DECODING_ERRORS,
    check_aspect,
    picture_files,
    picture_size,
    rgb_picture,
    to_rgb,
)
from pixmix_ray.datasets.picture_source import array_images
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.plugins import ARCHIVES

LARGEST_MEMBER = 2**28
_BROKEN_MEMBER = (*DECODING_ERRORS, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError)


@dataclass(frozen=True, kw_only=True)
class PictureReader:
    """One picture, read when asked for.

    Attributes:
        name: what messages call it.
        short: the same without where it lies.
        size: returns (width, height), from the header where there is one; raises DataError.
        rgb: returns the whole picture; raises DataError.
    """

    name: str
    short: str
    size: Callable[[], tuple[int, int]]
    rgb: Callable[[], Image.Image]


def content_files(path: Path) -> list[Path]:
    """The files that hold the pictures at `path`: those of a folder, or the archive itself.

    Raises:
        DataError: there is nothing at `path`, it is of another kind, or a folder without pictures.
    """
    if path.suffix.lower() not in ARCHIVES or path.is_dir():
        if path.is_file():
            raise DataError(f"{path} is neither a folder nor a file .zip, .npy or .npz of pictures: give one of these")
        return picture_files(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}: give the path of a folder, or of a .zip, .npy or .npz of pictures")
    return [path]


def read_source(path: Path) -> list[PictureReader]:
    """The pictures at `path`: of a folder by relative path, of a zip file by name, of an array as they lie.

    Raises:
        DataError: there is nothing at `path`, or it is broken, empty or of another kind (one line, with the way out).
    """
    files = content_files(path)
    if files != [path]:
        return [_of_file(file) for file in files]
    return _of_zip(path) if path.suffix.lower() == ".zip" else _of_array(path)


def _of_file(file: Path) -> PictureReader:
    return PictureReader(
        name=str(file), short=file.name, size=lambda: picture_size(file), rgb=lambda: rgb_picture(file)
    )


def _of_array(path: Path) -> list[PictureReader]:
    array = array_images(path)
    height, width = array.shape[1:3]

    def reader(row: int) -> PictureReader:
        return PictureReader(
            name=f"number {row} in {path}",
            short=f"{path.stem} {row}",
            size=lambda: (width, height),
            rgb=lambda: Image.fromarray(np.ascontiguousarray(array[row])),
        )

    return [reader(row) for row in range(len(array))]


def _of_zip(path: Path) -> list[PictureReader]:
    try:
        archive = zipfile.ZipFile(path)  # its readers share it, from several threads, as zipfile allows
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        reason = one_line(error)
        raise DataError(f"cannot read the zip file {path} ({reason}): fetch it again, or unpack it") from error
    passed_over = PassedOver()
    members = _pictures(archive, passed_over)
    passed_over.say(path, stacklevel=4)
    if not members:
        raise DataError(f"no pictures in the zip file {path}: members must end in {SHOWN}")
    return [_of_member(archive, member) for member in members]


def _pictures(archive: zipfile.ZipFile, passed_over: PassedOver) -> list[zipfile.ZipInfo]:
    """The members that are pictures, sorted by name; of a hidden folder its members count."""
    found = []
    for member in archive.infolist():
        *folders, name = member.filename.split("/")
        reason = next(filter(None, map(unwanted, folders)), "")
        if member.is_dir():
            continue
        if reason := reason or not_picture(name, partial(archive.open, member)):
            passed_over.kinds[reason] += 1
        else:
            found.append(member)
    return sorted(found, key=lambda member: member.filename)


def _of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> PictureReader:
    shown = "".join(letter if letter.isprintable() else "?" for letter in member.filename)
    name = f"{shown} in {archive.filename}"

    def image(*, whole: bool) -> Image.Image:
        try:
            with Image.open(io.BytesIO(_content(archive, member))) as opened:
                check_aspect(f"the picture {name}", *opened.size)
                if not whole:
                    return opened
                size, rgb = opened.size, to_rgb(opened, name)
        except DataError:  # a ValueError too
            raise
        except _BROKEN_MEMBER as error:
            reason = one_line(error)
            raise DataError(
                f"cannot decode the picture {name} ({type(error).__name__}: {reason}): replace or remove it"
            ) from error
        if rgb.size != size:  # as for files: places are laid out by the header
            raise DataError(f"the picture {name} is {size} by its header and {rgb.size} decoded: save it again")
        return rgb

    return PictureReader(
        name=name,
        short=shown.rpartition("/")[2],
        size=lambda: image(whole=False).size,
        rgb=lambda: image(whole=True),
    )


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as stream:
        content = stream.read(LARGEST_MEMBER + 1)  # not what the header claims: that may be a lie
    if len(content) > LARGEST_MEMBER:
        raise DataError(f"{member.filename!r} in {archive.filename} is larger than {LARGEST_MEMBER} bytes: remove it")
    return content
