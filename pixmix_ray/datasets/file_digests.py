"""Content hashes of files, so that data are named by what they hold and not by where they lie.

Hashing a folder of pictures reads all of it, and every worker process wants the result. So it is kept in the cache
under the paths, sizes and time stamps of the files: a file that was written again has a new change time, and is hashed
again.
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets.picture_files import in_threads
from pixmix_ray.errors import DataError
from pixmix_ray.identity import short_hash

# Two writes of one file within a tick of the clock leave the same stamps, so hashes of younger files are not kept.
SETTLED_NS = 2_000_000_000


def file_md5s(files: Sequence[Path]) -> NDArray[np.uint8]:
    """The MD5 of each file, (N, 16) uint8.

    MD5 names content here, since it is what data sets publish; it guards nothing.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        stats = [file.stat() for file in files]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. Is the data set complete?") from error
    if time.time_ns() - max(max(stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats) < SETTLED_NS:
        return _hash_all(files)
    stamps = [(str(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for file, s in zip(files, stats, strict=True)]
    entry = f"md5s-{short_hash(repr(stamps), 24)}"
    return cast(NDArray[np.uint8], cached_arrays(entry, lambda: {"md5s": _hash_all(files)})["md5s"])


def combined(md5s: NDArray[np.uint8]) -> str:
    """One name for the files together, in order: 12 hexadecimal digits."""
    return short_hash(np.ascontiguousarray(md5s).tobytes())


def _hash_all(files: Sequence[Path]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(in_threads(_md5, files)), dtype=np.uint8).reshape(len(files), 16)


def _md5(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).digest()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}. Check the file and its permissions") from error
