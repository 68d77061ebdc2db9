"""Calibration: hand-worked numbers, and a plain loop over the definition as second implementation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.errors import RequestError
from pixmix_ray.metrics import (
    aurra,
    mean_absolute_calibration_error,
    mean_absolute_calibration_error_without_last_bin,
    rms_calibration_error,
    rms_calibration_error_without_last_bin,
    soft_f1,
)

ALL = [
    rms_calibration_error,
    rms_calibration_error_without_last_bin,
    mean_absolute_calibration_error,
    mean_absolute_calibration_error_without_last_bin,
]


def loop_over_bins(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], size: int, *, drop_last: bool, power: int = 2
) -> float:
    """The definition, bin by bin, as in the official code but for dropping the last bin and for ties: their mean."""
    share = {value: correct[confidence == value].mean() for value in set(confidence.tolist())}
    order = sorted(range(len(confidence)), key=lambda i: float(confidence[i]))
    bins = [order[i * size : (i + 1) * size] for i in range(len(order) // size)] or [order]
    if len(order) >= size:
        bins[-1] = order[(len(bins) - 1) * size :]
    total = 0.0
    for members in bins[:-1] if drop_last else bins:
        mean_confidence = sum(float(confidence[i]) for i in members) / len(members)
        gap = mean_confidence - sum(share[float(confidence[i])] for i in members) / len(members)
        total += len(members) / len(order) * abs(gap) ** power
    return float(total ** (1 / power))


def sample(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(seed)
    confidence = np.round(generator.uniform(0.1, 1, count), 2)  # rounded: with ties
    return confidence, generator.uniform(size=count) < confidence**2


def confident_half_is_wrong() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """200 samples: 100 of confidence .5 with half of them right, 100 of confidence 1 that are all wrong."""
    return np.repeat([0.5, 1.0], 100), np.concatenate([np.arange(100) % 2 == 0, np.zeros(100, dtype=bool)])


def test_a_confident_half_that_is_all_wrong_is_seen_by_hand() -> None:
    confidence, correct = confident_half_is_wrong()
    assert rms_calibration_error(confidence, correct) == pytest.approx(0.5**0.5)  # sqrt(1/2 * 0 + 1/2 * 1)


def test_the_official_variant_is_blind_to_the_confident_half_by_hand() -> None:
    assert rms_calibration_error_without_last_bin(*confident_half_is_wrong()) == 0.0


@pytest.mark.parametrize("count", [100, 101, 199, 200, 250, 299, 300, 1234])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_agree_with_the_loop(count: int, seed: int) -> None:
    confidence, correct = sample(count, seed)
    assert rms_calibration_error(confidence, correct) == pytest.approx(
        loop_over_bins(confidence, correct, 100, drop_last=False)
    )
    assert rms_calibration_error_without_last_bin(confidence, correct) == pytest.approx(
        loop_over_bins(confidence, correct, 100, drop_last=True)
    )
    assert mean_absolute_calibration_error(confidence, correct) == pytest.approx(
        loop_over_bins(confidence, correct, 100, drop_last=False, power=1)
    )
    assert mean_absolute_calibration_error_without_last_bin(confidence, correct) == pytest.approx(
        loop_over_bins(confidence, correct, 100, drop_last=True, power=1)
    )


@pytest.mark.parametrize("count", [1, 7, 99])
def test_fewer_samples_than_a_bin_make_one_bin(count: int) -> None:
    confidence, correct = sample(count, 3)
    assert rms_calibration_error(confidence, correct) == pytest.approx(abs(confidence.mean() - correct.mean()))


@pytest.mark.parametrize("count", [100, 150, 199])
def test_one_bin_is_the_last_one_so_the_official_variant_gives_0(count: int) -> None:
    assert rms_calibration_error_without_last_bin(np.ones(count), np.zeros(count)) == 0.0


def test_the_remainder_joins_the_last_bin_by_hand() -> None:
    # bins of 2 and 3: gaps 0 - 0 and .9 - 2/3; the official variant keeps the first alone, over N = 5
    confidence, correct = [0.0, 0.9, 0.0, 0.9, 0.9], [1, 1, 1, 1, 0]
    expected = (2 / 5 * 1 + 3 / 5 * (0.9 - 2 / 3) ** 2) ** 0.5
    assert rms_calibration_error(confidence, correct, bin_size=2) == pytest.approx(expected)
    assert rms_calibration_error_without_last_bin(confidence, correct, bin_size=2) == pytest.approx((2 / 5) ** 0.5)


def test_the_official_variant_refuses_what_crashes_the_official_code() -> None:
    for function in (rms_calibration_error_without_last_bin, mean_absolute_calibration_error_without_last_bin):
        with pytest.raises(RequestError, match="at least bin_size = 100 samples, got 99"):
            function(np.full(99, 0.5), np.ones(99))


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    ("confidence", "correct", "bin_size", "message"),
    [
        ([], [], 1, r"confidence must have shape \(N,\) with N >= 1, got \(0,\)"),
        ([[0.5]], [1], 1, r"got \(1, 1\)"),
        ([0.5, 0.5], [1], 1, "lengths differ: confidence 2, correct 1"),
        ([0.5, np.nan], [1, 0], 1, "confidence must be finite, got nan at index 1"),
        ([0.5, 42.0], [1, 0], 1, r"confidence must be in \[0, 1\], got 42 at index 1"),
        ([0.5, 0.5], [1, 2], 1, "correct must be 0 or 1, got 2 at index 1"),
        (["high"], [1], 1, "confidence must be numbers"),
        ([0.5], [1], 0, "bin_size must be an integer, 1 or more, got 0"),
        ([0.5], [1], 2.5, "bin_size must be an integer, 1 or more, got 2.5"),
        ([0.5], [1], float("nan"), "bin_size must be an integer, 1 or more, got nan"),
    ],
)
def test_wrong_inputs_are_named_in_one_line(
    function: object, confidence: list[float], correct: list[int], bin_size: float, message: str
) -> None:
    assert callable(function)
    with pytest.raises(RequestError, match=message) as caught:
        function(confidence, correct, bin_size)
    assert "\n" not in str(caught.value)


def test_inputs_are_not_changed() -> None:
    confidence, correct = sample(250, 5)
    before = confidence.copy(), correct.copy()
    for function in ALL:
        function(confidence, correct)
    soft_f1(confidence, correct)
    aurra(confidence, correct)
    assert np.array_equal(confidence, before[0])
    assert np.array_equal(correct, before[1])


def test_float32_from_a_network_is_taken_and_order_does_not_matter() -> None:
    generator = np.random.default_rng(8)
    confidence = generator.permutation(np.linspace(0, 1, 500))  # no ties
    correct = generator.uniform(size=500) < 0.5
    shuffled = generator.permutation(500)
    value = rms_calibration_error(confidence, correct)
    assert rms_calibration_error(confidence[shuffled], correct[shuffled]) == pytest.approx(value)
    assert rms_calibration_error(confidence.astype(np.float32), correct) == pytest.approx(value, abs=1e-6)


# soft F1 and AURRA


@pytest.mark.parametrize(
    ("confidence", "correct", "f1", "area"),
    [
        ([1.0, 1.0], [1, 1], 1.0, 1.0),  # right and sure of it
        ([1.0, 1.0], [0, 0], 0.0, 0.0),  # wrong and sure of it
        ([1.0, 0.5], [1, 0], 2 * 0.5 / (0.5 + 1), 0.75),  # accuracy 1 among the first, 1/2 among both
        ([1.0, 0.5], [0, 1], 0.0, 0.25),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 2 * 1.5 / (2 + 3), 0.25),  # none is told from another
        ([0.9, 0.6, 0.6], [1, 1, 0], 2 * 0.4 / (0.9 + 1), (1 + 1.5 / 2 + 2 / 3) / 3),
    ],
)
def test_soft_f1_and_aurra_by_hand(confidence: list[float], correct: list[int], f1: float, area: float) -> None:
    assert soft_f1(confidence, correct) == pytest.approx(f1)
    assert aurra(confidence, correct) == pytest.approx(area)


def test_aurra_of_ties_is_the_mean_over_their_orders() -> None:
    generator = np.random.default_rng(2)
    confidence = np.round(generator.uniform(0.1, 1, 40), 1)
    correct = generator.uniform(size=40) < confidence
    values = []
    for _ in range(4000):  # the official code's curve, its ties in an order drawn at random
        order = np.lexsort([generator.random(40), -confidence])
        values.append((np.cumsum(correct[order]) / np.arange(1, 41)).mean())
    error = np.std(values) / np.sqrt(len(values))
    assert aurra(confidence, correct) == pytest.approx(float(np.mean(values)), abs=5 * error)
    order = generator.permutation(40)
    assert aurra(confidence[order], correct[order]) == pytest.approx(aurra(confidence, correct), abs=1e-12)


@pytest.mark.parametrize("function", [soft_f1, aurra])
@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "N >= 1"),
        ([0.5, 0.5], [1], "lengths differ"),
        ([float("nan")], [1], "must be finite"),
        ([50.0], [1], "must be in"),
        ([0.5], [2], "must be 0 or 1"),
    ],
)
def test_soft_f1_and_aurra_name_wrong_inputs_in_one_line(
    function: object, confidence: list[float], correct: list[int], message: str
) -> None:
    assert callable(function)
    with pytest.raises(RequestError, match=message) as caught:
        function(confidence, correct)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ALL)
def test_no_order_of_rows_changes_a_calibration_error(function: object) -> None:
    # as on trained networks: a third of the confidences are exactly 1
    generator = np.random.default_rng(4)
    confidence = np.where(generator.uniform(size=1234) < 0.33, 1.0, generator.uniform(0.3, 1, 1234)).astype(np.float32)
    correct = generator.uniform(size=1234) < confidence - 0.1
    assert callable(function)
    orders = [generator.permutation(1234) for _ in range(5)] + [np.lexsort((correct, confidence))]
    assert len({function(confidence[order], correct[order]) for order in orders}) == 1


def test_of_ties_each_counts_as_their_mean_by_hand() -> None:
    # all alike and half right: every bin of two has gap 1 - 1/2, in whatever order the right ones come
    for correct in ([True, True, False, False], [True, False, True, False], [False, False, True, True]):
        assert rms_calibration_error([1.0] * 4, correct, bin_size=2) == 0.5
