"""Other photographs of ImageNet's classes: ImageNet-A, -V2, -Sketch, ObjectNet and folders like them.

- ImageNet-A (Hendrycks et al., "Natural Adversarial Examples", CVPR 2021): 7,500 pictures of 200 classes, in folders
  named by WordNet numbers. As in the authors' code the prediction is the largest of those 200 outputs.
- ImageNet-V2 (Recht et al., ICML 2019): 10,000 pictures in folders 0 to 999, the places of the outputs.
- ImageNet-Sketch (Wang et al., NeurIPS 2019): 50,889 drawings in 1,000 folders named by WordNet numbers.
- ObjectNet (Barbu et al., NeurIPS 2019): folders named by objects, some of which are ImageNet classes, one or several.
  Which, a JSON file says ({"alarm_clock": ["n02708093"], ...}); folders that it does not name are left out. Predictions
  are among all 1,000 outputs there (`outputs: all`), and right if they are any of a folder's classes.

The files are third-party pictures and have to be there. They are resized and cut as the test pictures are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from pixmix_ray.benchmarks.base import BENCHMARKS, Benchmark, TestPictures
from pixmix_ray.benchmarks.imagenet_outputs import NUMBERS, check_side, predict_among, predictions_of
from pixmix_ray.benchmarks.measures import calibration_of, error_of
from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.datasets.class_folders import all_numbers, class_folders, class_names
from pixmix_ray.datasets.encoded import EncodedFiles
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.datasets.picture_files import cached_squares
from pixmix_ray.errors import DataError, one_line
from pixmix_ray.identity import short_hash
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.settings import DataPath


@BENCHMARKS.add("natural_shifts")
class NaturalShifts(Benchmark):
    """Error on other photographs of ImageNet's classes, each set by itself and their mean.

    Attributes:
        folders: name -> folder with one folder a class, such as imagenet_a: data/imagenet-a.
        classes: a JSON file, from the name of a folder to a WordNet number or several; none: folders are named by
            WordNet numbers, or 0 to 999.
        outputs: among which the network chooses: own, those of the classes that have a folder; or all.
    """

    summary: ClassVar[str] = "other photographs of ImageNet's classes: -A, -V2, -Sketch, ObjectNet; set folders"
    source: ClassVar[str] = "Hendrycks et al., CVPR 2021; Recht et al., ICML 2019; Wang et al., NeurIPS 2019"
    headline: ClassVar[tuple[str, ...]] = ("error", "rms_calibration_error")
    location: ClassVar[frozenset[str]] = frozenset({"folders", "classes"})  # version() holds names and content

    folders: Mapping[str, DataPath] = Field(min_length=1, description="a name and a folder for each set of pictures")
    classes: DataPath | None = None
    outputs: Literal["own", "all"] = "own"

    def version(self) -> str:
        """12 hexadecimal digits over names, classes and all pictures; the first call reads them all."""
        parts = []
        for name, folder in sorted(self.folders.items()):
            found = self._found(folder)
            parts.append(repr((name, found.targets, np.bincount(found.labels).tolist())))
            parts.append(combined(file_md5s(found.pictures.files)))
        return short_hash("".join(parts))

    def prepare(self, test: TestPictures) -> None:
        """Decode the pictures.

        Raises:
            DataError: a folder is no class of ImageNet's, a picture is broken, or the test pictures are not ImageNet's.
        """
        check_side("natural shifts", test)
        for folder in self.folders.values():
            self._shown(self._found(folder), test)

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over the pictures of each set; labels and predictions are numbers among the 1,000."""
        parts, first = [], 0
        for name, folder in self.folders.items():
            found = self._found(folder)
            chosen = evenly_spaced(len(found.labels), self.limit)
            own = np.unique(np.concatenate(found.targets)) if self.outputs == "own" else np.arange(len(WNIDS))
            predicted, confidence = predict_among(network, device, self._shown(found, test), own, "natural shifts")
            targets = [found.targets[label] for label in found.labels[chosen]]
            labels = [one if one in of else of[0] for one, of in zip(predicted.tolist(), targets, strict=True)]
            indices = first + chosen  # they are other pictures in each set
            first += len(found.labels)
            part = predictions_of(predicted, confidence, labels=np.array(labels), indices=indices, condition=name)
            parts.append(part)
        return Predictions.join(parts)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Error and calibration of each set, and their means over the sets."""
        rows = []
        for name in dict.fromkeys(predictions.condition.tolist()):
            part = predictions.select(predictions.condition == name)
            rows += [error_of(part, condition=name), *calibration_of(part, name)]
        names = dict.fromkeys(row.metric for row in rows)
        values = {name: [row.value for row in rows if row.metric == name] for name in names}
        means = [Measurement(metric=name, value=float(np.mean(of)), n=len(predictions)) for name, of in values.items()]
        return [*rows, *means]

    def _found(self, folder: Path) -> "_Set":
        named = _read_classes(self.classes) if self.classes is not None else None
        names = class_names(folder, is_text_order=False)
        if named is not None:
            only = frozenset(names) & frozenset(named)
            if not only:
                raise DataError(f"{self.classes} names none of the folders in {folder}, such as {names[0]!r}")
        else:
            only, named = frozenset(names), _own_classes(folder, names)
        found = class_folders(folder, is_text_order=False, only=only)
        return _Set(
            pictures=EncodedFiles(found.files),
            labels=found.labels,
            targets=tuple(named[name] for name in found.class_names),
        )

    def _shown(self, found: "_Set", test: TestPictures) -> NDArray[np.uint8]:
        """The pictures within `limit`, resized and cut as those of the test set, (N, size, size, 3) uint8."""
        chosen, size = evenly_spaced(len(found.labels), self.limit), test.images.shape[1]
        entry = f"natural-{combined(file_md5s([found.pictures.files[place] for place in chosen]))}-{size}"
        return cached_squares(entry, found.pictures, chosen, round(size * 256 / 224), size)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Set:
    """One set: its pictures, labels (N,) and, for each label, the numbers of the classes that are right."""

    pictures: EncodedFiles
    labels: NDArray[np.int64]
    targets: tuple[tuple[int, ...], ...]


def _own_classes(folder: Path, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """The class of each folder, by its WordNet number or its place."""
    if all_numbers(names) and max(map(int, names)) < len(WNIDS):
        return {name: (int(name),) for name in names}
    if strange := [name for name in names if name not in NUMBERS]:
        raise DataError(
            f"{folder} holds the folder {strange[0]!r}, which is no class of ImageNet: name folders by WordNet numbers "
            "or 0 to 999, or say which they are in a JSON file, by classes"
        )
    return {name: (NUMBERS[name],) for name in names}


def _read_classes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        named = {name: [value] if isinstance(value, str) else list(value) for name, value in content.items()}
        return {name: tuple(NUMBERS[wnid] for wnid in wnids) for name, wnids in named.items() if wnids}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError(
            f"cannot read {file} ({type(error).__name__}: {one_line(error)}): it must be a JSON object from the names "
            'of folders to WordNet numbers of ImageNet, such as {"alarm_clock": ["n02708093"]}'
        ) from error
