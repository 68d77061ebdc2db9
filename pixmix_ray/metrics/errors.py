"""Classification error, mean corruption error, and the standard error of a mean.

Definition of the corruption error: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations" (ICLR 2019), section 4: CE_c = sum_s E(s, c) / sum_s E_AlexNet(s, c) over the severities
s, and mCE is its mean over the corruptions c. On CIFAR, AugMix and PixMix (section 3.1) report the plain mean of E
instead; so do we, where no normalisers are given. The normalisers are those of hendrycks/robustness, issue 10
(torchvision's AlexNet).
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics.arrays import check_same_length, classes, fractions, numbers

ALEXNET_ERRORS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
        "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
        "impulse_noise": (0.78374, 0.89808, 0.94870, 0.98720, 0.99548),
        "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
        "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
        "motion_blur": (0.58430, 0.70048, 0.82108, 0.89750, 0.92638),
        "zoom_blur": (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
        "snow": (0.71726, 0.88392, 0.86468, 0.91870, 0.94952),
        "frost": (0.61390, 0.79734, 0.88790, 0.89942, 0.93430),
        "fog": (0.67474, 0.76050, 0.84378, 0.87260, 0.94500),
        "brightness": (0.45140, 0.48502, 0.54048, 0.62166, 0.72440),
        "contrast": (0.64548, 0.76150, 0.88874, 0.97760, 0.99270),
        "elastic_transform": (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
        "pixelate": (0.52218, 0.54620, 0.73728, 0.87092, 0.91262),
        "jpeg_compression": (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
    }
)
"""AlexNet's top-1 error (a fraction) on ImageNet-C at severities 1 to 5: the normalisers for the 15 corruptions."""


def error(predicted: ArrayLike, label: ArrayLike) -> float:
    """The share of wrong predictions, in [0, 1]; lower is better.

    By hand: one of four is wrong.

    >>> error([3, 1, 0, 2], [3, 1, 1, 2])
    0.25

    Args:
        predicted: (N,) predicted classes, integers.
        label: (N,) true classes, integers.

    Raises:
        RequestError: empty, lengths differ, or not integers.
    """
    guesses, truth = classes("predicted", predicted), classes("label", label)
    check_same_length(predicted=guesses, label=truth)
    return float(np.mean(guesses != truth))


def corruption_error(errors: ArrayLike, normaliser: ArrayLike | None = None) -> float:
    """The error of one corruption over its severities (CE); lower is better.

    A fraction in [0, 1] without `normaliser`; with it, a fraction of AlexNet's error that may exceed 1. By hand: errors
    .2 and .4 have mean .3; beside a network that makes .5 and .7 they are .6 / 1.2 = .5.

    >>> [round(corruption_error([0.2, 0.4], normaliser), 6) for normaliser in (None, [0.5, 0.7])]
    [0.3, 0.5]

    Args:
        errors: (S,) error at each severity, in [0, 1].
        normaliser: (S,) error of the reference network at the same severities, such as a row of `ALEXNET_ERRORS`.

    Raises:
        RequestError: empty, lengths differ, outside [0, 1], or a normaliser that is 0 throughout.
    """
    measured = fractions("errors", errors)
    if normaliser is None:
        return math.fsum(measured) / len(measured)
    reference = fractions("normaliser", normaliser)
    check_same_length(errors=measured, normaliser=reference)
    if not reference.any():
        raise RequestError("normaliser must not be 0 at every severity: give the errors of a network that makes some")
    return math.fsum(measured) / math.fsum(reference)


def mean_corruption_error(errors: Mapping[str, ArrayLike], normalisers: Mapping[str, ArrayLike] | None = None) -> float:
    """The mean of the corruption errors (mCE); lower is better.

    CIFAR: no normalisers, a fraction in [0, 1]. ImageNet: `normalisers=ALEXNET_ERRORS`, a fraction of AlexNet's error.
    The mean is over the corruptions given, each weighing the same; whether they are all 15 is the caller's business.
    By hand: fog has mean .3, snow .5, so .4.

    >>> round(mean_corruption_error({"fog": [0.2, 0.4], "snow": [0.4, 0.6]}), 6)
    0.4
    >>> mean_corruption_error(ALEXNET_ERRORS, ALEXNET_ERRORS)
    1.0

    Args:
        errors: for each corruption, (S,) errors over the severities, in [0, 1].
        normalisers: for each corruption, (S,) errors of the reference network; those not in `errors` are not used.

    Raises:
        UnknownNameError: a corruption has no normaliser.
        RequestError: no corruptions, or as `corruption_error`.
    """
    if not errors:
        raise RequestError("errors must name at least one corruption, got none: give {corruption: errors by severity}")
    for name in errors:
        if normalisers is not None and name not in normalisers:
            raise UnknownNameError("corruption among the normalisers", name, normalisers)
    rows = [corruption_error(row, None if normalisers is None else normalisers[name]) for name, row in errors.items()]
    return math.fsum(rows) / len(rows)  # exact, so that the order of the corruptions changes nothing


def standard_error_by_picture(values: ArrayLike, picture: ArrayLike) -> float | None:
    """The standard error of a mean over draws of pictures that may each appear several times; None for one picture.

    The appearances of a picture (under several severities, say) are not independent, so they are averaged first and the
    standard error is that of the mean of these averages. Meant for pictures that appear equally often. By hand:
    pictures 7, 8 and 9 have means 0, 1/2 and 1, with variance 1/4, so sqrt(1 / 12).

    >>> round(standard_error_by_picture([0, 0, 1, 0, 1, 1], [7, 7, 8, 8, 9, 9]), 4)
    0.2887

    Args:
        values: (N,) numbers, such as whether each prediction is wrong.
        picture: (N,) integers that say which picture each belongs to, in any order.

    Raises:
        RequestError: empty, lengths differ, not finite, or `picture` not integers.
    """
    sample, owner = numbers("values", values), classes("picture", picture)
    check_same_length(values=sample, picture=owner)
    _, position = np.unique(owner, return_inverse=True)
    means = np.bincount(position, weights=sample) / np.bincount(position)
    return standard_error_of_mean(means) if len(means) > 1 else None


def standard_error_of_mean(values: ArrayLike) -> float:
    """The standard error of the mean of independent values: their standard deviation (n - 1) over sqrt(n).

    By hand: 1, 2, 3 have variance 1, so sqrt(1 / 3).

    >>> round(standard_error_of_mean([1, 2, 3]), 4)
    0.5774

    Args:
        values: (n,) numbers, n >= 2, such as one value a seed or one 0 or 1 a picture.

    Raises:
        RequestError: fewer than two values, or not finite.
    """
    sample = numbers("values", values)
    if len(sample) < 2:
        raise RequestError("standard_error_of_mean needs at least 2 values, got 1: one value shows no spread")
    return float(sample.std(ddof=1) / np.sqrt(len(sample)))
