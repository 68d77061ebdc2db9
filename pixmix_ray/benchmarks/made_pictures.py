"""The pictures that a benchmark makes of the test pictures: kept, and made ahead in a thread.

A piece is what one corruption, perturbation or draw makes of a run of test pictures. It is a function of these and of
the benchmark's settings alone, so pieces are made in any order, by any process, while networks still train; see
`pixmix_ray.evaluation.pictures_ahead`. Those of a benchmark that would not all fit are not kept at all: read in turn,
each would be removed before it is read again.

NumPy, SciPy and torch let other threads run while they compute, so a thread hides most of the time that making pictures
takes behind a network that runs elsewhere (`prefetch`), or the network behind it, whichever is the shorter. Where the
network needs the same cores there is nothing to hide behind, and taking turns is a little faster: see `depth_for`.

They are kept in the cache while there is room, as a folder of .npy files of a bounded size: what can be made again is
not lost with an entry. An entry is written
beside its place and renamed, so a half-made one is never taken for whole, and ends in a digest, which a process checks
when it first opens it; processes that want the same one at once make it once. Where a new entry does not fit, those
used longest ago are removed, and never more than half of what is free on the disk is taken. An entry that a process
still has open stays readable there until it lets go, as files do. A disk that is full or cannot be written is said
once, and what is made is then handed on without being kept.
"""

import hashlib
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from pixmix_ray.benchmarks.base import TestPictures, batches
from pixmix_ray.cache import cache_folder, private_folder, written_whole
from pixmix_ray.errors import RequestError
from pixmix_ray.identity import short_hash

Array = NDArray[np.generic]

FOLDER = "kept"  # within the cache
VERSION = 3  # raised when the same corruption comes to mean other bytes, or an entry other files
KEEP_GB = 32.0  # by default: all pictures of C, C-bar and P of two data sets of CIFAR's size
DIGEST = 16  # bytes, after the array
HEAD = 128 + DIGEST  # bytes of an entry beside the array
MAKERS = 64  # locks for making: entries of one lock wait for each other, others do not
ROOM = 0.9  # of the bound, what is left full where something has to go: so that it is not at every entry

_warned: set[Path] = set()  # folders that could not be written: said once a process
_checked: set[tuple[str, int]] = set()  # entries whose digest this process has seen to be right, by path and inode


@dataclass(frozen=True, kw_only=True)
class PictureCache:
    """The arrays that are kept on this machine.

    Attributes:
        max_bytes: that they may take together; 0 keeps nothing.
    """

    max_bytes: int

    def get(self, key: Callable[[], str], make: Callable[[], Array]) -> Array:
        """What `make` returns, of any shape and type: the kept one as a read-only memory map, or a new one.

        Args:
            key: names all that the array depends on; called only where something is kept.
            make: makes it; called only where it is not kept.
        """
        folder = cache_folder() / FOLDER
        if not self.max_bytes or folder in _warned:
            return make()
        name, file = _place(folder, key())
        if (found := _opened(file)) is not None:
            return found
        try:
            private_folder(folder)
            lock = FileLock(folder / f"making-{int(name, 16) % MAKERS}.lock")
            lock.acquire()
        except OSError as error:
            _warn(folder, error)
            return make()
        try:
            if (found := _opened(file)) is not None:  # another process has made it while we waited
                return found
            made = make()
            try:
                self._keep(file, made)
            except OSError as error:
                _warn(folder, error)
            return made
        finally:
            lock.release()

    def holds(self, key: str) -> bool:
        """Whether an array is kept; its content is not looked at."""
        return bool(self.max_bytes) and _place(cache_folder() / FOLDER, key)[1].is_file()

    def _keep(self, file: Path, made: Array) -> None:
        """Write an entry, after removing others if it would not fit; nothing if it never will."""
        needed = made.nbytes + HEAD
        if needed > self.max_bytes:
            return
        with FileLock(file.with_name("all.lock")):
            for leftover in file.parent.glob(f"{file.name}.*.part"):  # of a process that was killed: we hold the lock
                leftover.unlink(missing_ok=True)
            total_file = file.with_name("total")
            total = _read_total(total_file)
            bound = self._bound(file.parent, total or 0)
            if total is None or total + needed > bound:
                total_file.unlink(missing_ok=True)  # wrong until it is written again
                total = _make_room(file.parent, needed, bound)
            with written_whole(total_file) as stream:
                stream.write(str(total + needed).encode())
            with written_whole(file) as stream:
                np.save(stream, made, allow_pickle=False)
                stream.write(_digest(made))

    def _bound(self, folder: Path, total: int) -> int:
        """The bytes that all entries may take now: of the disk no more than half of what would be free without them."""
        return min(self.max_bytes, (total + shutil.disk_usage(folder).free) // 2)


def _place(folder: Path, key: str) -> tuple[str, Path]:
    """The name of an entry, hexadecimal digits, and its file."""
    name = short_hash(key, 32)
    return name, folder / f"{name}.npy"


def _make_room(folder: Path, needed: int, bound: int) -> int:
    """Remove what was used longest ago until so many bytes fit, if they do not; returns how many bytes are left."""
    entries = [(entry.stat(), entry.path) for entry in os.scandir(folder) if entry.name.endswith(".npy")]
    total = sum(stat.st_size for stat, _ in entries)
    if total + needed > bound:
        wanted = max(0, int(ROOM * bound) - needed)
        for stat, path in sorted(entries, key=lambda entry: entry[0].st_mtime_ns):
            if total <= wanted:
                break
            Path(path).unlink(missing_ok=True)
            total -= stat.st_size
    return total


def digest_of(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> str:
    """Hexadecimal digits for test pictures (N, H, W, 3) and their places in the set (N,)."""
    digest = hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=DIGEST)
    digest.update(np.ascontiguousarray(indices).data)
    return f"{images.shape} {digest.hexdigest()}"


def key_of(*about: object) -> str:
    """A key for what depends on `about` alone: numbers, texts, and tuples of them."""
    return repr((VERSION, *about))


def _digest(array: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, digest_size=DIGEST).digest()


def _read_total(file: Path) -> int | None:
    """What all entries take together, as the process that wrote the last one said; none if that is not known."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _opened(file: Path) -> Array | None:
    """The kept array, marked as used now; none where there is none, or what is there is broken."""
    try:
        array: Array = np.load(file, mmap_mode="r", allow_pickle=False)
        os.utime(file, ns=(now := time.time_ns(), now))
        if (entry := (str(file), file.stat().st_ino)) not in _checked:
            with file.open("rb") as stream:
                stream.seek(-DIGEST, os.SEEK_END)
                if stream.read() != _digest(array):
                    return None
            _checked.add(entry)
    except (OSError, ValueError, EOFError):
        return None
    return array


def _warn(folder: Path, error: OSError) -> None:
    if folder not in _warned:
        _warned.add(folder)
        reason = error.strerror or error
        warnings.warn(
            f"{folder} cannot be written ({reason}), so pictures are made again for each checkpoint: "
            "set PIXMIX_RAY_CACHE to a writable folder",
            stacklevel=4,
        )


PIECE_BYTES = 2**25  # at most: some seconds of a core, and what a GPU takes in one pass


class Piece(NamedTuple):
    """What is made under one condition: its name, its severity or draw, and of which test pictures."""

    name: str
    severity: int
    rows: slice


@dataclass(frozen=True, kw_only=True)
class MadePictures:
    """All that a benchmark makes of some test pictures.

    Attributes:
        pieces: in the order in which they are looked at.
        make: makes the pictures of one.
        key: names all that they depend on; none for those that lie on this machine as they are, and are not kept.
        nbytes: of all of them.
        keep_gb: gigabytes that all kept pictures may take on this machine.
    """

    pieces: tuple[Piece, ...]
    make: Callable[[Piece], Array]
    key: Callable[[Piece], str] | None
    nbytes: int
    keep_gb: float
    _cache: PictureCache = field(init=False)

    def __post_init__(self) -> None:
        bound = int(self.keep_gb * 1e9)
        fits = self.key is not None and self.nbytes <= bound
        object.__setattr__(self, "_cache", PictureCache(max_bytes=bound if fits else 0))

    @property
    def is_kept(self) -> bool:
        """Whether they are kept for the next checkpoint."""
        return self._cache.max_bytes > 0

    def pictures(self, piece: Piece) -> Array:
        """The pictures of a piece: a read-only memory map where they are kept and were made before."""
        key = self.key
        return self.make(piece) if key is None else self._cache.get(lambda: key(piece), lambda: self.make(piece))

    def is_there(self, piece: Piece) -> bool:
        """Whether a piece was made before, and is kept."""
        return self.key is not None and self._cache.holds(self.key(piece))


def runs_of(count: int, nbytes: int) -> Iterator[slice]:
    """Slices that cover `count` test pictures, of each of which a piece holds so many bytes."""
    return batches(count, at_once=max(1, PIECE_BYTES // nbytes))


class KeyOfTest:
    """Names what is made of test pictures by their content, of which a run is read once."""

    def __init__(self, test: TestPictures) -> None:
        self._test, self._digests = test, dict[tuple[int, int], str]()

    def __call__(self, piece: Piece, *about: object) -> str:
        """The key of a piece that depends on the test pictures and on `about`."""
        run = (piece.rows.start, piece.rows.stop)
        if run not in self._digests:
            part = self._test.part(piece.rows)
            self._digests[run] = digest_of(np.asarray(part.images), part.indices)
        return key_of(self._digests[run], piece.name, *about)


T = TypeVar("T")


def depth_for(device: torch.device) -> int:
    """How many items to make ahead of a network on `device`: one, but none on the processor that makes them."""
    return 0 if device.type == "cpu" else 1


def prefetched(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """The same items in the same order, each made while the one before is in use.

    Nothing is made before the first item is asked for. Once the iterator is exhausted, closed or dropped, the thread
    has ended: an item that is half made then is finished and dropped, and `items` is closed if it is a generator.

    Args:
        items: made one by one, in one other thread; leave it alone meanwhile.
        depth: how many are made ahead: at most so many are ready or being made beside the one in use. 0 makes none
            ahead and starts no thread.

    Raises:
        RequestError: the depth is below 0.
        Exception: whatever making an item raises, at its place among the items.
    """
    if depth < 0:
        raise RequestError(f"depth must be 0 or more, got {depth}: 0 makes nothing ahead")
    return _prefetched(items, depth) if depth else iter(items)


def _prefetched(items: Iterable[T], depth: int) -> Iterator[T]:
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        ahead: deque[Future[object]] = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, iterator, end))
                yield item  # type: ignore[misc]  # all but the end are T
                del item  # or it would live until the next one is made
        finally:
            for future in ahead:
                future.cancel()
            thread.shutdown()  # waits for the one that is being made: a running generator cannot be closed
            if isinstance(iterator, Generator):
                iterator.close()
