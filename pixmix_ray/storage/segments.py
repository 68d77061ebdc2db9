"""A segment: one Parquet file with the measurements of many cells, and in its footer the manifest of which.

The manifest is part of the file, so there is no moment at which one is there without the other. Rows lie in the order
of the manifest; text columns are dictionaries, since the settings of a trial are the same in all of its rows.

Segments are ordered by their names, the later one higher: where two hold the same version of a cell, the higher one
counts. Whoever removes a file has before written all that it still counted for into a higher segment, so whatever
processes do at once, and wherever they are killed, every cell stays in some file, and counts once.
"""

import itertools
import json
import time
import uuid
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pixmix_ray.errors import DamagedError
from pixmix_ray.storage.schema import MEASUREMENTS
from pixmix_ray.storage.sealed import Unsealed
from pixmix_ray.storage.store import Store, compacted_file

MANIFEST_KEY = "pixmix_ray.cells"

FOLD = 256  # tables at a time: the rows of one cell take 50 kB as a table of their own, and 2 kB among others

ROWS: pa.Schema = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.string())) if field.type == pa.string() else field
        for field in MEASUREMENTS
    ]
)
"""`MEASUREMENTS` with its texts as dictionaries."""


class Entry(NamedTuple):
    """One cell within a segment: its version, as in the name of the file that it had, and its number of rows."""

    version: int
    rows: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """A segment that was read; its bytes are those that were written.

    Attributes:
        path: of its file, below the results folder.
        entries: its cells by name (TRIAL/BENCHMARK), in the order of the rows.
        content: what its file holds.
    """

    path: str
    entries: Mapping[str, Entry]
    content: Unsealed

    def rows(self) -> pa.Table:
        """Its rows, of the schema `ROWS`."""
        return self.content.table

    @cached_property
    def first_rows(self) -> dict[str, int]:
        """The number of the first row of each cell."""
        ends = itertools.accumulate((entry.rows for entry in self.entries.values()), initial=0)
        return dict(zip(self.entries, ends, strict=False))  # the last end begins no cell


def segment_path(above: Sequence[str]) -> str:
    """The path of a new segment, higher than those in `above`."""
    latest = max((int(PurePosixPath(path).name.partition("-")[0]) for path in above), default=0)
    return compacted_file(f"{max(time.time_ns(), latest + 1):020d}-{uuid.uuid4().hex[:8]}")


class Gathering:
    """The rows of many files, each cell once, to be put in the order of their cells."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tables: list[pa.Table] = [ROWS.empty_table()]
        self._recent: list[pa.Table] = []
        self._first: dict[str, int] = {}  # the number of each cell's first row in all tables together
        self._end = 0
        self.entries: dict[str, Entry] = {}

    def add(self, table: pa.Table, entries: Mapping[str, Entry], chosen: Container[str]) -> None:
        """Add the rows (of the schema `ROWS`) of those of the cells in `entries`, in that order, that are chosen."""
        self._recent.append(table)
        if len(self._recent) == FOLD:
            self._tables.append(_joined(self._recent))
            self._recent = []
        for cell, entry in entries.items():
            if cell in chosen:
                self.entries[cell] = entry
                self._first[cell] = self._end
            self._end += entry.rows

    def rows(self, cells: Iterable[str]) -> pa.Table:
        """The rows of the cells that were added, in the order of `cells`; others are left out."""
        found = [cell for cell in cells if cell in self._first]
        first = np.array([self._first[cell] for cell in found], dtype=np.int64)
        counts = np.array([self.entries[cell].rows for cell in found], dtype=np.int64)
        ends = np.cumsum(counts)
        indices = pa.array(np.arange(counts.sum()) + np.repeat(first - (ends - counts), counts))
        rows = _joined([*self._tables, *self._recent])
        is_in_order = len(indices) == len(rows) and bool((np.diff(indices) == 1).all())
        return rows if is_in_order else by_column(rows, lambda column: column.take(indices))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return by_column(pa.concat_tables(tables), lambda column: column.unify_dictionaries().combine_chunks())


def by_column(table: pa.Table, change: Callable[[pa.ChunkedArray], pa.ChunkedArray | pa.Array]) -> pa.Table:
    """A table of the columns that `change` makes of those of `table`, on all cores: pyarrow itself does it on one."""
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        columns = list(pool.map(change, table.columns))
    fields = [field.with_type(column.type) for field, column in zip(table.schema, columns, strict=True)]
    return pa.table(columns, schema=pa.schema(fields))


def write_segment(store: Store, path: str, gathered: Gathering) -> None:
    """Write a segment of all cells that were gathered."""
    entries = dict(sorted(gathered.entries.items()))
    store.write_table(path, gathered.rows(entries), {MANIFEST_KEY: _manifest(entries)})


def read_segment(store: Store, path: str) -> Segment | None:
    """The segment in a file, or none if there is no such file.

    Raises:
        DamagedError: its bytes are not those that were written.
    """
    try:
        found = store.unsealed(path, ROWS)
        if found is None:
            return None
        entries = _entries(found.metadata)
    except (DamagedError, KeyError, ValueError, TypeError) as error:
        raise store.damaged(path, error) from None
    if sum(map(attrgetter("rows"), entries.values())) != found.file.metadata.num_rows:
        raise store.damaged(path, DamagedError("its manifest is of other rows"))
    return Segment(path=path, entries=entries, content=found)


def _manifest(entries: Mapping[str, Entry]) -> str:
    """The entries as JSON: {"benchmarks": [key, ...], "trials": {trial: [[number of key, version, rows], ...]}}."""
    numbers: dict[str, int] = {}
    trials: dict[str, list[list[int]]] = {}
    for cell, entry in entries.items():
        trial, _, key = cell.partition("/")
        number = numbers.setdefault(key, len(numbers))
        trials.setdefault(trial, []).append([number, entry.version, entry.rows])
    return json.dumps({"benchmarks": list(numbers), "trials": trials}, separators=(",", ":"))


def _entries(metadata: Mapping[str, str]) -> dict[str, Entry]:
    manifest = json.loads(metadata[MANIFEST_KEY])
    keys = manifest["benchmarks"]
    made: dict[tuple[int, int], Entry] = {}  # they are few, so all cells share them
    entries: dict[str, Entry] = {}
    for trial, cells in manifest["trials"].items():
        for number, version, rows in cells:
            entry = made.get((version, rows)) or made.setdefault((version, rows), Entry(version, rows))
            entries[f"{trial}/{keys[number]}"] = entry
    return entries
