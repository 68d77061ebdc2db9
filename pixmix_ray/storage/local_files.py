"""Files on a local disk: written beside and renamed, and listed quickly. Places are texts: a Path costs too much."""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

PART = ".part"  # behind the name of a file that is being written


def write(target: str, content: bytes) -> None:
    """Write a file whole, in a folder that is made if it is not there."""
    beside = _written_beside(target, content)
    try:
        os.rename(beside, target)
    except BaseException:
        _remove(beside)
        raise


def write_new(target: str, content: bytes) -> bool:
    """Write a file whole where there is none; whether that was so."""
    beside = _written_beside(target, content)
    try:
        os.link(beside, target)
    except FileExistsError:
        return False
    finally:
        _remove(beside)
    return True


def paths(root: str, prefix: str) -> dict[str, None]:
    """The files at or below `prefix`, relative to `root`."""
    return dict.fromkeys(entry.path[len(root.rstrip("/")) + 1 :] for entry in _entries(root, prefix))


def stamps(root: str, prefix: str) -> dict[str, tuple[int, int]]:
    """The same, each with its time of change in nanoseconds and its size."""
    skipped = len(root.rstrip("/")) + 1
    found: dict[str, tuple[int, int]] = {}
    for entry in _entries(root, prefix):
        with suppress(FileNotFoundError):  # removed meanwhile
            status = entry.stat()
            found[entry.path[skipped:]] = status.st_mtime_ns, status.st_size
    return found


def _entries(root: str, prefix: str) -> Iterator["os.DirEntry[str]"]:
    top = os.path.join(root, prefix).rstrip("/")
    if os.path.isfile(top):
        with os.scandir(os.path.dirname(top)) as entries:
            yield from (entry for entry in entries if entry.path == top)
        return
    folders = [top]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif not entry.name.endswith(PART):
                        yield entry
        except (FileNotFoundError, NotADirectoryError):
            continue


def _written_beside(target: str, content: bytes) -> str:
    """A file beside `target` with all of `content`, safe on the disk; its name is nobody else's."""
    beside = f"{target}.{uuid.uuid4().hex}{PART}"
    try:
        with _opened(beside) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        _remove(beside)
        raise
    return beside


def _opened(beside: str) -> BinaryIO:
    try:
        return open(beside, "xb")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(beside), exist_ok=True)
        return open(beside, "xb")


def _remove(place: str) -> None:
    with suppress(OSError):
        os.unlink(place)
