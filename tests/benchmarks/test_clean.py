"""Clean measures: against a plain loop over pictures, scikit-learn, scipy, and the definitions in a few lines."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats
from sklearn.metrics import log_loss
from torch import nn

from pixmix_ray.benchmarks import Clean, TestPictures
from pixmix_ray.benchmarks.extras import PROPER_SCORES, TOP_FIVE, FromLogits
from pixmix_ray.datasets import Digits
from pixmix_ray.metrics import Measurement

CPU = torch.device("cpu")


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10))
    return network.eval().requires_grad_(requires_grad=False)


def _test_pictures(count: int) -> TestPictures:
    digits = Digits().load()
    images, labels = np.array(digits.test_images[:count]), np.array(digits.test_labels[:count])
    return TestPictures(images=images, labels=labels, indices=np.arange(count))


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


def _row(rows: list[Measurement], metric: str) -> Measurement:
    (found,) = [row for row in rows if row.metric == metric]
    return found


def test_proper_scores_and_reliability_are_those_of_the_probabilities() -> None:
    network, test = _network(), _test_pictures(200)
    found = Clean().predict(network, test, CPU)
    rows = Clean().measure(found)
    logits = network(torch.from_numpy(test.images).permute(0, 3, 1, 2).float() / 255).double().numpy()
    probability = special.softmax(logits, axis=1)
    assert _row(rows, "negative_log_likelihood").value == pytest.approx(log_loss(test.labels, probability), rel=1e-5)
    one_hot = np.eye(10)[test.labels]
    squares = ((probability - one_hot) ** 2).sum(axis=1)
    assert _row(rows, "brier_score").value == pytest.approx(squares.mean(), rel=1e-5)
    assert _row(rows, "brier_score").standard_error == pytest.approx(stats.sem(squares), rel=1e-5)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == test.labels
    order = np.argsort(-confidence)
    curve = [right[order[:k]].mean() for k in range(1, 201)]
    assert _row(rows, "aurra").value == pytest.approx(float(np.mean(curve)), abs=1e-6)
    # F1 of soft counts: hits, false alarms and misses of doubt as a flag of mistakes
    hits, alarms, misses = (
        ((1 - confidence) * ~right).sum(),
        ((1 - confidence) * right).sum(),
        (confidence * ~right).sum(),
    )
    assert _row(rows, "soft_f1").value == pytest.approx(2 * hits / (2 * hits + alarms + misses), abs=1e-6)
    bins = np.split(np.argsort(confidence), 2)
    gaps = [abs(confidence[b].mean() - right[b].mean()) for b in bins]
    assert _row(rows, "mean_absolute_calibration_error").value == pytest.approx(sum(gaps) / 2, abs=1e-6)
    official = _row(rows, "mean_absolute_calibration_error_without_last_bin")
    assert official.value == pytest.approx(gaps[0] / 2, abs=1e-6)


def test_predictions_keep_enough_for_scores_invented_later() -> None:
    network, test = _network(), _test_pictures(20)
    found = Clean().predict(network, test, CPU)
    logits = network(torch.from_numpy(test.images).permute(0, 3, 1, 2).float() / 255).double().numpy()
    logarithms = special.log_softmax(logits, axis=1)[np.arange(20), test.labels]
    np.testing.assert_allclose(found.columns["label_log_probability"].astype(np.float64), logarithms, rtol=1e-4)
    assert list(found.extras) == list(PROPER_SCORES)


def test_a_network_that_is_wholly_wrong_and_sure_of_it_has_finite_scores() -> None:
    class Sure(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.zeros(len(images), dtype=torch.int64), 10) * 1e4

    test = TestPictures(images=np.zeros((120, 4, 4, 3), np.uint8), labels=np.full(120, 1), indices=np.arange(120))
    rows = Clean().measure(Clean().predict(Sure(), test, CPU))
    assert _row(rows, "negative_log_likelihood").value == 1e4  # the probability itself would be 0
    assert _row(rows, "brier_score").value == 2
    assert _row(rows, "soft_f1").value == 0  # in no doubt about any mistake
    assert _row(rows, "mean_absolute_calibration_error").value == _row(rows, "rms_calibration_error").value == 1


def test_the_five_best_classes_break_ties_in_the_order_of_the_classes() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    labels = torch.zeros(2, dtype=torch.int64)
    ranked = [extra.of(logits, labels).tolist() for extra in TOP_FIVE.values() if isinstance(extra, FromLogits)]
    assert [list(picture) for picture in zip(*ranked, strict=True)] == [[1, 2, 5, 4, 0], [0, 1, 2, 3, 4]]


def test_clean_predictions_and_error_are_those_of_a_plain_loop() -> None:
    network, test = _network(), _test_pictures(60)
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
    rows = [row for row in Clean().measure(predictions) if row.metric.startswith("rms_calibration")]
    assert len(rows) == names
    values = predictions.confidence.tolist(), predictions.correct.tolist()
    assert _row(rows, "rms_calibration_error").value == pytest.approx(_rms(*values), abs=1e-6)
    if names == 2:
        official = _row(rows, "rms_calibration_error_without_last_bin")
        assert official.value == pytest.approx(_rms(*values, is_last_counted=False), abs=1e-6)
