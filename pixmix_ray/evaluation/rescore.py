"""Measuring stored predictions anew, without a network: to check what is stored, or to add metrics invented since.

A measurement is a pure function of predictions, and a benchmark's settings are in every row. So what is stored must
come out again, equal to the last bit; where it does not, the code that measures has changed, or a file has.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pixmix_ray.benchmarks import Benchmark
from pixmix_ray.errors import DamagedError, RequestError, ResultsError, UnknownNameError, one_line
from pixmix_ray.experiment.plugins import BENCHMARKS, Part, named_code
from pixmix_ray.experiment.trial import BenchmarkRun
from pixmix_ray.metrics import Measurement
from pixmix_ray.storage.cells import Cells, GoneError, list_cells, put_aside, replacing_file
from pixmix_ray.storage.predictions import predictions_of
from pixmix_ray.storage.provenance import code_version
from pixmix_ray.storage.schema import columns_of, measurements_table
from pixmix_ray.storage.store import Store, cell_file, predictions_file

SHOWN = 3  # differences of a cell that are listed


@dataclass(frozen=True, kw_only=True)
class RescoredCell:
    """What became of one stored cell.

    Attributes:
        path: of its own file, below the results folder; the cell may since have been compacted with others.
        state: same: every stored number came out again, and there is no other. different: not so. rewritten: not so,
            and the new numbers now count. skipped: it cannot be measured anew.
        reason: what differs, or why it was skipped; "" for one that is the same.
    """

    path: str
    state: Literal["same", "different", "rewritten", "skipped"]
    reason: str = ""


def rescore(
    uri: str | Path, benchmarks: Collection[str] = (), *, write: bool = False, is_trusted: bool = False
) -> Iterator[RescoredCell]:
    """Measure every stored cell anew from its predictions, and yield what became of it.

    Args:
        uri: a results folder, a local path or a URI such as s3://bucket/folder.
        benchmarks: names of those to take; none takes all.
        write: whether cells that differ are rewritten. A rewritten row keeps all of its columns but those of the
            measurement itself and `code_version`, which is then that of the code that measured it anew.
        is_trusted: whether the classes that cells name as module:Class may be imported; if not, those are skipped.

    Raises:
        UnknownNameError: the folder holds no cell of a benchmark that was asked for.
        ResultsError: there are no results there, or `write` and they cannot be written.
    """
    store = Store(uri)
    cells = list_cells(store)
    if not cells.places:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    stored = {_benchmark_name(cell) for cell in cells.places}
    for name in benchmarks:
        if name not in stored:
            raise UnknownNameError(f"benchmark among the results in {store.uri}:", name, stored)
    if write:
        store.check_writable()
    for cell in sorted(cells.places):
        if not benchmarks or _benchmark_name(cell) in benchmarks:
            yield _rescored(store, cells, cell, write=write, is_trusted=is_trusted)


def _benchmark_name(cell: str) -> str:
    """The name in TRIAL/NAME-HASH."""
    return cell.rpartition("/")[2].rpartition("-")[0]


def _rescored(store: Store, cells: Cells, cell: str, *, write: bool, is_trusted: bool) -> RescoredCell:
    trial_id, _, key = cell.rpartition("/")
    path = cell_file(trial_id, key)
    try:
        rows = _stored_rows(store, cells, cell)
        measured = _measured(store, cell, rows[0], is_trusted=is_trusted)
    except (RequestError, GoneError) as error:
        return RescoredCell(path=path, state="skipped", reason=str(error))
    found = _differences(rows, measured)
    if not found:
        return RescoredCell(path=path, state="same")
    reason = "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    if not write:
        return RescoredCell(path=path, state="different", reason=reason)
    common = {**rows[0], "code_version": code_version()}
    store.write_table(replacing_file(cell), measurements_table(measured, common))
    if cell in cells.own_files:
        store.delete(cells.own_files[cell].path)  # what a segment holds of it, compaction will leave out
    return RescoredCell(path=path, state="rewritten", reason=reason)


def _stored_rows(store: Store, cells: Cells, cell: str) -> list[dict[str, Any]]:
    try:
        table = cells.table(store, cell)
    except DamagedError as error:
        put_aside(store, error, cells.places[cell])
        raise
    if not len(table):
        raise ResultsError(f"{cells.places[cell]} in {store.uri} holds no measurement: delete it and run again")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _measured(store: Store, cell: str, row: Mapping[str, Any], *, is_trusted: bool) -> list[Measurement]:
    """What the stored predictions of a cell measure; `row` is any of its rows.

    Where they lie follows from where the cell lies. What the row says of that is somebody's word, and is not read.
    """
    trial_id, _, key = cell.rpartition("/")
    benchmark, path = _benchmark(row, key, is_trusted=is_trusted), predictions_file(trial_id, key)
    try:
        table = store.read_table(path)
    except DamagedError as error:
        put_aside(store, error, path)
        raise
    if table is None:
        raise ResultsError(
            "its predictions are not there; its measurements stay. To evaluate again: pixmix-ray evaluate --checkpoint "
            f"{store.uri}/trials/{trial_id} --benchmarks {_benchmark_name(cell)} --results {store.uri}"
        )
    try:
        return benchmark.measure(predictions_of(table, benchmark.extras))
    except (ResultsError, MemoryError):
        raise
    except Exception as error:  # a benchmark of anybody's, on a file of anybody's: the other cells go on
        raise ResultsError(f"{path} cannot be measured ({type(error).__name__}: {one_line(error)})") from error


def _benchmark(row: Mapping[str, Any], key: str, *, is_trusted: bool) -> Benchmark:
    """The benchmark of a row, if its settings mean today what they meant when `key` was made of them."""
    try:
        settings = json.loads(row["benchmark_settings"])
        if not is_trusted and (named := named_code(settings)):
            raise ResultsError(f"it asks to import {one_line(named[0])!r}: if you trust it, add --trust")
        name = settings.pop("name")
        part = Part(name=name, settings=BENCHMARKS.find(name).from_identity(settings))
        version = row["data_version"].partition(";")[2]  # what comes first is the data set's
    except RequestError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ResultsError(f"its settings cannot be read ({type(error).__name__}: {one_line(error)})") from error
    if BenchmarkRun(benchmark=part, version=version).key != key:
        raise ResultsError(f"an older version of the benchmark {name} made it: evaluate again")
    return part.settings


def _differences(rows: list[dict[str, Any]], measured: list[Measurement]) -> list[str]:
    """A few words for every number that is stored and measured differently, or only one of the two."""
    new = {_key(columns): columns for columns in map(columns_of, measured)}
    old = {_key(row): row for row in rows}
    gone = [f"{_said(key)} is stored but no longer measured" for key in old if key not in new]
    added = [f"{_said(key)} is not stored" for key in new if key not in old]
    changed = [
        f"{_said(key)}: {column} {old[key][column]!r} is stored, {columns[column]!r} measured"
        for key, columns in new.items()
        for column in columns
        if key in old and old[key][column] != columns[column]
    ]
    return [*changed, *gone, *added]


def _key(row: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return row["metric"], row["condition"], row["severity"]


def _said(key: tuple[str, str, int | None]) -> str:
    metric, condition, severity = key
    words = filter(None, [metric, condition, "" if severity is None else f"severity {severity}"])
    return one_line(" ".join(words))
