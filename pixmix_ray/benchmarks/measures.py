"""Measurements that several benchmarks make of predictions: error, calibration, proper scores."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pixmix_ray import metrics
from pixmix_ray.metrics import Measurement, Predictions

OfConfidence = Callable[[NDArray[np.float32], NDArray[np.bool_]], float]
WITHOUT_LAST_BIN = "_without_last_bin"

RMS: Mapping[str, OfConfidence] = MappingProxyType(
    {
        "rms_calibration_error": metrics.rms_calibration_error,
        "rms_calibration_error_without_last_bin": metrics.rms_calibration_error_without_last_bin,
    }
)
"""RMS calibration error over all bins, and as the official code has it, without the last bin."""

RELIABILITY: Mapping[str, OfConfidence] = MappingProxyType(
    {
        "mean_absolute_calibration_error": metrics.mean_absolute_calibration_error,
        "mean_absolute_calibration_error_without_last_bin": metrics.mean_absolute_calibration_error_without_last_bin,
        "soft_f1": metrics.soft_f1,
        "aurra": metrics.aurra,
    }
)
"""The other measures of confidence beside correctness that the official calibration tools have."""


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


def calibration_of(
    predictions: Predictions,
    condition: str = "",
    severity: int | None = None,
    measures: Mapping[str, OfConfidence] = RMS,
) -> list[Measurement]:
    """A row for each of `measures`; those without the last bin from a whole bin of pictures on."""
    return [
        Measurement(
            metric=name,
            value=function(predictions.confidence, predictions.correct),
            n=len(predictions),
            condition=condition,
            severity=severity,
        )
        for name, function in measures.items()
        if not name.endswith(WITHOUT_LAST_BIN) or len(predictions) >= metrics.BIN_SIZE
    ]


def proper_scores_of(predictions: Predictions, condition: str = "", severity: int | None = None) -> list[Measurement]:
    """Negative log-likelihood and Brier score with their standard errors, from the extras PROPER_SCORES."""
    columns = {
        "negative_log_likelihood": ("label_log_probability", metrics.negative_log_likelihood),
        "brier_score": ("squared_error", metrics.brier_score),
    }
    return [
        Measurement(
            metric=name,
            value=function(predictions.extras[column]),
            n=len(predictions),
            condition=condition,
            severity=severity,
            standard_error=metrics.standard_error_by_picture(predictions.extras[column], predictions.index),
        )
        for name, (column, function) in columns.items()
    ]
