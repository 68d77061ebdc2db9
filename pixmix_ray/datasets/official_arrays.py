"""Benchmark pictures as published for CIFAR: one .npy a corruption or perturbation, opened as memory maps.

CIFAR-10-C and CIFAR-100-C (Hendrycks and Dietterich, ICLR 2019; zenodo.org/record/2535967 and 3555552) and
CIFAR-10-C-bar (Mintun et al., NeurIPS 2021; written by its own scripts): CORRUPTION.npy is uint8 (5 N, H, W, 3), the N
test pictures at severity 1, then at 2 and so on, and labels.npy holds the N labels five times over. CIFAR-10-P and
CIFAR-100-P: PERTURBATION.npy is uint8 (N, T, H, W, 3), T frames of each test picture; no labels. N is 10,000.

Nothing is unpickled, and nothing is copied but the rows that are asked for. A file that is missing, cut off or of
another shape is a DataError before any work, and so are labels other than those of the test set, and pictures that a
sample shows not to be made from it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.datasets.base import DataVersionWarning
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_comparison import check_corrupted, check_same_pictures, sample_places
from pixmix_ray.errors import DataError, one_line

Images = NDArray[np.uint8]

NUM_SEVERITIES = 5
LABELS = "the labels of the test set, five times over"
CORRUPTED = "five severities of the test pictures, one after the other"
# What NumPy raises for files that were cut off, changed, or hold pickled objects.
BROKEN = (
    ValueError,
    EOFError,
    SyntaxError,
    TokenError,  # headers of old files are read as Python's tokens
    TypeError,
    LookupError,
    RuntimeError,
    OverflowError,
    MemoryError,
)
FAR = 3.0  # grey levels on average: the published first frames are the test pictures, up to a rounding


@dataclass(frozen=True, kw_only=True)
class CorruptedArrays:
    """A folder of CORRUPTION.npy and labels.npy.

    Attributes:
        folder: where they lie.
        names: the corruptions that are wanted.
        severities: those of 1 to 5 that are wanted.
    """

    folder: Path
    names: tuple[str, ...]
    severities: tuple[int, ...]

    @property
    def read_as(self) -> None:
        """Nothing: the pictures are read as they are."""

    def version(self) -> str:
        """12 hexadecimal digits over the bytes of the wanted files; raises DataError if one is missing or cut off."""
        _opened(self.folder / "labels.npy", LABELS)
        for name in self.names:
            _opened(self._file(name), CORRUPTED)
        return _version([self.folder / "labels.npy", *map(self._file, self.names)])

    def check(self, images: Images, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Nothing, if the files hold these test pictures (M, H, W, 3) corrupted.

        Args:
            images: (M, H, W, 3) uint8.
            labels: (M,) their labels.
            indices: (M,) their places in the whole test set.

        Raises:
            DataError: a file is missing, cut off or of another shape; the labels are others, or, as far as a sample
                shows, the pictures.
        """
        file = self.folder / "labels.npy"
        published = _opened(file, LABELS)
        if published.ndim != 1 or published.dtype.kind not in "iu" or len(published) % NUM_SEVERITIES:
            raise _unlike(file, published, "integers (5 N,), the N labels of the test set five times over")
        count = len(published) // NUM_SEVERITIES
        _check_count(file, count, indices)
        for severity in range(NUM_SEVERITIES):
            differ = np.flatnonzero(published[severity * count + indices] != labels)
            if len(differ):
                place = indices[differ[0]]
                raise DataError(
                    f"{file} has label {published[severity * count + place]} for test picture {place}, the data set "
                    f"has {labels[differ[0]]}: give the files that were made from this data set's test pictures"
                )
        some = sample_places(len(indices))
        for name in self.names:
            array = self._array(name, (count * NUM_SEVERITIES, *images.shape[1:]))
            shown = {severity: array[(severity - 1) * count + indices[some]] for severity in self.severities}
            check_corrupted(str(self._file(name)), name, shown, images[some])

    def images(self, name: str, severity: int, indices: NDArray[np.int64], size: int) -> Images:
        """The pictures `indices` of the test set, (M, size, size, 3) uint8, with corruption `name` at `severity`."""
        array = self._array(name, (-1, size, size, 3))
        return array[(severity - 1) * (len(array) // NUM_SEVERITIES) + indices]

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _array(self, name: str, shape: tuple[int, ...]) -> Images:
        return picture_array(self._file(name), shape, CORRUPTED)


@dataclass(frozen=True, kw_only=True)
class SequenceArrays:
    """A folder of PERTURBATION.npy; the stronger noises of difficulty 2 and 3 lie in PERTURBATION_2.npy and so on.

    Attributes:
        folder: where they lie.
        frames: for each perturbation that is wanted, its number of frames.
        is_noise: those whose first frame is the test picture itself.
        difficulty: 1, 2 or 3.
    """

    folder: Path
    frames: dict[str, int]
    is_noise: frozenset[str]
    difficulty: int

    @property
    def read_as(self) -> None:
        """Nothing: the pictures are read as they are."""

    def version(self) -> str:
        """12 hexadecimal digits over the bytes of the wanted files; raises DataError if one is missing or cut off."""
        for name, count in self.frames.items():
            _opened(self._file(name), f"{count} frames of each test picture")
        return _version([self._file(name) for name in self.frames])

    def check(self, images: Images, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Nothing, if the files hold sequences of these test pictures.

        Args:
            images: (M, H, W, 3) uint8.
            labels: (M,) their labels, not looked at, since the files have none.
            indices: (M,) their places in the whole test set.

        Raises:
            DataError: a file is missing, cut off or of another shape, or of other pictures.
        """
        for name in self.frames:
            array = self._array(name, images.shape[1])
            _check_count(self._file(name), len(array), indices)
            some = sample_places(len(indices))
            # whatever moves is in its place in the middle of a sequence
            check_same_pictures(str(self._file(name)), array[indices[some], self.frames[name] // 2], images[some])
            if name in self.is_noise:
                gap = np.abs(array[indices[some], 0].astype(np.float64) - images[some]).mean()
                if gap > FAR:
                    raise DataError(
                        f"{self._file(name)} starts its sequences with other pictures, {gap:.1f} grey levels away from "
                        "the data set's: give the files that were made from this data set's test pictures"
                    )

    def sequences(self, name: str, indices: NDArray[np.int64], size: int) -> Images:
        """The sequences of the pictures `indices` of the test set, (M, T, size, size, 3) uint8."""
        return self._array(name, size)[indices]

    def _file(self, name: str) -> Path:
        is_other = self.difficulty > 1 and name in self.is_noise
        return self.folder / (f"{name}_{self.difficulty}.npy" if is_other else f"{name}.npy")

    def _array(self, name: str, size: int) -> Images:
        shape = (-1, self.frames[name], size, size, 3)
        return picture_array(self._file(name), shape, f"{self.frames[name]} frames of each test picture")


def picture_array(file: Path, shape: Sequence[int], meaning: str) -> Images:
    """The uint8 array in a .npy file, as a memory map.

    Args:
        file: the .npy file.
        shape: what it must be; -1 admits any number above 0.
        meaning: what it holds, for messages.

    Raises:
        DataError: it is missing, cut off, holds pickled objects, or is of another shape or type.
    """
    array = _opened(file, meaning)
    fits = len(array.shape) == len(shape) and all(
        found == wanted or (wanted == -1 and found > 0) for found, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.uint8 or not fits:
        sizes = ", ".join("N" if wanted == -1 else str(wanted) for wanted in shape)
        raise _unlike(file, array, f"uint8 ({sizes}): {meaning}")
    return cast(Images, array)


def _version(files: Sequence[Path]) -> str:
    """12 hexadecimal digits over the bytes of files; a warning names one that is there under two names."""
    md5s, seen = file_md5s(files), dict[bytes, Path]()
    for file, md5 in zip(files, md5s, strict=True):
        other = seen.setdefault(md5.tobytes(), file)
        if other is not file:
            warnings.warn(
                f"{file} is the same file as {other.name}, so one of them is under a wrong name: fetch it again",
                DataVersionWarning,
                stacklevel=3,
            )
    return combined(md5s)


def _opened(file: Path, meaning: str) -> NDArray[np.generic]:
    if not file.is_file():
        raise DataError(f"{file} is missing: it holds {meaning}; unpack the published files there, or leave it out")
    try:
        array: NDArray[np.generic] = np.lib.format.open_memmap(file, mode="r")
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}. Check its permissions") from error
    except BROKEN as error:
        reason = one_line(error)
        raise DataError(
            f"{file} is not a whole .npy file ({reason}): it must hold {meaning}; fetch it again from its publisher"
        ) from error
    return array


def _unlike(file: Path, array: NDArray[np.generic], wanted: str) -> DataError:
    return DataError(f"{file} is {array.dtype} {tuple(array.shape)}: it must be {wanted}")


def _check_count(file: Path, count: int, indices: NDArray[np.int64]) -> None:
    if len(indices) and indices.max() >= count:
        raise DataError(
            f"{file} is of {count} test pictures, the data set has {indices.max() + 1} or more: "
            "give the files that were made from this data set's test pictures"
        )
