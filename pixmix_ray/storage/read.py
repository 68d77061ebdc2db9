"""Reading the measurements back."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from pixmix_ray.errors import ResultsError
from pixmix_ray.memory import without_garbage_collection
from pixmix_ray.storage.cells import read_rows
from pixmix_ray.storage.segments import by_column
from pixmix_ray.storage.store import Store

REPEATED = (
    "settings",
    "benchmark_settings",
    "data_version",
    "device",
    "code_version",
    "training_code_version",
    "versions",
)
"""The columns of long texts that many rows share: categories in a DataFrame."""


@without_garbage_collection()
def read(uri: str | Path) -> pd.DataFrame:
    """All measurements of a results folder, a row a measurement, columns as in `pixmix_ray.storage.schema`.

    The order is that of the names of trials and benchmarks. Cells that are damaged are set aside and left out, with a
    warning. The columns in `REPEATED` are categories, other texts are strings.

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
def read_cells(store: Store, cells: Iterable[str]) -> pd.DataFrame:
    """The measurements of those of the cells (TRIAL/BENCHMARK) that are there, in that order, otherwise as `read`.

    Raises:
        ResultsError: the results cannot be read.
    """
    return _frame(read_rows(store, cells))


def _frame(rows: pa.Table) -> pd.DataFrame:
    columns = {field.name for field in rows.schema if pa.types.is_dictionary(field.type)}
    texts = [name for name in rows.column_names if name in columns - set(REPEATED)]
    cast = by_column(rows.select(texts), lambda column: column.cast(pa.string()))
    for name in texts:
        rows = rows.set_column(rows.schema.get_field_index(name), name, cast[name])
    frame: pd.DataFrame = rows.to_pandas()
    return frame
