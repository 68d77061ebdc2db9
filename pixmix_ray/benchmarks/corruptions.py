"""Corruption robustness: CIFAR-10-C, CIFAR-100-C and ImageNet-C (Hendrycks and Dietterich, ICLR 2019; paper §3.1).

The pictures are made on the spot, or read from the published files. One pass over every corruption and severity gives
the errors and the calibration of each and of all. The mean corruption error (mCE) is the plain mean on CIFAR, as in the
paper, and on ImageNet that of errors divided by AlexNet's. What is made here depends on the seed, the corruption, the
severity and the picture alone, and differs from the published files in its random numbers; ImageNet-C was saved as JPEG
of quality 85 besides, which `jpeg_quality` does too.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from pixmix_ray.benchmarks.base import BENCHMARKS, Benchmark, TestPictures
from pixmix_ray.benchmarks.corrupted_sets import (
    EXTRAS,
    IMAGENET_SIDE,
    SEVERITIES,
    SIDE,
    Images,
    OfficialFiles,
    files_identity,
    in_known_order,
    is_arrays,
    made_corrupted,
    made_of_files,
    measure_corrupted,
    official_files,
    predict_corrupted,
    saved,
    valid_severities,
)
from pixmix_ray.benchmarks.made_pictures import KEEP_GB, KeyOfTest, MadePictures, Piece
from pixmix_ray.corruptions import NAMES, OFFICIAL, corrupt, frost_pictures, has_installed_photographs
from pixmix_ray.errors import DataError
from pixmix_ray.identity import short_hash
from pixmix_ray.metrics import ALEXNET_ERRORS, Extra, Measurement, Predictions
from pixmix_ray.settings import DataPath


def _left_out(settings: dict[str, Any]) -> tuple[str, ...]:
    """What is left out where `exclude` does not say: frost, where nothing says where photographs of ice are."""
    has_photographs = settings.get("files") or settings.get("frost") or has_installed_photographs()
    return () if has_photographs or settings.get("names") != OFFICIAL else ("frost",)


@BENCHMARKS.add("corruptions")
class Corruptions(Benchmark):
    """Common corruptions at five severities.

    Attributes:
        names: which corruptions.
        exclude: those of them that are left out. By default none, but frost where `names` are the fifteen and there are
            no photographs of ice: neither published files, nor a folder `frost`, nor the package of the extra frost.
        severities: which of 1 to 5.
        seed: of the corruptions that are made on the spot.
        files: folder of the published files; none makes the pictures on the spot.
        frost: folder of the photographs of frost; none looks for the installed package that brings them.
        normaliser: what ce and mce are divided by: AlexNet's errors on ImageNet-C, or nothing; none leaves that to the
            size of the pictures.
        jpeg_quality: of the JPEG files as which pictures made on the spot are saved and read again, 85 as for the
            published ImageNet-C; none does without, as for CIFAR's.
        resize: shorter side to which the published files of ImageNet are resized before the centre is cut out, 256 as
            the official PixMix code has it; none takes them as they are, as the reference evaluation does.
        keep_gb: gigabytes that pictures made here or decoded from files may take in this machine's cache, for the next
            checkpoint to read; where all of them do not fit, or with 0, they are made anew for each.
    """

    summary: ClassVar[str] = f"the {len(OFFICIAL)} corruptions of CIFAR-C and ImageNet-C at five severities"
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019; PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("mce", "rms_calibration_error")
    location: ClassVar[frozenset[str]] = frozenset(
        {"files", "frost", "keep_gb"}
    )  # version() holds the content of the first two
    implied: ClassVar[frozenset[str]] = frozenset({"jpeg_quality", "resize"})
    extras: ClassVar[Mapping[str, Extra]] = EXTRAS
    passes: ClassVar[float] = 75  # fifteen at five severities
    revision: ClassVar[int] = 2  # 1 took the constants of 32 pixels for those of 64 as well

    names: tuple[str, ...] = Field(OFFICIAL, min_length=1)
    severities: tuple[int, ...] = Field(SEVERITIES, min_length=1)
    seed: int = 0
    files: DataPath | None = None
    frost: DataPath | None = None
    exclude: tuple[str, ...] = Field(default_factory=_left_out)
    normaliser: Literal["alexnet", "nothing"] | None = None
    jpeg_quality: int | None = Field(None, ge=1, le=100)
    resize: int | None = Field(None, ge=1)
    keep_gb: float = Field(KEEP_GB, ge=0)

    @field_validator("names", "exclude")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return in_known_order(names, NAMES)

    @field_validator("severities")
    @classmethod
    def _are_in_range(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        return valid_severities(severities)

    @model_validator(mode="after")
    def _has_a_corruption(self) -> Self:
        if not self.wanted:
            raise ValueError(f"exclude = {', '.join(self.exclude)} leaves no corruption: leave at least one")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """The corruptions that are measured: `names` without `exclude`."""
        return tuple(name for name in self.names if name not in self.exclude)

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; of the files, that it is they."""
        return {**super().identity(), "files": files_identity(self.files)}

    def version(self) -> str:
        """`official-` and digits of the published files; or `frost-` and digits of the photographs of frost.

        Raises:
            DataError: a file is missing, or there are no photographs of frost.
        """
        if (found := self._files()) is not None:
            return f"official-{found.version()}"
        return f"frost-{self._frost_version()}" if "frost" in self.wanted else ""

    def notes(self) -> tuple[str, ...]:
        """How many of the fifteen, if not all, and where the pictures come from, if not made here."""
        count = incomplete(self.wanted)
        if "frost" in self.exclude and "exclude" not in self.model_fields_set:
            count += ", which needs photographs of ice: pip install 'pixmix_ray[frost]'"
        return tuple(filter(None, (count, "the published files" if self.files else "")))

    def prepare(self, test: TestPictures) -> None:
        """Check the published files beside the test pictures, and that there are normalisers."""
        lacking = [name for name in self.wanted if name not in ALEXNET_ERRORS]
        if lacking and self._is_normalised(test.images.shape[1]):
            raise DataError(
                f"AlexNet's errors on {lacking[0]} by severity are not known: exclude it, or set normaliser: nothing"
            )
        self._files_of(test)

    def made(self, test: TestPictures) -> MadePictures:
        """Every corrupted copy of the test pictures."""
        cells, files = [(name, severity) for name in self.wanted for severity in self.severities], self._files()
        if files is not None:
            return made_of_files(test, cells, files, files.version(), self.keep_gb)
        frost_version, key_of_test = self._frost_version() if "frost" in self.wanted else "", KeyOfTest(test)

        def make(piece: Piece) -> Images:
            part = test.part(piece.rows)
            made = corrupt(
                part.images, piece.name, piece.severity, self.seed, indices=part.indices, frost_folder=self.frost
            )
            return saved(made, self.jpeg_quality)

        def key(piece: Piece) -> str:
            photographs = frost_version if piece.name == "frost" else ""
            return key_of_test(piece, "corrupt", piece.severity, self.seed, photographs, self.jpeg_quality)

        return made_corrupted(test, cells, make, key, self.keep_gb)

    def bytes_made(self, side: int) -> int:
        """A copy for each corruption and severity; none of files that are read as they are."""
        is_read = self.files is not None and is_arrays(self.files)
        return 0 if is_read else len(self.wanted) * len(self.severities) * side * side * 3

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over every corrupted copy of the test pictures."""
        self._files_of(test)
        return predict_corrupted(network, test, device, self.made(test))

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Errors and calibration per corruption and severity, per corruption, per severity, and overall."""
        is_normalised = self._is_normalised(int(predictions.extras[SIDE][0]))
        rows = measure_corrupted(predictions, NAMES, ALEXNET_ERRORS if is_normalised else None)
        note = incomplete(self.wanted)
        return [replace(row, note=note) if row.metric == "mce" else row for row in rows]

    def _is_normalised(self, side: int) -> bool:
        return self.normaliser == "alexnet" or (self.normaliser is None and side >= IMAGENET_SIDE)

    def _files_of(self, test: TestPictures) -> OfficialFiles | None:
        """The published files, checked beside the test pictures by whoever reads them."""
        if (found := self._files()) is not None:
            found.check(test.images, test.labels, test.indices)
        return found

    def _files(self) -> OfficialFiles | None:
        return None if self.files is None else official_files(self.files, self.wanted, self.severities, self.resize)

    def _frost_version(self) -> str:
        try:
            pictures = frost_pictures(self.frost)
        except DataError as error:
            raise DataError(f"benchmark corruptions: {error} (its settings frost, and exclude: [frost])") from None
        return short_hash(b"".join(picture.tobytes() for picture in pictures))


def incomplete(wanted: tuple[str, ...]) -> str:
    """Which of the fifteen corruptions are not among `wanted`, in words; "" if all are."""
    measured, missing = ([name for name in OFFICIAL if (name in wanted) is is_in] for is_in in (True, False))
    if not missing:
        return ""
    which = f"only {', '.join(measured)}" if len(measured) < len(missing) else f"without {', '.join(missing)}"
    return f"{len(measured)} of the {len(OFFICIAL)} corruptions: {which}"
