"""Pure functions from arrays to numbers, each with its definition, its source and an example worked by hand.

Fractions come out, never percent; `UNITS` names the metrics that are none. `DIRECTIONS` is the one place that says
which direction is better. A benchmark of somebody's declares metrics of its own, and both then hold them too.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics.calibration import (
    BIN_SIZE,
    aurra,
    brier_score,
    mean_absolute_calibration_error,
    mean_absolute_calibration_error_without_last_bin,
    negative_log_likelihood,
    rms_calibration_error,
    rms_calibration_error_without_last_bin,
    soft_f1,
)
from pixmix_ray.metrics.consistency import flip_rate, mean_over_perturbations, top5_distance, zipf_distances
from pixmix_ray.metrics.detection import aupr, auroc, auroc_standard_error, fpr_at_recall
from pixmix_ray.metrics.errors import (
    ALEXNET_ERRORS,
    corruption_error,
    error,
    mean_corruption_error,
    standard_error_by_picture,
    standard_error_of_mean,
)
from pixmix_ray.metrics.predictions import NO_EXTRAS, NO_METRICS, Direction, Extra, Measurement, Metric, Predictions

# of anomaly scores other than the maximum softmax probability, and standard deviations over draws of strange pictures
_AREAS: dict[str, Direction] = {"auroc": "higher", "aupr": "higher", "fpr95": "lower"}
_OF_OTHER_SCORES = {f"{name}_{score}": better for score in ("max_logit", "energy") for name, better in _AREAS.items()}
_SPREADS: dict[str, Direction] = {f"{name}_std": "lower" for name in (*_AREAS, *_OF_OTHER_SCORES)}

_OURS: Mapping[str, Direction] = MappingProxyType(
    {
        "error": "lower",
        "ce": "lower",  # error of one corruption over its severities
        "mce": "lower",  # mean of ce over the corruptions
        "rms_calibration_error": "lower",
        "rms_calibration_error_without_last_bin": "lower",
        "rms_calibration_error_by_severity": "lower",  # mean over every corruption at every severity
        "rms_calibration_error_by_severity_without_last_bin": "lower",
        "mean_absolute_calibration_error": "lower",
        "mean_absolute_calibration_error_without_last_bin": "lower",
        "soft_f1": "higher",
        "aurra": "higher",
        "negative_log_likelihood": "lower",
        "brier_score": "lower",
        **_AREAS,  # fpr95 is fpr_at_recall at .95
        **_OF_OTHER_SCORES,
        **_SPREADS,
        "flip_rate": "lower",  # flip probability of one perturbation, Hendrycks & Dietterich (ICLR 2019), section 4
        "mfr": "lower",  # mean of flip_rate over the perturbations
        "top5_distance": "lower",  # of one perturbation
        "mt5d": "lower",  # mean of top5_distance over the perturbations
        "zipf_distance": "lower",  # of one perturbation, all ranks counting
        "mean_zipf_distance": "lower",
        # on ImageNet flip_rate, mfr, top5_distance and mt5d are divided by AlexNet's; these are not
        "flip_rate_unnormalised": "lower",
        "mfr_unnormalised": "lower",
        "top5_distance_unnormalised": "lower",
        "mt5d_unnormalised": "lower",
    }
)
_OUR_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "negative_log_likelihood": "nat",
        "top5_distance": "ranks",
        "mt5d": "ranks",
        "top5_distance_unnormalised": "ranks",
        "mt5d_unnormalised": "ranks",
        "zipf_distance": "1/rank",
        "mean_zipf_distance": "1/rank",
    }
)
_directions, _units = dict(_OURS), dict(_OUR_UNITS)

DIRECTIONS: Mapping[str, Direction] = MappingProxyType(_directions)
"""For each metric that a benchmark may report: whether a lower or a higher value is better."""

UNITS: Mapping[str, str] = MappingProxyType(_units)
"""The metrics that are no fraction, so that percent of them mean nothing, and what they are counted in."""


def declare(metrics: Mapping[str, Metric]) -> None:
    """Put metrics of somebody's benchmark into `DIRECTIONS` and `UNITS`; the last declaration of a name holds.

    Raises:
        RequestError: one has the name of a metric of ours, and another direction or unit.
    """
    for name, metric in metrics.items():
        ours = (_OURS.get(name), _OUR_UNITS.get(name, ""))
        if name in _OURS and ours != (metric.direction, metric.unit):
            unit = ours[1] or "a fraction"
            raise RequestError(
                f"metrics declares {name!r} as {metric.direction} is better, unit {metric.unit or 'a fraction'!r}, but "
                f"pixmix_ray has a metric of this name ({ours[0]} is better, {unit}): choose another name"
            )
        _directions[name] = metric.direction
        if metric.unit:
            _units[name] = metric.unit
        elif name not in _OURS:
            _units.pop(name, None)


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
    "NO_EXTRAS",
    "NO_METRICS",
    "UNITS",
    "Direction",
    "Extra",
    "Measurement",
    "Metric",
    "Predictions",
    "aupr",
    "auroc",
    "auroc_standard_error",
    "aurra",
    "brier_score",
    "corruption_error",
    "declare",
    "direction",
    "error",
    "flip_rate",
    "fpr_at_recall",
    "mean_absolute_calibration_error",
    "mean_absolute_calibration_error_without_last_bin",
    "mean_corruption_error",
    "mean_over_perturbations",
    "negative_log_likelihood",
    "rms_calibration_error",
    "rms_calibration_error_without_last_bin",
    "soft_f1",
    "standard_error_by_picture",
    "standard_error_of_mean",
    "top5_distance",
    "zipf_distances",
]
