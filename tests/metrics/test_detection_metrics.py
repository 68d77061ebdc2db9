"""Detection: hand-worked numbers, and second implementations: plain loops over pairs and thresholds, simulation."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics import aupr, auroc, auroc_standard_error, fpr_at_recall

Metric = Callable[[NDArray[np.float64], NDArray[np.bool_]], float]


def sample(num_in: int, num_ood: int, seed: int, decimals: int = 1) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Overlapping normal scores, rounded so that there are ties, shuffled."""
    generator = np.random.default_rng(seed)
    scores = np.concatenate([generator.normal(0, 1, num_in), generator.normal(1, 1, num_ood)]).round(decimals)
    order = generator.permutation(num_in + num_ood)
    return scores[order], (np.arange(num_in + num_ood) >= num_in)[order]


def pairs_in_order(scores: NDArray[np.float64], is_ood: NDArray[np.bool_]) -> float:
    wins = [float(a > b) + 0.5 * float(a == b) for a in scores[is_ood] for b in scores[~is_ood]]
    return float(np.mean(wins))


def precision_at_each_recall_step(scores: NDArray[np.float64], is_ood: NDArray[np.bool_]) -> float:
    total, reached = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        recall = float(is_ood[flagged].sum() / is_ood.sum())
        total += (recall - reached) * float(is_ood[flagged].mean())
        reached = recall
    return total


def lowest_threshold_closest_to_recall(scores: NDArray[np.float64], is_ood: NDArray[np.bool_]) -> float:
    """Descending recall from the first threshold that reaches 1, first minimum: the order of the papers' code."""
    curve: list[tuple[int, float]] = []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        curve.append((int(is_ood[flagged].sum()), float((flagged & ~is_ood).sum() / (~is_ood).sum())))
        if curve[-1][0] == is_ood.sum():
            break
    return min(reversed(curve), key=lambda point: abs(point[0] / is_ood.sum() - 0.95))[1]


@pytest.mark.parametrize(
    ("metric", "second"),
    [
        (auroc, pairs_in_order),
        (auroc, lambda scores, is_ood: float(roc_auc_score(is_ood, scores))),
        (aupr, precision_at_each_recall_step),
        (aupr, lambda scores, is_ood: float(average_precision_score(is_ood, scores))),
        (fpr_at_recall, lowest_threshold_closest_to_recall),
    ],
)
@pytest.mark.parametrize(("num_in", "num_ood"), [(100, 20), (50, 10), (30, 30), (200, 7), (3, 50), (1, 1)])
@pytest.mark.parametrize("decimals", [1, 8])
def test_metrics_agree_with_a_second_implementation(
    metric: Metric, second: Metric, num_in: int, num_ood: int, decimals: int
) -> None:
    scores, is_ood = sample(num_in, num_ood, seed=num_in, decimals=decimals)
    assert metric(scores, is_ood) == pytest.approx(second(scores, is_ood))


@pytest.mark.parametrize(("metric", "perfect", "reversed_"), [(auroc, 1.0, 0.0), (fpr_at_recall, 0.0, 1.0)])
def test_a_higher_score_means_a_stranger_picture(metric: Metric, perfect: float, reversed_: float) -> None:
    scores, is_ood = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    assert metric(scores, is_ood) == perfect
    assert metric(-scores, is_ood) == reversed_


def test_equal_scores_tell_nothing_by_hand() -> None:
    scores, is_ood = np.zeros(6), np.array([True, False, False, False, False, False])
    assert auroc(scores, is_ood) == 0.5
    assert aupr(scores, is_ood) == pytest.approx(1 / 6)  # the share of strange pictures
    assert fpr_at_recall(scores, is_ood) == 1.0  # ties are flagged together


def test_the_threshold_is_the_closest_one_not_the_first_above_by_hand() -> None:
    # 16 strange: 15 hits are .0125 from .95, 16 are .05 away; only the last one lies below the ordinary ones
    scores = np.concatenate([np.arange(100, 115), [1.0], [50.0, 60.0]])
    is_ood = np.arange(18) < 16
    # of the thresholds with 15 hits (102, ..., 60, 50) the lowest counts, as in the papers' code: both are flagged
    assert fpr_at_recall(scores, is_ood) == 1.0
    assert fpr_at_recall(scores[:17], is_ood[:17]) == 1.0
    assert fpr_at_recall(np.where(is_ood, scores, 0.5), is_ood) == 0.0


def by_the_papers_code(scores: NDArray[np.float64], is_ood: NDArray[np.bool_], level: float = 0.95) -> float:
    """`fpr_and_fdr_at_recall` of the Outlier Exposure code, in other words."""
    order = np.argsort(scores, kind="mergesort")[::-1]
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    hits = np.cumsum(is_ood[order], dtype=np.float64)[ends]
    alarms = 1 + ends - hits
    backwards = slice(hits.searchsorted(hits[-1]), None, -1)
    recall = np.r_[(hits / hits[-1])[backwards], 1]
    return float(np.r_[alarms[backwards], 0][np.argmin(np.abs(recall - level))] / (~is_ood).sum())


@pytest.mark.parametrize("num_ood", range(10, 2020, 40))
def test_two_equally_close_recalls_are_told_apart_as_in_the_papers_code(num_ood: int) -> None:
    # 10, 30, 50, ... strange pictures have two thresholds .95 lies between, and float64 decides
    scores, is_ood = sample(60, num_ood, seed=num_ood)
    assert fpr_at_recall(scores, is_ood) == by_the_papers_code(scores, is_ood)


def test_of_two_equally_close_recalls_that_of_the_papers_code_counts_by_hand() -> None:
    # 10 strange: 9 and 10 hits are both .05 from .95, but .95 - .9 is 7e-17 less than .05 in float64, 1 - .95 is more
    scores = np.array([*range(20, 11, -1), 5.0, 5.0, 1.0])
    assert fpr_at_recall(scores, np.arange(12) < 10) == 0.0


def test_another_recall_moves_the_threshold_by_hand() -> None:
    scores, is_ood = [4.0, 3.0, 2.0, 1.0], [True, False, True, False]
    assert fpr_at_recall(scores, is_ood, recall=0.5) == 0.5
    assert fpr_at_recall(scores, is_ood, recall=1) == 0.5


@pytest.mark.parametrize("decimals", [1, 8])
def test_the_standard_error_is_that_of_every_pair_compared(decimals: int) -> None:
    # DeLong's definition, pair by pair
    scores, is_ood = sample(30, 20, seed=7, decimals=decimals)
    strange, ordinary = scores[is_ood][:, None], scores[~is_ood][None]
    wins = (strange > ordinary) + (strange == ordinary) / 2
    variance = wins.mean(axis=1).var(ddof=1) / len(strange) + wins.mean(axis=0).var(ddof=1) / ordinary.size
    assert auroc_standard_error(scores, is_ood) == pytest.approx(variance**0.5)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_the_standard_error_is_the_spread_over_draws(shift: float) -> None:
    # simulation with normal scores, for which Hanley and McNeil's formula of exponential ones is too large
    generator = np.random.default_rng(11)
    is_ood = np.arange(250) < 50
    areas, errors = [], []
    for _ in range(400):
        scores = generator.normal(size=250) + shift * is_ood
        areas.append(auroc(scores, is_ood))
        errors.append(auroc_standard_error(scores, is_ood))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.1)


def test_a_perfect_area_has_no_error() -> None:
    assert auroc_standard_error([3.0, 4.0, 1.0, 2.0], [True, True, False, False]) == 0


@pytest.mark.parametrize("metric", [auroc, aupr, fpr_at_recall])
@pytest.mark.parametrize(
    ("scores", "is_ood", "message"),
    [
        ([], [], r"scores must have shape \(N,\)"),
        ([0.1, 0.2], [True], "lengths differ: scores 2, is_ood 1"),
        ([0.1, np.inf], [True, False], "scores must be finite, got inf at index 1"),
        ([0.1, 0.2], [True, True], "both true and false, got 2 true of 2"),
        ([0.1, 0.2], [0, -1], "is_ood must be 0 or 1, got -1 at index 1"),
    ],
)
def test_wrong_inputs_are_named(metric: Metric, scores: list[float], is_ood: list[bool], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        metric(np.array(scores), np.array(is_ood))


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(RequestError, match=r"recall must be in \(0, 1\], got 95"):
        fpr_at_recall([0.1, 0.2], [False, True], recall=95)
    with pytest.raises(RequestError, match="at least 2 pictures of each kind, got 1"):
        auroc_standard_error([0.1, 0.2, 0.3], [True, False, False])


@pytest.mark.parametrize("metric", [auroc, aupr, fpr_at_recall])
def test_inputs_are_not_changed(metric: Metric) -> None:
    scores, is_ood = sample(20, 20, seed=5)
    before = scores.copy(), is_ood.copy()
    metric(scores, is_ood)
    assert np.array_equal(scores, before[0])
    assert np.array_equal(is_ood, before[1])
