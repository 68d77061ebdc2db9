"""Classes of ImageNet's validation pictures where these lie in one folder, as they are published.

They are in the development kit, ILSVRC2012_devkit_t12/data: the numbers of the 50,000 pictures in
ILSVRC2012_validation_ground_truth.txt, and what the numbers mean in meta.mat. Kaggle has them as LOC_val_solution.csv.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from pixmix_ray.datasets.class_folders import ClassFolders
from pixmix_ray.datasets.encoded import PathList
from pixmix_ray.errors import DataError, one_line

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
