"""Arrays that are made once a machine and read by every process through a memory map.

The cache is a folder: $PIXMIX_RAY_CACHE, else $XDG_CACHE_HOME/pixmix_ray, else ~/.cache/pixmix_ray. An entry is a
folder of .npy files, written beside under a lock and renamed, so a half-made one is never taken for whole. It may hold
a manifest.json beside the arrays, that says what they are and where they come from. Folders are made for their owner
alone (mode 0700), and one that belongs to somebody else is refused: what lies in it could be anything.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import DTypeLike, NDArray

from pixmix_ray import paths
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.version import __version__

MANIFEST = "manifest.json"
CONTENTS = "contents.json"  # the files of an entry and their sizes
ARRAY = ".npy"


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """An array that is written piece by piece, so that it need never be held whole.

    Attributes:
        shape: of the whole array.
        dtype: of the whole array.
        pieces: its parts along the first axis, in order; gone through once.
    """

    shape: tuple[int, ...]
    dtype: DTypeLike
    pieces: Iterable[NDArray[np.generic]]


Arrays = Mapping[str, NDArray[np.generic] | Streamed]


def cache_folder() -> Path:
    """The folder of the cache (it need not exist yet), an absolute path.

    Raises:
        DataError: no variable names it, and this user has no home; or what it names is no local path.
    """
    try:
        if folder := os.environ.get("PIXMIX_RAY_CACHE"):
            if "://" in (text := paths.written_path(folder)):
                raise ValueError(f"PIXMIX_RAY_CACHE = {folder!r} is not a local path")
            found = Path(text).absolute()
            os.environ["PIXMIX_RAY_CACHE"] = str(found)  # the same folder in processes that start elsewhere
            return found
        base = os.environ.get("XDG_CACHE_HOME", "")  # a relative one counts for nothing, as its specification has it
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "pixmix_ray"
    except (RuntimeError, ValueError) as error:
        raise DataError(f"no folder for the cache was found ({one_line(error)}): set PIXMIX_RAY_CACHE to one") from None


def private_folder(folder: Path) -> Path:
    """`folder`, the cache's own or one within it, made for its owner alone (mode 0700) where it is not there yet.

    Raises:
        DataError: it, or the cache, belongs to another user.
        OSError: it cannot be made.
    """
    root = cache_folder()
    within = [folder, *folder.parents]
    for place in reversed(within[: within.index(root) + 1]):
        if not place.parent.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        check_owner(place)
    return folder


def check_owner(place: Path) -> None:
    """Raises DataError where a folder or file of the cache belongs to another user."""
    if (owner := place.stat().st_uid) != os.geteuid():
        raise DataError(
            f"the cache {place} belongs to another user (number {owner}) and is not used: "
            "set PIXMIX_RAY_CACHE to a folder of yours"
        )


def cached_arrays(
    entry: str, make: Callable[[], Arrays], manifest: Callable[[], Mapping[str, object]] | None = None
) -> dict[str, NDArray[np.generic]]:
    """The arrays of `entry`, read-only and memory-mapped; `make` is called only if it is not there, or not whole.

    Whole is an entry whose files are there at the sizes that were written: programs that clean caches remove single old
    files, and copies break off.

    Args:
        entry: the entry's name, which must hold everything that the arrays depend on (a version or content hash).
        make: returns the arrays by name.
        manifest: asked once the arrays are written: what to say of them, as JSON values; see `read_manifest`. None
            writes no manifest.

    Raises:
        DataError: the cache folder cannot be written, is full, or belongs to another user.
    """
    folder = cache_folder() / entry
    if folder.is_dir():
        private_folder(folder)
        if (found := _whole(folder)) is not None:
            return found
    with reported_writing(folder):
        private_folder(folder.parent)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    try:
        if (found := _whole(folder)) is None:  # another process may have made it while we waited
            arrays = make()
            with reported_writing(folder):
                _write(folder, arrays, manifest)
            found = _whole(folder)
    finally:
        lock.release()
    if found is None:
        raise DataError(f"the cache entry {folder} cannot be read although it was just written: check its disk")
    return found


def _whole(folder: Path) -> dict[str, NDArray[np.generic]] | None:
    """The arrays of an entry; none if it is not there, or lacks something that was written, or cannot be read."""
    try:
        sizes = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        if any((folder / name).stat().st_size != size for name, size in sizes.items()):
            return None
        return {
            name.removesuffix(ARRAY): np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in sorted(sizes)
            if name.endswith(ARRAY)
        }
    except (OSError, ValueError, AttributeError, EOFError, SyntaxError):
        return None


def read_manifest(entry: str) -> dict[str, Any] | None:
    """What the manifest of `entry` says, or None where the entry has none.

    Beside what its maker said: `entry`, `made_at` (ISO 8601, UTC), `code_version`, and for each file of `files` its
    `shape`, `dtype` and `sha256`, which is that of the file, so that the program sha256sum can check it.
    """
    file = cache_folder() / entry / MANIFEST
    if not file.is_file():
        return None
    check_owner(file)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@contextmanager
def reported_writing(place: Path) -> Iterator[None]:
    """Errors of the file system become DataErrors that name `place` and the way out."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the cache {place}: {error}. Set PIXMIX_RAY_CACHE to a writable folder with enough space"
        ) from error


@contextmanager
def written_whole(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content is `file` once it was written to its end, and on the disk; else nothing is left."""
    with paths.written_whole(file) as beside, Path(beside).open("wb") as stream:
        yield stream


def _write(folder: Path, arrays: Arrays, manifest: Callable[[], Mapping[str, object]] | None) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.*.part"):  # of a process that was killed: we hold the lock
        shutil.rmtree(leftover)
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    beside.mkdir(mode=0o700)
    try:
        for name, array in arrays.items():
            with written_whole(beside / f"{name}{ARRAY}") as stream:
                _save(stream, array)
        if manifest is not None:
            facts = {"entry": folder.name, **manifest(), **_facts(beside)}
            with written_whole(beside / MANIFEST) as stream:
                stream.write(json.dumps(facts, indent=2, allow_nan=False).encode())
        sizes = {file.name: file.stat().st_size for file in sorted(beside.iterdir())}
        with written_whole(beside / CONTENTS) as stream:  # last: an entry with it is whole
            stream.write(json.dumps(sizes, indent=2).encode())
        if folder.exists():  # not whole; who has it open keeps what is left of it
            shutil.rmtree(folder)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # there only if something failed


def _save(stream: BinaryIO, array: NDArray[np.generic] | Streamed) -> None:
    if not isinstance(array, Streamed):
        np.save(stream, array, allow_pickle=False)
        return
    dtype = np.dtype(array.dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    rows = 0
    for piece in array.pieces:
        assert piece.dtype == dtype and piece.shape[1:] == array.shape[1:], "a piece of another kind"
        stream.write(np.ascontiguousarray(piece).data)
        rows += len(piece)
    assert rows == array.shape[0], f"{rows} rows of {array.shape[0]}"


def _facts(folder: Path) -> dict[str, object]:
    """What a manifest says of every entry."""
    files = {}
    for file in sorted(folder.glob(f"*{ARRAY}")):
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files[file.name] = {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
    return {"made_at": datetime.now(UTC).isoformat(), "code_version": __version__, "files": files}
