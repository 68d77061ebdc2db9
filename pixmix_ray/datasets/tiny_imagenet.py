"""Tiny ImageNet (Le and Yang, 2015; Stanford CS231n): 200 of ImageNet's classes, 100,000 + 10,000 pictures of 64x64.

As unpacked from tiny-imagenet-200.zip: `train/n01443537/images/*.JPEG`, and the validation pictures in one folder,
`val/images`, with their classes in `val/val_annotations.txt`. Where somebody has sorted them into folders of classes,
these are taken.
"""

from typing import ClassVar

import numpy as np
from pydantic import Field

from pixmix_ray.datasets.base import DATASETS
from pixmix_ray.datasets.encoded import EncodedFiles, PathList
from pixmix_ray.datasets.imagenet import ClassFolderDataset
from pixmix_ray.datasets.on_disk import Split
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.settings import DataPath

SIDE = 64
ANNOTATIONS = "val_annotations.txt"


@DATASETS.add("tiny_imagenet")
class TinyImageNet(ClassFolderDataset):
    """Tiny ImageNet, its classes in the order of their WordNet numbers."""

    summary: ClassVar[str] = "Tiny ImageNet, 200 classes, 100,000 + 10,000 photographs of 64x64; set root"
    kind: ClassVar[str] = "tiny_imagenet"
    published: ClassVar[tuple[int, int] | None] = (100_000, 10_000)

    root: DataPath = Field(description="the folder tiny-imagenet-200, which holds train and val")
    size: int = Field(SIDE, ge=1)
    resize: int = Field(SIDE, ge=1)

    def test_split(self) -> Split:
        """The validation pictures, class after class."""
        table = self.root / self.test / ANNOTATIONS
        if not table.is_file():
            return super().test_split()
        try:
            rows = [line.split("\t")[:2] for line in table.read_text(encoding="utf-8").splitlines() if line]
            named = sorted((name, file) for file, name in rows)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {table} ({one_line(error)}): unpack the published archive again") from error
        only = self._only()
        named = [pair for pair in named if only is None or pair[0] in only]
        names, labels = np.unique([name for name, _ in named], return_inverse=True)
        folder = table.parent / "images"
        split = Split(
            pictures=EncodedFiles(PathList.of(folder, [folder / file for _, file in named])),
            labels=labels.astype(np.int64),
            class_names=tuple(map(str, names)),
        )
        return self._counted(split, self.test, 1)
