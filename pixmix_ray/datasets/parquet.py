"""Pictures in Parquet files as Hugging Face's `datasets` writes them: a column of encoded bytes, and one of classes.

A row is {"image": {"bytes": ..., "path": ...}, "label": 3}; names of classes stand in the metadata of the schema. A row
cannot be read without its whole row group, so the bytes, as they are, are laid out once a machine in the cache, and are
then read by position.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.cache import Streamed, cache_folder, cached_arrays
from pixmix_ray.datasets.base import DATASETS
from pixmix_ray.datasets.encoded import EncodedRanges
from pixmix_ray.datasets.on_disk import OnDiskDataset, Split, check_same_classes
from pixmix_ray.datasets.picture_files import check_space
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.identity import short_hash
from pixmix_ray.settings import DataPath

AT_ONCE = 256  # rows


@DATASETS.add("parquet")
class Parquet(OnDiskDataset):
    """Anybody's pictures in Parquet files.

    Attributes:
        root: the folder that holds the files, or whose folder `data` does.
        train: the files of training pictures, by a pattern; none for evaluation alone.
        test: those of test pictures.
        image: the column of pictures.
        label: the column of classes, numbers from 0.
    """

    summary: ClassVar[str] = "pictures in Hugging Face's Parquet files, root/train-*.parquet and validation-*; set root"
    kind: ClassVar[str] = "parquet"
    location: ClassVar[frozenset[str]] = frozenset({"root", "train", "test", "image", "label"})  # in version()

    root: DataPath = Field(description="the folder that holds train-00000-of-00294.parquet and so on")
    train: str | None = "*train*.parquet"
    test: str = "*val*.parquet"
    image: str = "image"
    label: str = "label"

    def train_split(self) -> Split:
        """See `OnDiskDataset.train_split`."""
        test = self.test_split()
        if self.train is None:
            return Split(pictures=test.pictures, labels=np.empty(0, np.int64), class_names=test.class_names)
        train = self._split(self.train)
        check_same_classes(self.root, train.class_names, test.class_names, (self.train, self.test))
        return train

    def test_split(self) -> Split:
        """See `OnDiskDataset.test_split`."""
        return self._split(self.test)

    def _split(self, pattern: str) -> Split:
        files = sorted(self.root.glob(pattern)) or sorted((self.root / "data").glob(pattern))
        if not files:
            raise DataError(f"no files {self.root / pattern}: give the folder of the .parquet files, and their pattern")
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        entry = f"encoded-{short_hash(repr((stamps, self.image, self.label)), 24)}"
        arrays = cached_arrays(entry, lambda: self._laid_out(files))
        labels = cast(NDArray[np.int64], arrays["labels"])
        ends, first = cast(NDArray[np.int64], arrays["ends"]), np.lib.format.open_memmap(_bytes(entry), mode="r").offset
        start = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        pictures = EncodedRanges(
            files=[_bytes(entry)],
            file=np.zeros(len(labels), np.uint8),
            start=start + first,
            size=ends - start,
        )
        names = self._names(files[0]) or tuple(map(str, range(int(labels.max()) + 1)))
        if labels.min() < 0 or labels.max() >= len(names):
            raise DataError(
                f"{files[0]} has labels from {labels.min()} to {labels.max()} and names {len(names)} classes: "
                "fetch the files again"
            )
        return Split(pictures=pictures, labels=labels, class_names=names, sources=files)

    def _laid_out(self, files: list[Path]) -> dict[str, Any]:
        """The bytes of all pictures, one after the other, where each ends, and their classes."""
        labels, sizes = [], []
        for file in files:
            for batch in self._batches(file, [self.label, self.image]):
                labels.append(self._classes(file, batch))
                sizes += [len(content) for content in self._contents(file, batch)]
        ends = np.cumsum(sizes, dtype=np.int64)
        if not len(ends):
            raise DataError(f"{files[0]} and the files beside it hold no rows")
        check_space(cache_folder(), int(ends[-1]))
        pieces = (
            np.frombuffer(b"".join(self._contents(file, batch)), np.uint8)
            for file in files
            for batch in self._batches(file, [self.image])
        )
        return {
            "bytes": Streamed(shape=(int(ends[-1]),), dtype=np.uint8, pieces=pieces),
            "ends": ends,
            "labels": np.concatenate(labels),
        }

    def _batches(self, file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(file) as opened:
                if missing := [name for name in columns if name not in opened.schema_arrow.names]:
                    held = ", ".join(opened.schema_arrow.names)
                    raise DataError(f"{file} has no column {missing[0]!r}, only {held}: name them by image and label")
                yield from opened.iter_batches(AT_ONCE, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {file} ({one_line(error)}): fetch it again") from error

    def _classes(self, file: Path, batch: pa.RecordBatch) -> NDArray[np.int64]:
        column = batch.column(self.label)
        if not pa.types.is_integer(column.type) or column.null_count:
            held = "rows without a class" if column.null_count else str(column.type)
            raise DataError(f"{file} has {held} in {self.label!r}: the class of each row must be a whole number")
        return np.asarray(column.to_numpy(), np.int64)

    def _contents(self, file: Path, batch: pa.RecordBatch) -> list[bytes]:
        column = batch.column(self.image)
        is_pair = pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0
        contents: list[bytes] = (column.field("bytes") if is_pair else column).to_pylist()
        if not all(isinstance(content, bytes) for content in contents):
            raise DataError(
                f"{file} does not contain the bytes of its pictures in {self.image!r}: embed them in the file"
            )
        return contents

    def _names(self, file: Path) -> tuple[str, ...]:
        """The names of the classes, as `datasets` writes them; none where somebody else wrote the file."""
        metadata = pq.read_schema(file).metadata or {}
        try:
            about = json.loads(metadata.get(b"huggingface", b"{}"))
            return tuple(map(str, about.get("info", {}).get("features", {}).get(self.label, {}).get("names", ())))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            reason = one_line(error)
            raise DataError(f"cannot read the schema in {file} ({reason}): write the file again") from error


def _bytes(entry: str) -> Path:
    return cache_folder() / entry / "bytes.npy"
