"""Folders with one folder a class, the layout of ImageNet, Places365, ImageNet-C, ImageNet-P and ImageNet-R.

The order is that of torchvision's ImageFolder, which the published labels follow: classes by the names of their
folders, files within a class by relative path.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.datasets.listing import PassedOver, unwanted
from pixmix_ray.datasets.picture_files import picture_files
from pixmix_ray.errors import DataError

VIDEO = ".mp4"


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


def class_folders(folder: Path, files_of: FilesOf = picture_files, *, is_text_order: bool = True) -> ClassFolders:
    """The files below `folder`, each with the number of its class; what is passed over is said in one line.

    Args:
        folder: holds one folder a class.
        files_of: lists the files of one class.
        is_text_order: as for `class_names`.

    Raises:
        DataError: there is no such folder, it holds no folder, or a class has no files.
    """
    passed_over = PassedOver()
    names = class_names(folder, passed_over, is_text_order=is_text_order)
    found = [files_of(folder / name, passed_over) for name in names]
    passed_over.say(folder)
    return ClassFolders(
        files=[file for files in found for file in files],
        labels=np.repeat(np.arange(len(names), dtype=np.int64), [len(files) for files in found]),
        class_names=names,
    )


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
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                reason = unwanted(entry.name)
                if entry.is_dir() and not reason:
                    names.append(entry.name)
                else:
                    counted.kinds[reason or "files beside the classes"] += 1
    except OSError as error:
        raise DataError(
            f"cannot read the folder {folder}: {error.strerror}. It must hold one folder a class"
        ) from error
    if not names:
        raise DataError(f"{folder} holds no folders: it must hold one folder a class, with the pictures in them")
    names.sort()
    if not is_text_order and all_numbers(names):
        names.sort(key=int)
    return tuple(names)


def all_numbers(names: Sequence[str]) -> bool:
    """Whether all names of classes are numbers."""
    return all(name.isascii() and name.isdecimal() for name in names)


def video_files(folder: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """The .mp4 files right in a folder, sorted by name; raises DataError if there are none."""
    counted = PassedOver() if passed_over is None else passed_over
    found = []
    try:
        for file in folder.iterdir():
            if reason := unwanted(file.name) or ("" if file.suffix.lower() == VIDEO else "no .mp4"):
                counted.kinds[reason] += 1
            else:
                found.append(file)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}. Is the data set complete?") from error
    if not found:
        raise DataError(f"no videos in {folder}: files must end in {VIDEO}")
    return sorted(found)
