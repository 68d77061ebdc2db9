"""A cell: one checkpoint on one benchmark, in one Parquet file named CHECKPOINT/NAME-KEY.

Its rows are the predictions, a row a picture; its footer holds the measurements that follow from them, as JSON, with a
hash of their own, so that they are read without the rows. The digest of the whole file is that of `sealed`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pixmix_ray.errors import DamagedError, ResultsError
from pixmix_ray.metrics import UNITS, Extra, Measurement, Predictions
from pixmix_ray.storage.schema import MEASUREMENTS, predictions_schema
from pixmix_ray.storage.store import Store, cell_file

FOOTER_KEY = "pixmix_ray.measurements"
HASH_KEY = "pixmix_ray.measurements.sha256"
TAIL = 2**15  # bytes at the end of a file that are read at first: most footers are smaller
THRIFT_TEXT = b"\x18"  # a text follows, as the next field of what it belongs to
THRIFT_NUMBER = b"\x15"  # a number, the version, as the first field
LONGEST_LENGTH = 5  # bytes
MEASURED = tuple(field.name for field in fields(Measurement))
OF_METRIC = ("direction", "unit")
"""The columns of a measurement that follow from its metric."""
COMMON = tuple(name for name in MEASUREMENTS.names if name not in (*MEASURED, *OF_METRIC))
"""The columns of a measurement that are the same in all rows of a cell."""


@dataclass(frozen=True, kw_only=True)
class Footer:
    """The measurements of a cell.

    Attributes:
        common: the columns of `schema.MEASUREMENTS` that are the same for all measurements, by name.
        test_set: hash of what decides the test pictures.
        measurements: what was measured.
        directions: for each of their metrics, whether lower or higher is better.
        units: for those of their metrics that are no fraction, what they are counted in.
    """

    common: Mapping[str, Any]
    test_set: str
    measurements: tuple[Measurement, ...]
    directions: Mapping[str, str]
    units: Mapping[str, str] = field(default_factory=lambda: UNITS)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The measurements of a cell as columns: an object for each of millions of rows would cost too much.

    Attributes:
        common: as in `Footer`.
        test_set: likewise.
        own: the other columns of `schema.MEASUREMENTS` by name, a value a measurement.
    """

    common: Mapping[str, Any]
    test_set: str
    own: Mapping[str, Sequence[Any]]

    def footer(self) -> Footer:
        """The same, an object a measurement."""
        rows = zip(*(self.own[name] for name in MEASURED), strict=True)
        return Footer(
            common=self.common,
            test_set=self.test_set,
            measurements=tuple(Measurement(**dict(zip(MEASURED, row, strict=True))) for row in rows),
            directions=dict(zip(self.own["metric"], self.own["direction"], strict=True)),
            units={name: unit for name, unit in zip(self.own["metric"], self.own["unit"], strict=True) if unit},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredCell:
    """All that a cell's file holds.

    Attributes:
        rows: the predictions.
        footer: the measurements.
    """

    rows: pa.Table
    footer: Footer


def write_cell(store: Store, name: str, cell: StoredCell) -> None:
    """Write the file of a cell, in place of the one that may be there.

    Raises:
        StorageError: it cannot be written.
    """
    text = _footer_text(cell.footer)
    store.write_table(cell_file(name), cell.rows, {FOOTER_KEY: text, HASH_KEY: _hash(text)})


def read_cell(store: Store, name: str) -> StoredCell | None:
    """What the file of a cell holds; none if there is no such file.

    Raises:
        DamagedError: its bytes are not those that were written.
        ResultsError: it is of an older layout.
    """
    path = cell_file(name)
    try:
        found = store.unsealed(path)
        if found is None:
            return None
        columns = _columns(_checked_text(found.metadata, found.file.schema_arrow.names, store))
        return StoredCell(rows=found.table, footer=columns.footer())
    except DamagedError as error:
        raise store.damaged(path, error) from None


def read_predictions(store: Store, name: str) -> pa.Table | None:
    """The rows of a cell; none if there is no such file.

    Raises:
        DamagedError: its bytes are not those that were written.
    """
    path = cell_file(name)
    try:
        found = store.unsealed(path)
        return None if found is None else found.table
    except DamagedError as error:
        raise store.damaged(path, error) from None


def read_columns(store: Store, name: str) -> Columns | None:
    """The measurements of a cell, read without its rows; none if there is no such file.

    Raises:
        DamagedError: its bytes are not those that were written.
        ResultsError: it is of an older layout.
    """
    path = cell_file(name)
    tail = store.read_end(path, TAIL)
    if tail is None:
        return None
    needed = int.from_bytes(tail[-8:-4], "little") + 12  # the footer, its length, the mark at either end
    if len(tail) == TAIL < needed:
        tail = store.read_end(path, needed) or b""
    text = _found(tail[4 - needed :])
    try:
        if text is not None:
            return _columns(text)
        # a whole file to the reader of footers, which looks for nothing before them but the mark
        file = pq.read_metadata(pa.BufferReader(b"PAR1" + tail[-needed + 4 :]))
        metadata = {key.decode(): text.decode() for key, text in (file.metadata or {}).items()}
        return _columns(_checked_text(metadata, file.schema.names, store))
    except DamagedError as error:
        raise store.damaged(path, error) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise store.damaged(path, error) from None


def older_layout(store: Store) -> ResultsError:
    """The error for a results folder as earlier versions wrote it."""
    return ResultsError(f"results {store.uri} are of an older layout: run pixmix-ray migrate {store.uri} once")


def predictions_table(predictions: Predictions, extras: Mapping[str, Extra]) -> pa.Table:
    """A row a picture, with the columns of `schema.PREDICTIONS` and one for each of the benchmark's `extras`."""
    schema, columns = predictions_schema(extras), predictions.columns
    assert set(columns) == set(schema.names), "a benchmark must keep the extras that it declares, and no other"
    arrays = {name: pa.array(columns[name]) for name in schema.names[1:]}
    condition = pa.array(columns["condition"].tolist(), schema.field("condition").type)
    return pa.table([condition, *arrays.values()], schema=schema)


def predictions_of(table: pa.Table, extras: Mapping[str, Extra]) -> Predictions:
    """The predictions of a table that `predictions_table` made, the same to the last bit.

    Raises:
        ResultsError: it lacks a column, as do those of older versions.
    """
    schema = predictions_schema(extras)
    if missing := [name for name in schema.names if name not in table.column_names]:
        raise ResultsError(f"the predictions lack {', '.join(missing)}, as an older version wrote them: evaluate again")
    read = table.select(schema.names).cast(schema).unify_dictionaries()
    columns: dict[str, NDArray[np.generic]] = {name: read[name].to_numpy() for name in schema.names[1:]}
    condition = read["condition"].combine_chunks()
    names = np.array(condition.dictionary.to_pylist() or [""], dtype=np.object_)
    return Predictions.of_columns({"condition": names[condition.indices.to_numpy()], **columns})


def _footer_text(footer: Footer) -> str:
    common = {name: _plain(footer.common.get(name)) for name in COMMON}
    values = {
        "common": common,
        "test_set": footer.test_set,
        "columns": MEASURED,
        "measurements": list(map(attrgetter(*MEASURED), footer.measurements)),
        "directions": dict(footer.directions),
        "units": {name: footer.units[name] for name in footer.directions if name in footer.units},
    }
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _found(footer: bytes) -> str | None:
    """The measurements in the end of a file, if they are those of their hash: for a third of what a reader takes.

    None where they are not found, or the end does not look like that of Parquet: then a reader of it tells why.
    """
    if not (footer.startswith(THRIFT_NUMBER) and footer.endswith(b"PAR1")):
        return None
    text, digest = _value(footer, FOOTER_KEY), _value(footer, HASH_KEY)
    if text is None or digest is None or digest != hashlib.sha256(text).hexdigest().encode():
        return None
    return text.decode()


def _value(footer: bytes, key: str) -> bytes | None:
    """The text behind a key in a footer of Parquet, where Thrift wrote both, each with its length before it."""
    mark = len(key).to_bytes() + key.encode() + THRIFT_TEXT
    place = footer.find(mark)
    if place < 0:
        return None
    place, length = place + len(mark), 0
    for number, byte in enumerate(footer[place : place + LONGEST_LENGTH]):
        length |= (byte & 127) << 7 * number
        if byte < 128:
            return footer[place + number + 1 : place + number + 1 + length]
    return None


def _checked_text(metadata: Mapping[str, str], columns: list[str], store: Store) -> str:
    """The measurements in the texts of a footer, if they are those of their hash; raises DamagedError."""
    text = metadata.get(FOOTER_KEY)
    if text is None:
        if "trial_id" in columns:
            raise older_layout(store)
        raise DamagedError("it contains no measurements")
    if metadata.get(HASH_KEY) != _hash(text):
        raise DamagedError("its measurements are not those that were written")
    return text


def _columns(text: str) -> Columns:
    """The measurements in the text of a footer; raises DamagedError, its place not named yet."""
    try:
        values = json.loads(text)
        common = {**values["common"], "finished_at": datetime.fromisoformat(values["common"]["finished_at"])}
        measured = list(zip(*values["measurements"], strict=True)) or [()] * len(MEASURED)
        own = dict(zip(values["columns"], measured, strict=True))
        own.setdefault("note", ("",) * len(own["metric"]))  # cells of earlier versions have none
        for name in MEASURED:
            _check(name, own[name])
        for name in COMMON:
            _check(name, (common[name],))
        own["direction"] = tuple(str(values["directions"][metric]) for metric in own["metric"])
        units = values.get("units", UNITS)  # earlier versions wrote none, and measured metrics of ours alone
        own["unit"] = tuple(str(units.get(metric, "")) for metric in own["metric"])
        common = {name: common[name] for name in COMMON}
        return Columns(common=common, test_set=str(values["test_set"]), own=own)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedError(f"its measurements cannot be read ({type(error).__name__}: {error})") from None


def _python_type(kind: pa.DataType) -> type:
    if pa.types.is_integer(kind):
        return int
    return datetime if pa.types.is_timestamp(kind) else float if pa.types.is_floating(kind) else str


# pyarrow makes a new field each time that it is asked for one
_FIELDS = {field.name: (field.type, field.nullable) for field in MEASUREMENTS}
_TYPES = {
    field.name: {_python_type(field.type), type(None)} if field.nullable else {_python_type(field.type)}
    for field in MEASUREMENTS
}
_LIMITS = {field.name: 2 ** (field.type.bit_width - 1) for field in MEASUREMENTS if pa.types.is_integer(field.type)}


def _check(name: str, values: Sequence[Any]) -> None:
    """Raise where a column cannot hold the values, so that one strange file does not spoil the table of all."""
    if _TYPES[name].issuperset(map(type, values)):
        limit = _LIMITS.get(name)
        if limit is None or all(value is None or -limit <= value < limit for value in values):
            return  # the usual case, in a tenth of the time that an array takes
    kind, is_nullable = _FIELDS[name]
    if pa.array(values, kind).null_count and not is_nullable:
        raise TypeError(f"{name} is null")
