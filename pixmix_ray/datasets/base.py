"""What a data set is: labelled training and test pictures, read once a machine and then opened from the cache."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets.encoded import EncodedSet
from pixmix_ray.datasets.picture_files import squares
from pixmix_ray.errors import RequestError
from pixmix_ray.plugins import Table
from pixmix_ray.settings import Settings


class DataVersionWarning(UserWarning):
    """A data set's files may not be the ones that are meant, so its numbers may not compare with other people's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """A data set in memory, or rather in memory maps: the arrays may be read-only.

    Attributes:
        train_images: (N, H, W, 3) uint8.
        train_labels: (N,) int64 in [0, num_classes).
        test_images: (M, H, W, 3) uint8.
        test_labels: (M,) int64 in [0, num_classes).
        class_names: one name for each label.
        version: the fingerprint of the content, as `Dataset.version` gives it.
        train_files: the training pictures where they are streamed; `train_images` is then (0, H, W, 3), and
            `train_labels` are still those of all.
        resize: where they are streamed, their shorter side before a square of H pixels is cut out of the centre.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    version: str
    train_files: EncodedSet | None = None
    resize: int | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether the training pictures stay on disk."""
        return self.train_files is not None

    def some_train_images(self, count: int) -> NDArray[np.uint8]:
        """The first `count` training pictures, or as many as there are, (N, H, W, 3) uint8, a new array."""
        if self.train_files is None:
            return np.array(self.train_images[:count])
        rows = self.train_files.places(np.arange(min(count, len(self.train_files))))
        return squares(self.train_files.pictures, rows, self.resize, self.train_images.shape[1])

    @property
    def num_classes(self) -> int:
        """How many classes there are, with or without pictures."""
        return len(self.class_names)


class Dataset(Settings, ABC):
    """A source of labelled pictures.

    Attributes:
        summary: one line for the list of data sets.
        train_limit: train on this many pictures, evenly spaced over the training set; all of them if None.
        revision: raised when the same settings and files come to mean other pictures, so that trials are trained anew.
    """

    summary: ClassVar[str]
    train_limit: int | None = Field(default=None, ge=1)

    @abstractmethod
    def version(self) -> str:
        """A fingerprint of the content on disk, fit for a file name; cheap, and independent of `train_limit`."""

    def is_streamed(self) -> bool:
        """Whether the training pictures are read from disk in the course of a training; cheap."""
        return False

    def bytes_to_cache(self) -> int:
        """How many bytes of decoded pictures `load` would write into the cache, as far as is known; cheap."""
        return 0

    def num_train_images(self) -> int | None:
        """How many training pictures there are, whatever `train_limit`; None where only decoding would tell."""
        return None

    def height(self) -> int | None:
        """The height of the training pictures in pixels; None where only decoding would tell."""
        return None

    def test_set(self) -> dict[str, Any]:
        """What decides the test pictures, as JSON values; cheap.

        By default all settings but `train_limit`, and the version, which may say more than it must: a data set whose
        training files change apart from its test files names the latter alone.

        Raises:
            DataError: files are missing or broken.
        """
        settings = {name: value for name, value in self.identity().items() if name != "train_limit"}
        return {**settings, "version": self.version()}

    @abstractmethod
    def load(self) -> ImageData:
        """The pictures and labels; works without any step before it, and a second process opens what the first read."""


DATASETS: Table[Dataset] = Table("dataset", Dataset)


def evenly_spaced(total: int, limit: int | None) -> NDArray[np.int64]:
    """The indices of the subset that `limit` asks for, (min(limit, total),) int64: the subset rule everywhere.

    All of them if `limit` is None or at least `total`, else floor(i * total / limit) for i = 0, 1, ..., limit - 1.

    >>> evenly_spaced(10, 4).tolist()
    [0, 2, 5, 7]

    Raises:
        RequestError: `limit` is below 1.
    """
    if limit is None or limit >= total:
        return np.arange(total, dtype=np.int64)
    if limit < 1:
        raise RequestError(f"limit must be at least 1, got {limit}: leave it out to take all {total}")
    return np.arange(limit, dtype=np.int64) * total // limit


def load_cached(version: str, train_limit: int | None, decode: Callable[[], ImageData]) -> ImageData:
    """What `decode` returns, with `train_limit` applied, out of the cache entry of this version and limit.

    Args:
        version: the data set's version; part of the entry's name.
        train_limit: how many training pictures to keep, by `evenly_spaced`.
        decode: reads the whole data set; called only where the entry is not there yet.

    Raises:
        DataError: the cache cannot be written; and whatever `decode` raises.
    """

    def make() -> dict[str, NDArray[np.generic]]:
        data = decode()
        kept = evenly_spaced(len(data.train_labels), train_limit)
        return {
            "train_images": data.train_images[kept],
            "train_labels": data.train_labels[kept],
            "test_images": data.test_images,
            "test_labels": data.test_labels,
            "class_names": np.array(data.class_names),
        }

    arrays = cached_arrays(f"dataset-{version}-{train_limit or 'all'}", make)
    return ImageData(
        train_images=cast(NDArray[np.uint8], arrays["train_images"]),
        train_labels=cast(NDArray[np.int64], arrays["train_labels"]),
        test_images=cast(NDArray[np.uint8], arrays["test_images"]),
        test_labels=cast(NDArray[np.int64], arrays["test_labels"]),
        class_names=tuple(str(name) for name in arrays["class_names"]),
        version=version,
    )
