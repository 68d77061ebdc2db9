"""The schema: what it holds, that it documents itself, and that Parquet keeps all of it."""

import io
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixmix_ray.storage.schema import (
    CONFIGURATION,
    INDEX_COLUMNS,
    MEASUREMENT_COLUMNS,
    MEASUREMENTS,
    PREDICTION_COLUMNS,
    PREDICTIONS,
    Column,
)


def one_row() -> dict[str, object]:
    return {
        "trial_id": "pixmix-0123456789ab",
        "checkpoint_id": "ba9876543210",
        "dataset": "cifar10",
        "model": "wrn_40_4",
        "method": "baseline",
        "mixing_set": None,
        "k": None,
        "beta": None,
        "seed": 2**40,
        "settings": "{}",
        "benchmark": "corruptions",
        "benchmark_settings": "{}",
        "data_version": "v1",
        "metric": "mce",
        "condition": "",
        "severity": None,
        "value": 0.25,
        "direction": "lower",
        "unit": "",
        "n": 750_000,
        "standard_error": None,
        "note": "",
        "seconds": 12.5,
        "device": "cpu",
        "code_version": "0.1.0",
        "training_code_version": "0.1.0",
        "versions": "{}",
        "finished_at": datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    }


def through_parquet(table: pa.Table) -> pa.Table:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return pq.read_table(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("column", [*INDEX_COLUMNS, *PREDICTION_COLUMNS], ids=lambda column: str(column.name))
def test_every_column_says_what_it_means_in_one_line(column: Column) -> None:
    assert column.meaning
    assert "\n" not in column.meaning
    assert column.field().metadata[b"meaning"].decode() == column.meaning
    assert ("null:" in column.meaning) == column.nullable


@pytest.mark.parametrize(
    ("schema", "columns"), [(MEASUREMENTS, MEASUREMENT_COLUMNS), (PREDICTIONS, PREDICTION_COLUMNS)]
)
def test_the_schema_is_the_table_of_columns(schema: pa.Schema, columns: tuple[Column, ...]) -> None:
    assert schema.names == [column.name for column in columns]
    assert schema.types == [column.type for column in columns]
    assert len(set(schema.names)) == len(schema.names)


def test_numbers_have_a_range_and_quantities_a_unit() -> None:
    for column in (*INDEX_COLUMNS, *PREDICTION_COLUMNS):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            assert column.range, column.name
    units = {column.name: column.unit for column in MEASUREMENT_COLUMNS if column.unit}
    assert units["seconds"] == "s"
    assert units["value"].startswith("fraction")


def test_a_measurement_survives_parquet_with_its_documentation() -> None:
    table = through_parquet(pa.Table.from_pylist([one_row()], schema=MEASUREMENTS))
    assert table.to_pylist() == [one_row()]
    assert table.schema.equals(MEASUREMENTS)
    assert table.schema.field("value").metadata[b"meaning"] == MEASUREMENTS.field("value").metadata[b"meaning"]


def test_predictions_survive_parquet_as_dictionary_and_small_integers() -> None:
    count = 10
    table = pa.table(
        {
            "condition": pa.array(["fog"] * count).dictionary_encode(),
            "severity": np.full(count, 5, np.int8),
            "index": np.arange(count, dtype=np.int32),
            "label": np.full(count, -1, np.int16),
            "predicted": np.zeros(count, np.int16),
            "confidence": np.full(count, 0.5, np.float32),
        },
        schema=PREDICTIONS,
    )
    assert through_parquet(table).equals(table)


def test_a_null_where_none_is_allowed_is_not_written() -> None:
    table = pa.Table.from_pylist([{**one_row(), "metric": None}], schema=MEASUREMENTS)
    with pytest.raises(pa.ArrowInvalid, match="metric"):
        through_parquet(table)


def test_a_configuration_is_everything_of_the_trial_but_its_seed() -> None:
    trial = MEASUREMENTS.names[: MEASUREMENTS.names.index("benchmark")]
    assert set(trial) - set(CONFIGURATION) == {"trial_id", "checkpoint_id", "seed"}
