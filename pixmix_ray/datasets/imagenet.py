"""Folders with one folder a class: ImageNet (Deng et al., CVPR 2009) as unpacked, Places365, and anybody's own.

A root holds one folder for training and one for testing, each with one folder a class, ImageNet's `train/n01440764/...`
and `val/n01440764/...`. Test pictures are as in every published evaluation: shorter side 256 (bilinear, antialiased),
then the centre of 224. Training pictures are cut the same way, to `train_size`: all are of one size, so that they lie
in one array, decoded once a machine (ImageNet: 1,281,167 pictures, 193 GB at 224 pixels) and memory-mapped from then
on. The official recipe cuts another random piece of the original file at each visit (RandomResizedCrop), which such an
array cannot give; a `train_size` of 256 leaves room to cut from.
"""

import warnings
from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pixmix_ray.datasets.base import DATASETS, Dataset, DataVersionWarning, ImageData, evenly_spaced
from pixmix_ray.datasets.class_folders import ClassFolders, class_folders
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.datasets.large_arrays import cached_squares
from pixmix_ray.errors import DataError
from pixmix_ray.settings import DataPath


class ClassFolderDataset(Dataset, ABC):
    """A data set of one folder a class.

    Attributes:
        root: the folder that holds the two below.
        train: its folder of training pictures; none for evaluation alone.
        test: its folder of test pictures.
        size: side of a test picture in pixels.
        resize: shorter side before the square is cut out of its centre.
        train_size: side of a training picture, none for that of a test picture.
        class_order: of classes whose folders are numbers, such as 0 to 11: by number, or text (0, 1, 10, 11, 2, ...) as
            in torchvision's ImageFolder, which weights that were trained with it expect. Other names are sorted as text
            in any case.
    """

    # version() holds their content, and the classes in their order
    location: ClassVar[frozenset[str]] = frozenset({"root", "train", "test", "class_order"})
    kind: ClassVar[str]  # the first word of a version

    root: DataPath = Field(description="the folder that holds train and val")
    train: str | None = "train"
    test: str = "val"
    size: int = Field(224, ge=1)
    resize: int = Field(256, ge=1)
    train_size: int | None = Field(None, ge=1)
    class_order: Literal["number", "text"] = "number"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.resize < max(self.size, self.train_size or 0):
            raise ValueError(f"resize = {self.resize} must be at least size and train_size, which are cut out of it")
        return self

    def version(self) -> str:
        """The kind and 12 hexadecimal digits of all files, class names and sizes.

        The first call reads all files; later ones look at their time stamps.
        """
        return _version(self, *self._parts())

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; a `train_size` that is that of a test picture is none."""
        return super().identity() | ({"train_size": None} if self.train_size == self.size else {})

    def num_train_images(self) -> int:
        """The number of files to train on."""
        return len(self._parts()[0].files)

    def height(self) -> int:
        """`train_size`, or else `size`."""
        return self.train_size or self.size

    def test_set(self) -> dict[str, Any]:
        """Size and content of the test pictures; the folder of training pictures is not looked at."""
        test = self._part(self.test)
        self.check_classes(self.root / self.test, test.class_names)
        return {"size": self.size, "resize": self.resize, "version": f"{self.kind}-{_content([], [test])}"}

    def load(self) -> ImageData:
        """The pictures; only those within `train_limit` are decoded.

        Raises:
            DataError: a folder or picture is missing or broken, the classes differ, or the cache is too small.
        """
        train, test = self._parts()
        version = _version(self, train, test)
        train_images, train_labels = _decoded(
            train, self.train_limit, self.resize, self.train_size or self.size, f"dataset-{version}-train"
        )
        test_images, test_labels = _decoded(test, None, self.resize, self.size, f"dataset-{version}-test")
        return ImageData(
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
            class_names=test.class_names,
            version=version,
        )

    def check_classes(self, folder: Path, names: tuple[str, ...]) -> None:
        """Raise DataError if the classes in `folder` are not those of the data set."""

    def _part(self, name: str) -> ClassFolders:
        return class_folders(self.root / name, is_text_order=self.class_order == "text")

    def _say_order(self, names: tuple[str, ...]) -> None:
        """Warn where weights of somebody else may expect another order of the classes."""
        if "class_order" not in self.model_fields_set and sorted(names) != list(names):
            warnings.warn(
                f"the classes in {self.root / self.test} are numbers and sorted as such, {', '.join(names[:3])} to "
                f"{names[-1]}: for weights that were trained with torchvision's ImageFolder, which sorts them as text, "
                "set dataset.class_order: text",
                DataVersionWarning,
                stacklevel=4,
            )

    def _parts(self) -> tuple[ClassFolders, ClassFolders]:
        """The files to train on and to test on."""
        test = self._part(self.test)
        self.check_classes(self.root / self.test, test.class_names)
        self._say_order(test.class_names)
        if self.train is None:
            return ClassFolders(files=[], labels=np.empty(0, np.int64), class_names=test.class_names), test
        train = self._part(self.train)
        if other := sorted(set(train.class_names) ^ set(test.class_names)):
            side = self.train if other[0] in train.class_names else self.test
            raise DataError(
                f"{self.root} has the class {other[0]!r} in {side} alone: {self.train} and {self.test} must hold the "
                "same classes, one folder each"
            )
        return train, test


@DATASETS.add("image_folder")
class ImageFolder(ClassFolderDataset):
    """Anybody's folders, and Places365 in its layout of one folder a class."""

    summary: ClassVar[str] = "pictures in root/train/CLASS and root/val/CLASS, such as Places365; set root"
    kind: ClassVar[str] = "image_folder"


@DATASETS.add("imagenet")
class ImageNet(ClassFolderDataset):
    """ImageNet's 1,000 classes (ILSVRC 2012), in folders named by WordNet numbers."""

    summary: ClassVar[str] = "ImageNet, 1,000 classes, root/train/n01440764/... and root/val/n01440764/...; set root"
    kind: ClassVar[str] = "imagenet"

    def check_classes(self, folder: Path, names: tuple[str, ...]) -> None:
        """Raise DataError if the folders are not the 1,000 of ILSVRC 2012, whose order the published weights follow."""
        if names != WNIDS:
            strange = sorted(set(names) ^ set(WNIDS))[0]
            held = "lacks" if strange in WNIDS else "holds"
            raise DataError(
                f"{folder} {held} {strange!r}: it must hold the 1,000 folders of ILSVRC 2012, n01440764 to n15075141; "
                "for other classes use image_folder"
            )


def _version(dataset: ClassFolderDataset, train: ClassFolders, test: ClassFolders) -> str:
    """Content of files, class by class, and how they are cut; what each file is called within its class is no part."""
    sizes = [dataset.size, dataset.resize, dataset.train_size or dataset.size]
    return f"{dataset.kind}-{_content(sizes, [train, test])}"


def _content(sizes: list[int], parts: Sequence[ClassFolders]) -> str:
    """12 hexadecimal digits of sizes, the names of the classes in the last part, and the files of all parts."""
    names = parts[-1].class_names
    counts = [np.bincount(part.labels, minlength=len(names)).tolist() for part in parts]
    told = np.frombuffer(repr([[*sizes, names], counts]).encode(), np.uint8)
    md5s = [file_md5s(part.files).ravel() for part in parts if part.files]
    return combined(np.concatenate([told, *md5s]))


def _decoded(
    part: ClassFolders, limit: int | None, resize: int, size: int, entry: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pictures (N, size, size, 3) uint8 and labels (N,) of one part, `limit` of them, evenly spaced."""
    chosen = evenly_spaced(len(part.files), limit)
    if not len(chosen):
        return np.empty((0, size, size, 3), np.uint8), np.empty(0, np.int64)
    name = entry if len(chosen) == len(part.files) else f"{entry}-{len(chosen)}"
    return cached_squares(name, [part.files[place] for place in chosen], resize, size), part.labels[chosen]
