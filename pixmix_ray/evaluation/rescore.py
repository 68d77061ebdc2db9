"""Measuring stored predictions anew, without a network: to check what is stored, or to add metrics invented since.

A measurement is a pure function of predictions, and a benchmark's settings lie beside them. So what is stored must
come out again, equal to the last bit; where it does not, the code that measures has changed, or a file has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pixmix_ray.benchmarks import BENCHMARKS, Benchmark
from pixmix_ray.errors import DamagedError, RequestError, ResultsError, UnknownNameError, one_line
from pixmix_ray.experiment.trial import BenchmarkRun
from pixmix_ray.metrics import UNITS, Measurement, direction
from pixmix_ray.plugins import Part, check_trusted
from pixmix_ray.storage.cell import Footer, StoredCell, predictions_of, read_cell, write_cell
from pixmix_ray.storage.index import list_cells, put_aside, refuse_older_layout, update
from pixmix_ray.storage.provenance import code_version
from pixmix_ray.storage.store import Store, cell_file

if TYPE_CHECKING:
    pass

SHOWN = 3  # differences of a cell that are listed


@dataclass(frozen=True, kw_only=True)
class RescoredCell:
    """What became of one stored cell.

    Attributes:
        path: of its file, below the results folder.
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
        write: whether cells that differ get their new measurements, and the code version of those; all else stays.
        is_trusted: whether the classes that cells name as module:Class may be imported; if not, those are skipped.

    Raises:
        UnknownNameError: the folder holds no cell of a benchmark that was asked for.
        ResultsError: there are no results there, or `write` and they cannot be written.
    """
    store = Store(uri)
    refuse_older_layout(store)
    cells = sorted(list_cells(store))
    if not cells:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    stored = {_benchmark_name(cell) for cell in cells}
    for name in benchmarks:
        if name not in stored:
            raise UnknownNameError(f"benchmark among the results in {store.uri}:", name, stored)
    if write:
        store.check_writable()
    for cell in cells:
        if not benchmarks or _benchmark_name(cell) in benchmarks:
            yield _rescored(store, cell, write=write, is_trusted=is_trusted)
    if write:
        update(store)


def _benchmark_name(cell: str) -> str:
    """The name in CHECKPOINT/NAME-KEY."""
    return cell.rpartition("/")[2].rpartition("-")[0]


def _rescored(store: Store, cell: str, *, write: bool, is_trusted: bool) -> RescoredCell:
    path = cell_file(cell)
    try:
        stored = _stored(store, cell)
        measured = _measured(cell, stored, is_trusted=is_trusted)
    except RequestError as error:
        return RescoredCell(path=path, state="skipped", reason=str(error))
    found = _differences(stored.footer.measurements, measured)
    if not found:
        return RescoredCell(path=path, state="same")
    reason = "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    if not write:
        return RescoredCell(path=path, state="different", reason=reason)
    footer = replace(
        stored.footer,
        common={**stored.footer.common, "code_version": code_version()},
        measurements=tuple(measured),
        directions={row.metric: direction(row.metric) for row in measured},
        units=UNITS,
    )
    write_cell(store, cell, replace(stored, footer=footer))
    return RescoredCell(path=path, state="rewritten", reason=reason)


def _stored(store: Store, cell: str) -> StoredCell:
    try:
        found = read_cell(store, cell)
    except DamagedError as error:
        put_aside(store, error, cell_file(cell))
        raise
    if found is None:
        raise ResultsError("the cell no longer exists")
    if not len(found.rows):
        trial_id = cell.partition("/")[0]
        raise ResultsError(
            "it has no predictions, so its measurements stay as they are. To evaluate again: pixmix-ray evaluate "
            f"{store.uri}/trials/{trial_id} --benchmarks {_benchmark_name(cell)} --results {store.uri}"
        )
    return found


def _measured(cell: str, stored: StoredCell, *, is_trusted: bool) -> list[Measurement]:
    """What the stored predictions of a cell measure."""
    benchmark = _benchmark(stored.footer, cell.rpartition("/")[2], is_trusted=is_trusted)
    try:
        measured = benchmark.measure(predictions_of(stored.rows, benchmark.extras))
        for row in measured:
            benchmark.metric(row.metric)
        return measured
    except (ResultsError, MemoryError):
        raise
    except Exception as error:  # a benchmark of anybody's, on a file of anybody's: the other cells go on
        raise ResultsError(f"it cannot be measured ({type(error).__name__}: {one_line(error)})") from error


def _benchmark(footer: Footer, key: str, *, is_trusted: bool) -> Benchmark:
    """The benchmark of a cell, if its settings mean today what they meant when `key` was made of them."""
    try:
        settings = json.loads(footer.common["benchmark_settings"])
        check_trusted(settings, "it", is_trusted=is_trusted)
        name, _ = settings.pop("name"), settings.pop("source", None)  # the source is that of the class found here
        part = Part(name=name, settings=BENCHMARKS.find(name).from_identity(settings))
        version = footer.common["data_version"].partition(";")[2]  # what comes first is the data set's
        run = BenchmarkRun(benchmark=part, version=version)
        is_of_today = run.cell_key(footer.test_set, footer.common["checkpoint_id"]) == key
    except RequestError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ResultsError(f"its settings cannot be read ({type(error).__name__}: {one_line(error)})") from error
    if not is_of_today:
        raise ResultsError(f"it was made by an older version of the benchmark {name}: evaluate again")
    return part.settings


def _differences(stored: Iterable[Measurement], measured: Iterable[Measurement]) -> list[str]:
    """A few words for every number that is stored and measured differently, or only one of the two."""
    old, new = ({(row.metric, row.condition, row.severity): row for row in rows} for rows in (stored, measured))
    gone = [f"{_described(key)} is stored but no longer measured" for key in old if key not in new]
    added = [f"{_described(key)} is not stored" for key in new if key not in old]
    changed = [
        f"{_described(key)}: {column} {getattr(old[key], column)!r} is stored, {getattr(row, column)!r} measured"
        for key, row in new.items()
        for column in ("value", "n", "standard_error", "note")
        if key in old and not _is_same(getattr(old[key], column), getattr(row, column))
    ]
    return [*changed, *gone, *added]


def _is_same(one: float | str | None, other: float | str | None) -> bool:
    """Whether two numbers are equal; NaN equals itself here."""
    return one == other or (isinstance(one, float) and isinstance(other, float) and isnan(one) and isnan(other))


def _described(key: tuple[str, str, int | None]) -> str:
    metric, condition, severity = key
    words = filter(None, [metric, condition, "" if severity is None else f"severity {severity}"])
    return one_line(" ".join(words))
