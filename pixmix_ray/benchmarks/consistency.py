"""Prediction consistency: CIFAR-10-P, CIFAR-100-P and ImageNet-P (Hendrycks and Dietterich, ICLR 2019; paper §3.1).

Every test picture becomes a short sequence under each of ten perturbations, made on the spot or read from the published
files. The flip rate is the share of compared frames whose predictions differ, mFR its mean over the perturbations; the
top-5 distance (T5D) and the Zipf distance compare rankings in the same way. Frames of noise are compared with the
first, others with the one before, or `difficulty` before.

ImageNet-P moves pictures of 256 pixels and keeps the centre of 224: on a data set with `size: 256`, `crop: 224` does so
too. With pictures of 224 what moves into the frame is black.

On CIFAR the means are plain, as in the paper. On ImageNet each perturbation is divided by AlexNet's value, which no
publication states: measure AlexNet once (`evaluate` of torchvision's weights on this benchmark) and give the file of
that cell as `alexnet`. Without it the rows are called flip_rate_unnormalised, mfr_unnormalised and so on.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import nn

from pixmix_ray import metrics
from pixmix_ray.benchmarks.alexnet_rates import AlexNetRates
from pixmix_ray.benchmarks.base import BENCHMARKS, Benchmark, TestPictures, finite_logits, passes, to_device
from pixmix_ray.benchmarks.corrupted_sets import EXTRAS as CORRUPTED
from pixmix_ray.benchmarks.corrupted_sets import (
    IMAGENET_SIDE,
    SIDE,
    files_identity,
    in_known_order,
    is_arrays,
    notes_of,
)
from pixmix_ray.benchmarks.extras import TOP_FIVE
from pixmix_ray.benchmarks.made_pictures import KEEP_GB, KeyOfTest, MadePictures, Piece, depth_for, prefetched, runs_of
from pixmix_ray.corruptions.p.sequences import (
    EXTRA_PERTURBATIONS,
    PERTURBATIONS,
    compares_with_first,
    encoder,
    frames,
    perturb,
    through_h264,
)
from pixmix_ray.datasets.official_arrays import SequenceArrays
from pixmix_ray.datasets.official_folders import SequenceFolders
from pixmix_ray.errors import DataError
from pixmix_ray.metrics import Extra, Measurement, Predictions
from pixmix_ray.metrics.consistency import compared_frames, flips, top5_distances, zipf_distances
from pixmix_ray.metrics.predictions import repeated
from pixmix_ray.settings import DataPath

Images = NDArray[np.uint8]
MOST_FRAMES = 41  # of a sequence
FRAME, ZIPF = "frame", "zipf_distance"
KNOWN = tuple(
    dict.fromkeys(name for sets in (PERTURBATIONS, EXTRA_PERTURBATIONS) for names in sets.values() for name in names)
)


class SequenceFiles(Protocol):
    """Published files of sequences, in one of their layouts."""

    @property
    def read_as(self) -> tuple[object, ...] | None:
        """What beside the files decides the pixels; none for arrays, which are read as they are."""

    def version(self) -> str:
        """12 hexadecimal digits of their content; raises DataError if something is missing."""

    def check(self, images: Images, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Raise DataError if they are not of these test pictures, or broken as far as that is seen."""

    def sequences(self, name: str, indices: NDArray[np.int64], size: int) -> Images:
        """The sequences of the pictures `indices` of the test set, (M, T, size, size, 3) uint8."""


@BENCHMARKS.add("consistency")
class Consistency(Benchmark):
    """Sequences of perturbed pictures.

    Attributes:
        names: which perturbations; none means the ten of CIFAR-P or of ImageNet-P, by the size of the pictures.
        exclude: those of them that are left out.
        difficulty: 1 to 3: stronger noise, or frames so far apart.
        seed: of the sequences that are made on the spot.
        crop: side of the centre that is kept of each frame that is made on the spot; none keeps all of it.
        codec: h264 sends frames that are made on the spot through a video, as the published ImageNet-P is one; it needs
            the extra video. None leaves them as they are, as CIFAR-P's.
        files: folder of the published files; none makes the sequences on the spot.
        alexnet: for ImageNet: the file of the cell of this benchmark that AlexNet was measured in.
        keep_gb: gigabytes that pictures made here or decoded from files may take in this machine's cache, for the next
            checkpoint to read; where all of them do not fit, or with 0, they are made anew for each.
    """

    summary: ClassVar[str] = "flip rate and top-5 distance along the sequences of CIFAR-P or ImageNet-P"
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019; PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("mfr", "mt5d")
    passes: ClassVar[float] = 300  # ten sequences of about thirty
    implied: ClassVar[frozenset[str]] = frozenset({"codec"})
    location: ClassVar[frozenset[str]] = frozenset({"files", "keep_gb"})  # version() holds the content of the files
    extras: ClassVar[Mapping[str, Extra]] = MappingProxyType(
        {
            **TOP_FIVE,
            FRAME: Extra(meaning="number of the frame in its sequence", dtype=np.int16, range="0 or more"),
            ZIPF: Extra(
                meaning="Zipf distance to the ranking of the frame it is compared with; 0 where there is none",
                dtype=np.float32,
                range="0 or more",
            ),
            SIDE: CORRUPTED[SIDE],
        }
    )

    names: tuple[str, ...] | None = Field(None, min_length=1)
    exclude: tuple[str, ...] = ()
    difficulty: int = Field(1, ge=1, le=3)
    seed: int = 0
    crop: int | None = Field(None, ge=1)
    codec: Literal["h264"] | None = None
    files: DataPath | None = None
    alexnet: AlexNetRates | None = None
    keep_gb: float = Field(KEEP_GB, ge=0)

    @field_validator("names", "exclude")
    @classmethod
    def _are_known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else in_known_order(names, KNOWN, "perturbation")

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; of the files, that it is they."""
        return {**super().identity(), "files": files_identity(self.files)}

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> Self:
        """As the base class says; a row holds AlexNet's rates, and no path of anybody's is read for them."""
        if isinstance(path := identity.get("alexnet"), str):
            raise DataError(
                f"consistency: a row must hold AlexNet's rates themselves, and this one holds a path, {path!r}"
            )
        return super().from_identity(identity)

    def version(self) -> str:
        """`official-` and digits of the files, if there are any; the version of what encodes videos, if something does.

        Raises:
            DataError: a file is missing, or PyAV is not installed.
        """
        if self.files is None:
            return "" if self.codec is None else f"{self.codec}-av{encoder().__version__}"
        return f"official-{self._files(is_imagenet=not is_arrays(self.files)).version()}"

    def notes(self) -> tuple[str, ...]:
        """What is left out, and where the sequences come from, if not made here."""
        return notes_of(self.names, self.exclude, self.files)

    def prepare(self, test: TestPictures) -> None:
        """Check the files beside the test pictures, and AlexNet's rates beside the perturbations."""
        self._check(test)
        self._files_of(test)

    def _check(self, test: TestPictures) -> None:
        """Raise DataError if the settings do not fit the test pictures."""
        is_imagenet = test.images.shape[1] >= IMAGENET_SIDE
        names = self._wanted(is_imagenet)
        if self.alexnet is not None and not is_imagenet:
            raise DataError(
                f"consistency: AlexNet's rates apply to ImageNet's pictures alone, of {IMAGENET_SIDE} pixels or "
                "more, and these "
                f"have {test.images.shape[1]}: leave alexnet out"
            )
        if lacking := [name for name in names if self.alexnet is not None and name not in self.alexnet]:
            raise DataError(f"consistency: alexnet has no rates for {lacking[0]}: measure AlexNet on it, or exclude it")
        if self.crop is not None and self.crop > test.images.shape[1]:
            raise DataError(
                f"consistency: crop = {self.crop} is more than the {test.images.shape[1]} of the test pictures"
            )

    def made(self, test: TestPictures) -> MadePictures:
        """The sequences of the test pictures, (N, T, H, W, 3) uint8 a piece."""
        side, count = test.images.shape[1], len(test.labels)
        files = None if self.files is None else self._files(side >= IMAGENET_SIDE)
        key_of_test, version = KeyOfTest(test), self.version()

        def make(piece: Piece) -> Images:
            if files is not None:
                return files.sequences(piece.name, test.indices[piece.rows], side)
            return self._made(test.part(piece.rows), piece.name)

        def key(piece: Piece) -> str:
            read_as = None if files is None else files.read_as
            return key_of_test(piece, "perturb", self.seed, self.difficulty, self.crop, version, repr(read_as))

        names = self._wanted(side >= IMAGENET_SIDE)
        runs = list(runs_of(count, MOST_FRAMES * (self.crop or side) ** 2 * 3))
        return MadePictures(
            pieces=tuple(Piece(name, 0, rows) for name in names for rows in runs),
            make=make,
            key=None if files is not None and files.read_as is None else key,
            nbytes=count * self.bytes_made(side),
            keep_gb=self.keep_gb,
        )

    def bytes_made(self, side: int) -> int:
        """A frame for each step of each sequence; none of files that are read as they are."""
        if self.files is not None and is_arrays(self.files):
            return 0
        kind: Literal["imagenet", "cifar"] = "imagenet" if side >= IMAGENET_SIDE else "cifar"
        count = sum(frames(name, kind) for name in self._wanted(kind == "imagenet"))
        return count * (self.crop or side) ** 2 * 3

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over every frame; no more than two pieces are there at a time."""
        self._files_of(test)
        made = self.made(test)
        pieces = ((piece, made.pictures(piece)) for piece in made.pieces)
        return Predictions.join(
            self._frames(network, piece.name, test.part(piece.rows), cast(Images, sequences), device)
            for piece, sequences in prefetched(pieces, depth_for(device))
        )

    def _made(self, test: TestPictures, name: str) -> Images:
        """The sequences (N, T, H, W, 3) of test pictures that are made on the spot."""
        sequences = perturb(
            test.images, name, self.seed, indices=test.indices, difficulty=self.difficulty, crop=self.crop
        )
        if self.codec is None:
            return sequences
        return through_h264(sequences, is_noise=compares_with_first(name))

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Flip rate, top-5 and Zipf distance of each perturbation, and their means."""
        names = [name for name in KNOWN if (predictions.condition == name).any()]
        parts = {name: predictions.select(predictions.condition == name) for name in names}
        found = {name: _by_sequence(part, compares_with_first(name), self.difficulty) for name, part in parts.items()}
        is_imagenet = int(predictions.extras[SIDE][0]) >= IMAGENET_SIDE
        rows = _rows({name: values[ZIPF] for name, values in found.items()}, ZIPF, "mean_zipf_distance")
        for metric, mean in (("flip_rate", "mfr"), ("top5_distance", "mt5d")):
            values = {name: of_metric[metric] for name, of_metric in found.items()}
            suffix = "_unnormalised" if is_imagenet else ""
            rows += _rows(values, f"{metric}{suffix}", f"{mean}{suffix}")
            if self.alexnet is not None:
                rows += _rows(values, metric, mean, {name: getattr(self.alexnet[name], metric) for name in names})
        return rows

    def _wanted(self, is_imagenet: bool) -> tuple[str, ...]:
        """The perturbations that are measured; raises DataError if none is left."""
        chosen = PERTURBATIONS["imagenet" if is_imagenet else "cifar"] if self.names is None else self.names
        if not (left := tuple(name for name in chosen if name not in self.exclude)):
            raise DataError(f"consistency: exclude leaves no perturbation of {', '.join(chosen)}: leave at least one")
        return left

    def _files_of(self, test: TestPictures) -> SequenceFiles | None:
        """The published files, checked beside the test pictures by whoever reads them."""
        if self.files is None:
            return None
        found = self._files(test.images.shape[1] >= IMAGENET_SIDE)
        found.check(test.images, test.labels, test.indices)
        return found

    def _files(self, is_imagenet: bool) -> SequenceFiles:
        assert self.files is not None
        names = self._wanted(is_imagenet)
        layout = SequenceFolders if not is_arrays(self.files) else SequenceArrays
        return layout(
            folder=self.files,
            frames={name: frames(name, "imagenet" if is_imagenet else "cifar") for name in names},
            is_noise=frozenset(name for name in names if compares_with_first(name)),
            difficulty=self.difficulty,
        )

    def _frames(
        self, network: nn.Module, name: str, part: TestPictures, sequences: Images, device: torch.device
    ) -> Predictions:
        """Predictions for sequences (N, T, H, W, 3) of the pictures `part`, a row a frame."""
        num, count, side = sequences.shape[:3]
        all_frames = sequences.reshape(num * count, *sequences.shape[2:])
        slices = passes(len(all_frames), side, device)
        logits = [finite_logits(network, to_device(all_frames[rows], device)) for rows in slices]
        # ties in the order of the classes, as in the reference
        ranking = torch.cat(logits).argsort(dim=1, descending=True, stable=True).cpu().numpy()
        top = _padded(ranking, len(TOP_FIVE)).astype(np.int16)
        zipf = np.zeros((num, count), np.float32)
        first, second = compared_frames(count, against_first=compares_with_first(name), stride=self.difficulty)
        by_sequence = ranking.reshape(num, count, -1)
        pairs = (by_sequence[:, places].reshape(num * len(places), -1) for places in (first, second))
        zipf[:, second] = zipf_distances(*pairs).reshape(num, -1)
        return Predictions(
            condition=repeated(name, len(all_frames)),
            severity=np.zeros(len(all_frames), np.int8),
            index=np.repeat(part.indices.astype(np.int32), count),
            label=np.repeat(part.labels.astype(np.int16), count),
            predicted=top[:, 0],
            confidence=np.full(len(all_frames), np.nan, np.float32),
            extras={
                **{column: top[:, rank] for rank, column in enumerate(TOP_FIVE)},
                FRAME: np.tile(np.arange(count, dtype=np.int16), num),
                ZIPF: zipf.reshape(-1),
                SIDE: np.full(len(all_frames), side, np.int16),
            },
        )


def _by_sequence(part: Predictions, against_first: bool, stride: int) -> dict[str, NDArray[np.float64]]:
    """Flip rate, top-5 and Zipf distance of each sequence of one perturbation, (N,) each, in the order of `index`."""
    top5 = np.stack([_by_frame(part, part.extras[column]) for column in TOP_FIVE], axis=2)
    zipf = _by_frame(part, part.extras[ZIPF])
    _, second = compared_frames(zipf.shape[1], against_first=against_first, stride=stride)
    return {
        "flip_rate": flips(_by_frame(part, part.predicted), against_first=against_first, stride=stride),
        "top5_distance": top5_distances(top5, against_first=against_first, stride=stride),
        ZIPF: zipf[:, second].mean(axis=1, dtype=np.float64),
    }


def _by_frame(part: Predictions, column: NDArray[Any]) -> NDArray[Any]:
    """A column of one perturbation's predictions as (N, T), a row a sequence, its frames in order."""
    order = np.lexsort((part.extras[FRAME], part.index))
    return column[order].reshape(-1, int(part.extras[FRAME].max()) + 1)


def _padded(ranking: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """The first ranks of (M, K); with fewer classes than ranks the missing ones are -1, -2, ..., alike everywhere."""
    missing = np.arange(-1, min(ranking.shape[1] - ranks, 0) - 1, -1)
    return np.concatenate([ranking[:, :ranks], np.tile(missing, (len(ranking), 1))], axis=1)


def _rows(
    by_sequence: Mapping[str, NDArray[np.float64]],
    metric: str,
    mean: str,
    by_alexnet: Mapping[str, float] | None = None,
) -> list[Measurement]:
    """A row for each perturbation, from the values (N,) of its sequences, and one for their mean."""
    scaled = {name: values / (by_alexnet[name] if by_alexnet else 1) for name, values in by_sequence.items()}
    rows = [
        Measurement(
            metric=metric,
            value=float(values.mean()),
            n=len(values),
            condition=name,
            standard_error=_standard_error(values),
        )
        for name, values in scaled.items()
    ]
    plain = {name: float(values.mean()) for name, values in by_sequence.items()}
    return [
        *rows,
        Measurement(
            metric=mean,
            value=metrics.mean_over_perturbations(plain, by_alexnet),
            n=sum(len(values) for values in scaled.values()),
            # a picture's sequences are not independent: they are averaged first, in the order of `index`
            standard_error=_standard_error(np.mean(list(scaled.values()), axis=0)),
        ),
    ]


def _standard_error(values: Sequence[float] | NDArray[np.float64]) -> float | None:
    return metrics.standard_error_of_mean(values) if len(values) > 1 else None
