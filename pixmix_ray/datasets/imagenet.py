"""Folders with one folder a class: ImageNet (Deng et al., CVPR 2009) as unpacked, and anybody's own.

A root holds one folder for training and one for testing, each with one folder a class, ImageNet's `train/n01440764/...`
and `val/n01440764/...`. How ImageNet is unpacked differs: its validation pictures may also lie in one folder, as
published, with their classes in the development kit (`ILSVRC2012_devkit_t12`) or in Kaggle's `LOC_val_solution.csv`.

In the development kit (in `data`) the numbers of the 50,000 pictures are in ILSVRC2012_validation_ground_truth.txt, and
what the numbers mean in meta.mat.
"""

import csv
import warnings
from abc import ABC
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pixmix_ray.datasets.base import DATASETS, DataVersionWarning
from pixmix_ray.datasets.class_folders import ClassFolders, class_folders
from pixmix_ray.datasets.encoded import EncodedFiles, PathList
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.datasets.on_disk import OnDiskDataset, Split, check_same_classes
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.settings import DataPath

KIT = "ILSVRC2012_devkit_t12/data"
TRUTH, META, KAGGLE = "ILSVRC2012_validation_ground_truth.txt", "meta.mat", "LOC_val_solution.csv"
FIRST = "ILSVRC2012_val_"
ABOVE = 3  # Kaggle's pictures are in ILSVRC/Data/CLS-LOC, its table beside ILSVRC


def flat_validation_files(root: Path, test: str, only: frozenset[str] | None) -> ClassFolders | None:
    """The pictures of `root/test`, class after class by WordNet number; none where it is not a folder of such pictures.

    Args:
        root: where the tables are looked for, and in the three folders above it.
        test: its folder with ILSVRC2012_val_00000001.JPEG and so on.
        only: the classes that are wanted; none: all.

    Raises:
        DataError: there is no table of their classes, or it does not fit them.
    """
    folder = root / test
    if not folder.is_dir():
        return None
    files = sorted(folder.glob(f"{FIRST}*.JPEG"))
    if not files:
        return None
    classes = _classes(root)
    strange = next((file for file in files if file.stem not in classes), None)
    if strange is not None:
        raise DataError(f"{strange} has no class in the table beside {root}: unpack the published validation pictures")
    named = sorted((classes[file.stem], file.name) for file in files)
    named = [pair for pair in named if only is None or pair[0] in only]
    names, labels = np.unique([name for name, _ in named], return_inverse=True)
    return ClassFolders(
        files=PathList.of(folder, [folder / name for _, name in named]),
        labels=labels.astype(np.int64),
        class_names=tuple(map(str, names)),
    )


def _classes(root: Path) -> dict[str, str]:
    """The class of each validation picture, by the name of its file without ending."""
    for folder in (root, *root.resolve().parents[:ABOVE]):
        if (table := folder / KAGGLE).is_file():
            return _of_kaggle(table)
        for kit in (folder / KIT, folder / "data", folder):
            if (kit / TRUTH).is_file():
                return _of_kit(kit)
    raise DataError(
        f"{root} holds validation pictures in one folder, and no classes of them: put the folder ILSVRC2012_devkit_t12 "
        f"or Kaggle's {KAGGLE} beside them, or sort them into folders of classes"
    )


def _of_kaggle(table: Path) -> dict[str, str]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("ImageId") and row.get("PredictionString")]
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise DataError(f"cannot read {table} ({one_line(error)}): fetch it again from Kaggle") from error


def _of_kit(kit: Path) -> dict[str, str]:
    from scipy.io import loadmat  # here: slow to import, and needed for this alone

    try:
        synsets: Any = loadmat(kit / META, squeeze_me=True, struct_as_record=False)["synsets"]
        names = {int(synset.ILSVRC2012_ID): str(synset.WNID) for synset in synsets}
        numbers = [int(line) for line in (kit / TRUTH).read_text().split()]
        return {f"{FIRST}{place:08d}": names[number] for place, number in enumerate(numbers, 1)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise DataError(f"cannot read {META} and {TRUTH} in {kit} ({one_line(error)}): fetch the kit again") from error


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
