"""Folders with one folder a class: ImageNet (Deng et al., CVPR 2009) as unpacked, and anybody's own.

A root holds one folder for training and one for testing, each with one folder a class, ImageNet's `train/n01440764/...`
and `val/n01440764/...`. How ImageNet is unpacked differs: its validation pictures may also lie in one folder, as
published, with their classes in the development kit (`ILSVRC2012_devkit_t12`) or in Kaggle's `LOC_val_solution.csv`.
"""

import warnings
from abc import ABC
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pixmix_ray.datasets.base import DATASETS, DataVersionWarning
from pixmix_ray.datasets.class_folders import class_folders
from pixmix_ray.datasets.encoded import EncodedFiles
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.datasets.imagenet_labels import flat_validation_files
from pixmix_ray.datasets.on_disk import OnDiskDataset, Split, check_same_classes
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.settings import DataPath


class ClassFolderDataset(OnDiskDataset, ABC):
    """A data set of one folder a class.

    Attributes:
        root: the folder that holds the two below.
        train: its folder of training pictures; none for evaluation alone.
        test: its folder of test pictures.
        class_order: of classes whose folders are numbers, such as 0 to 11: by number, or text (0, 1, 10, 11, 2, ...) as
            in torchvision's ImageFolder, which weights that were trained with it expect. Other names are sorted as text
            in any case.
        classes: a text file of classes, the first word of each line, such as the 100 of ImageNet-100; others are left
            out. None takes all.
        published: how many training and test pictures were published, where that is known; others are said.
    """

    published: ClassVar[tuple[int, int] | None] = None
    # version() holds their content, and the classes in their order
    location: ClassVar[frozenset[str]] = frozenset({"root", "train", "test", "class_order", "classes"})

    root: DataPath = Field(description="the folder that holds train and val")
    train: str | None = "train"
    test: str = "val"
    class_order: Literal["number", "text"] = "number"
    classes: DataPath | None = None

    def check_classes(self, folder: Path, names: tuple[str, ...]) -> None:
        """Raise DataError if the classes in `folder` are not those of the data set."""

    def train_split(self) -> Split:
        """See `OnDiskDataset.train_split`."""
        names = self.test_split().class_names
        if self.train is None:
            return Split(pictures=EncodedFiles([]), labels=np.empty(0, np.int64), class_names=names)
        split = self._folder(self.train)
        check_same_classes(self.root, split.class_names, names, (self.train, self.test))
        return self._counted(split, self.train, 0)

    def test_split(self) -> Split:
        """See `OnDiskDataset.test_split`."""
        split = self._folder(self.test)
        self.check_classes(self.root / self.test, split.class_names)
        self._say_order(split.class_names)
        return self._counted(split, self.test, 1)

    def _counted(self, split: Split, name: str, place: int) -> Split:
        """The split; a warning says if it has not as many pictures as were published, as if half is unpacked."""
        if self.published is not None and self.classes is None and len(split.labels) != self.published[place]:
            warnings.warn(
                f"{self.root / name} holds {len(split.labels)} pictures, and {self.published[place]} were published: "
                "numbers are not comparable with published ones",
                DataVersionWarning,
                stacklevel=4,
            )
        return split

    def _folder(self, name: str) -> Split:
        found = class_folders(self.root / name, is_text_order=self.class_order == "text", only=self._only())
        return Split(pictures=EncodedFiles(found.files), labels=found.labels, class_names=found.class_names)

    def _only(self) -> frozenset[str] | None:
        """The classes that are wanted; none: all."""
        if self.classes is None:
            return None
        try:
            lines = self.classes.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"cannot read {self.classes} ({one_line(error)}): give a text file, a class a line"
            ) from None
        return frozenset(line.split()[0] for line in lines if line.strip())

    def _say_order(self, names: tuple[str, ...]) -> None:
        """Warn where weights of somebody else may expect another order of the classes."""
        if "class_order" not in self.model_fields_set and sorted(names) != list(names):
            warnings.warn(
                f"the classes in {self.root / self.test} are numbers and sorted numerically, {', '.join(names[:3])} to "
                f"{names[-1]}: for weights that were trained with torchvision's ImageFolder, which sorts them as text, "
                "set dataset.class_order: text",
                DataVersionWarning,
                stacklevel=4,
            )


@DATASETS.add("image_folder")
class ImageFolder(ClassFolderDataset):
    """Anybody's folders."""

    summary: ClassVar[str] = "pictures in root/train/CLASS and root/val/CLASS, such as ImageNet-200; set root"
    kind: ClassVar[str] = "image_folder"


@DATASETS.add("imagenet")
class ImageNet(ClassFolderDataset):
    """ImageNet's 1,000 classes (ILSVRC 2012), or some of them, in folders named by WordNet numbers."""

    summary: ClassVar[str] = "ImageNet, 1,000 classes, root/train/n01440764/... and root/val/n01440764/...; set root"
    kind: ClassVar[str] = "imagenet"
    published: ClassVar[tuple[int, int] | None] = (1_281_167, 50_000)

    def test_split(self) -> Split:
        """The validation pictures: in folders of classes, or in one folder with their classes beside it."""
        found = flat_validation_files(self.root, self.test, self._only())
        if found is None:
            return super().test_split()
        self.check_classes(self.root / self.test, found.class_names)
        split = Split(pictures=EncodedFiles(found.files), labels=found.labels, class_names=found.class_names)
        return self._counted(split, self.test, 1)

    def check_classes(self, folder: Path, names: tuple[str, ...]) -> None:
        """Raise DataError if the folders are not the 1,000 of ILSVRC 2012, whose order the published weights follow."""
        wanted = WNIDS if self.classes is None else tuple(sorted(self._only() or ()))
        if strange := sorted(set(wanted) - set(WNIDS)):
            raise DataError(
                f"{self.classes} names {strange[0]!r}, which is not a class of ILSVRC 2012: use image_folder"
            )
        if names != wanted:
            strange_name = sorted(set(names) ^ set(wanted))[0]
            held = "lacks" if strange_name in wanted else "holds"
            raise DataError(
                f"{folder} {held} {strange_name!r}: it must contain the 1,000 folders of ILSVRC 2012, n01440764 to "
                "n15075141; for other classes use image_folder, or name some in a file by classes"
            )
