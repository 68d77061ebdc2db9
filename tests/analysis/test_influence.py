"""Effects of pictures: beside numerical derivatives of weighted metrics, and the metrics themselves."""

import itertools
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
    aurra_effects,
    calibration_effects,
    fpr_effects,
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


def weighted_aurra(confidence: Floats, correct: NDArray[np.bool_], weights: Floats) -> float:
    """The definition with weights: mean over all orders of equal confidences, of which there are few."""
    values = []
    places = [np.flatnonzero(confidence == level).tolist() for level in sorted(set(confidence.tolist()), reverse=True)]
    for orders in itertools.product(*map(itertools.permutations, places)):
        rows = list(itertools.chain.from_iterable(orders))
        w, right = weights[rows], correct[rows]
        values.append(float((w * np.cumsum(w * right) / np.cumsum(w)).sum() / w.sum()))
    return float(np.mean(values))


@pytest.mark.parametrize(
    "confidence",
    [[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.9, 0.9, 0.7, 0.7, 0.7, 0.4], [0.5] * 6],
    ids=["none", "some", "all"],
)
def test_effects_on_aurra_are_derivatives_also_of_equal_confidences(confidence: list[float]) -> None:
    sample, correct = np.array(confidence), np.array([True, False, True, True, False, False])
    found = aurra_effects(sample, correct)
    assert found.value == pytest.approx(metrics.aurra(sample, correct), abs=1e-12)
    slopes = [
        (weighted_aurra(sample, correct, 1 + SMALL * row) - weighted_aurra(sample, correct, 1 - SMALL * row))
        / 2
        / SMALL
        for row in np.eye(6)
    ]
    assert found.rows == pytest.approx(np.array(slopes), abs=1e-7)


def test_the_spread_of_false_alarms_at_a_recall_is_that_of_draws_with_replacement() -> None:
    generator = np.random.default_rng(5)
    inside, outside = generator.normal(0, 1, 3000), generator.normal(2, 1, 1500)
    found = fpr_effects(inside, outside)
    is_ood = np.arange(4500) >= 3000
    assert found.value == metrics.fpr_at_recall(np.concatenate([inside, outside]), is_ood)
    drawn = [
        metrics.fpr_at_recall(np.concatenate([generator.choice(inside, 3000), generator.choice(outside, 1500)]), is_ood)
        for _ in range(400)
    ]
    spread = np.sqrt((found.inside**2).sum() + (found.outside**2).sum())
    assert spread == pytest.approx(np.std(drawn), rel=0.15)
    assert found.inside.sum() == pytest.approx(0, abs=1e-12) == found.outside.sum()
    apart = fpr_effects([0.1, 0.2, 0.3], [0.8, 0.9])  # nothing ordinary is flagged, and nothing moves that
    assert (apart.value, apart.inside.tolist(), apart.outside.tolist()) == (0.0, [0, 0, 0], [0, 0])


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
