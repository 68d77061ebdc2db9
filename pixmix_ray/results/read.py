"""Reading the measurements back."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from pixmix_ray.errors import ResultsError
from pixmix_ray.results.schema import MEASUREMENTS
from pixmix_ray.results.store import Store


def read(uri: str | Path) -> pd.DataFrame:
    """All measurements of a results folder, a row a measurement, columns as in `pixmix_ray.results.schema`.

    Args:
        uri: a local path or a URI such as s3://bucket/folder.

    Raises:
        ResultsError: there are no results there, or a cell cannot be read (named).
    """
    store = Store(uri)
    frame = read_cells(store, sorted(path for path in store.files("cells") if path.endswith(".parquet")))
    if frame.empty:
        raise ResultsError(f"no results in {store.uri}: give the folder that the experiment file calls 'results'")
    return frame


def read_cells(store: Store, paths: Iterable[str]) -> pd.DataFrame:
    """The measurements of the cells at `paths` that exist, in that order.

    Raises:
        ResultsError: a cell cannot be read (named).
    """
    found = (store.read_table(path, MEASUREMENTS) for path in paths)
    frame: pd.DataFrame = pa.concat_tables(
        [MEASUREMENTS.empty_table(), *(table for table in found if table is not None)]
    ).to_pandas()
    return frame
