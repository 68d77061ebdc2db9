"""Folders with one folder a class, the layout of ImageNet, Places365, ImageNet-C, ImageNet-P and ImageNet-R.

The order is that of torchvision's ImageFolder, which the published labels follow: classes by the names of their
folders, files within a class by relative path. The listing of a large set is kept in the cache, as long as no folder
of a class changes.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import cache_folder, cached_arrays
from pixmix_ray.datasets.encoded import PathList
from pixmix_ray.datasets.listing import PassedOver, packed, unwanted
from pixmix_ray.datasets.picture_files import picture_files
from pixmix_ray.errors import DataError
from pixmix_ray.identity import short_hash

VIDEO = ".mp4"
MANY = 10_000  # files, from which on a listing is kept
SETTLED_NS = 2_000_000_000  # two changes of a folder within a tick of the clock leave the same stamp


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFolders:
    """The files of a folder with one folder a class.

    Attributes:
        files: N files, class after class.
        labels: (N,) int64, the number of each file's class.
        class_names: the names of the classes' folders, sorted.
    """

    files: Sequence[Path]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


FilesOf = Callable[[Path, PassedOver], list[Path]]
"""Lists the files of one class, and counts what it passes over; raises DataError where there are none."""


def class_folders(
    folder: Path, files_of: FilesOf = picture_files, *, is_text_order: bool = True, only: frozenset[str] | None = None
) -> ClassFolders:
    """The files below `folder`, each with the number of its class; what is passed over is said in one line.

    Args:
        folder: holds one folder a class.
        files_of: lists the files of one class.
        is_text_order: as for `class_names`.
        only: the classes that are wanted; none: all.

    Raises:
        DataError: there is no such folder, it holds no folder, lacks a class that is wanted, or one has no files.
    """
    passed_over = PassedOver()
    names = class_names(folder, passed_over, is_text_order=is_text_order)
    if only is not None:
        if missing := sorted(only - set(names)):
            raise DataError(f"{folder} has no folder {missing[0]!r}, which is among the classes that are wanted")
        names = tuple(name for name in names if name in only)
    entry, is_settled = _listing_entry(folder, names, files_of)
    if (cache_folder() / entry).is_dir():
        arrays = dict(cached_arrays(entry, lambda: _listing(folder, names, files_of)))
    else:
        arrays = _listing(folder, names, files_of)
        # a folder below that of a class changes without that one's stamp
        is_flat = np.count_nonzero(arrays["text"] == ord("/")) == len(arrays["ends"])
        if is_settled and is_flat and len(arrays["labels"]) >= MANY:
            arrays = dict(cached_arrays(entry, lambda: arrays))
    passed_over.add(arrays)
    passed_over.say(folder)
    text, ends = cast(NDArray[np.uint8], arrays["text"]), cast(NDArray[np.int64], arrays["ends"])
    return ClassFolders(
        files=PathList(folder, text, ends),
        labels=cast(NDArray[np.int64], arrays["labels"]),
        class_names=names,
    )


def _listing_entry(folder: Path, names: tuple[str, ...], files_of: FilesOf) -> tuple[str, bool]:
    """The name in the cache of a listing, by the stamps of the classes' folders; and whether those are old enough."""
    stamps = [os.stat(folder / name).st_mtime_ns for name in names]
    entry = f"listing-{short_hash(repr((str(folder), files_of.__name__, names, stamps)), 24)}"
    return entry, time.time_ns() - max(stamps) > SETTLED_NS


def _listing(folder: Path, names: tuple[str, ...], files_of: FilesOf) -> dict[str, NDArray[np.generic]]:
    """The files of all classes as arrays: their paths, labels, and what was passed over."""
    passed_over, counts = PassedOver(), []

    def files() -> Iterator[Path]:
        for name in names:
            found = files_of(folder / name, passed_over)
            counts.append(len(found))
            yield from found

    paths = PathList.of(folder, files())
    return {
        "text": paths.text,
        "ends": paths.ends,
        "labels": np.repeat(np.arange(len(names), dtype=np.int64), counts),
        **passed_over.as_arrays(),
    }


def class_names(folder: Path, passed_over: PassedOver | None = None, *, is_text_order: bool = True) -> tuple[str, ...]:
    """The names of the folders of classes in `folder`, in their order.

    Args:
        folder: holds them.
        passed_over: what is none is counted here.
        is_text_order: whether names are sorted as text, as by torchvision's ImageFolder, also where all are numbers.

    Raises:
        DataError: there is no such folder, or none in it.
    """
    counted = PassedOver() if passed_over is None else passed_over
    try:
        names = _folder_names(folder, counted)
    except OSError as error:
        if (file := packed(folder)) is not None:
            raise DataError(f"{file} is a file and not a folder: unpack it, and give the folder") from None
        raise DataError(
            f"cannot read the folder {folder}: {error.strerror}. It must hold one folder a class"
        ) from error
    if not names:
        raise DataError(f"{folder} holds no folders: it must hold one folder a class, with the pictures in them")
    names.sort()
    if not is_text_order and all_numbers(names):
        names.sort(key=int)
    return tuple(names)


def _folder_names(folder: Path, passed_over: PassedOver) -> list[str]:
    """The names of the folders in `folder`, each folder once, in no order; raises OSError where it cannot be read."""
    names: list[str] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            reason = unwanted(entry.name)
            if entry.is_dir() and not reason:
                (links if entry.is_symlink() else names).append(entry.name)
            else:
                passed_over.kinds[reason or "files beside the classes"] += 1
    seen = {os.path.realpath(folder / name) for name in names} if links else set()
    for name in sorted(links):  # the usual way to a subset; two ways to one folder are one class
        if (place := os.path.realpath(folder / name)) in seen:
            passed_over.kinds["second ways to a folder"] += 1
        else:
            seen.add(place)
            names.append(name)
    return names


def all_numbers(names: Sequence[str]) -> bool:
    """Whether all names of classes are numbers."""
    return all(name.isascii() and name.isdecimal() for name in names)


def video_files(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """The .mp4 files right in a folder, sorted by name; raises DataError if there are none."""
    counted = PassedOver() if passed_over is None else passed_over
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if reason := unwanted(entry.name) or ("" if entry.name.lower().endswith(VIDEO) else "no .mp4"):
                    counted.kinds[reason] += 1
                elif entry.is_file():
                    found.append(Path(entry.path))
                else:
                    counted.kinds["no regular files"] += 1
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}. Is the data set complete?") from error
    if not found:
        raise DataError(f"no videos in {folder}: files must end in {VIDEO}")
    return sorted(found)
