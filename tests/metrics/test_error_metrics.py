"""Errors: hand-worked numbers, scikit-learn and SciPy as second implementations, and the facts' table of AlexNet."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import accuracy_score

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.metrics import (
    ALEXNET_ERRORS,
    corruption_error,
    error,
    mean_corruption_error,
    standard_error_by_picture,
    standard_error_of_mean,
)

# hendrycks/robustness issue 10 and the baseline file of facebookresearch/augmentation-corruption
ALEXNET_MEANS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def test_error_is_one_minus_the_accuracy_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    predicted, label = generator.integers(0, 10, (2, 500)).astype(np.int16)
    assert error(predicted, label) == pytest.approx(1 - accuracy_score(label, predicted))


def test_the_alexnet_table_has_the_published_means() -> None:
    assert {name: round(sum(row) / 5, 6) for name, row in ALEXNET_ERRORS.items()} == ALEXNET_MEANS


def test_plain_mce_is_the_mean_over_all_corruptions_and_severities() -> None:
    table = np.random.default_rng(1).uniform(size=(15, 5))
    assert mean_corruption_error(dict(zip(ALEXNET_ERRORS, table, strict=True))) == pytest.approx(table.mean())


def test_normalised_mce_is_a_mean_of_ratios_of_sums_by_hand() -> None:
    # fog: (.2 + .4) / (.4 + .8) = 1/2; snow: (.1 + .8) / (.2 + .4) = 3/2; the mean of severity ratios would differ
    errors = {"fog": [0.2, 0.4], "snow": [0.1, 0.8]}
    normalisers = {"fog": [0.4, 0.8], "snow": [0.2, 0.4], "frost": [1.0, 1.0]}
    assert mean_corruption_error(errors, normalisers) == pytest.approx(1.0)
    assert corruption_error([0.1, 0.8], [0.2, 0.4]) == pytest.approx(1.5)


def test_the_standard_error_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).normal(size=37)
    assert standard_error_of_mean(values) == pytest.approx(scipy.stats.sem(values))


def test_the_standard_error_by_picture_is_that_of_the_picture_means() -> None:
    wrong = np.random.default_rng(3).uniform(size=(40, 5)) < 0.3  # 40 pictures at 5 severities
    picture = np.broadcast_to(np.arange(100, 140)[:, None], wrong.shape)
    expected = scipy.stats.sem(wrong.mean(axis=1))
    assert standard_error_by_picture(wrong.T.ravel(), picture.T.ravel()) == pytest.approx(expected)


def test_the_standard_error_by_picture_is_the_plain_one_if_each_appears_once() -> None:
    wrong = np.random.default_rng(4).uniform(size=50) < 0.3
    assert standard_error_by_picture(wrong, np.arange(50)) == pytest.approx(standard_error_of_mean(wrong))


def test_one_picture_has_no_standard_error() -> None:
    assert standard_error_by_picture([0, 1, 1], [4, 4, 4]) is None


@pytest.mark.parametrize(
    ("predicted", "label", "message"),
    [
        ([], [], r"predicted must have shape \(N,\)"),
        ([1, 2], [1], "lengths differ: predicted 2, label 1"),
        ([1.0], [1], "predicted must be integers, got float64"),
        ([[1]], [[1]], r"got \(1, 1\)"),
    ],
)
def test_error_names_wrong_inputs(predicted: list[int], label: list[int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        error(predicted, label)


def test_mce_names_wrong_inputs() -> None:
    with pytest.raises(RequestError, match="at least one corruption, got none"):
        mean_corruption_error({})
    with pytest.raises(UnknownNameError, match="'fogg', did you mean 'fog'"):
        mean_corruption_error({"fogg": [0.1]}, ALEXNET_ERRORS)
    with pytest.raises(RequestError, match="lengths differ: errors 1, normaliser 5"):
        mean_corruption_error({"fog": [0.1]}, ALEXNET_ERRORS)
    with pytest.raises(RequestError, match=r"errors must be in \[0, 1\], got 12.5 at index 0: give fractions"):
        mean_corruption_error({"fog": [12.5]})
    with pytest.raises(RequestError, match="normaliser must not be 0"):
        corruption_error([0.1], [0.0])


def test_one_value_has_no_standard_error() -> None:
    with pytest.raises(RequestError, match="at least 2 values, got 1"):
        standard_error_of_mean([0.5])


def test_inputs_are_not_changed() -> None:
    predicted, label = np.array([1, 2, 3]), np.array([1, 2, 2])
    errors = {"fog": np.array([0.2, 0.4])}
    error(predicted, label)
    mean_corruption_error(errors, {"fog": [0.5, 0.5]})
    standard_error_by_picture(label, predicted)
    assert predicted.tolist() == [1, 2, 3]
    assert label.tolist() == [1, 2, 2]
    assert errors["fog"].tolist() == [0.2, 0.4]
