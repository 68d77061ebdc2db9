"""Which files are pictures: one rule for folders, class folders and archives, and one line about what it passes over.

A picture is a file whose name ends as those that Pillow can open, or that has no ending and starts as a picture does.
What is hidden or of a system (`.DS_Store`, `__MACOSX`, `@eaDir`) is passed over, at every level, and so are folders
that a link reaches a second time. What was passed over is counted by kind and said once, as a warning: a set that
misses half of its pictures must not look whole.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import DataError

# fmt: off
EXTENSIONS = frozenset(
    {
        ".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits",
        ".flc", ".fli", ".ftc", ".ftu", ".gbr", ".gif", ".icb", ".icns", ".ico", ".im", ".j2c", ".j2k", ".jfif",
        ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".msp", ".pbm", ".pcd", ".pcx", ".pfm", ".pgm",
        ".png", ".pnm", ".ppm", ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff",
        ".vda", ".vst", ".webp", ".xbm", ".xpm",
    }
)
"""Endings of pictures: those of torchvision's ImageFolder and all that Pillow decodes by itself."""
# fmt: on

SHOWN = "png, jpg, webp, bmp, gif, tif and whatever else Pillow opens"
SYSTEM = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
)
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"P5\n", b"P6\n")
NAMED_KINDS = 6


class PassedOverWarning(UserWarning):
    """Something in a folder or archive was not taken for a picture."""


@dataclass
class PassedOver:
    """What was not taken, counted by kind.

    Attributes:
        kinds: such as {"hidden": 2, ".txt": 1}.
    """

    kinds: Counter[str] = field(default_factory=Counter)

    def as_arrays(self) -> dict[str, NDArray[np.generic]]:
        """What was counted, as arrays to keep beside a listing: `passed_over`, and `passed_over_counts`."""
        return {
            "passed_over": np.array(list(self.kinds), dtype=np.str_),
            "passed_over_counts": np.array(list(self.kinds.values()), dtype=np.int64),
        }

    def add(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Count what a listing has kept by `as_arrays`."""
        for kind, count in zip(arrays["passed_over"], arrays["passed_over_counts"], strict=True):
            self.kinds[str(kind)] += int(count)

    def say(self, where: object, stacklevel: int = 3) -> None:
        """Warn, in one line, of what was passed over in `where`, if anything was."""
        if self.kinds:
            most = [f"{count} {kind}" for kind, count in self.kinds.most_common(NAMED_KINDS)]
            rest = sum(self.kinds.values()) - sum(count for _, count in self.kinds.most_common(NAMED_KINDS))
            text = ", ".join([*most, f"{rest} others"] if rest else most)
            total = sum(self.kinds.values())
            what = "is not a picture" if total == 1 else "are not pictures"
            message = f"passed over {total} in {where} that {what}: {text}"
            warnings.warn(message, PassedOverWarning, stacklevel=stacklevel)


def unwanted(name: str) -> str:
    """Why a file or folder called so is not looked at; "" if it is.

    >>> [unwanted(name) for name in (".DS_Store", "@eaDir", "ant.png")]
    ['hidden', 'system', '']
    """
    if name.lower() in SYSTEM | SYSTEM_FILES:
        return "system"
    return "hidden" if name.startswith(".") and name.strip(".") else ""


def not_picture(name: str, opened: Callable[[], IO[bytes]]) -> str:
    """Why a file is no picture, by its name or, if that has no ending, by its start; "" if it is one."""
    if reason := unwanted(name):
        return reason
    extension = os.path.splitext(name)[1].lower()
    if extension in EXTENSIONS:
        return ""
    if extension:
        return extension
    try:
        with opened() as stream:
            start = stream.read(12)
    except OSError:
        return "unreadable without an extension"
    is_picture = start.startswith(STARTS) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")
    return "" if is_picture else "without an extension"


def packed(folder: Path) -> Path | None:
    """The file on a path meant for a folder, such as an archive that is not unpacked; none if there is none."""
    return next((place for place in (folder, *folder.parents) if place.is_file()), None)


def files_below(
    folder: Path, not_wanted: Callable[[str, Callable[[], IO[bytes]]], str], passed_over: PassedOver
) -> list[Path]:
    """The files of a folder and all folders below it, sorted by relative path; each real folder counts once.

    Links are followed; one that leads to nowhere counts as a file, and is an error when that is read.

    Args:
        folder: where to look.
        not_wanted: says why a file is not wanted, "" if it is, given its name and a function that opens it.
        passed_over: what is not wanted is counted here.

    Raises:
        DataError: a folder cannot be read, or holds a link to a folder that holds it.
    """
    found: list[Path] = []
    seen = {_identity(folder)}
    links: list[Path] = []
    for entry in _entries(folder, passed_over, seen, links):
        _take(entry, not_wanted, passed_over, found)
    while links:
        link = links.pop(0)
        if Path(link).parent.resolve().is_relative_to(os.path.realpath(link)):
            raise DataError(f"{link} is a link to a folder above it, an endless path: remove the link")
        if (identity := _identity(link)) in seen:
            passed_over.kinds["repeated link"] += 1
            continue
        seen.add(identity)
        for entry in _entries(link, passed_over, seen, links):
            _take(entry, not_wanted, passed_over, found)
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _take(
    entry: "os.DirEntry[str]",
    not_wanted: Callable[[str, Callable[[], IO[bytes]]], str],
    passed_over: PassedOver,
    found: list[Path],
) -> None:
    path = Path(entry.path)
    # a pipe would be waited for without end, also behind a link; a link that leads nowhere is an error when it is read
    is_file = entry.is_file() or (entry.is_symlink() and not path.exists())
    if reason := not_wanted(entry.name, lambda: path.open("rb")) if is_file else "not a regular file":
        passed_over.kinds[reason] += 1
    else:
        found.append(path)


def _entries(
    folder: Path, passed_over: PassedOver, seen: set[tuple[int, int]], links: list[Path]
) -> "Iterator[os.DirEntry[str]]":
    """The files below `folder`, folders that are links put aside into `links`."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {error.filename}: {error.strerror}. Check its permissions") from error
    for entry in listed:
        if not entry.is_dir():
            yield entry
        elif reason := unwanted(entry.name):
            passed_over.kinds[reason] += 1
        elif entry.is_symlink():
            links.append(Path(entry.path))
        else:
            seen.add(_identity(Path(entry.path)))
            yield from _entries(Path(entry.path), passed_over, seen, links)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        stat = folder.stat()
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}. Check its permissions") from error
    return stat.st_dev, stat.st_ino
