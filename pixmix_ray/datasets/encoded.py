"""Pictures that stay encoded on disk, to be read one by one: files, members of archives, bytes in an array.

For sets that are streamed. What is known of a million pictures, where each begins and what it is called, lies in NumPy
arrays, which may be memory maps, and not in Python objects: 1.28 million paths are 60 MB as text and 700 as `Path`.
"""

import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.errors import DataError


class PathList(Sequence[Path]):
    """Paths below one folder, as text in one array.

    Attributes:
        folder: where the paths begin.
        text: (B,) uint8, the relative paths, one after the other, as the file system has them.
        ends: (N,) int64, where each ends in `text`.
    """

    def __init__(self, folder: Path, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.folder, self.text, self.ends = folder, text, ends

    @staticmethod
    def of(folder: Path, paths: Iterable[Path]) -> "PathList":
        """The list of paths, all of them below `folder`."""
        text, ends = bytearray(), array("q")
        for path in paths:
            text += os.fsencode(path.relative_to(folder))
            ends.append(len(text))
        return PathList(folder, np.frombuffer(text, np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # raises IndexError, counts from behind
        start = int(self.ends[place - 1]) if place else 0
        return self.folder / os.fsdecode(self.text[start : int(self.ends[place])].tobytes())


class Encoded(ABC):
    """Encoded pictures, by their places."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def name(self, place: int) -> str:
        """What a picture is called in messages."""

    @abstractmethod
    def read(self, place: int) -> bytes:
        """The encoded bytes of a picture.

        Raises:
            DataError: they cannot be read.
        """


@dataclass(frozen=True, eq=False)
class EncodedFiles(Encoded):
    """One file a picture."""

    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, place: int) -> str:
        """The path."""
        return str(self.files[place])

    def read(self, place: int) -> bytes:
        """See `Encoded.read`."""
        return _reading(self.name(place), self.files[place].read_bytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedRanges(Encoded):
    """Runs of bytes in a few large files.

    Attributes:
        files: the large files.
        file: (N,) which of them holds each picture.
        start: (N,) int64, where it begins there.
        size: (N,) int64, how many bytes it has.
    """

    files: Sequence[Path]
    file: NDArray[np.integer]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    def name(self, place: int) -> str:
        """The large file, and where in it the picture begins."""
        return f"{self.files[int(self.file[place])]} at byte {self.start[place]}"

    def read(self, place: int) -> bytes:
        """See `Encoded.read`."""
        size = int(self.size[place])
        content = _reading(self.name(place), lambda: self._bytes(place, size))
        if len(content) < size:
            raise DataError(f"{self.name(place)} ends too early: fetch it again")
        return content

    def _bytes(self, place: int, size: int) -> bytes:
        with self.files[int(self.file[place])].open("rb", buffering=0) as stream:
            return os.pread(stream.fileno(), size, int(self.start[place]))


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSet:
    """Labelled pictures that stay on disk.

    Attributes:
        pictures: N of them.
        labels: (N,) int64.
        rows: (M,) int64, those of them that are the set, in order; none: all.
    """

    pictures: Encoded
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the pictures `rows` of the set, (B,) int64, are in `pictures`."""
        return rows if self.rows is None else self.rows[rows]

    def labels_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The labels of the pictures `rows` of the set, (B,) int64."""
        return np.asarray(self.labels[self.places(rows)])


def _reading(name: str, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror}. Is the data set complete?") from error
