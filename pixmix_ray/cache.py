"""Arrays that are made once a machine and read by every process through a memory map.

The cache is a folder: $PIXMIX_RAY_CACHE, else $XDG_CACHE_HOME/pixmix_ray, else ~/.cache/pixmix_ray. An entry is a
folder of .npy files, written beside under a lock and renamed, so a half-made one is never taken for whole.
"""

import os
import shutil
from collections.abc import Callable, Mapping
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
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():  # another process may have made it while we waited
                    _write(folder, make())
        except OSError as error:
            raise DataError(
                f"cannot write the cache {folder}: {error}. Set PIXMIX_RAY_CACHE to a writable folder"
            ) from error
    return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(folder.glob("*.npy"))}


def _write(folder: Path, arrays: Arrays) -> None:
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name, array in arrays.items():
        np.save(beside / f"{name}.npy", array, allow_pickle=False)
    beside.rename(folder)
