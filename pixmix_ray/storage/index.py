"""`measurements.parquet`: all measurements of a results folder, a row each, sorted by cell; the file that people open.

It is an index of the cells: whoever reads it first lists the files of the cells, reads the footers of those that are
new or were written anew, and leaves out those that are gone. It may be deleted at any time, and two processes may
bring it up to date at once: each has a complete table, and what the later one writes, the next reader completes.
"""

import gc
import re
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pixmix_ray.errors import DamagedError, ResultsError, StorageError
from pixmix_ray.memory import without_garbage_collection
from pixmix_ray.metrics import DIRECTIONS, Metric, declare
from pixmix_ray.storage.cell import COMMON, Columns, older_layout, read_columns
from pixmix_ray.storage.local_files import FileStamp
from pixmix_ray.storage.schema import INDEX
from pixmix_ray.storage.sealed import Unsealed, conform, seal, unseal
from pixmix_ray.storage.store import Store, cell_file

if TYPE_CHECKING:
    import pandas as pd

FILE = "measurements.parquet"
VERSION_KEY, VERSION = "pixmix_ray.index", "5"  # raised when the same cells come to have other rows, or row groups
CELL = re.compile(r"cells/(?P<cell>[\w-]+/[\w-]+-[0-9a-f]+)\.parquet")
STRANGE_NAMED = 3
REQUESTS = 32  # at the same time, to object storage
BATCH = 1024  # cells that are decoded at a time
BATCHES = 8  # in a row group
REPEATED = (
    "settings",
    "benchmark_settings",
    "data_version",
    "device",
    "code_version",
    "training_code_version",
    "versions",
    "cell",
)
"""The columns of long texts that many rows share: categories in a DataFrame."""
_OWN = ("cell_modified", "cell_size")  # the columns that only the index itself needs


@without_garbage_collection()
def read(uri: str | Path) -> "pd.DataFrame":
    """All measurements of a results folder, a row a measurement: the columns of `schema.MEASUREMENTS`, and `cell`.

    The order is that of the names of cells. Cells that are damaged are set aside and left out, with a warning. The
    columns in `REPEATED` are categories, other texts are strings.

    Args:
        uri: a local path or a URI such as s3://bucket/folder.

    Raises:
        ResultsError: there are no results there, or they cannot be read.
    """
    store = Store(uri)
    frame = _frame(read_rows(store))
    if frame.empty:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    return frame


@without_garbage_collection()
def read_cells(store: Store, names: Iterable[str]) -> "pd.DataFrame":
    """The measurements of those of the cells (CHECKPOINT/NAME-KEY) that are there, in that order, else as `read`.

    Raises:
        ResultsError: the results cannot be read.
    """
    rows = read_rows(store)
    return _frame(_of_cells(rows, _held(rows), names))


def list_cells(store: Store) -> dict[str, FileStamp]:
    """The cells that are there by name, each with what tells whether its file was written anew.

    Raises:
        ResultsError: the folder cannot be read.
    """
    found, strange = {}, []
    for path, stamp in store.stamps("cells").items():
        if match := CELL.fullmatch(path):
            found[match["cell"]] = stamp
        elif path.endswith(".parquet"):
            strange.append(path)
    _say_strange(store, strange)
    return found


def _say_strange(store: Store, paths: Sequence[str]) -> None:
    if paths:
        named = ", ".join(paths[:STRANGE_NAMED]) + (", ..." if len(paths) > STRANGE_NAMED else "")
        warnings.warn(
            f"passed over {len(paths)} Parquet files in {store.uri} that no run wrote, such as the "
            f"copies that file synchronisation leaves: {named}",
            stacklevel=4,
        )


@without_garbage_collection()
def update(store: Store) -> Unsealed:
    """The index of all cells that are there now, of the schema `INDEX`; written where it had changed.

    A folder that cannot be written is read all the same. No more than `BATCH` cells are decoded at a time.

    Raises:
        ResultsError: the folder cannot be read, or is of an older layout.
    """
    before = _stored(store)
    if before is None:
        refuse_older_layout(store)
        before = unseal(seal([INDEX.empty_table()]), INDEX)
    held, stamps = _held(_joined([before.file.read(["cell", *_OWN])])), list_cells(store)
    if dict(zip(held.names, held.stamps, strict=True)) == stamps:
        return before
    content = seal(_groups(_batches(store, before.file, held, stamps)), {VERSION_KEY: VERSION})
    with suppress(StorageError):  # a folder that may only be read
        store.write(FILE, content)
    return unseal(content, INDEX)


def read_rows(store: Store, columns: Sequence[str] | None = None) -> pa.Table:
    """The measurements of all cells, of the schema `INDEX`, or those of its columns; errors as `update`."""
    return rows_of(update(store), columns)


def rows_of(index: Unsealed, columns: Sequence[str] | None = None) -> pa.Table:
    """The same of an index."""
    return _joined([index.table if columns is None else index.file.read(columns)])


def cell_seconds(store: Store) -> list[tuple[str, float]]:
    """For each cell the settings of its benchmark, as in `benchmark_settings`, and the seconds it took."""
    table = read_rows(store, ["benchmark_settings", "seconds", "cell", *_OWN])
    firsts = table.take(pa.array(_held(table).firsts))
    settings, seconds = firsts["benchmark_settings"].to_pylist(), firsts["seconds"].to_pylist()
    return [pair for pair in zip(settings, seconds, strict=True) if None not in pair]


def refuse_older_layout(store: Store) -> None:
    """Return if the folder is not one that earlier versions wrote.

    Raises:
        ResultsError: it is.
    """
    for folder in ("predictions", "compacted"):
        if any(path.endswith(".parquet") for path in store.files(folder)):
            raise older_layout(store)


def put_aside(store: Store, error: DamagedError, path: str) -> None:
    """Set a damaged file aside and warn of it; where it cannot be renamed it stays, and is left out all the same."""
    what = str(error).partition(". Delete it")[0]
    try:
        aside = store.set_aside(path)
    except StorageError as problem:
        warnings.warn(f"{what}; left out, and it cannot be set aside: {problem}", stacklevel=2)
    else:
        warnings.warn(f"{what}; set aside as {aside}: run the same command to measure it again", stacklevel=2)


class _Held(NamedTuple):
    """The cells of a table in its order: where their rows begin, how many they are, and which files they came from."""

    names: list[str]
    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    stamps: list[FileStamp]


def _stored(store: Store) -> Unsealed | None:
    """The index as it was written; none if there is none, or if it is damaged, of another version or other columns."""
    try:
        found = store.unsealed(FILE, INDEX)
        if found is None or found.metadata.get(VERSION_KEY) != VERSION:
            return None
        return found if found.file.schema_arrow.names == INDEX.names else None
    except DamagedError:
        return None


def _batches(store: Store, before: pq.ParquetFile, held: _Held, stamps: Mapping[str, FileStamp]) -> Iterator[pa.Table]:
    """The rows of all cells in the order of their names, `BATCH` cells at a time: as they were, or read anew."""
    kept = {cell for cell, stamp in zip(held.names, held.stamps, strict=True) if stamps.get(cell) == stamp}
    names = sorted(stamps)
    if not names:
        yield INDEX.empty_table()
    begin, row = 0, 0
    for number in range(before.num_row_groups):  # each with the new cells that come before the next one's first
        group = _joined([conform(before.read_row_group(number), INDEX)])
        held_by_group = _held(group)
        row += len(group)
        after = np.searchsorted(held.firsts, row)
        end = len(names) if after == len(held.names) else bisect_left(names, held.names[after])
        for start in range(begin, end, BATCH):
            batch = names[start : min(start + BATCH, end)]
            added = _read(store, [cell for cell in batch if cell not in kept], stamps)
            old = _of_cells(group, held_by_group, [cell for cell in batch if cell in kept])
            both = _joined([old, added])
            yield _of_cells(both, _held(both), batch)
        begin = end


def _groups(batches: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of `BATCHES` batches at a time: many small row groups, each with its own texts, are slow to read."""
    while together := list(islice(batches, BATCHES)):
        yield _joined(together)


def _held(table: pa.Table) -> _Held:
    """What a table holds; the rows of a cell lie together."""
    cells = table["cell"].combine_chunks()
    codes = cells.indices.to_numpy()
    firsts = np.flatnonzero(np.diff(codes, prepend=-1))
    modified = table["cell_modified"].cast(pa.int64()).to_numpy()[firsts].tolist()
    sizes = table["cell_size"].to_numpy()[firsts].tolist()
    return _Held(
        names=cells.dictionary.take(pa.array(codes[firsts])).to_pylist(),
        firsts=firsts,
        counts=np.diff(firsts, append=len(codes)),
        stamps=list(map(FileStamp, modified, sizes)),
    )


def _of_cells(table: pa.Table, held: _Held, names: Iterable[str]) -> pa.Table:
    """The rows of those of the cells that a table holds, in that order; `held` says what it holds."""
    place = {name: number for number, name in enumerate(held.names)}
    chosen = [place[name] for name in names if name in place]
    firsts, counts = held.firsts[chosen], held.counts[chosen]
    ends = np.cumsum(counts)
    indices: NDArray[np.int64] = np.arange(counts.sum()) + np.repeat(firsts - (ends - counts), counts)
    if np.array_equal(indices, np.arange(len(table))):
        return table
    return table.take(pa.array(indices))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of one schema in one piece, each text once in the dictionary of its column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _read(store: Store, names: Sequence[str], stamps: Mapping[str, FileStamp]) -> pa.Table:
    """The rows of cells, read from their files, of the schema `INDEX`."""
    found = _table(_read_batch(store, names), stamps)
    gc.collect(0)  # pyarrow's objects of a file refer to each other: 20 kB each
    return found


def _read_batch(store: Store, cells: Sequence[str]) -> dict[str, Columns]:
    """The measurements of cells; those that are gone are left out, and with a warning damaged ones and mere copies."""

    def columns(cell: str) -> Columns | DamagedError | None:
        try:
            return read_columns(store, cell)
        except DamagedError as error:
            return error

    if store.is_local:
        found = list(map(columns, cells))
    else:
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = list(pool.map(columns, cells))
    whole: dict[str, Columns] = {}
    copies = []
    for cell, answer in zip(cells, found, strict=True):
        if isinstance(answer, DamagedError):
            put_aside(store, answer, cell_file(cell))
        elif answer is not None:
            own = f"{answer.common['trial_id']}/{answer.common['benchmark']}"
            if cell.rpartition("-")[0] == own:
                whole[cell] = answer
            else:  # a copy of a cell, or of its folder, whose name looks like that of another
                copies.append(cell_file(cell))
    _say_strange(store, copies)
    return whole


def _table(read: Mapping[str, Columns], stamps: Mapping[str, FileStamp]) -> pa.Table:
    """The rows of cells, of the schema `INDEX`, a row a measurement."""
    counts = [len(cell.own["metric"]) for cell in read.values()]
    owner = pa.array(np.repeat(np.arange(len(counts)), counts))
    common: dict[str, list[Any]] = {name: [cell.common[name] for cell in read.values()] for name in COMMON}
    common["cell"] = list(read)
    common["cell_modified"] = [stamps[cell].modified for cell in read]
    common["cell_size"] = [stamps[cell].size for cell in read]
    columns = [
        _column(common[field.name], field.type).take(owner)
        if field.name in common
        else _column(list(chain.from_iterable(cell.own[field.name] for cell in read.values())), field.type)
        for field in INDEX
    ]
    return pa.table(columns, schema=INDEX)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


def _frame(table: pa.Table) -> "pd.DataFrame":
    """The rows as a DataFrame; metrics of somebody's benchmarks are declared, as its readers ask for directions."""
    known = [str(name) for name in table["metric"].unique().to_pylist()]
    for name in set(known) - DIRECTIONS.keys():
        row = table.slice(pc.index(table["metric"].cast(pa.string()), name).as_py(), 1).to_pylist()[0]
        declare({name: Metric(direction=row["direction"], unit=row["unit"])})
    table = table.drop_columns(list(_OWN))
    plain = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) and field.name not in REPEATED else field
        for field in table.schema
    ]
    frame: pd.DataFrame = conform(table, pa.schema(plain)).to_pandas()
    return frame
