"""Clean error and calibration on the unchanged test pictures (paper §3.1 and Tables 6 to 9)."""

from typing import ClassVar

import torch
from torch import nn

from pixmix_ray import metrics
from pixmix_ray.benchmarks.base import Benchmark, Measurement, Predictions, TestPictures, classify


class Clean(Benchmark):
    """The test set as it is."""

    summary: ClassVar[str] = "error and calibration on the unchanged test pictures"
    source: ClassVar[str] = "PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("error", "rms_calibration_error")

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over the test pictures."""
        return classify(network, test, device)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """Error and RMS calibration error."""
        return [error_of(predictions), *calibration_of(predictions)]


def error_of(
    predictions: Predictions, metric: str = "error", condition: str = "", severity: int | None = None
) -> Measurement:
    """The share of wrong predictions, with its standard error over pictures.

    A picture may appear several times (under several severities, say): its appearances are averaged before the
    standard error is taken, since they are not independent.
    """
    wrong = ~predictions.correct
    return Measurement(
        metric=metric,
        value=metrics.error(predictions.predicted, predictions.label),
        n=len(predictions),
        condition=condition,
        severity=severity,
        standard_error=metrics.standard_error_by_picture(wrong, predictions.index),
    )


def calibration_of(predictions: Predictions, condition: str = "", severity: int | None = None) -> list[Measurement]:
    """RMS calibration error over all bins, and as the official code has it, without the last bin."""
    variants = {
        "rms_calibration_error": metrics.rms_calibration_error,
        "rms_calibration_error_without_last_bin": metrics.rms_calibration_error_without_last_bin,
    }
    return [
        Measurement(
            metric=name,
            value=function(predictions.confidence, predictions.correct),
            n=len(predictions),
            condition=condition,
            severity=severity,
        )
        for name, function in variants.items()
        if name == "rms_calibration_error" or len(predictions) >= metrics.BIN_SIZE
    ]
