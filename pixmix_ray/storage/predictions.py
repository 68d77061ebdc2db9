"""Predictions as a table, and back, with the same numbers to the last bit."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pixmix_ray.errors import ResultsError
from pixmix_ray.metrics import Extra, Predictions
from pixmix_ray.storage.schema import predictions_schema


def predictions_table(predictions: Predictions, extras: Mapping[str, Extra]) -> pa.Table:
    """A row a picture, with the columns of `schema.PREDICTIONS` and one for each of the benchmark's `extras`."""
    schema, columns = predictions_schema(extras), predictions.columns
    assert set(columns) == set(schema.names), "a benchmark must keep the extras that it declares, and no other"
    arrays = {name: pa.array(columns[name]) for name in schema.names}
    arrays["condition"] = arrays["condition"].dictionary_encode()
    return pa.table(list(arrays.values()), schema=schema)


def predictions_of(table: pa.Table, extras: Mapping[str, Extra]) -> Predictions:
    """The predictions of a table that `predictions_table` made.

    Raises:
        ResultsError: it lacks a column, as do those of older versions.
    """
    schema = predictions_schema(extras)
    if missing := [name for name in schema.names if name not in table.column_names]:
        raise ResultsError(f"the predictions lack {', '.join(missing)}: they are of an older version, evaluate again")
    read = table.select(schema.names).cast(schema).unify_dictionaries()
    columns: dict[str, NDArray[np.generic]] = {name: read[name].to_numpy() for name in schema.names[1:]}
    condition = read["condition"].combine_chunks()
    names = np.array(condition.dictionary.to_pylist() or [""])
    return Predictions.of_columns({"condition": names[condition.indices.to_numpy()], **columns})
