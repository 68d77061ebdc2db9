"""Compaction: the files of single cells are merged into segments, so that what there is can be listed and read quickly.

One step takes some files, writes one segment with all that still counts in them, and only then removes them. So a kill
at any moment leaves every cell in at least one file, and `cells` counts each once; the next step removes what the
killed one left. Two processes that compact at once do some of the work twice and harm nothing, see `segments`.

Measured on 120,000 cells (docs/scale.md): a cell costs about 2 ms once, and again a fraction of that as small segments
are merged into larger ones.
"""

import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pixmix_ray.errors import DamagedError, ResultsError
from pixmix_ray.storage.cells import Cells, GoneError, OwnFile, list_cells, own_table, put_aside
from pixmix_ray.storage.segments import Entry, Gathering, Segment, segment_path, write_segment
from pixmix_ray.storage.store import Store

SEGMENT_CELLS = 8192  # at most: what a damaged segment would cost to measure again
FEW = 1000  # cells in files of their own that are not worth a run's own compaction
LOOK_SECONDS = 30.0  # between two looks at how many there are
SHARE = 10  # pauses are that much longer than what they separate


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What a compaction did.

    Attributes:
        cells: how many left their own files.
        segments: how many files they and small segments went into.
    """

    cells: int
    segments: int


def compact(store: Store, *, few: int = 0) -> Compacted:
    """Merge the cells that have files of their own into segments, and small segments into larger ones.

    Safe to be killed, to run twice at once, and beside readers and writers.

    Args:
        store: a results folder.
        few: do nothing if no more cells than that have files of their own.

    Raises:
        ResultsError: the folder cannot be read or written.
    """
    listed = list_cells(store)
    if len(listed.own_files) <= few and not (few == 0 and _is_untidy(listed)):
        return Compacted(cells=0, segments=0)
    cells = written = 0
    for batch in _batches(listed):
        try:
            cells += _merge(store, listed, batch)
        except OSError as error:
            raise ResultsError(f"cannot compact results {store.uri}: {error.strerror or error}") from None
        written += 1
    return Compacted(cells=cells, segments=written)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Files that go into one segment."""

    own_files: Sequence[tuple[str, OwnFile]]
    segments: Sequence[Segment]
    outdated: Sequence[str] = ()


def _is_untidy(listed: Cells) -> bool:
    return bool(listed.outdated) or len(_small(listed)) > 1


def _small(listed: Cells) -> list[Segment]:
    """The segments that are worth merging: less than half of what a segment may hold still counts."""
    return [segment for segment in listed.segments if len(listed.counting(segment)) < SEGMENT_CELLS // 2]


def _batches(listed: Cells) -> list[_Batch]:
    """All that is to be merged, none larger than a segment may be."""
    batches: list[_Batch] = []
    own: list[tuple[str, OwnFile]] = []
    segments: list[Segment] = []
    size = 0
    pieces: list[Segment | tuple[str, OwnFile]] = [*_small(listed), *sorted(listed.own_files.items())]
    for piece in pieces:
        weight = len(listed.counting(piece)) if isinstance(piece, Segment) else 1
        if size + weight > SEGMENT_CELLS:
            batches.append(_Batch(own_files=own, segments=segments))
            own, segments, size = [], [], 0
        size += weight
        if isinstance(piece, Segment):
            segments.append(piece)
        else:
            own.append(piece)
    # what is outdated is removed last, when all that is newer was read and lies in a segment
    return [*batches, _Batch(own_files=own, segments=segments, outdated=listed.outdated)]


def _merge(store: Store, listed: Cells, batch: _Batch) -> int:
    """Write the segment of a batch, remove its files; how many cells left files of their own."""
    # named before anything is read: what is read by a later compaction goes into a higher segment
    path = segment_path([segment.path for segment in listed.segments])
    gathered = Gathering()
    done: list[str] = []
    for segment in batch.segments:
        gathered.add(segment.rows(), segment.entries, set(listed.counting(segment)))
        done.append(segment.path)
    for cell, own in batch.own_files:
        try:
            table = own_table(store, own.path)
        except GoneError:  # another process compacted it, or set it aside
            continue
        except DamagedError as error:
            put_aside(store, error, own.path)
            continue
        if listed.places[cell] == own.path:
            gathered.add(table, {cell: Entry(version=own.version, rows=len(table))}, {cell})
        done.append(own.path)
    if gathered.entries:
        write_segment(store, path, gathered)
    for outdated in [*done, *batch.outdated]:  # only now: until here a kill changes nothing
        store.delete(outdated)
    return len(batch.own_files)


class BackgroundCompaction:
    """A thread of low priority that compacts a results folder while cells are measured; a context manager."""

    def __init__(self, store: Store, few: int = FEW) -> None:
        """Compact `store` whenever more than `few` cells have files of their own, and once more at the end."""
        self._store, self._few = store, few
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop.set()  # after an error nobody waits: a compaction may be cut off anywhere
        if kind is None:
            self._thread.join()
            self._once()

    def _work(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)  # there, of this thread alone
        pause = LOOK_SECONDS
        while not self._stop.wait(pause):
            started = time.monotonic()
            self._once()
            pause = max(LOOK_SECONDS, SHARE * (time.monotonic() - started))

    def _once(self) -> None:
        """Compact, if it is worth it. What goes wrong is told and no more: the sweep does not depend on it."""
        try:
            if sum(path.endswith(".parquet") for path in self._store.files("cells")) > self._few:
                compact(self._store, few=self._few)
        except ResultsError as error:
            warnings.warn(str(error), stacklevel=2)
