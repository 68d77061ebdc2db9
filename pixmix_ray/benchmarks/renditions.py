"""Robustness to renditions: ImageNet-R (Hendrycks et al., ICCV 2021; paper Appendix B).

30,000 paintings, cartoons, toys and the like of 200 of ImageNet's classes. As in the authors' code the prediction is
the largest of those 200 of the network's 1,000 outputs, and confidences are probabilities over the 200. The files are
third-party pictures and have to be there: https://github.com/hendrycks/imagenet-r.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from pixmix_ray.benchmarks.base import BENCHMARKS, Benchmark, TestPictures
from pixmix_ray.benchmarks.imagenet_outputs import NUMBERS, check_side, predict_among, predictions_of
from pixmix_ray.benchmarks.measures import RELIABILITY, calibration_of, error_of
from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.datasets.class_folders import ClassFolders, class_folders
from pixmix_ray.datasets.encoded import EncodedFiles
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.datasets.picture_files import cached_squares
from pixmix_ray.errors import DataError
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.settings import DataPath

NUM_CLASSES, NUM_PICTURES = 200, 30_000


@BENCHMARKS.add("renditions")
class Renditions(Benchmark):
    """ImageNet-R, for networks with the 1,000 outputs of ImageNet.

    Attributes:
        files: the folder imagenet-r, with one folder for each of its 200 classes, such as n01443537.
    """

    summary: ClassVar[str] = "renditions of 200 of ImageNet's classes (ImageNet-R); set files"
    source: ClassVar[str] = "Hendrycks et al., ICCV 2021; PixMix Appendix B"
    headline: ClassVar[tuple[str, ...]] = ("error", "rms_calibration_error")
    location: ClassVar[frozenset[str]] = frozenset({"files"})  # version() holds their content

    files: DataPath = Field(description="the folder imagenet-r, which holds n01443537 and so on")

    def version(self) -> str:
        """12 hexadecimal digits over all pictures and class names; the first call reads them all."""
        found = self._found()
        classes = np.frombuffer(repr((found.class_names, np.bincount(found.labels).tolist())).encode(), np.uint8)
        return combined(np.concatenate([classes, file_md5s(found.files).ravel()]))

    def prepare(self, test: TestPictures) -> None:
        """Decode the pictures.

        Raises:
            DataError: a class is none of ImageNet's, a picture is broken, or the test pictures are not ImageNet's.
        """
        check_side("renditions", test)
        self._shown(self._whole(), test)

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over the renditions; labels and predictions are numbers among the 1,000 classes."""
        found = self._whole()
        chosen = evenly_spaced(len(found.files), self.limit)
        own = np.array([NUMBERS[name] for name in found.class_names])
        predicted, confidence = predict_among(network, device, self._shown(found, test), own, "renditions")
        return predictions_of(predicted, confidence, labels=own[found.labels[chosen]], indices=chosen)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Error and calibration; a note where the pictures are not as many as were published."""
        is_whole = self.limit is not None or len(predictions) == NUM_PICTURES
        note = "" if is_whole else f"{len(predictions)} pictures, ImageNet-R has {NUM_PICTURES}"
        return [
            replace(error_of(predictions), note=note),
            *calibration_of(predictions),
            *calibration_of(predictions, measures=RELIABILITY),
        ]

    def _found(self) -> ClassFolders:
        found = class_folders(self.files)
        if strange := [name for name in found.class_names if name not in NUMBERS]:
            raise DataError(
                f"{self.files} holds the folder {strange[0]!r}, which is not a class of ImageNet: give the folder "
                "imagenet-r, which holds n01443537 and so on"
            )
        return found

    def _whole(self) -> ClassFolders:
        """The files, if they are of all classes."""
        found = self._found()
        if len(found.class_names) != NUM_CLASSES:
            raise DataError(
                f"{self.files} holds {len(found.class_names)} classes, ImageNet-R has {NUM_CLASSES}: unpack all of it"
            )
        return found

    def _shown(self, found: ClassFolders, test: TestPictures) -> NDArray[np.uint8]:
        """The pictures within `limit`, resized and cut as those of the test set, (N, size, size, 3) uint8."""
        files = found.files
        chosen = evenly_spaced(len(files), self.limit)
        size = test.images.shape[1]
        entry = f"renditions-{combined(file_md5s([files[place] for place in chosen]))}-{size}"
        return cached_squares(entry, EncodedFiles(files), chosen, round(size * 256 / 224), size)
