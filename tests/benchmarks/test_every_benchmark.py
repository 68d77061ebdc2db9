"""What holds for every benchmark, on a tiny network that has learned to read digits; a new one costs one row."""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray import metrics
from pixmix_ray.benchmarks import Adversaries, Anomalies, Benchmark, Clean, Corruptions, TestPictures, base
from pixmix_ray.benchmarks.corruptions_bar import CorruptionsBar
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.metrics import Measurement, Predictions

BENCHMARKS: list[Benchmark] = [
    Clean(),
    Corruptions(exclude=("frost",), severities=(1, 5)),
    Corruptions(names=("contrast", "shot_noise"), severities=(5, 2), seed=3),
    CorruptionsBar(names=("lines", "ripple"), severities=(1, 5), seed=2),
    Adversaries(),
    Adversaries(eps=8 / 255, step_size=2 / 255, steps=3, restarts=2, centre="noised", seed=1),
    Adversaries(norm="l2", eps=0.5, step_size=0.1, steps=3),
    Anomalies(),
    Anomalies(generated=("blobs",), repeats=3, seed=4),
]
every = pytest.mark.parametrize("benchmark_", BENCHMARKS, ids=repr)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Smooth and small, trained for a second, in evaluation mode and frozen as the benchmarks are promised."""
    digits = Digits().load()
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(np.array(digits.train_labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learned = nn.Sequential(
            nn.AvgPool2d(4), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 32), nn.Tanh(), nn.Linear(32, 10)
        )
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(learned(images), labels).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    optimizer.zero_grad()
    return learned.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def sixty() -> TestPictures:
    """Sixty test pictures; their positions in the whole test set are 5, 11, 17, ..."""
    digits = Digits().load()
    places = np.arange(60) * 6 + 5
    images, labels = np.array(digits.test_images[places]), np.array(digits.test_labels[places])
    return TestPictures(images=images, labels=labels, indices=places)


class _Recorder(nn.Module):
    """The network, remembering what it was shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.detach().clone())
        return self.network(images)  # type: ignore[no-any-return]


def _rows(predictions: Predictions) -> list[tuple[str, int, int, int, int]]:
    """All but the confidences."""
    columns = (predictions.condition, predictions.severity, predictions.index, predictions.label, predictions.predicted)
    return [
        (str(condition), int(severity), int(index), int(label), int(predicted))
        for condition, severity, index, label, predicted in zip(*columns, strict=True)
    ]


def _are_close(first: Measurement, second: Measurement) -> bool:
    errors = (first.standard_error, second.standard_error)
    return (
        replace(first, value=0, standard_error=None) == replace(second, value=0, standard_error=None)
        and first.value == pytest.approx(second.value, abs=1e-6)
        and (errors[0] == errors[1] or errors[0] == pytest.approx(errors[1], abs=1e-6))
    )


@every
def test_predictions_have_the_shapes_types_and_ranges_of_their_description(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    predictions = benchmark_.predict(network, sixty, CPU)
    types = {"severity": "int8", "index": "int32", "label": "int16", "predicted": "int16", "confidence": "float32"}
    assert {name: str(getattr(predictions, name).dtype) for name in types} == types
    assert all(isinstance(name, str) for name in predictions.condition)
    assert {name: column.dtype for name, column in predictions.extras.items()} == {
        name: np.dtype(extra.dtype) for name, extra in benchmark_.extras.items()
    }
    assert {column.shape for column in predictions.columns.values()} == {(len(predictions),)}
    assert (
        (predictions.confidence >= 0.1) & (predictions.confidence <= 1)
    ).all()  # the largest of ten is a tenth or more
    assert ((predictions.predicted >= 0) & (predictions.predicted < 10)).all()
    inside = predictions.select(predictions.label >= 0)
    assert len(inside) % 60 == 0
    for start in range(0, len(inside), 60):  # every condition shows all pictures, in order
        assert inside.index[start : start + 60].tolist() == sixty.indices.tolist()
        assert inside.label[start : start + 60].tolist() == sixty.labels.tolist()


@every
def test_measurements_are_fractions_with_a_direction_and_one_row_for_each_headline(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    rows = benchmark_.measure(benchmark_.predict(network, sixty, CPU))
    for row in rows:
        assert metrics.direction(row.metric) in ("lower", "higher")
        assert isinstance(row.value, float)
        most = 2 if row.metric == "brier_score" else 1
        assert 0 <= row.value <= most or (row.metric in metrics.UNITS and row.value >= 0)
        assert row.n > 0
        assert row.standard_error is None or 0 <= row.standard_error <= 0.5
    keys = [(row.metric, row.condition, row.severity) for row in rows]
    assert len(set(keys)) == len(keys)
    for metric in benchmark_.headline:
        assert keys.count((metric, "", None)) == 1


@every
def test_the_network_is_shown_colour_pictures_in_0_to_1(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    recorder = _Recorder(network)
    benchmark_.predict(recorder, sixty, CPU)
    for images in recorder.shown:
        assert images.shape[1:] == (3, 32, 32)
        assert images.dtype == torch.float32
        assert 0 <= float(images.min()) <= float(images.max()) <= 1


@every
def test_pictures_network_and_global_generators_are_left_alone(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    pictures = [getattr(sixty, field.name).copy() for field in fields(sixty)]
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    benchmark_.predict(network, sixty, CPU)
    for field, before in zip(fields(sixty), pictures, strict=True):
        assert np.array_equal(getattr(sixty, field.name), before)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)


@every
def test_weights_that_were_not_frozen_gather_no_gradients(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    network.requires_grad_(requires_grad=True)
    try:
        benchmark_.predict(network, sixty, CPU)
        assert all(parameter.grad is None for parameter in network.parameters())
    finally:
        network.requires_grad_(requires_grad=False)


@every
def test_results_do_not_depend_on_the_size_of_the_batches(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = benchmark_.predict(network, sixty, CPU)
    monkeypatch.setattr(base, "BATCH", 7)
    recorder = _Recorder(network)
    in_sevens = benchmark_.predict(recorder, sixty, CPU)
    assert max(len(images) for images in recorder.shown) in (7, 1)  # a pass that goes back takes a quarter
    assert _rows(in_sevens) == _rows(predictions)
    np.testing.assert_allclose(in_sevens.confidence, predictions.confidence, rtol=0, atol=1e-6)
    for name, column in predictions.extras.items():
        close = in_sevens.extras[name].astype(np.float64), column.astype(np.float64)
        np.testing.assert_allclose(*close, rtol=1e-5, atol=1e-6)
    pairs = zip(benchmark_.measure(in_sevens), benchmark_.measure(predictions), strict=True)
    assert all(_are_close(first, second) for first, second in pairs)


@every
def test_a_picture_is_treated_alike_in_any_company_and_order(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    some = np.array([41, 3, 17, 59, 0])
    few = TestPictures(images=sixty.images[some], labels=sixty.labels[some], indices=sixty.indices[some])
    whole, part = (benchmark_.predict(network, shown, CPU) for shown in (sixty, few))
    confidences = {row: confidence for row, confidence in zip(_rows(whole), whole.confidence, strict=True)}
    for row, confidence in zip(_rows(part), part.confidence, strict=True):
        assert confidence == pytest.approx(confidences[row], abs=1e-6)  # the same row is there


@every
def test_predicting_twice_gives_the_same(benchmark_: Benchmark, network: nn.Module, sixty: TestPictures) -> None:
    first, again = (benchmark_.predict(network, sixty, CPU) for _ in range(2))
    assert _rows(first) == _rows(again)
    for name, column in first.columns.items():
        assert np.array_equal(again.columns[name], column)


@every
def test_measuring_is_a_pure_function_of_the_predictions(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    predictions = benchmark_.predict(network, sixty, CPU)
    before = {name: column.copy() for name, column in predictions.columns.items()}
    rows = benchmark_.measure(predictions)
    for name, column in before.items():
        assert np.array_equal(predictions.columns[name], column)
    # as read back from a table: other arrays, other order, a benchmark made from the same settings
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(predictions))
    stored = {name: np.array(column[order].tolist(), column.dtype) for name, column in predictions.columns.items()}
    again = (
        type(benchmark_).read(benchmark_.model_dump(mode="json"), "benchmark").measure(Predictions.of_columns(stored))
    )
    assert all(_are_close(first, second) for first, second in zip(rows, again, strict=True))
    assert benchmark_.measure(predictions) == rows


@every
def test_limit_takes_pictures_evenly_and_is_recorded(benchmark_: Benchmark, network: nn.Module) -> None:
    digits = Digits().load()
    limited = type(benchmark_).read({**benchmark_.model_dump(mode="json"), "limit": 25}, "benchmark")
    test = limited.pictures(digits.test_images, digits.test_labels)
    places = [i * 364 // 25 for i in range(25)]  # floor(i * total / limit)
    assert test.indices.tolist() == places
    assert np.array_equal(test.images, digits.test_images[places])
    assert np.array_equal(test.labels, digits.test_labels[places])
    predictions = limited.predict(network, test, CPU)
    assert set(predictions.index[predictions.label >= 0].tolist()) == set(places)
    inside = {(row.condition, row.severity): row.n for row in limited.measure(predictions) if row.metric == "error"}
    assert all(n % 25 == 0 for n in inside.values())


@every
def test_without_a_limit_all_pictures_are_taken(benchmark_: Benchmark) -> None:
    images, labels = np.zeros((9, 2, 2, 3), np.uint8), np.arange(9)
    for limit in (None, 9, 100):
        limited = benchmark_.model_copy(update={"limit": limit})
        assert limited.pictures(images, labels).indices.tolist() == list(range(9))


@every
@pytest.mark.parametrize("settings", [{"limit": 0}, {"limt": 5}, {"limit": 2.5}], ids=repr)
def test_wrong_limits_are_refused_by_name(benchmark_: Benchmark, settings: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        type(benchmark_).read(settings, "benchmark")


@pytest.fixture
def _every_warning() -> Iterator[None]:
    """Torch's warnings that come once a process come every time, so that no test hides them from another."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@every
@pytest.mark.usefixtures("_every_warning")
def test_read_only_pictures_are_taken_as_they_are(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", sixty.images)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    labels = sixty.labels.copy()
    labels.setflags(write=False)
    mapped = TestPictures(images=images, labels=labels, indices=sixty.indices)
    assert _rows(benchmark_.predict(network, mapped, CPU)) == _rows(benchmark_.predict(network, sixty, CPU))


@every
@pytest.mark.usefixtures("_every_warning")
def test_pictures_out_of_a_data_sets_memory_maps_are_taken_as_they_are(
    benchmark_: Benchmark, network: nn.Module
) -> None:
    digits = Digits().load()
    assert not digits.test_images.flags.writeable
    limited = type(benchmark_).read({**benchmark_.model_dump(mode="json"), "limit": 20}, "benchmark")
    predictions = limited.predict(network, limited.pictures(digits.test_images, digits.test_labels), CPU)
    assert set(predictions.label[predictions.label >= 0].tolist()) <= set(range(10))


# under attack the loss meets it first
@pytest.mark.parametrize("benchmark_", [one for one in BENCHMARKS if not isinstance(one, Adversaries)], ids=repr)
@pytest.mark.parametrize("shape", [(10,), (1, 10), (60, 10, 1)], ids=str)
def test_what_is_no_row_of_logits_for_each_picture_is_an_error_in_one_line(
    benchmark_: Benchmark, shape: tuple[int, ...], sixty: TestPictures
) -> None:

    class Odd(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(shape)

    with pytest.raises(WorkError, match=r"must be \(N, K\)") as caught:
        benchmark_.predict(Odd(), sixty, CPU)
    assert "\n" not in str(caught.value)


def test_a_label_that_the_network_does_not_know_is_an_error_in_one_line(
    network: nn.Module, sixty: TestPictures
) -> None:
    more = replace(sixty, labels=np.where(sixty.labels == 9, 10, sixty.labels))
    with pytest.raises(WorkError, match="label 10, but the network knows 10 classes"):
        Clean().predict(network, more, CPU)


@pytest.mark.parametrize(
    ("count", "side", "has_gradients", "sizes"),
    [
        (1200, 32, False, [500, 500, 200]),
        (1200, 64, False, [500, 500, 200]),
        (90, 224, False, [40, 40, 10]),  # 500 (64 / 224)^2 = 40.8
        (25, 224, True, [10, 10, 5]),
        (130, 32, True, [125, 5]),
        (3, 5000, True, [1, 1, 1]),
        (0, 32, False, []),
    ],
)
def test_large_pictures_and_gradients_make_smaller_batches(
    count: int, side: int, has_gradients: bool, sizes: list[int]
) -> None:
    found = list(base.batches(count, side, has_gradients=has_gradients))
    assert [rows.stop - rows.start for rows in found] == sizes
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(count))


class _Broken(nn.Module):
    """A network with one bad logit."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        logits = images.flatten(1)[:, :10].clone()
        logits[-1, 3] = self.value
        return logits


@every
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_are_an_error_and_no_prediction(
    benchmark_: Benchmark, value: float, sixty: TestPictures
) -> None:
    with pytest.raises(WorkError, match="NaN or infinite"):
        benchmark_.predict(_Broken(value), sixty, CPU)


WITHOUT_FILES = [one for one in BENCHMARKS if "frost" not in getattr(one, "names", ())]  # frost has pictures


@pytest.mark.parametrize("benchmark_", WITHOUT_FILES, ids=repr)
def test_what_depends_on_the_test_set_alone_has_no_version(benchmark_: Benchmark) -> None:
    assert benchmark_.version() == ""


@every
def test_settings_survive_a_file(benchmark_: Benchmark) -> None:
    assert type(benchmark_).read(benchmark_.model_dump(mode="json"), "benchmark") == benchmark_


@every
def test_the_identity_in_a_row_is_enough_to_measure_again(
    benchmark_: Benchmark, network: nn.Module, sixty: TestPictures
) -> None:
    predictions = benchmark_.predict(network, sixty, CPU)
    again = type(benchmark_).from_identity(json.loads(json.dumps(benchmark_.identity())))
    assert again.measure(predictions) == benchmark_.measure(predictions)
    assert again.identity() == benchmark_.identity()


@every
def test_each_says_what_it_is_and_where_it_comes_from(benchmark_: Benchmark) -> None:
    assert benchmark_.summary
    assert "\n" not in benchmark_.summary
    assert benchmark_.source
    assert all(metric in metrics.DIRECTIONS for metric in benchmark_.headline)


def test_a_network_that_has_learned_is_right_on_most_and_fooled_by_attacks(
    network: nn.Module, sixty: TestPictures
) -> None:
    def value(benchmark_: Benchmark, metric: str) -> float:
        rows = benchmark_.measure(benchmark_.predict(network, sixty, CPU))
        return next(row.value for row in rows if (row.metric, row.condition, row.severity) == (metric, "", None))

    errors = [value(Clean(), "error"), *(value(Adversaries(eps=eps / 255), "error") for eps in (2, 10, 40))]
    errors[-1] = value(Adversaries(eps=40 / 255, step_size=10 / 255), "error")
    assert errors[0] < 0.2
    assert all(weaker <= stronger for weaker, stronger in pairwise(errors))
    assert errors[-1] > 0.5


SPLITS: list[Callable[[int], list[NDArray[np.bool_]]]] = [
    lambda count: [np.arange(count) < 3, np.arange(count) >= 3],
    lambda count: [np.ones(count, bool), np.zeros(count, bool)],
]


@pytest.mark.parametrize("split", SPLITS)
def test_predictions_split_and_join_to_themselves(
    split: Callable[[int], list[NDArray[np.bool_]]], network: nn.Module, sixty: TestPictures
) -> None:
    predictions = Clean().predict(network, sixty, CPU)
    joined = Predictions.join([predictions.select(mask) for mask in split(60)])
    assert list(joined.columns) == list(predictions.columns)
    for name, column in predictions.columns.items():
        assert np.array_equal(joined.columns[name], column)
        assert joined.columns[name].dtype == column.dtype
    assert np.array_equal(predictions.correct, predictions.predicted == sixty.labels)
