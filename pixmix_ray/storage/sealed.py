"""Parquet files that carry a digest of all their own bytes, so that a cut or a flipped bit is found when they are read.

Parquet's own page checksums leave out the footer, which says where every column lies. Here the SHA-256 of the whole
file stands in the file's key-value metadata: it is computed with zeros in the place of its own 64 digits, which are
then put there. So the file stays one that every reader of Parquet opens, is written in one piece on every kind of
storage, and needs no second file that could be lost or outdated.

Files of versions before the digest have no metadata of ours, and are read as they are.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pixmix_ray.errors import DamagedError, one_line

if TYPE_CHECKING:
    import pyarrow.dataset as ds

SEAL = "sha256"  # the key of a JSON file's hash
DIGEST_KEY = "pixmix_ray.digest"
MARK = b"sha256="
BLANK = b"0" * 64
FEW_ROWS = 200
DICTIONARY_BYTES = 2**28  # beyond that, texts are written out for each row
OTHERS = {b"ARROW:schema", b"pandas"}  # what writers of Parquet add by themselves


@dataclass(frozen=True, kw_only=True)
class Unsealed:
    """What a file holds.

    Attributes:
        metadata: the texts that were written beside the rows.
        content: the bytes of the file, which are those that were written.
        file: of these bytes.
        schema: the columns that are wanted; none takes all as they are.
    """

    metadata: Mapping[str, str]
    content: bytes
    file: pq.ParquetFile
    schema: pa.Schema | None

    @cached_property
    def table(self) -> pa.Table:
        """The rows, decoded when they are first asked for; raises DamagedError as `unseal`."""
        try:
            # threads cost more than they save where there is little to read
            rows = self.file.read(use_threads=self.file.metadata.num_rows > 10_000)
            return rows if self.schema is None else conform(rows, self.schema)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error) from None

    def dataset(self, schema: pa.Schema) -> "ds.Dataset":
        """Some of the columns that are wanted, of which only what somebody asks for is decoded."""
        import pyarrow.dataset as ds  # slow to import

        form = ds.ParquetFileFormat(dictionary_columns=_dictionaries(schema))
        return ds.FileSystemDataset([form.make_fragment(pa.BufferReader(self.content))], schema, form)


def seal(tables: Iterable[pa.Table], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a Parquet file with `metadata` and the digest in its footer.

    Args:
        tables: its rows, a row group each; of one schema, and at least one.
        metadata: texts to keep beside the rows.
    """
    buffer, remaining = io.BytesIO(), iter(tables)
    first = next(remaining)
    # in a small file compression saves no more than a tenth, and takes half of the time to write it
    compression = "zstd" if len(first) > FEW_ROWS else "none"
    # statistics would be a third of a small file, and nobody searches within one
    options = {"compression": compression, "write_statistics": False, "dictionary_pagesize_limit": DICTIONARY_BYTES}
    with pq.ParquetWriter(buffer, first.schema, **options) as writer:
        for table in chain([first], remaining):
            writer.write_table(table, row_group_size=max(1, len(table)))
        writer.add_key_value_metadata({**(metadata or {}), DIGEST_KEY: (MARK + BLANK).decode()})
    with buffer.getbuffer() as content:  # in its place: a copy of a large file would take as much again
        footer = int.from_bytes(content[-8:-4], "little") + 8
        start = len(content) - footer + bytes(content[-footer:]).rindex(MARK) + len(MARK)
        content[start : start + len(BLANK)] = _digest(content)
    return buffer.getvalue()


def unseal(content: bytes, schema: pa.Schema | None = None) -> Unsealed:
    """What the bytes of a Parquet file hold.

    Args:
        content: of the whole file.
        schema: the columns that are wanted: one that the file lacks is null throughout, others are left out. None takes
            the columns as they are.

    Raises:
        DamagedError: the bytes are not those that were written, or no Parquet, or a column has another type.
    """
    is_checked = _is_checked(content)
    try:
        buffer = pa.BufferReader(content)
        wanted = _dictionaries(schema)
        there = set(pq.read_schema(buffer).names) if wanted else set()
        # not made of texts afterwards
        file = pq.ParquetFile(buffer, read_dictionary=[name for name in wanted if name in there])
        metadata = file.metadata.metadata or {}
        if not is_checked and set(metadata) - OTHERS:  # the bytes that mark the place of the digest have changed
            raise DamagedError("its digest is gone")
        ours = {key.decode(): text.decode() for key, text in metadata.items() if key not in OTHERS}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None
    return Unsealed(metadata=ours, content=content, file=file, schema=schema)


@lru_cache(maxsize=8)
def _dictionaries(schema: pa.Schema | None) -> tuple[str, ...]:
    """The columns that are wanted as dictionaries."""
    return tuple(field.name for field in schema or () if pa.types.is_dictionary(field.type))


def _unreadable(error: Exception) -> DamagedError:
    return DamagedError(one_line(error))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows of a table with the columns of `schema`: those that it lacks are null, others are left out."""
    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _is_checked(content: bytes) -> bool:
    """Whether there is a digest in the bytes; raises DamagedError where it is not theirs."""
    place = content.rfind(MARK)
    if place < 0 or content.rfind(DIGEST_KEY.encode(), 0, place) < 0:
        return False
    start = place + len(MARK)
    stored = content[start : start + len(BLANK)]
    if stored != _digest(content[:start] + BLANK + content[start + len(BLANK) :]):
        raise DamagedError("its bytes are not those that were written")
    return True


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def seal_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` and their hash."""
    return {**values, SEAL: _json_hash(values)}


def open_json(content: bytes, where: str) -> dict[str, Any]:
    """The values in a JSON file of `seal_json`; files of earlier versions have no hash and are taken as they are.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} was damaged: {error}") from None
    if not isinstance(values, dict):
        raise DamagedError(f"{where} was damaged: it holds no JSON object")
    if values.pop(SEAL, None) not in (None, _json_hash(values)):
        raise DamagedError(f"{where} was damaged: its content is not that of its hash")
    return values


def _json_hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
