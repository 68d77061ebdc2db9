"""Flip rate, top-5 and Zipf distance: against plain loops in the words of the definition, and worked by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics.consistency import (
    compared_frames,
    flip_rate,
    flips,
    mean_over_perturbations,
    top5_distance,
    top5_distances,
    zipf_distances,
)


def _draws(key: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key))


def _rankings(sequences: int, frames: int, classes: int) -> NDArray[np.int64]:
    """(N, T, K) classes, the best first; neighbours are alike but not equal."""
    scores = np.cumsum(_draws().normal(size=(sequences, frames, classes)), axis=1)
    return np.argsort(-scores, axis=2)


def _pairs(frames: int, against_first: bool, stride: int) -> list[tuple[int, int]]:
    """The pairs of the definition: for each phase, neighbours of every `stride`th frame; or all to the first."""
    if against_first:
        return [(0, frame) for frame in range(1, frames)]
    phases = [list(range(phase, frames, stride)) for phase in range(stride)]
    return [(phase[i], phase[i + 1]) for phase in phases for i in range(len(phase) - 1)]


def _double_sum(before: NDArray[np.int64], after: NDArray[np.int64]) -> int:
    """The paper's top-5 distance: over i to 5, over j between the ranks, 1 where 1 <= j - 1 <= 5."""
    total = 0
    for i in range(1, 6):
        rank = after.tolist().index(before[i - 1]) + 1
        total += sum(1 <= j - 1 <= 5 for j in range(min(i, rank) + 1, max(i, rank) + 1))
    return total


RULES = [(False, 1), (False, 2), (False, 3), (True, 1), (True, 3)]
rules = pytest.mark.parametrize(("against_first", "stride"), RULES)


@rules
def test_the_compared_frames_are_those_of_the_definition(against_first: bool, stride: int) -> None:
    first, second = compared_frames(11, against_first=against_first, stride=stride)
    found = sorted(zip(first.tolist(), second.tolist(), strict=True))
    assert found == sorted(_pairs(11, against_first, stride))


@rules
def test_flip_rate_is_the_mean_over_pairs_then_sequences(against_first: bool, stride: int) -> None:
    predicted = _rankings(20, 11, 10)[:, :, 0]
    shares = [np.mean([row[a] != row[b] for a, b in _pairs(11, against_first, stride)]) for row in predicted]
    found = flips(predicted, against_first=against_first, stride=stride)
    assert found == pytest.approx(shares)
    assert flip_rate(predicted, against_first=against_first, stride=stride) == pytest.approx(np.mean(shares))


@rules
def test_top5_distance_is_the_papers_double_sum(against_first: bool, stride: int) -> None:
    ranking = _rankings(20, 11, 10)
    distances = [
        np.mean([_double_sum(row[a], row[b]) for a, b in _pairs(11, against_first, stride)]) for row in ranking
    ]
    found = top5_distances(ranking[:, :, :5], against_first=against_first, stride=stride)
    assert found == pytest.approx(distances)
    assert top5_distance(ranking[:, :, :5], against_first=against_first, stride=stride) == pytest.approx(
        np.mean(distances)
    )


@pytest.mark.parametrize(
    ("before", "after", "distance"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], 0),
        ([0, 1, 2, 3, 4], [1, 0, 2, 3, 4], 2),
        ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], 15),  # 5 + 4 + 3 + 2 + 1
        ([0, 1, 2, 3, 4], [3, 4, 9, 8, 7], 18),  # 5 + 4 + 3, then 3 up from 4th and from 5th: the largest there is
    ],
)
def test_top5_distances_by_hand(before: list[int], after: list[int], distance: int) -> None:
    assert top5_distance([[before, after]], against_first=False) == distance


def test_zipf_distance_is_the_sum_over_all_ranks() -> None:
    # ranks by scipy, as in the reference code: ties in the order of the classes
    scores = _draws(3).integers(0, 6, (30, 2, 10))
    ranks = np.array([[rankdata(-frame, method="ordinal") for frame in pair] for pair in scores])
    expected = []
    for before, after in ranks:
        inverse = np.argsort(before)  # the class at each rank
        expected.append(sum(abs(1 / i - 1 / after[inverse[i - 1]]) / i for i in range(1, 11)))
    ranking = np.argsort(-scores, axis=2, kind="stable")
    assert zipf_distances(ranking[:, 0], ranking[:, 1]) == pytest.approx(expected)


def test_means_over_perturbations_are_plain_or_of_ratios() -> None:
    rates = {"tilt": 0.1, "snow": 0.3, "scale": 0.2}
    assert mean_over_perturbations(rates) == pytest.approx(0.2)
    by_alexnet = {"tilt": 0.2, "snow": 0.6, "scale": 0.1, "rotate": 0.5}
    assert mean_over_perturbations(rates, by_alexnet) == pytest.approx((0.5 + 0.5 + 2) / 3)
    assert mean_over_perturbations(by_alexnet, by_alexnet) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flip_rate([1, 2], against_first=False), r"\(N, T\)"),
        (lambda: flip_rate(np.zeros((0, 3), int), against_first=False), "not empty"),
        (lambda: flip_rate([[0.5, 1.0]], against_first=False), "integers"),
        (lambda: flip_rate([[1]], against_first=True), "more frames"),
        (lambda: flip_rate([[1, 2]], against_first=False, stride=2), "got 2 and 2"),
        (lambda: flip_rate([[1, 2]], against_first=False, stride=0), "got 2 and 0"),
        (lambda: top5_distance(np.zeros((2, 3, 4), int), against_first=False), r"\(N, T, 5\)"),
        (lambda: zipf_distances([[0, 1]], [[0, 1, 2]]), "same pairs"),
        (lambda: mean_over_perturbations({}), "values"),
        (lambda: mean_over_perturbations({"tilt": 0.1}, {"tilt": 0.0}), "above 0"),
    ],
)
def test_what_is_no_sequence_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_perturbation_without_a_normaliser_is_named() -> None:
    with pytest.raises(UnknownNameError, match="'tild', did you mean 'tilt'"):
        mean_over_perturbations({"tild": 0.1}, {"tilt": 0.1})


def test_inputs_are_left_alone() -> None:
    ranking = _rankings(4, 5, 10)
    before = ranking.copy()
    flip_rate(ranking[:, :, 0], against_first=False)
    top5_distance(ranking[:, :, :5], against_first=True)
    zipf_distances(ranking[:, 0], ranking[:, 1])
    assert np.array_equal(ranking, before)


@pytest.mark.parametrize("row", [[0, 1, 5], [0, 0, 1], [-1, 0, 1], [2, 2, 2]])
def test_a_row_that_is_no_ranking_is_refused(row: list[int]) -> None:
    for pair in (([row], [[0, 1, 2]]), ([[0, 1, 2]], [row])):
        with pytest.raises(RequestError, match=r"must hold each class from 0 to 2 once a row, got \["):
            zipf_distances(*pair)
