"""Places365 (Zhou et al., TPAMI 2018) in the layout of its archives, which torchvision's Places365 unpacks.

A root holds the lists `places365_train_standard.txt`, `places365_val.txt` and `categories_places365.txt`, and the
pictures as `data_large_standard/a/airfield/00000001.jpg` and `val_large/Places365_val_00000001.jpg`, or those of 256
pixels as `data_256_standard` (or `data_256`) and `val_256`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixmix_ray.cache import cached_arrays
from pixmix_ray.datasets.base import DATASETS
from pixmix_ray.datasets.encoded import EncodedFiles, PathList
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.on_disk import OnDiskDataset, Split
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.settings import DataPath

CATEGORIES = "categories_places365.txt"


@DATASETS.add("places365")
class Places365(OnDiskDataset):
    """Scenes of 365 classes, 1,803,460 + 36,500 photographs.

    Attributes:
        root: the folder that holds the lists and the folders of pictures.
        variant: of the training pictures: standard, or challenge, which has 8 million.
        small: take the pictures of 256x256, and not those of their full size.
    """

    summary: ClassVar[str] = "Places365, 365 classes of scenes, in the layout of torchvision; set root"
    kind: ClassVar[str] = "places365"
    location: ClassVar[frozenset[str]] = frozenset({"root", "variant", "small"})  # version() holds the content

    root: DataPath = Field(description="the folder that holds places365_train_standard.txt")
    variant: Literal["standard", "challenge"] = "standard"
    small: bool = False

    def train_split(self) -> Split:
        """See `OnDiskDataset.train_split`."""
        names = [f"data_256_{self.variant}", "data_256"] if self.small else [f"data_large_{self.variant}", "data_large"]
        return self._split(f"places365_train_{self.variant}.txt", names)

    def test_split(self) -> Split:
        """See `OnDiskDataset.test_split`."""
        return self._split("places365_val.txt", ["val_256" if self.small else "val_large"])

    def _split(self, name: str, folders: list[str]) -> Split:
        folder = next((self.root / one for one in folders if (self.root / one).is_dir()), None)
        if folder is None:
            raise DataError(f"{self.root / folders[0]} is missing: unpack the archive of these pictures there")
        lists = [self.root / CATEGORIES, self.root / name]
        names = tuple(line[0] for line in _lines(lists[0]))
        entry = f"listing-places365-{combined(file_md5s(lists))}"
        found = cached_arrays(entry, lambda: _listing(lists[1], len(names)))
        paths = PathList(folder, cast(NDArray[np.uint8], found["text"]), cast(NDArray[np.int64], found["ends"]))
        return Split(pictures=EncodedFiles(paths), labels=cast(NDArray[np.int64], found["labels"]), class_names=names)


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    """The name and number of each line."""
    try:
        with file.open(encoding="utf-8") as stream:
            for line in stream:
                if line.strip():
                    name, number = line.rsplit(maxsplit=1)
                    yield name.lstrip("/"), int(number)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the list {file} ({one_line(error)}): it comes with Places365") from error


def _listing(file: Path, num_classes: int) -> dict[str, NDArray[np.generic]]:
    labels: list[int] = []

    def paths() -> Iterator[Path]:
        for name, label in _lines(file):
            if not 0 <= label < num_classes:
                raise DataError(f"{file} gives {name} the class {label}: {CATEGORIES} has 0 to {num_classes - 1}")
            labels.append(label)
            yield Path(name)

    listed = PathList.of(Path(), paths())
    return {"text": listed.text, "ends": listed.ends, "labels": np.array(labels, np.int64)}
