"""Pure functions from arrays to numbers, each with its definition, its source and an example worked by hand.

Fractions come out, never percent. `DIRECTIONS` is the one place that says which direction is better.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pixmix_ray.errors import UnknownNameError
from pixmix_ray.metrics.calibration import BIN_SIZE, rms_calibration_error, rms_calibration_error_without_last_bin
from pixmix_ray.metrics.detection import aupr, auroc, auroc_standard_error, fpr_at_recall
from pixmix_ray.metrics.errors import (
    ALEXNET_ERRORS,
    corruption_error,
    error,
    mean_corruption_error,
    standard_error_by_picture,
    standard_error_of_mean,
)

Direction = Literal["lower", "higher"]

DIRECTIONS: Mapping[str, Direction] = MappingProxyType(
    {
        "error": "lower",
        "ce": "lower",  # error of one corruption over its severities
        "mce": "lower",  # mean of ce over the corruptions
        "rms_calibration_error": "lower",
        "rms_calibration_error_without_last_bin": "lower",
        "auroc": "higher",
        "aupr": "higher",
        "fpr95": "lower",  # fpr_at_recall at .95
        "flip_rate": "lower",  # flip probability of one perturbation, Hendrycks & Dietterich (ICLR 2019), section 4
        "mfr": "lower",  # mean of flip_rate over the perturbations
        "mt5d": "lower",  # mean top-5 distance over the perturbations
    }
)
"""For each metric that a benchmark may report: whether a lower or a higher value is better."""


def direction(metric: str) -> Direction:
    """Which direction is better for `metric`.

    >>> direction("auroc")
    'higher'

    Raises:
        UnknownNameError: no such metric; lists those there are.
    """
    if metric not in DIRECTIONS:
        raise UnknownNameError("metric", metric, DIRECTIONS)
    return DIRECTIONS[metric]


__all__ = [
    "ALEXNET_ERRORS",
    "BIN_SIZE",
    "DIRECTIONS",
    "Direction",
    "aupr",
    "auroc",
    "auroc_standard_error",
    "corruption_error",
    "direction",
    "error",
    "fpr_at_recall",
    "mean_corruption_error",
    "rms_calibration_error",
    "rms_calibration_error_without_last_bin",
    "standard_error_by_picture",
    "standard_error_of_mean",
]
