"""Arrays that are made once a machine and read by every process through a memory map.

The cache is a folder: $PIXMIX_RAY_CACHE, else $XDG_CACHE_HOME/pixmix_ray, else ~/.cache/pixmix_ray. An entry is a
folder of .npy files, written beside under a lock and renamed, so a half-made one is never taken for whole.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from pixmix_ray.errors import DataError

Arrays = Mapping[str, NDArray[np.generic]]


def cache_folder() -> Path:
    """The folder of the cache (it need not exist yet)."""
    if folder := os.environ.get("PIXMIX_RAY_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixmix_ray"


def cached_arrays(entry: str, make: Callable[[], Arrays]) -> dict[str, NDArray[np.generic]]:
    """The arrays of `entry`, read-only and memory-mapped; `make` is called only if the entry is not there yet.

    Args:
        entry: the entry's name, which must hold everything that the arrays depend on (a version or content hash).
        make: returns the arrays by name.

    Raises:
        DataError: the cache folder cannot be written.
    """
    folder = cache_folder() / entry
    if not folder.is_dir():
        with _reported(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{folder}.lock")
            lock.acquire()
        try:
            if not folder.is_dir():  # another process may have made it while we waited
                arrays = make()
                with _reported(folder):
                    _write(folder, arrays)
        finally:
            lock.release()
    return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(folder.glob("*.npy"))}


@contextmanager
def _reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the cache {folder}: {error}. Set PIXMIX_RAY_CACHE to a writable folder"
        ) from error


def _write(folder: Path, arrays: Arrays) -> None:
    for leftover in folder.parent.glob(f"{folder.name}.*.part"):  # of a process that was killed: we hold the lock
        shutil.rmtree(leftover)
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    beside.mkdir()
    for name, array in arrays.items():
        np.save(beside / f"{name}.npy", array, allow_pickle=False)
    beside.rename(folder)
