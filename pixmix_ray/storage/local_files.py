"""Files on a local disk: written beside and renamed, and listed quickly. Places are texts: a Path costs too much."""

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pixmix_ray.paths import PART, written_whole


class FileStamp(NamedTuple):
    """What tells whether a file was written anew.

    Attributes:
        modified: nanoseconds since 1970, as the storage has it; 0 where it has none.
        size: in bytes.
    """

    modified: int
    size: int


def write(target: str, content: bytes) -> None:
    """Write a file whole, in a folder that is made if it is not there."""
    with written_whole(target) as beside, _created(beside) as stream:
        stream.write(content)


def write_new(target: str, content: bytes) -> bool:
    """Write a file whole where there is none; whether that was so."""
    try:
        with written_whole(target, is_new=True) as beside, _created(beside) as stream:
            stream.write(content)
    except FileExistsError:
        return False
    return True


def opened(place: str) -> BinaryIO:
    """A file, opened to be read."""
    return open(place, "rb")


def move(place: str, target: str) -> None:
    """Give a file another name, in place of what has that name."""
    os.replace(place, target)


def delete(place: str) -> None:
    """Remove a file."""
    os.unlink(place)


def paths(root: str, prefix: str) -> set[str]:
    """The files at or below `prefix`, relative to `root`."""
    return {f"{folder}{entry.name}" for folder, entries in _folders(root, prefix) for entry in entries}


def stamps(root: str, prefix: str) -> dict[str, FileStamp]:
    """The same, each with its time of change and its size."""
    found: dict[str, FileStamp] = {}
    for folder, entries in _folders(root, prefix):
        for entry in entries:
            try:  # a block for each of 100,000 files would cost more than the system's answer
                status = entry.stat()
            except FileNotFoundError:  # removed meanwhile
                continue
            found[f"{folder}{entry.name}"] = FileStamp(status.st_mtime_ns, status.st_size)
    return found


def _folders(root: str, prefix: str) -> Iterator[tuple[str, list["os.DirEntry[str]"]]]:
    """The files of each folder at or below `prefix`, and its path relative to `root`; if that is a file, it alone."""
    top = os.path.join(root, prefix).rstrip("/")
    skipped = len(root.rstrip("/")) + 1
    if os.path.isfile(top):
        folder = os.path.dirname(top)
        with os.scandir(folder) as entries:
            yield f"{folder}/"[skipped:], [entry for entry in entries if entry.path == top]
        return
    folders = [top]
    while folders:
        folder = folders.pop()
        files: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif not entry.name.endswith(PART):
                        files.append(entry)
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield f"{folder}/"[skipped:], files


def _created(place: str) -> BinaryIO:
    try:
        return open(place, "xb")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return open(place, "xb")
