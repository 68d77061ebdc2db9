"""Clean error and corruptions: against a plain loop over pictures, and measurements worked out in plain Python."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pixmix_ray.benchmarks import Clean, Corruptions, Measurement, Predictions, TestPictures
from pixmix_ray.corruptions import NAMES, corrupt
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError, UnknownNameError

CPU = torch.device("cpu")


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10))
    return network.eval().requires_grad_(requires_grad=False)


def _test_pictures(count: int = 60) -> TestPictures:
    digits = Digits().load()
    return TestPictures(
        images=np.array(digits.test_images[:count]),
        labels=np.array(digits.test_labels[:count]),
        indices=np.arange(count, dtype=np.int64),
    )


def _one_by_one(network: nn.Module, images: NDArray[np.uint8]) -> tuple[list[int], list[float]]:
    """Predicted classes and their probabilities, a picture at a time."""
    predicted, confidence = [], []
    for image in images:
        logits = network(torch.tensor(image.transpose(2, 0, 1)[None] / 255, dtype=torch.float32))[0]
        scores = [math.exp(float(logit) - float(logits.max())) for logit in logits]
        predicted.append(int(np.argmax(scores)))
        confidence.append(max(scores) / sum(scores))
    return predicted, confidence


def _rms(confidence: Sequence[float], correct: Sequence[bool], *, is_last_counted: bool = True) -> float:
    """RMS calibration error in plain Python: sorted by confidence, bins of 100, the last takes what is left over."""
    pairs = sorted(zip(confidence, correct, strict=True))
    count = max(len(pairs) // 100, 1)
    bins = [pairs[100 * i : 100 * (i + 1) if i < count - 1 else len(pairs)] for i in range(count)]
    if not is_last_counted:
        bins = bins[:-1]
    gaps = [(len(b), sum(c for c, _ in b) / len(b) - sum(right for _, right in b) / len(b)) for b in bins]
    return math.sqrt(sum(size / len(pairs) * gap**2 for size, gap in gaps))


def _row(rows: list[Measurement], metric: str, condition: str = "", severity: int | None = None) -> Measurement:
    (found,) = [row for row in rows if (row.metric, row.condition, row.severity) == (metric, condition, severity)]
    return found


def test_clean_predictions_and_error_are_those_of_a_plain_loop() -> None:
    network, test = _network(), _test_pictures()
    predicted, confidence = _one_by_one(network, test.images)
    predictions = Clean().predict(network, test, CPU)
    assert predictions.predicted.tolist() == predicted
    np.testing.assert_allclose(predictions.confidence, confidence, rtol=0, atol=1e-6)
    assert set(predictions.condition) == {""}
    assert set(predictions.severity) == {0}

    rows = Clean().measure(predictions)
    wrong = sum(guess != label for guess, label in zip(predicted, test.labels, strict=True))
    error = _row(rows, "error")
    assert error.n == 60
    assert error.value == pytest.approx(wrong / 60)
    # the deviation of 60 zeros and ones, over sqrt(60)
    share = wrong / 60
    assert error.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 59))
    correct = [guess == label for guess, label in zip(predicted, test.labels, strict=True)]
    assert _row(rows, "rms_calibration_error").value == pytest.approx(_rms(confidence, correct), abs=1e-6)


@pytest.mark.parametrize(("count", "names"), [(99, 1), (100, 2), (364, 2)])
def test_the_official_codes_calibration_is_there_from_a_hundred_pictures_on(count: int, names: int) -> None:
    test = _test_pictures(count)
    predictions = Clean().predict(_network(), test, CPU)
    rows = [row for row in Clean().measure(predictions) if "calibration" in row.metric]
    assert len(rows) == names
    values = predictions.confidence.tolist(), predictions.correct.tolist()
    assert _row(rows, "rms_calibration_error").value == pytest.approx(_rms(*values), abs=1e-6)
    if names == 2:
        official = _row(rows, "rms_calibration_error_without_last_bin")
        assert official.value == pytest.approx(_rms(*values, is_last_counted=False), abs=1e-6)


def test_corruptions_predict_what_a_plain_loop_over_corrupted_pictures_does() -> None:
    network, test = _network(), _test_pictures(12)
    test = TestPictures(images=test.images, labels=test.labels, indices=test.indices * 30 + 2)
    settings = Corruptions(names=("gaussian_noise", "pixelate"), severities=(1, 4), seed=5)
    predictions = settings.predict(network, test, CPU)
    for name in ("gaussian_noise", "pixelate"):
        for severity in (1, 4):
            cell = predictions.select((predictions.condition == name) & (predictions.severity == severity))
            corrupted = corrupt(test.images, name, severity, 5, indices=test.indices)
            predicted, confidence = _one_by_one(network, corrupted)
            assert cell.predicted.tolist() == predicted
            np.testing.assert_allclose(cell.confidence, confidence, rtol=0, atol=1e-6)
    assert len(predictions) == 12 * 4


def test_another_seed_gives_other_noise() -> None:
    first, second = (
        Corruptions(names=("gaussian_noise",), seed=seed).predict(_network(), _test_pictures(12), CPU)
        for seed in (0, 1)
    )
    assert not np.array_equal(first.confidence, second.confidence)


def test_by_default_every_corruption_is_shown_at_every_severity() -> None:
    predictions = Corruptions().predict(_network(), _test_pictures(2), CPU)
    cells = list(zip(predictions.condition.tolist(), predictions.severity.tolist(), strict=True))
    assert {cell: cells.count(cell) for cell in cells} == {(name, s): 2 for name in NAMES for s in range(1, 6)}


Cells = dict[tuple[str, int], tuple[list[bool], list[float]]]
CELLS = [(name, severity) for name in ("gaussian_noise", "brightness", "contrast") for severity in (1, 2, 3, 4, 5)]


@pytest.fixture(scope="module")
def made_up() -> Cells:
    """For each corruption and severity, whether 60 pictures are right and how confident the network was."""
    draws = np.random.Generator(np.random.Philox(key=7))
    return {
        cell: (
            (draws.random(60) > 0.04 * number).tolist(),
            (0.1 + 0.9 * draws.random(60)).astype(np.float32).tolist(),
        )
        for number, cell in enumerate(CELLS)
    }


@pytest.fixture(scope="module")
def measured(made_up: Cells) -> list[Measurement]:
    """What the benchmark makes of them."""
    predictions = Predictions.join(
        [
            Predictions(
                condition=np.full(60, name),
                severity=np.full(60, severity, np.int8),
                index=np.arange(60, dtype=np.int32),
                label=np.full(60, 3, np.int16),
                predicted=np.where(right, 3, 4).astype(np.int16),
                confidence=np.array(confidence, np.float32),
            )
            for (name, severity), (right, confidence) in made_up.items()
        ]
    )
    return Corruptions(names=("gaussian_noise", "brightness", "contrast")).measure(predictions)


def _error(right: list[bool]) -> float:
    return right.count(False) / len(right)


def test_mce_is_the_mean_over_corruptions_and_severities(made_up: Cells, measured: list[Measurement]) -> None:
    errors = [_error(right) for right, _ in made_up.values()]
    mce = _row(measured, "mce")
    assert mce.value == pytest.approx(sum(errors) / 15)
    # each picture appears 15 times: the error is that of the mean of 60 pictures' shares, not of 900 coin flips
    shares = [sum(not right[i] for right, _ in made_up.values()) / 15 for i in range(60)]
    mean = sum(shares) / 60
    assert mce.standard_error == pytest.approx(math.sqrt(sum((share - mean) ** 2 for share in shares) / 59 / 60))


def test_ce_is_the_mean_over_the_severities_of_one_corruption(made_up: Cells, measured: list[Measurement]) -> None:
    for name in ("gaussian_noise", "brightness", "contrast"):
        errors = [_error(made_up[name, severity][0]) for severity in range(1, 6)]
        assert _row(measured, "ce", name).value == pytest.approx(sum(errors) / 5)


def test_the_error_of_a_severity_is_the_mean_over_corruptions(made_up: Cells, measured: list[Measurement]) -> None:
    for severity in range(1, 6):
        errors = [_error(right) for (_, s), (right, _) in made_up.items() if s == severity]
        assert _row(measured, "error", "", severity).value == pytest.approx(sum(errors) / 3)


def test_each_corruption_and_severity_has_error_and_calibration(made_up: Cells, measured: list[Measurement]) -> None:
    for (name, severity), (right, confidence) in made_up.items():
        error = _row(measured, "error", name, severity)
        assert error.n == 60
        assert error.value == pytest.approx(_error(right))
        calibration = _row(measured, "rms_calibration_error", name, severity)
        assert calibration.n == 60
        assert calibration.value == pytest.approx(_rms(confidence, right), abs=1e-6)


@pytest.mark.parametrize("is_official", [False, True])
def test_headline_calibration_is_the_mean_over_corruptions_of_severities_together(
    made_up: Cells, measured: list[Measurement], is_official: bool
) -> None:
    metric = "rms_calibration_error_without_last_bin" if is_official else "rms_calibration_error"
    values = []
    for name in ("gaussian_noise", "brightness", "contrast"):
        right = [flag for severity in range(1, 6) for flag in made_up[name, severity][0]]
        confidence = [value for severity in range(1, 6) for value in made_up[name, severity][1]]
        values.append(_rms(confidence, right, is_last_counted=not is_official))
        assert _row(measured, metric, name).value == pytest.approx(values[-1], abs=1e-6)
    assert _row(measured, metric).value == pytest.approx(sum(values) / 3, abs=1e-6)


def test_pooled_calibration_is_over_all_predictions_at_once(made_up: Cells, measured: list[Measurement]) -> None:
    right = [flag for flags, _ in made_up.values() for flag in flags]
    confidence = [value for _, values in made_up.values() for value in values]
    assert _row(measured, "rms_calibration_error", "pooled").value == pytest.approx(_rms(confidence, right), abs=1e-6)


def test_names_and_severities_have_one_order() -> None:
    first = Corruptions(names=("contrast", "gaussian_noise"), severities=(5, 1, 5))
    assert first == Corruptions(names=("gaussian_noise", "contrast"), severities=(1, 5))
    assert first.names == tuple(name for name in NAMES if name in ("contrast", "gaussian_noise"))


def test_an_unknown_corruption_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"'gausian_noise', did you mean 'gaussian_noise'"):
        Corruptions.read({"names": ["gausian_noise"]}, "benchmark corruptions")


@pytest.mark.parametrize(
    "settings", [{"names": []}, {"severities": []}, {"severities": [0]}, {"severities": [1, 6]}], ids=repr
)
def test_no_corruption_and_severities_out_of_range_are_refused(settings: dict[str, list[int]]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        Corruptions.read(settings, "benchmark corruptions")
