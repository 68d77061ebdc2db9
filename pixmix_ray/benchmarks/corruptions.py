"""Corruption robustness: CIFAR-C and its like, made on the spot (Hendrycks and Dietterich, ICLR 2019; paper §3.1).

One pass over every corruption and severity gives the errors and the calibration of each and of all. On CIFAR the mean
corruption error is the plain mean, not normalised by AlexNet, as in the paper. RMS calibration error is measured on
each corruption with its five severities together and averaged over the corruptions, the way the published CIFAR-C
files are laid out; "pooled" is over all predictions at once.
"""

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from pixmix_ray.benchmarks.base import Benchmark, Measurement, Predictions, TestPictures, classify
from pixmix_ray.benchmarks.clean import calibration_of, error_of
from pixmix_ray.corruptions import NAMES, corrupt
from pixmix_ray.errors import UnknownNameError

SEVERITIES = (1, 2, 3, 4, 5)


class Corruptions(Benchmark):
    """Common corruptions at five severities.

    Attributes:
        names: which corruptions; their number is part of the settings in every row.
        severities: which of 1 to 5.
        seed: of the random corruptions.
    """

    summary: ClassVar[str] = f"{len(NAMES)} of the 15 corruptions of CIFAR-C at five severities"
    source: ClassVar[str] = "Hendrycks and Dietterich, ICLR 2019; PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("mce", "rms_calibration_error")

    names: tuple[str, ...] = Field(NAMES, min_length=1)
    severities: tuple[int, ...] = Field(SEVERITIES, min_length=1)
    seed: int = 0

    @field_validator("names")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in NAMES:
                raise UnknownNameError("corruption", name, NAMES)
        return tuple(name for name in NAMES if name in names)  # one order, so that equal settings are equal

    @field_validator("severities")
    @classmethod
    def _are_in_range(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        if bad := [severity for severity in severities if severity not in SEVERITIES]:
            raise ValueError(f"severity must be in 1..5, got {bad[0]}")
        return tuple(sorted(set(severities)))

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over every corrupted copy of the test pictures."""
        return Predictions.join(
            [
                classify(
                    network,
                    test,
                    device,
                    images=corrupt(test.images, name, severity, self.seed, indices=test.indices),
                    condition=name,
                    severity=severity,
                )
                for name in self.names
                for severity in self.severities
            ]
        )

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Errors and calibration per corruption and severity, per corruption, per severity, and overall."""
        rows: list[Measurement] = []
        per_corruption: list[Measurement] = []
        for name in self.names:
            part = predictions.select(predictions.condition == name)
            for severity in self.severities:
                cell = part.select(part.severity == severity)
                rows += [error_of(cell, condition=name, severity=severity), *calibration_of(cell, name, severity)]
            per_corruption += [error_of(part, "ce", condition=name), *calibration_of(part, name)]
        for severity in self.severities:
            part = predictions.select(predictions.severity == severity)
            rows += [error_of(part, severity=severity), *calibration_of(part, severity=severity)]
        rows += [*per_corruption, *calibration_of(predictions, "pooled"), error_of(predictions, "mce")]
        return [*rows, *_means_over_corruptions(per_corruption, len(predictions))]


def _means_over_corruptions(per_corruption: list[Measurement], n: int) -> list[Measurement]:
    names = dict.fromkeys(row.metric for row in per_corruption if row.metric != "ce")
    return [
        Measurement(metric=name, value=float(np.mean([row.value for row in per_corruption if row.metric == name])), n=n)
        for name in names
    ]
