"""Where every measured cell lies: in a file of its own, or in a segment among many. The one place that decides.

A cell is named TRIAL/BENCHMARK. Its newest version counts: the largest number in the names of its files, where a file
of its own beats a segment, and a later segment an earlier one. Files may appear, and be compacted away, while they are
listed and read: whatever is removed was before written elsewhere, so files of cells are listed before segments are,
and a file that has gone when it is read means that all is listed again.
"""

import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import pyarrow as pa

from pixmix_ray.errors import DamagedError, ResultsError
from pixmix_ray.storage.segments import ROWS, Entry, Gathering, Segment, read_segment
from pixmix_ray.storage.store import Store, cell_file

ATTEMPTS = 20  # at listing and reading while others compact; they remove a file at most once
_OWN_FILE = re.compile(r"cells/(?P<cell>[^/]+/[^/]+?)(?:\.v(?P<version>\d+))?\.parquet")
T = TypeVar("T")


class GoneError(Exception):
    """A file that was listed is there no more: it was compacted, or set aside."""


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """A file that holds one cell."""

    version: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The measured cells of a results folder, at one moment.

    Attributes:
        own_files: the newest file of its own of each cell that has one.
        outdated: paths of files of cells that have a newer one.
        segments: the lowest first.
        failed: the cells that have the record of a failure.
    """

    own_files: Mapping[str, OwnFile]
    outdated: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    failed: frozenset[str] = frozenset()

    @cached_property
    def places(self) -> dict[str, str]:
        """The path of the file that counts for each cell."""
        newest: dict[str, tuple[int, str]] = {}
        for segment in self.segments:
            for cell, entry in segment.entries.items():
                if cell not in newest or newest[cell][0] <= entry.version:
                    newest[cell] = entry.version, segment.path
        for cell, own in self.own_files.items():
            if cell not in newest or newest[cell][0] <= own.version:
                newest[cell] = own.version, own.path
        return {cell: path for cell, (_, path) in newest.items()}

    def counting(self, segment: Segment) -> list[str]:
        """The cells of a segment for which it is the file that counts."""
        return [cell for cell in segment.entries if self.places[cell] == segment.path]

    def table(self, store: Store, cell: str) -> pa.Table:
        """The rows (schema `ROWS`) of a cell.

        Raises:
            GoneError: its file is there no more.
            DamagedError: its bytes are not those that were written.
        """
        path = self.places[cell]
        if (segment := self._segments_by_path.get(path)) is None:
            return own_table(store, path)
        return segment.rows().slice(segment.first_rows[cell], segment.entries[cell].rows)

    @cached_property
    def _segments_by_path(self) -> dict[str, Segment]:
        return {segment.path: segment for segment in self.segments}

    def is_done(self, trial_id: str, key: str) -> bool:
        """Whether the cell of a trial and a benchmark is measured."""
        return f"{trial_id}/{key}" in self.places

    def has_failed(self, trial_id: str, key: str) -> bool:
        """Whether there is a record of why it failed."""
        return f"{trial_id}/{key}" in self.failed


def list_cells(store: Store) -> Cells:
    """The cells of a results folder. Segments that are damaged are set aside, with a warning.

    Raises:
        ResultsError: the folder cannot be read.
    """
    return _repeated(lambda: _listed(store))


def read_rows(store: Store, cells: Iterable[str] | None = None) -> pa.Table:
    """The measurements (schema `ROWS`) of the cells named, in that order, or of all in the order of their names.

    Cells that are not measured are left out, and so are those that are damaged: they are set aside, with a warning.

    Raises:
        ResultsError: the folder cannot be read.
    """
    wanted = None if cells is None else list(cells)
    return _repeated(lambda: _rows(store, wanted))


def put_aside(store: Store, error: DamagedError, path: str) -> None:
    """Set a damaged file aside and warn of it; where it cannot be renamed it stays, and is left out all the same."""
    what = str(error).partition(". Delete it")[0]
    try:
        aside = store.set_aside(path)
    except OSError as problem:
        warnings.warn(f"{what}; left out, and it cannot be set aside: {problem}", stacklevel=2)
    else:
        warnings.warn(f"{what}; set aside as {aside}: run the same command again to make it again", stacklevel=2)


def replacing_file(cell: str) -> str:
    """The path for measurements that replace those of a cell: of a new name, which no compaction is about to remove."""
    trial_id, _, key = cell.partition("/")
    return cell_file(trial_id, f"{key}.v{time.time_ns()}")


def own_table(store: Store, path: str) -> pa.Table:
    """The rows (schema `ROWS`) of a file that holds one cell.

    Raises:
        GoneError: it is there no more.
        DamagedError: its bytes are not those that were written.
    """
    table = store.read_table(path, ROWS)
    if table is None:
        raise GoneError(path)
    return table


def _repeated(action: Callable[[], T]) -> T:
    for _ in range(ATTEMPTS):
        try:
            return action()
        except GoneError as error:
            gone = error
    raise ResultsError(f"files of the results vanish while they are read, such as {gone}: is something deleting them?")


def _listed(store: Store) -> Cells:
    own_files: dict[str, OwnFile] = {}
    outdated: list[str] = []
    failed: set[str] = set()
    for path in store.files("cells"):  # before the segments: see above
        if (match := _OWN_FILE.fullmatch(path)) is not None:
            cell, found = match["cell"], OwnFile(version=int(match["version"] or 0), path=path)
            other = own_files.get(cell)
            if other is not None:
                outdated.append(min(found, other, key=lambda own: own.version).path)
            if other is None or found.version > other.version:
                own_files[cell] = found
        elif path.endswith(".failed.json"):
            failed.add(path.removeprefix("cells/").removesuffix(".failed.json"))
    return Cells(
        own_files=own_files,
        outdated=tuple(outdated),
        segments=tuple(_read_segments(store)),
        failed=frozenset(failed),
    )


def _read_segments(store: Store) -> Iterator[Segment]:
    for path in _segment_files(store):
        try:
            segment = read_segment(store, path)
        except DamagedError as error:
            put_aside(store, error, path)
            continue
        if segment is None:
            raise GoneError(path)
        yield segment


def _segment_files(store: Store) -> list[str]:
    """The segments, in order; listed until two listings agree, as one that runs beside a merge may miss both sides."""
    before: set[str] | None = None
    for _ in range(ATTEMPTS):
        found = {path for path in store.files("compacted") if path.endswith(".parquet")}
        if found == before:
            break
        before = found
    return sorted(found)


def _rows(store: Store, wanted: list[str] | None) -> pa.Table:
    """All rows that count, then put in order."""
    listed = _listed(store)
    chosen = set(listed.places) if wanted is None else set(wanted)
    gathered = Gathering()
    for segment in listed.segments:
        counting = {cell for cell in listed.counting(segment) if cell in chosen}
        if counting:
            gathered.add(segment.rows(), segment.entries, counting)
    for cell, own in listed.own_files.items():
        if listed.places[cell] == own.path and cell in chosen:
            try:
                table = own_table(store, own.path)
            except DamagedError as error:
                put_aside(store, error, own.path)
                continue
            gathered.add(table, {cell: Entry(version=own.version, rows=len(table))}, chosen)
    return gathered.rows(sorted(gathered.entries) if wanted is None else wanted)
