"""Parquet files with a digest: every single flipped bit and every cut is found, and older files are still read."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixmix_ray.errors import DamagedError
from pixmix_ray.storage.sealed import DIGEST_KEY, conform, seal, unseal

TABLE = pa.table({"metric": ["error", "mce"], "value": [0.25, 0.5]})
CONTENT = seal([TABLE], {"note": "of two cells"})


def is_found(content: bytes) -> bool:
    try:
        unseal(content)
    except DamagedError as error:
        return "\n" not in str(error)
    return False


def flips() -> Iterator[bytes]:
    for place in range(len(CONTENT)):
        for bit in range(8):
            yield CONTENT[:place] + bytes([CONTENT[place] ^ (1 << bit)]) + CONTENT[place + 1 :]


def test_what_was_sealed_comes_back() -> None:
    found = unseal(CONTENT)
    assert found.table.equals(TABLE)
    assert found.metadata["note"] == "of two cells"


def test_a_wanted_column_that_the_file_lacks_is_null_throughout() -> None:
    text = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema({"metric": text, "later": text, "number": pa.int8()})
    found = unseal(CONTENT, schema).table
    assert found.schema.equals(schema)
    assert found.to_pydict() == {"metric": ["error", "mce"], "later": [None, None], "number": [None, None]}


def test_any_reader_of_parquet_opens_it() -> None:
    assert pq.read_table(io.BytesIO(CONTENT)).equals(TABLE)


def test_every_flipped_bit_is_found_wherever_it_is() -> None:
    undetected = [number for number, content in enumerate(flips()) if not is_found(content)]
    assert undetected == []


def test_every_cut_is_found() -> None:
    assert all(is_found(CONTENT[:end]) for end in range(len(CONTENT)))
    assert is_found(CONTENT + b"\0")


def test_one_file_in_place_of_another_is_no_damage_but_half_of_each_is() -> None:
    other = seal([TABLE], {"note": "of two cells"})
    assert other == CONTENT  # nothing random in it
    changed = seal([pa.table({"metric": ["error", "mce"], "value": [0.25, 0.75]})], {"note": "of two cells"})
    half = len(CONTENT) // 2
    assert is_found(CONTENT[:half] + changed[half:])


@pytest.mark.parametrize("table", [TABLE, TABLE.replace_schema_metadata({"pandas": "{}"})])
def test_a_file_from_before_the_digest_is_read(table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    assert DIGEST_KEY.encode() not in buffer.getvalue()
    assert unseal(buffer.getvalue()).table.equals(TABLE)


def test_rows_that_hold_the_mark_of_a_digest_are_no_digest() -> None:
    table = pa.table({"text": [f"{DIGEST_KEY} sha256=" + "0" * 64]})
    assert unseal(seal([table])).table.equals(table)


def test_rows_of_a_file_without_digest_may_hold_what_stands_before_one() -> None:
    table, buffer = pa.table({"text": ["sha256=" + "0" * 64]}), io.BytesIO()
    pq.write_table(table, buffer, compression=None)
    assert unseal(buffer.getvalue()).table.equals(table)


def test_a_wanted_schema_adds_takes_away_and_converts_columns() -> None:
    wanted = pa.schema([("value", pa.float64()), ("n", pa.int64()), ("metric", pa.dictionary(pa.int32(), pa.string()))])
    assert conform(TABLE, wanted).to_pylist() == [
        {"value": 0.25, "n": None, "metric": "error"},
        {"value": 0.5, "n": None, "metric": "mce"},
    ]
    with pytest.raises(DamagedError, match="as a scalar of type double"):
        _ = unseal(CONTENT, pa.schema([("metric", pa.float64())])).table
