"""SQL over a results folder, by DuckDB: the tables `measurements`, `predictions`, `trials`, `failures`, `published`.

Predictions are read from the cells as far as a query needs them: their columns, and the cells that it selects by cell,
trial_id, benchmark, method or seed. Local folders and object storage are read in the same way, through pyarrow.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from pixmix_ray.analysis.published import published_figures
from pixmix_ray.errors import RequestError, ResultsError, one_line
from pixmix_ray.storage.failures import described
from pixmix_ray.storage.index import read_rows, rows_of, update
from pixmix_ray.storage.schema import INDEX, PREDICTIONS
from pixmix_ray.storage.store import Store, cell_file, trial_file

if TYPE_CHECKING:
    import duckdb

TABLES = ("measurements", "predictions", "trials", "failures", "published")
OF_CELL = ("cell", "trial_id", "benchmark", "method", "seed")
"""Columns of `predictions` that are the same throughout a cell."""

OF_TRIAL = ("trial_id", "dataset", "model", "method", "mixing_set", "k", "beta", "seed", "settings")

ROWS = pa.schema([field for field in INDEX if field.name not in ("cell_modified", "cell_size")])
FAILURES = pa.schema([(name, pa.string()) for name in ("trial_id", "cell", "reason")])


def query(store: Store, text: str) -> pd.DataFrame:
    """What an SQL statement returns.

    Args:
        store: the results folder; it is only read.
        text: one statement, with the tables of `TABLES`.

    Raises:
        RequestError: DuckDB does not accept it, in one line.
        ResultsError: the results cannot be read.
    """
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET python_enable_replacements = false")  # names in a query are tables, not our variables
        _register(connection, store, text)
        try:
            found = connection.execute(text)
            if found is None or not found.description:
                raise RequestError(f"SQL: {one_line(text, 60)!r} returns no table: use select")
            return found.df()
        except duckdb.Error as error:
            known = f"; tables: {', '.join(TABLES)}" if "does not exist" in str(error) else ""
            raise RequestError(f"SQL: {one_line(error, 300)}{known}") from None


def _register(connection: "duckdb.DuckDBPyConnection", store: Store, text: str) -> None:
    """Make the tables that the text names; those that it does not name cost nothing."""
    index = update(store)
    named = {name for name in TABLES if name in text.lower()}
    if named - {"published"} and not index.file.metadata.num_rows and not store.files("trials"):
        raise _nothing(store)
    connection.register("measurements", index.dataset(ROWS))
    if "predictions" in named:
        connection.register("predictions", prediction_rows(store, rows_of(index, OF_CELL)))
    if "trials" in named:
        trials = trial_rows(store, rows_of(index, ["cell", *OF_TRIAL]))
        connection.register("trials", pa.Table.from_pandas(trials, preserve_index=False))
    if "failures" in named:
        connection.register("failures", _failures(store))
    if "published" in named:
        connection.register("published", published_figures())


def prediction_rows(store: Store, measurements: pa.Table) -> ds.Dataset:
    """The predictions of the cells of some measurements, read when they are asked for.

    Columns: `OF_CELL`, those of `schema.PREDICTIONS`, and what benchmarks keep beside them.

    Raises:
        ResultsError: there are no cells.
    """
    rows = _first_of(measurements, "cell", OF_CELL).to_dict("records")
    if not rows:
        raise _nothing(store)
    files, root = store.filesystem()
    form = ds.ParquetFileFormat()
    fields = {name: ds.field(name) for name in OF_CELL}
    fragments: list[ds.ParquetFileFragment] = []
    benchmarks: dict[str, ds.ParquetFileFragment] = {}
    for row in rows:
        values = {name: row[name] for name in OF_CELL}
        about = None
        for name, value in values.items():
            told = fields[name] == value
            about = told if about is None else about & told
        fragment = form.make_fragment(f"{root}/{cell_file(row['cell'])}", files, about)
        fragments.append(fragment)
        benchmarks.setdefault(values["benchmark"], fragment)
    return ds.FileSystemDataset(fragments, _joined_schema(benchmarks), form, files)


def _nothing(store: Store) -> ResultsError:
    return ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")


def _joined_schema(benchmarks: Mapping[str, ds.ParquetFileFragment]) -> pa.Schema:
    """The columns of the predictions of all benchmarks: one file of each is looked at."""
    columns = {name: pa.string() for name in OF_CELL[:-1]} | {"seed": pa.int64()}
    columns |= {field.name: field.type for field in PREDICTIONS} | {"condition": pa.string()}
    for fragment in benchmarks.values():
        for field in fragment.physical_schema:
            columns.setdefault(field.name, field.type)
    return pa.schema(list(columns.items()))


def trial_rows(store: Store, measurements: pa.Table | None = None) -> pd.DataFrame:
    """A row a trial: what it is, how many cells were measured, and whether it is done.

    Args:
        store: the results folder.
        measurements: of its index at least `cell` and the columns of `OF_TRIAL`; none reads it.
    """
    measurements = read_rows(store, ["cell", *OF_TRIAL]) if measurements is None else measurements
    cells = _first_of(measurements, "cell", ("cell", "trial_id"))["trial_id"].value_counts()
    frame = _first_of(measurements, "trial_id", OF_TRIAL)
    frame["cells"] = frame["trial_id"].map(cells).astype("int64")
    files = store.files("trials")
    found = set(frame["trial_id"])
    others = sorted({path.split("/")[1] for path in files} - found)
    missing = pd.DataFrame([_trial(store, trial_id) for trial_id in others], columns=[*frame.columns])
    frame = pd.concat([frame, missing], ignore_index=True) if len(missing) else frame
    frame["is_done"] = [trial_file(str(name), "done.json") in files for name in frame["trial_id"]]
    return frame


def _first_of(measurements: pa.Table, key: str, names: Sequence[str]) -> pd.DataFrame:
    """The first row of each `key`, with the columns `names`; texts are plain."""
    frame: pd.DataFrame = measurements.select(list(names)).to_pandas().drop_duplicates(key, ignore_index=True)
    return frame.astype({name: object for name in names if isinstance(frame[name].dtype, pd.CategoricalDtype)})


def _trial(store: Store, trial_id: str) -> dict[str, object]:
    """What its file says of a trial of which nothing was measured yet."""
    about = store.read_json(trial_file(trial_id, "trial.json")) or {}
    method, model, dataset = (about.get(name) or {} for name in ("method", "model", "dataset"))
    return {
        "trial_id": trial_id,
        "dataset": dataset.get("name") if isinstance(dataset, dict) else None,
        "model": model.get("name") if isinstance(model, dict) else None,
        "method": method.get("name") if isinstance(method, dict) else None,
        "k": method.get("k") if isinstance(method, dict) else None,
        "beta": method.get("beta") if isinstance(method, dict) else None,
        "seed": about.get("seed"),
        "settings": json.dumps(about, sort_keys=True),
        "cells": 0,
    }


def _failures(store: Store) -> pa.Table:
    """A row for each trial and cell that failed, with the reason."""
    rows = []
    for path in sorted(store.files("trials") | store.files("cells")):
        if not path.endswith("failed.json"):
            continue
        room, trial_id, name = [*path.split("/"), ""][:3]
        cell = f"{trial_id}/{name.removesuffix('.failed.json')}" if room == "cells" else None
        rows.append({"trial_id": trial_id, "cell": cell, "reason": described(store.read_json(path) or {})})
    return pa.Table.from_pylist(rows, schema=FAILURES)
