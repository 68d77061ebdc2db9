"""Other corruptions: CIFAR-10-C-bar and ImageNet-C-bar (Mintun, Kirillov and Xie, NeurIPS 2021; paper, Appendix B).

Ten corruptions chosen to look unlike those of C, other ones on CIFAR than on ImageNet. They are made on the spot, or
read from files that the authors' scripts wrote. The mean error is plain on both, as in the papers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator
from torch import nn

from pixmix_ray.benchmarks.base import BENCHMARKS, Benchmark, TestPictures
from pixmix_ray.benchmarks.corrupted_sets import (
    EXTRAS,
    IMAGENET_SIDE,
    SEVERITIES,
    Images,
    OfficialFiles,
    files_identity,
    in_known_order,
    is_arrays,
    made_corrupted,
    made_of_files,
    measure_corrupted,
    notes_of,
    official_files,
    predict_corrupted,
    saved,
    valid_severities,
)
from pixmix_ray.benchmarks.made_pictures import KEEP_GB, KeyOfTest, MadePictures, Piece
from pixmix_ray.corruptions import BAR_NAMES, corrupt
from pixmix_ray.errors import DataError
from pixmix_ray.metrics import Extra, Measurement, Predictions
from pixmix_ray.settings import DataPath

KNOWN = tuple(dict.fromkeys(name for names in BAR_NAMES.values() for name in names))


@BENCHMARKS.add("corruptions_bar")
class CorruptionsBar(Benchmark):
    """The ten corruptions of C-bar at five severities.

    Attributes:
        names: which corruptions; none means the ten of CIFAR or of ImageNet, by the size of the pictures.
        exclude: those of them that are left out.
        severities: which of 1 to 5.
        seed: of the corruptions that are made on the spot.
        files: folder of files as the authors' scripts write them; none makes the pictures on the spot.
        jpeg_quality: of the JPEG files as which pictures made on the spot are saved and read again, 85 as for the
            published ImageNet-C-bar; none does without, as for CIFAR's.
        resize: shorter side to which the published files of ImageNet are resized before the centre is cut out, 256 as
            the official PixMix code has it; none takes them as they are, as the reference evaluation does.
        keep_gb: gigabytes that pictures made here or decoded from files may take in this machine's cache, for the next
            checkpoint to read; where all of them do not fit, or with 0, they are made anew for each.
    """

    summary: ClassVar[str] = "the ten corruptions of CIFAR-10-C-bar or of ImageNet-C-bar at five severities"
    source: ClassVar[str] = "Mintun et al., NeurIPS 2021; PixMix Appendix B"
    headline: ClassVar[tuple[str, ...]] = ("mce", "rms_calibration_error")
    location: ClassVar[frozenset[str]] = frozenset({"files", "keep_gb"})  # version() holds the content of the files
    implied: ClassVar[frozenset[str]] = frozenset({"jpeg_quality", "resize"})
    extras: ClassVar[Mapping[str, Extra]] = EXTRAS
    passes: ClassVar[float] = 50  # ten at five severities

    names: tuple[str, ...] | None = Field(None, min_length=1)
    exclude: tuple[str, ...] = ()
    severities: tuple[int, ...] = Field(SEVERITIES, min_length=1)
    seed: int = 0
    files: DataPath | None = None
    jpeg_quality: int | None = Field(None, ge=1, le=100)
    resize: int | None = Field(None, ge=1)
    keep_gb: float = Field(KEEP_GB, ge=0)

    @field_validator("names", "exclude")
    @classmethod
    def _are_known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else in_known_order(names, KNOWN)

    @field_validator("severities")
    @classmethod
    def _are_in_range(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        return valid_severities(severities)

    def wanted(self, is_imagenet: bool) -> tuple[str, ...]:
        """The corruptions that are measured on pictures of CIFAR's or ImageNet's size.

        Raises:
            DataError: one is not in that set, or none is left.
        """
        own = BAR_NAMES["imagenet" if is_imagenet else "cifar"]
        chosen = own if self.names is None else self.names
        if strange := [name for name in chosen if name not in own]:
            raise DataError(
                f"corruptions_bar: {strange[0]} is not made for pictures of this size, which have {', '.join(own)}"
            )
        if not (left := tuple(name for name in chosen if name not in self.exclude)):
            raise DataError(f"corruptions_bar: exclude leaves no corruption of {', '.join(chosen)}: leave at least one")
        return left

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; of the files, that it is they."""
        return {**super().identity(), "files": files_identity(self.files)}

    def version(self) -> str:
        """`official-` and digits of the files, if there are any; raises DataError if one is missing."""
        if self.files is None:
            return ""
        names = self.wanted(is_imagenet=not is_arrays(self.files))
        return f"official-{official_files(self.files, names, self.severities).version()}"

    def notes(self) -> tuple[str, ...]:
        """What is left out, and where the pictures come from, if not made here."""
        return notes_of(self.names, self.exclude, self.files)

    def prepare(self, test: TestPictures) -> None:
        """Check the files beside the test pictures."""
        self._files_of(test)

    def made(self, test: TestPictures) -> MadePictures:
        """Every corrupted copy of the test pictures."""
        names = self._wanted(test)
        cells = [(name, severity) for name in names for severity in self.severities]
        if self.files is not None:
            files = official_files(self.files, names, self.severities, self.resize)
            return made_of_files(test, cells, files, files.version(), self.keep_gb)
        key_of_test = KeyOfTest(test)

        def make(piece: Piece) -> Images:
            part = test.part(piece.rows)
            made = corrupt(part.images, piece.name, piece.severity, self.seed, indices=part.indices)
            return saved(made, self.jpeg_quality)

        def key(piece: Piece) -> str:
            return key_of_test(piece, "corrupt", piece.severity, self.seed, "", self.jpeg_quality)

        return made_corrupted(test, cells, make, key, self.keep_gb)

    def bytes_made(self, side: int) -> int:
        """A copy for each corruption and severity; none of files that are read as they are."""
        if self.files is not None and is_arrays(self.files):
            return 0
        return len(self.wanted(is_imagenet=side >= IMAGENET_SIDE)) * len(self.severities) * side * side * 3

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over every corrupted copy of the test pictures."""
        self._files_of(test)
        return predict_corrupted(network, test, device, self.made(test))

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Errors and calibration per corruption and severity, per corruption, per severity, and overall."""
        return measure_corrupted(predictions, KNOWN, None)

    def _files_of(self, test: TestPictures) -> OfficialFiles | None:
        """The published files, checked beside the test pictures by whoever reads them."""
        names = self._wanted(test)
        if self.files is None:
            return None
        found = official_files(self.files, names, self.severities, self.resize)
        found.check(test.images, test.labels, test.indices)
        return found

    def _wanted(self, test: TestPictures) -> tuple[str, ...]:
        return self.wanted(is_imagenet=test.images.shape[1] >= IMAGENET_SIDE)
