"""Effects of pictures: beside numerical derivatives of weighted metrics, and the metrics themselves."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pixmix_ray import metrics
from pixmix_ray.analysis.influence import (
    RowEffects,
    aupr_effects,
    auroc_effects,
    calibration_effects,
    mean_effects,
    soft_f1_effects,
)

N, SMALL = 60, 1e-6
Floats = NDArray[np.float64]


def sample(seed: int = 0) -> tuple[Floats, NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.1, 1, N).round(2)  # with ties
    return confidence, generator.uniform(size=N) < confidence


def weighted_calibration(weights: Floats, *, is_squared: bool, has_last_bin: bool) -> float:
    """The definition with weights, a loop over the bins of the sample."""
    confidence, correct = sample()
    order = np.argsort(confidence, kind="stable")
    starts = range(0, N - N % 7 - 7 + 1, 7)
    total, last = 0.0, len(starts) - 1
    for number, start in enumerate(starts):
        rows = order[start:] if number == last else order[start : start + 7]
        size = weights[rows].sum()
        gap = (weights[rows] * (confidence[rows] - correct[rows])).sum() / size
        if number < last or has_last_bin:
            total += size / weights.sum() * (gap**2 if is_squared else abs(gap))
    return float(np.sqrt(total) if is_squared else total)


CALIBRATION = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize(("is_squared", "has_last_bin"), CALIBRATION)
def test_effects_on_calibration_are_derivatives(is_squared: bool, has_last_bin: bool) -> None:
    found = calibration_effects(*sample(), is_squared=is_squared, has_last_bin=has_last_bin, bin_size=7)
    check(found, lambda weights: weighted_calibration(weights, is_squared=is_squared, has_last_bin=has_last_bin))


def test_effects_on_means_and_soft_f1_are_derivatives() -> None:
    confidence, correct = sample()
    check(mean_effects(correct), lambda weights: float(np.average(correct, weights=weights)))

    def soft_f1(weights: Floats) -> float:
        doubt, wrong = 1 - confidence, ~correct
        return float(2 * (weights * doubt)[wrong].sum() / (weights * (doubt + wrong)).sum())

    check(soft_f1_effects(confidence, correct), soft_f1)


def check(found: RowEffects, weighted: Callable[[Floats], float]) -> None:
    ones = np.ones(N)
    assert found.value == pytest.approx(weighted(ones), abs=1e-12)
    slopes = [(weighted(ones + SMALL * row) - weighted(ones - SMALL * row)) / (2 * SMALL) for row in np.eye(N)]
    assert found.rows == pytest.approx(np.array(slopes), abs=1e-7)
    assert found.rows.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("effects", "weighted"), [(auroc_effects, roc_auc_score), (aupr_effects, average_precision_score)]
)
def test_effects_on_detection_are_derivatives_of_scikit_learns(
    effects: Callable[..., object], weighted: Callable[..., float]
) -> None:
    generator = np.random.default_rng(1)
    inside, outside = generator.normal(0, 1, 40).round(1), generator.normal(1, 1, 20).round(1)
    found = (auroc_effects if effects is auroc_effects else aupr_effects)(inside, outside)
    scores, labels = np.concatenate([inside, outside]), np.arange(60) >= 40

    def value(weights: Floats) -> float:
        return float(weighted(labels, scores, sample_weight=weights))

    slopes = [(value(np.ones(N) + SMALL * row) - value(np.ones(N) - SMALL * row)) / (2 * SMALL) for row in np.eye(N)]
    assert found.value == pytest.approx(value(np.ones(N)), abs=1e-12)
    # of either kind there are as many as there are: what all of a kind have in common does not count
    expected = [part - part.mean() for part in (np.array(slopes[:40]), np.array(slopes[40:]))]
    assert found.inside == pytest.approx(expected[0], abs=1e-7)
    assert found.outside == pytest.approx(expected[1], abs=1e-7)


def test_the_values_are_those_of_the_metrics() -> None:
    generator = np.random.default_rng(2)
    confidence = generator.uniform(0.1, 1, 950).astype(np.float32)
    correct = generator.uniform(size=950) < confidence
    for (is_squared, has_last_bin), metric in zip(
        CALIBRATION,
        (
            metrics.rms_calibration_error,
            metrics.rms_calibration_error_without_last_bin,
            metrics.mean_absolute_calibration_error,
            metrics.mean_absolute_calibration_error_without_last_bin,
        ),
        strict=True,
    ):
        found = calibration_effects(confidence, correct, is_squared=is_squared, has_last_bin=has_last_bin)
        assert found.value == pytest.approx(metric(confidence, correct), abs=1e-12)
    assert soft_f1_effects(confidence, correct).value == pytest.approx(metrics.soft_f1(confidence, correct), abs=1e-12)
