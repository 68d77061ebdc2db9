"""What data sets of encoded pictures share, in whatever layout they lie on disk: sizes, versions, decoding, streaming.

Test pictures are as in every published evaluation: shorter side 256 (bilinear, antialiased), then the centre of 224;
they are decoded once a machine into one memory map. Training pictures are cut the same way where they fit in memory.
Where they do not, as ImageNet's 1,281,167 (193 GB at 224 pixels), they are streamed: read and decoded at each visit,
and the official recipe's random piece (RandomResizedCrop) is cut out of the original picture.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pixmix_ray.datasets.base import Dataset, ImageData, evenly_spaced
from pixmix_ray.datasets.encoded import Encoded, EncodedFiles, EncodedRanges, EncodedSet
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_files import cached_squares, has_squares
from pixmix_ray.errors import DataError
from pixmix_ray.identity import short_hash

MOST_RESIDENT = 4_000_000_000  # bytes of decoded training pictures; not this machine's memory, since results follow
MOST_HASHED = 100_000  # files, and
MOST_HASHED_BYTES = 20_000_000_000  # bytes of archives, whose content is hashed whole; of more, that of a sample
SAMPLED = 4096  # pictures
FEWEST_CLASSES = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The pictures to train on, or to test on.

    Attributes:
        pictures: encoded, N of them.
        labels: (N,) int64.
        class_names: one for each label.
        sources: the files that hold the content, where they are others than those of `pictures`.
    """

    pictures: Encoded
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    sources: Sequence[Path] = ()

    def content(self) -> list[NDArray[np.uint8]]:
        """Digests that change with the content: of all files, or of a sample of many; and of labels in no order."""
        digests = [self._digests().ravel()] if len(self.labels) else []
        if np.any(np.diff(self.labels) < 0):  # those in order follow from their counts
            digests.append(np.frombuffer(bytes.fromhex(short_hash(self.labels.tobytes(), 32)), np.uint8))
        return digests

    def _digests(self) -> NDArray[np.uint8]:
        files: Sequence[Path] = self.sources
        if not files and isinstance(self.pictures, EncodedFiles | EncodedRanges):
            files = self.pictures.files
        is_archive = bool(self.sources) or isinstance(self.pictures, EncodedRanges)
        if _total_bytes(files) <= MOST_HASHED_BYTES if is_archive else len(files) <= MOST_HASHED:
            return file_md5s(files)
        some = evenly_spaced(len(self.labels), SAMPLED)
        names = short_hash("\n".join(self.pictures.name(place).rpartition("/")[2] for place in some.tolist()))
        header = np.frombuffer(f"{len(self.labels)} {names}".encode(), np.uint8)
        if not is_archive:
            return np.concatenate([header, file_md5s([files[place] for place in some.tolist()]).ravel()])
        digests = "".join(short_hash(self.pictures.read(place)) for place in some.tolist())
        return np.concatenate([header, np.frombuffer(digests.encode(), np.uint8)])


def _total_bytes(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


class OnDiskDataset(Dataset, ABC):
    """A data set of encoded pictures.

    Attributes:
        size: side of a test picture in pixels.
        resize: shorter side before the square is cut out of its centre.
        train_size: side of a training picture, none for that of a test picture.
        streamed: whether training pictures stay on disk and are decoded at each visit; none: where decoded they would
            take more than 4 GB.
    """

    kind: ClassVar[str]  # the first word of a version

    size: int = Field(224, ge=1)
    resize: int = Field(256, ge=1)
    train_size: int | None = Field(None, ge=1)
    streamed: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.resize < max(self.size, self.train_size or 0):
            raise ValueError(
                f"resize = {self.resize} must be at least size and train_size, the sizes of the crops: raise it"
            )
        return self

    @abstractmethod
    def train_split(self) -> Split:
        """The pictures to train on; the classes are those of the test pictures. Raises DataError."""

    @abstractmethod
    def test_split(self) -> Split:
        """The pictures to test on. Raises DataError."""

    def version(self) -> str:
        """The kind and 12 hexadecimal digits of files, classes and sizes; a file's name within its class is no part.

        The first call reads all files, or a sample of them where they are more than 100,000; later ones look at their
        time stamps.
        """
        return self._version(self.train_split(), self.test_split())

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; a `train_size` that is that of a test picture is none.

        Whether pictures are streamed is one only where they are: `streamed` is filled in when trials are planned.
        """
        changes = {"train_size": None} if self.train_size == self.size else {}
        values = {name: value for name, value in super().identity().items() if name != "streamed"}
        return values | changes | ({"streamed": True} if self.streamed else {})

    def is_streamed(self) -> bool:
        """See `Dataset.is_streamed`."""
        if self.streamed is not None:
            return self.streamed
        count = len(evenly_spaced(self.num_train_images(), self.train_limit))
        return count * self.height() ** 2 * 3 > MOST_RESIDENT

    def num_train_images(self) -> int:
        """The number of pictures to train on."""
        return len(self.train_split().labels)

    def height(self) -> int:
        """`train_size`, or else `size`."""
        return self.train_size or self.size

    def test_set(self) -> dict[str, Any]:
        """Size and content of the test pictures; those to train on are not looked at."""
        content = _content([], [self.test_split()])
        return {"size": self.size, "resize": self.resize, "version": f"{self.kind}-{content}"}

    def bytes_to_cache(self) -> int:
        """See `Dataset.bytes_to_cache`."""
        train, test = self.train_split(), self.test_split()
        version = self._version(train, test)
        splits = [(test, np.arange(len(test.labels)), self.size, f"dataset-{version}-test")]
        if not self.is_streamed():
            rows = evenly_spaced(len(train.labels), self.train_limit)
            splits.append((train, rows, self.height(), f"dataset-{version}-train"))
        return sum(
            len(rows) * side**2 * 3
            for split, rows, side, entry in splits
            if not has_squares(_entry(entry, split, rows))
        )

    def load(self) -> ImageData:
        """The pictures; only those within `train_limit` are decoded, and none of them where they are streamed.

        Raises:
            DataError: a folder or picture is missing or broken, the classes differ, or the cache is too small.
        """
        train, test = self.train_split(), self.test_split()
        version, side = self._version(train, test), self.height()
        chosen = evenly_spaced(len(train.labels), self.train_limit)
        files, images = None, np.empty((0, side, side, 3), np.uint8)
        if self.is_streamed():
            rows = None if len(chosen) == len(train.labels) else chosen
            files = EncodedSet(pictures=train.pictures, labels=train.labels, rows=rows)
        elif len(chosen):
            images = _squares(train, chosen, self.resize, side, f"dataset-{version}-train")
        every = np.arange(len(test.labels))
        return ImageData(
            train_images=images,
            train_labels=train.labels[chosen],
            test_images=_squares(test, every, self.resize, self.size, f"dataset-{version}-test"),
            test_labels=test.labels,
            class_names=test.class_names,
            version=version,
            train_files=files,
            resize=self.resize,
        )

    def _version(self, train: Split, test: Split) -> str:
        if len(test.class_names) < FEWEST_CLASSES:
            raise DataError(
                f"the data set {self.kind} has a single class, {test.class_names[0]!r}, and needs at least two: "
                "check that it is unpacked whole"
            )
        return f"{self.kind}-{_content([self.size, self.resize, self.height()], [train, test])}"


def check_same_classes(where: object, train: tuple[str, ...], test: tuple[str, ...], names: tuple[str, str]) -> None:
    """Raise DataError where the classes to train on are not those to test on, which `names` are the folders of."""
    if other := sorted(set(train) ^ set(test)):
        side = names[0] if other[0] in train else names[1]
        raise DataError(
            f"{where} has the class {other[0]!r} in {side} alone: {names[0]} and {names[1]} must hold the same classes"
        )


def _content(sizes: list[int], splits: Sequence[Split]) -> str:
    """12 hexadecimal digits of sizes, the names of the classes in the last split, and the content of all splits."""
    names = splits[-1].class_names
    counts = [np.bincount(split.labels, minlength=len(names)).tolist() for split in splits]
    header = np.frombuffer(repr([[*sizes, names], counts]).encode(), np.uint8)
    return combined(np.concatenate([header, *(digest for split in splits for digest in split.content())]))


def _squares(split: Split, rows: NDArray[np.int64], resize: int, size: int, entry: str) -> NDArray[np.uint8]:
    """The pictures `rows` of a split, (N, size, size, 3) uint8, by the name of their cache entry."""
    return cached_squares(_entry(entry, split, rows), split.pictures, rows, resize, size)


def _entry(entry: str, split: Split, rows: NDArray[np.int64]) -> str:
    return entry if len(rows) == len(split.labels) else f"{entry}-{len(rows)}"
