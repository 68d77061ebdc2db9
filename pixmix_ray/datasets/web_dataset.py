"""Pictures in tar archives as WebDataset lays them out (github.com/webdataset/webdataset), read where they lie.

A sample is all members of one name up to its first dot: `n01440764_10026.jpg` with its class in `n01440764_10026.cls`,
a number as text; or in `.json`, under `label` or `cls`. Which members are pictures is told as in folders, and samples
without one are counted. Where pictures begin in the archives is looked up once and kept; pictures are then read by
position, in any order, and nothing is unpacked.
"""

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets.base import DATASETS
from pixmix_ray.datasets.encoded import EncodedRanges
from pixmix_ray.datasets.listing import EXTENSIONS, PassedOver, unwanted
from pixmix_ray.datasets.on_disk import OnDiskDataset, Split
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.identity import short_hash
from pixmix_ray.settings import DataPath

ABOUT = (".cls", ".json")  # members that say the class
MOST_CLASSES = 2**15  # labels are kept in 16 bits


@DATASETS.add("web_dataset")
class WebDataset(OnDiskDataset):
    """Anybody's pictures in tar archives of WebDataset.

    Attributes:
        root: the folder that holds the archives.
        train: the archives of training pictures, by a pattern; none for evaluation alone.
        test: those of test pictures.
    """

    summary: ClassVar[str] = "pictures in WebDataset's tar archives, root/train-*.tar and root/val-*.tar; set root"
    kind: ClassVar[str] = "web_dataset"
    location: ClassVar[frozenset[str]] = frozenset({"root", "train", "test"})  # version() holds the content

    root: DataPath = Field(description="the folder that holds train-000000.tar and so on")
    train: str | None = "*train*.tar"
    test: str = "*val*.tar"

    def train_split(self) -> Split:
        """See `OnDiskDataset.train_split`."""
        test = self._split(self.test, 0)
        if self.train is None:
            return Split(pictures=test.pictures, labels=np.empty(0, np.int64), class_names=test.class_names)
        return self._split(self.train, len(test.class_names))

    def test_split(self) -> Split:
        """See `OnDiskDataset.test_split`."""
        return self._split(self.test, 0)

    def _split(self, pattern: str, num_classes: int) -> Split:
        """The pictures of some archives; with as many classes as are given, or as are found."""
        archives = sorted(self.root.glob(pattern))
        if not archives:
            raise DataError(f"no archives {self.root / pattern}: give the folder of the .tar files, and their pattern")
        stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in archives]
        arrays = cached_arrays(f"listing-tars-{short_hash(repr(stamps), 24)}", lambda: _listing(archives))
        passed_over = PassedOver()
        passed_over.add(arrays)
        passed_over.say(self.root / pattern, stacklevel=5)
        labels = cast(NDArray[np.int64], arrays["labels"])
        found = int(labels.max()) + 1
        if num_classes and found > num_classes:
            raise DataError(
                f"{self.root / pattern} has class {found - 1}, and {self.test} none above {num_classes - 1}: "
                "give archives of the same classes"
            )
        return Split(
            pictures=EncodedRanges(
                files=archives,
                file=cast(NDArray[np.int64], arrays["file"]),
                start=cast(NDArray[np.int64], arrays["start"]),
                size=cast(NDArray[np.int64], arrays["size"]),
            ),
            labels=labels,
            class_names=tuple(map(str, range(num_classes or found))),
        )


def _listing(archives: list[Path]) -> dict[str, NDArray[np.generic]]:
    """Archive, place, length and label of each picture, and what was passed over."""
    passed_over = PassedOver()
    rows = [(number, *row) for number, archive in enumerate(archives) for row in _samples(archive, passed_over)]
    if not rows:
        raise DataError(f"{archives[0]} holds no pictures with classes: they must be .jpg, .png, ... beside a .cls")
    columns = np.array(rows, dtype=np.int64).T
    return {**dict(zip(("file", "start", "size", "labels"), columns, strict=True)), **passed_over.as_arrays()}


def _samples(archive: Path, passed_over: PassedOver) -> Iterator[tuple[int, int, int]]:
    """Where each picture of an archive begins, how long it is, and its label."""
    try:
        with tarfile.open(archive, "r:") as tar:
            for name, members in groupby(_members(tar, passed_over), _sample_name):
                found, label = None, None
                for member in members:
                    extension = member.name.rpartition("/")[2].partition(".")[2].lower()
                    if f".{extension}" in EXTENSIONS:
                        found = member.offset_data, member.size
                    elif f".{extension}" in ABOUT and (stream := tar.extractfile(member)) is not None:
                        label = _label(stream.read(), label, f"{name} in {archive}")
                if found is None:
                    passed_over.kinds["without a picture"] += 1
                elif label is None:
                    raise DataError(f"{archive} has no class for {name}: a number in a .cls beside it, or in a .json")
                else:
                    yield *found, label
    except DataError:  # a ValueError too
        raise
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DataError(
            f"cannot read the archive {archive} ({one_line(error)}): it must be a whole, uncompressed .tar"
        ) from error


def _members(tar: tarfile.TarFile, passed_over: PassedOver) -> Iterator[tarfile.TarInfo]:
    """The files of an archive that are not hidden, as those are that macOS adds (`._cat.jpg`)."""
    for member in tar:
        if not member.isfile():
            continue
        if reason := next(filter(None, map(unwanted, member.name.split("/"))), ""):
            passed_over.kinds[reason] += 1
        else:
            yield member


def _sample_name(member: tarfile.TarInfo) -> str:
    folder, slash, last = member.name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}".removeprefix("./")


def _label(content: bytes, before: int | None, name: str) -> int | None:
    """The class that a .cls, or a .json, tells; `before` where a .json tells none."""
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError):
        value = content.decode(errors="replace").strip()
    if isinstance(value, dict):
        value = value.get("label", value.get("cls", before))
    if value is None or (type(value) is int and 0 <= value < MOST_CLASSES):
        return value
    raise DataError(
        f"the class of {name} is {one_line(repr(value), 40)}: it must be a whole number from 0 to {MOST_CLASSES - 1}"
    )
