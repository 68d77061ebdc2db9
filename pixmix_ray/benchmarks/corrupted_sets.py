"""What the benchmarks on corrupted pictures share: one pass over every corruption and severity, and what follows.

RMS calibration error is measured on each corruption with its severities together and averaged over the corruptions,
the way the published CIFAR-C files are laid out; "pooled" is over all predictions at once. The other measures of
calibration are treated alike. The official code for ImageNet (`evaluate_c` in its imagenet.py) averages the errors of
every corruption at every severity instead: that mean is `rms_calibration_error_by_severity`, and as that code has it
`rms_calibration_error_by_severity_without_last_bin`. The two means can differ by more than two methods do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixmix_ray import metrics
from pixmix_ray.benchmarks.base import TestPictures, classify
from pixmix_ray.benchmarks.extras import PROPER_SCORES
from pixmix_ray.benchmarks.made_pictures import MadePictures, Piece, depth_for, key_of, prefetched, runs_of
from pixmix_ray.benchmarks.measures import RELIABILITY, RMS, OfConfidence, calibration_of, error_of, proper_scores_of
from pixmix_ray.corruptions import through_jpeg
from pixmix_ray.datasets.official_arrays import CorruptedArrays
from pixmix_ray.datasets.official_folders import CorruptedFolders
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.metrics import Extra, Measurement, Predictions

Images = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)
IMAGENET_SIDE = 128  # from so many pixels a side on, constants and normalisers are those of ImageNet
FEWEST = 20  # pictures of which a falling error is said

SIDE = "side"  # the extra that tells CIFAR from ImageNet, also where a benchmark is measured again from its file

EXTRAS: Mapping[str, Extra] = MappingProxyType(
    {
        **PROPER_SCORES,
        SIDE: Extra(
            meaning="side of the picture, which decides between CIFAR's constants and ImageNet's",
            dtype=np.int16,
            range="1 or more",
            unit="pixels",
        ),
    }
)
"""What is kept of each prediction beside the class and its probability."""

CALIBRATION: Mapping[str, OfConfidence] = MappingProxyType(
    {**RMS, **{name: of for name, of in RELIABILITY.items() if name.startswith("mean_absolute")}}
)
"""The calibration errors that every corruption and severity gets a row of."""

BY_SEVERITY = {
    "rms_calibration_error": "rms_calibration_error_by_severity",
    "rms_calibration_error_without_last_bin": "rms_calibration_error_by_severity_without_last_bin",
}
"""Calibration error of one corruption at one severity -> the mean over all of them."""

MEASURES: Mapping[str, OfConfidence] = MappingProxyType({**RMS, **RELIABILITY})
"""Those of every corruption, and of all."""


class OfficialFiles(Protocol):
    """Published files of corrupted test pictures, in one of their layouts."""

    @property
    def read_as(self) -> tuple[object, ...] | None:
        """What beside the files decides the pixels; none for arrays, which are read as they are."""

    def version(self) -> str:
        """12 hexadecimal digits of their content; raises DataError if something is missing."""

    def check(self, images: Images, labels: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Raise DataError if they are not these test pictures corrupted, or broken as far as that is seen."""

    def images(self, name: str, severity: int, indices: NDArray[np.int64], size: int) -> Images:
        """The pictures `indices` of the test set, (M, size, size, 3) uint8, corrupted."""


def is_arrays(folder: Path) -> bool:
    """Whether `folder` is in the layout of CIFAR's files, .npy, and not in that of ImageNet's, folders."""
    return any(folder.glob("*.npy"))


def official_files(
    folder: Path, names: tuple[str, ...], severities: tuple[int, ...], resize: int | None = None
) -> OfficialFiles:
    """The published files in `folder`, by their layout; `resize` is for those of ImageNet, see `CorruptedFolders`."""
    if is_arrays(folder):
        return CorruptedArrays(folder=folder, names=names, severities=severities)
    return CorruptedFolders(folder=folder, names=names, severities=severities, resize=resize)


def saved(images: Images, jpeg_quality: int | None) -> Images:
    """Pictures (N, H, W, 3) uint8 as they come back from JPEG files of a quality; none leaves them as they are."""
    return images if jpeg_quality is None else through_jpeg(images, jpeg_quality)


def made_of_files(
    test: TestPictures, cells: Sequence[tuple[str, int]], files: OfficialFiles, version: str, keep_gb: float
) -> MadePictures:
    """The published pictures of some corruptions and severities; those that lie in arrays are read where they are.

    Args:
        test: the clean pictures.
        cells: corruptions and severities.
        files: the published files.
        version: of their content.
        keep_gb: see `MadePictures`.
    """
    side = test.images.shape[1]

    def make(piece: Piece) -> Images:
        return files.images(piece.name, piece.severity, test.indices[piece.rows], side)

    def key(piece: Piece) -> str:
        indices = test.indices[piece.rows]
        return key_of("official", version, side, piece.name, piece.severity, indices.tolist(), repr(files.read_as))

    return made_corrupted(test, cells, make, None if files.read_as is None else key, keep_gb)


def made_corrupted(
    test: TestPictures,
    cells: Sequence[tuple[str, int]],
    make: Callable[[Piece], Images],
    key: Callable[[Piece], str] | None,
    keep_gb: float,
) -> MadePictures:
    """A corrupted copy of the test pictures for each of `cells`, corruptions and severities."""
    runs = list(runs_of(len(test.labels), test.images[0].size))
    pieces = tuple(Piece(name, severity, rows) for name, severity in cells for rows in runs)
    nbytes = len(cells) * test.images.size
    return MadePictures(pieces=pieces, make=make, key=key, nbytes=nbytes, keep_gb=keep_gb)


def predict_corrupted(network: nn.Module, test: TestPictures, device: torch.device, made: MadePictures) -> Predictions:
    """Predictions on every corrupted copy of the test pictures; no more than two pieces of copies are there at a time.

    Args:
        network: in evaluation mode, on `device`.
        test: the clean pictures.
        device: where the network is.
        made: the corrupted ones.
    """
    pieces = ((piece, made.pictures(piece)) for piece in made.pieces)
    parts = (
        classify(
            network,
            test.part(piece.rows),
            device,
            images=cast(Images, pictures),
            condition=piece.name,
            severity=piece.severity,
            extras=PROPER_SCORES,
        )
        for piece, pictures in prefetched(pieces, depth_for(device))
    )
    joined = Predictions.join(parts)
    side = np.full(len(joined), test.images.shape[1], dtype=np.int16)
    return replace(joined, extras={**joined.extras, SIDE: side})


def measure_corrupted(
    predictions: Predictions, order: Sequence[str], normalisers: Mapping[str, tuple[float, ...]] | None
) -> list[Measurement]:
    """Errors, calibration and proper scores per corruption and severity, per corruption, per severity, and overall.

    Args:
        predictions: as `predict_corrupted` makes them, in any order.
        order: corruptions; those that are there are listed in this order.
        normalisers: AlexNet's error at severities 1 to 5 for each corruption; none leaves ce and mce plain errors.
    """
    names = [name for name in order if (predictions.condition == name).any()]
    severities = [int(severity) for severity in np.unique(predictions.severity)]
    rows: list[Measurement] = []
    per_corruption: list[Measurement] = []
    errors: dict[str, list[float]] = {}
    for name in names:
        part = predictions.select(predictions.condition == name)
        cells = [_cell(part.select(part.severity == severity), name, severity) for severity in severities]
        errors[name] = [cell[0].value for cell in cells]
        rows += [row for cell in cells for row in cell]
        per_corruption += [error_of(part, condition=name), *calibration_of(part, name, measures=MEASURES)]
        per_corruption += proper_scores_of(part, name)
    for severity in severities:
        rows += _cell(predictions.select(predictions.severity == severity), "", severity)
    rows += [*per_corruption, *calibration_of(predictions, "pooled", measures=MEASURES), error_of(predictions)]
    rows += _means_over_corruptions(per_corruption, len(predictions))
    rows += _means_over_cells([row for row in rows if row.condition in names and row.severity], len(predictions))
    rows += proper_scores_of(predictions)
    reference = None if normalisers is None else _reference(normalisers, names, severities)
    return [*rows, *_corruption_errors(predictions, errors, reference)]


def _reference(
    normalisers: Mapping[str, tuple[float, ...]], names: Sequence[str], severities: Sequence[int]
) -> dict[str, list[float]]:
    """AlexNet's errors of these corruptions at these severities."""
    return {name: [normalisers[name][severity - 1] for severity in severities] for name in names}


def _cell(part: Predictions, name: str, severity: int) -> list[Measurement]:
    """The rows of one corruption at one severity, its error first; or of one severity of all."""
    return [error_of(part, condition=name, severity=severity), *calibration_of(part, name, severity, CALIBRATION)]


def _means_over_corruptions(per_corruption: list[Measurement], n: int) -> list[Measurement]:
    return [
        Measurement(metric=name, value=float(np.mean([row.value for row in per_corruption if row.metric == name])), n=n)
        for name in dict.fromkeys(row.metric for row in per_corruption if row.metric in MEASURES)
    ]


def _means_over_cells(cells: list[Measurement], n: int) -> list[Measurement]:
    return [
        Measurement(metric=mean, value=float(np.mean(values)), n=n)
        for name, mean in BY_SEVERITY.items()
        if (values := [row.value for row in cells if row.metric == name])
    ]


def falling_error(part: Predictions) -> str:
    """A note where the error of one corruption is lower at its highest severity than at its lowest, beyond chance.

    So it is where severities are in another order. It may be genuine: on CIFAR elastic_transform moves pixels less at
    severity 5 than at 1. Beyond chance: by two standard errors of the difference over pictures.
    """
    low, high = (part.select(part.severity == severity) for severity in (part.severity.min(), part.severity.max()))
    before, after = (cell.correct[np.argsort(cell.index, kind="stable")] for cell in (low, high))
    if len(before) != len(after) or len(before) < FEWEST:
        return ""
    falls = after.astype(np.float64) - before
    if falls.mean() <= 2 * metrics.standard_error_of_mean(falls):
        return ""
    first, last = part.severity.min(), part.severity.max()
    return f"error falls from {1 - before.mean():.1%} at severity {first} to {1 - after.mean():.1%} at {last}"


def _corruption_errors(
    predictions: Predictions, errors: Mapping[str, list[float]], reference: Mapping[str, list[float]] | None
) -> list[Measurement]:
    """CE of each corruption and their mean, with standard errors over pictures."""
    wrong = (~predictions.correct).astype(np.float64)
    rows = []
    for name, values in errors.items():
        mask = predictions.condition == name
        if reference is not None:
            wrong[mask] /= np.mean(reference[name])  # so that the mean of `wrong` is CE, and that over all is mCE
        rows.append(
            Measurement(
                metric="ce",
                value=metrics.corruption_error(values, None if reference is None else reference[name]),
                n=int(mask.sum()),
                condition=name,
                standard_error=metrics.standard_error_by_picture(wrong[mask], predictions.index[mask]),
                note=falling_error(predictions.select(mask)),
            )
        )
    return [
        *rows,
        Measurement(
            metric="mce",
            value=metrics.mean_corruption_error(errors, reference),
            n=len(predictions),
            standard_error=metrics.standard_error_by_picture(wrong, predictions.index),
        ),
    ]


def in_known_order(names: tuple[str, ...], known: tuple[str, ...], kind: str = "corruption") -> tuple[str, ...]:
    """The names in the order in which they are known, each once, so that equal settings are equal.

    Raises:
        UnknownNameError: one is not known.
    """
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    return tuple(name for name in known if name in names)


def valid_severities(severities: tuple[int, ...]) -> tuple[int, ...]:
    """The severities in order, each once; raises ValueError if one is not in 1..5."""
    if bad := [severity for severity in severities if severity not in SEVERITIES]:
        raise ValueError(f"severity must be in 1..5, got {bad[0]}")
    return tuple(sorted(set(severities)))


def notes_of(names: Sequence[str] | None, exclude: Sequence[str], files: object) -> tuple[str, ...]:
    """What is left out of all, or what alone is measured; and whether files that were published are read."""
    left_out = (f"without {', '.join(exclude)}",) if exclude else ()
    if names is not None:
        left_out = (f"only {', '.join(name for name in names if name not in exclude)}",)
    return (*left_out, *(("the published files",) if files else ()))


def files_identity(files: object) -> str | None:
    """What `identity` says of a folder of published files: that there is one, not where."""
    return None if files is None else "official"
