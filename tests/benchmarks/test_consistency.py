"""Consistency: frame by frame against a plain loop in the words of the definition, published files, AlexNet's rates."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pixmix_ray.benchmarks import TestPictures, base, made_pictures
from pixmix_ray.benchmarks import consistency as module
from pixmix_ray.benchmarks.consistency import Consistency
from pixmix_ray.corruptions.p.sequences import PERTURBATIONS, frames, perturb
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import DataError, RequestError, UnknownNameError, WorkError
from pixmix_ray.metrics import Measurement, Predictions

CPU = torch.device("cpu")
NAMES = ("shot_noise", "translate")  # compared with the first frame, and with the one before


class _Grid(nn.Module):
    """64 pixels of a picture of any size, strong enough that a network sees noise in them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        step = images.shape[-1] // 8
        return 10 * images[:, :, : 8 * step : step, : 8 * step : step]


def _network(classes: int = 10) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(_Grid(), nn.Flatten(), nn.Linear(192, 30), nn.Tanh(), nn.Linear(30, classes))
    return network.eval().requires_grad_(requires_grad=False)


def _test_pictures(count: int = 12) -> TestPictures:
    digits = Digits().load()
    return TestPictures(
        images=np.array(digits.test_images[:count]),
        labels=np.array(digits.test_labels[:count]),
        indices=np.arange(count, dtype=np.int64),
    )


def _large(count: int = 2) -> TestPictures:
    """Pictures of the size from which on ImageNet's constants hold."""
    draws = np.random.Generator(np.random.Philox(key=6))
    images = draws.integers(0, 256, (count, 8, 8, 3), np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    return TestPictures(images=images, labels=np.arange(count), indices=np.arange(count))


def _rankings(network: nn.Module, sequences: NDArray[np.uint8]) -> list[list[list[int]]]:
    """For each sequence and frame all classes, the best first; a frame at a time."""
    found: list[list[list[int]]] = []
    for sequence in sequences:
        found.append([])
        for frame in sequence:
            logits = network(torch.tensor(frame.transpose(2, 0, 1)[None] / 255, dtype=torch.float32))[0].tolist()
            found[-1].append(sorted(range(len(logits)), key=lambda place: (-logits[place], place)))
    return found


def _pairs(name: str, count: int, difficulty: int) -> list[tuple[int, int]]:
    if "noise" in name:  # the rule of the reference code
        return [(0, frame) for frame in range(1, count)]
    return [(frame - difficulty, frame) for frame in range(difficulty, count)]


def _top5(before: list[int], after: list[int]) -> int:
    return sum(abs(min(i, 5) - min(after.index(before[i]), 5)) for i in range(5))


def _zipf(before: list[int], after: list[int]) -> float:
    return sum(abs(1 / (i + 1) - 1 / (after.index(name) + 1)) / (i + 1) for i, name in enumerate(before))


def _row(rows: list[Measurement], metric: str, condition: str = "") -> Measurement:
    (found,) = [row for row in rows if (row.metric, row.condition) == (metric, condition)]
    return found


@pytest.mark.parametrize("difficulty", [1, 3])
def test_flips_and_distances_are_those_of_a_plain_loop_over_frames(difficulty: int) -> None:
    network, test = _network(), _test_pictures()
    test = TestPictures(images=test.images, labels=test.labels, indices=test.indices * 30 + 2)
    benchmark = Consistency(names=NAMES, difficulty=difficulty, seed=5)
    rows = benchmark.measure(benchmark.predict(network, test, CPU))
    means: dict[str, list[list[float]]] = {"flip_rate": [], "top5_distance": [], "zipf_distance": []}
    for name in NAMES:
        sequences = perturb(test.images, name, 5, difficulty=difficulty, indices=test.indices)
        pairs = _pairs(name, sequences.shape[1], difficulty)
        by_sequence: dict[str, list[float]] = {metric: [] for metric in means}
        for sequence in _rankings(network, sequences):
            of = [(sequence[a], sequence[b]) for a, b in pairs]
            by_sequence["flip_rate"].append(float(np.mean([a[0] != b[0] for a, b in of])))
            by_sequence["top5_distance"].append(float(np.mean([_top5(a, b) for a, b in of])))
            by_sequence["zipf_distance"].append(float(np.mean([_zipf(a, b) for a, b in of])))
        for metric, values in by_sequence.items():
            row = _row(rows, metric, name)
            assert row.value == pytest.approx(np.mean(values), rel=1e-6)
            assert row.n == 12
            assert row.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(12), rel=1e-6)
            means[metric].append(values)
    for metric, mean in (("flip_rate", "mfr"), ("top5_distance", "mt5d"), ("zipf_distance", "mean_zipf_distance")):
        assert _row(rows, mean).value == pytest.approx(np.mean(means[metric]), rel=1e-6)
        # a picture's two sequences are averaged before the error over pictures is taken
        spread = np.std(np.mean(means[metric], axis=0), ddof=1) / math.sqrt(12)
        assert _row(rows, mean).standard_error == pytest.approx(spread, rel=1e-6)
    assert 0 < _row(rows, "mfr").value < 1


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_by_default_the_ten_of_the_size_are_shown_with_all_their_frames(variant: str) -> None:
    test = _test_pictures(2) if variant == "cifar" else _large(1)
    predictions = Consistency().predict(_network(), test, CPU)
    wanted = PERTURBATIONS["cifar" if variant == "cifar" else "imagenet"]
    assert len(wanted) == 10
    for name in wanted:
        part = predictions.select(predictions.condition == name)
        count = frames(name, "cifar" if variant == "cifar" else "imagenet")
        assert len(part) == count * len(test.labels)
        assert part.extras["frame"].tolist() == list(range(count)) * len(test.labels)
    assert set(predictions.condition.tolist()) == set(wanted)


def test_predictions_are_kept_small() -> None:
    columns = Consistency(names=("tilt",)).predict(_network(), _test_pictures(2), CPU).columns
    assert {name: str(columns[name].dtype) for name in Consistency.extras} == {
        **{f"top{rank}": "int16" for rank in range(1, 6)},
        "frame": "int16",
        "zipf_distance": "float32",
        "side": "int16",
    }
    assert np.isnan(np.asarray(columns["confidence"], np.float32)).all()
    assert np.array_equal(columns["top1"], columns["predicted"])


def test_what_is_excluded_is_left_out_and_said() -> None:
    benchmark = Consistency(names=("tilt", "scale", "shear"), exclude=("tilt",))
    assert set(benchmark.predict(_network(), _test_pictures(2), CPU).condition.tolist()) == {"scale", "shear"}
    assert benchmark.notes() == ("only scale, shear",)
    assert Consistency(exclude=("tilt",)).notes() == ("without tilt",)
    assert Consistency().notes() == ()
    with pytest.raises(DataError, match="exclude leaves no perturbation"):
        Consistency(names=("tilt",), exclude=("tilt",)).prepare(_test_pictures(2))


def test_the_order_of_rows_means_nothing() -> None:
    benchmark = Consistency(names=NAMES)
    predictions = benchmark.predict(_network(), _test_pictures(), CPU)
    order = np.random.Generator(np.random.Philox(key=1)).permutation(len(predictions))
    shuffled = Predictions.of_columns({name: column[order] for name, column in predictions.columns.items()})
    assert benchmark.measure(shuffled) == benchmark.measure(predictions)


def test_no_more_than_a_batch_of_sequences_is_there_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    shown: list[int] = []

    def counted(images: NDArray[np.uint8], name: str, *rest: int, **named: object) -> NDArray[np.uint8]:
        made.append(len(images))
        return perturb(images, name)

    network = _network()
    network.register_forward_pre_hook(lambda _, inputs: shown.append(len(inputs[0])))
    whole = Consistency(names=("translate",)).predict(_network(), _test_pictures(), CPU)
    monkeypatch.setattr(module, "perturb", counted)
    monkeypatch.setattr(base, "BATCH", 5)
    monkeypatch.setattr(made_pictures, "PIECE_BYTES", 5 * module.MOST_FRAMES * 32 * 32 * 3)
    few = Consistency(names=("translate",), keep_gb=0).predict(network, _test_pictures(), CPU)
    assert made == [5, 5, 2]
    assert max(shown) == 5
    for name in ("index", "frame", "predicted", *(f"top{rank}" for rank in range(1, 6))):
        assert np.array_equal(few.columns[name], whole.columns[name])


def test_a_network_with_fewer_than_five_classes_is_ranked_as_far_as_it_goes() -> None:
    benchmark = Consistency(names=("translate",))
    rows = benchmark.measure(benchmark.predict(_network(classes=3), _test_pictures(), CPU))
    rankings = _rankings(_network(classes=3), perturb(_test_pictures().images, "translate"))
    # by the definition with five ranks of which two are never held
    values = [[a, b] for sequence in rankings for a, b in pairwise(sequence)]
    distances = [sum(abs(i - b.index(a[i])) for i in range(3)) for a, b in values]
    assert _row(rows, "top5_distance", "translate").value == pytest.approx(np.mean(distances))


def test_broken_networks_are_no_prediction() -> None:
    with pytest.raises(WorkError, match="NaN or infinite"):
        Consistency(names=("tilt",)).predict(nn.Sequential(nn.Flatten(), _Infinite()), _test_pictures(2), CPU)


class _Infinite(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features[:, :4] / 0


def _publish(folder: Path, difficulty: int = 1) -> None:
    """Sequences of the first test pictures, made with a seed of their own, in the layout of CIFAR-10-P."""
    folder.mkdir()
    for name in NAMES:
        suffix = f"_{difficulty}" if "noise" in name and difficulty > 1 else ""
        sequences = perturb(_test_pictures(20).images, name, 77, difficulty=difficulty)
        np.save(folder / f"{name}{suffix}.npy", sequences)


@pytest.mark.parametrize("difficulty", [1, 2])
def test_published_files_are_shown_in_place_of_sequences_made_here(tmp_path: Path, difficulty: int) -> None:
    _publish(tmp_path / "p", difficulty)
    benchmark = Consistency(names=NAMES, files=tmp_path / "p", difficulty=difficulty, limit=4)
    whole = _test_pictures(20)
    test = benchmark.pictures(whole.images, whole.labels)
    benchmark.prepare(test)
    predictions = benchmark.predict(_network(), test, CPU)
    same = Consistency(names=NAMES, seed=77, difficulty=difficulty).predict(_network(), test, CPU)
    for name, column in same.columns.items():
        assert np.array_equal(predictions.columns[name], column, equal_nan=column.dtype.kind == "f")
    assert benchmark.version().startswith("official-")
    assert benchmark.identity()["files"] == "official"
    assert Consistency.from_identity(benchmark.identity()).measure(predictions) == benchmark.measure(predictions)
    assert "the published files" in benchmark.notes()


def test_published_files_of_other_pictures_are_refused(tmp_path: Path) -> None:
    _publish(tmp_path / "p")
    benchmark = Consistency(names=NAMES, files=tmp_path / "p")
    test = _test_pictures(20)
    benchmark.prepare(test)
    with pytest.raises(
        DataError, match=r"shows other pictures than the test set|starts its sequences with other pictures"
    ):
        benchmark.prepare(TestPictures(images=test.images[::-1], labels=test.labels, indices=test.indices))
    with pytest.raises(DataError, match=r"tilt\.npy is missing: it holds 31 frames"):
        Consistency(names=("tilt",), files=tmp_path / "p").version()


def _cell(file: Path, measured: list[Measurement], difficulty: int = 1) -> Path:
    """A file of measurements as the results folder holds them."""
    rows = [
        {
            "benchmark": "consistency",
            "benchmark_settings": json.dumps({"difficulty": difficulty}),
            "metric": row.metric,
            "condition": row.condition,
            "severity": None,
            "value": row.value,
        }
        for row in measured
    ]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def test_imagenet_is_divided_by_alexnets_own_cell_and_called_unnormalised_without_it(tmp_path: Path) -> None:
    test, alexnet, other = _large(6), _network(), _network(classes=12)
    benchmark = Consistency(names=NAMES)
    by_alexnet = benchmark.measure(benchmark.predict(alexnet, test, CPU))
    plain = benchmark.measure(benchmark.predict(other, test, CPU))
    for rows in (by_alexnet, plain):
        assert {row.metric for row in rows} == {
            *(f"{name}_unnormalised" for name in ("flip_rate", "mfr", "top5_distance", "mt5d")),
            *("zipf_distance", "mean_zipf_distance"),
        }
    file = _cell(tmp_path / "cell.parquet", by_alexnet)
    normalised = Consistency.read({"names": NAMES, "alexnet": "cell.parquet"}, "benchmark consistency", tmp_path)
    normalised.prepare(test)
    rows = normalised.measure(normalised.predict(other, test, CPU))
    for metric, mean in (("flip_rate", "mfr"), ("top5_distance", "mt5d")):
        ratios = [
            _row(plain, f"{metric}_unnormalised", name).value / _row(by_alexnet, f"{metric}_unnormalised", name).value
            for name in NAMES
        ]
        assert [_row(rows, metric, name).value for name in NAMES] == pytest.approx(ratios)
        assert _row(rows, mean).value == pytest.approx(np.mean(ratios))
        assert _row(rows, f"{mean}_unnormalised") == _row(plain, f"{mean}_unnormalised")
    # the numbers are the setting, so the file may go
    file.unlink()
    again = Consistency.read(normalised.model_dump(mode="json"), "benchmark")
    assert again == normalised
    assert Consistency.from_identity(normalised.identity()) == normalised
    with pytest.raises(DataError, match="holds a path"):  # of somebody else's choice
        Consistency.from_identity({**normalised.identity(), "alexnet": str(_cell(tmp_path / "c.parquet", by_alexnet))})


def _rates(**values: object) -> dict[str, object]:
    return {"alexnet": {"tilt": {"flip_rate": 0.1, "top5_distance": 2.0, **values}}}


def test_alexnets_file_must_be_a_cell_of_this_benchmark_at_the_same_difficulty(tmp_path: Path) -> None:
    row = Measurement(metric="flip_rate_unnormalised", value=0.1, n=5, condition="tilt")
    _cell(tmp_path / "of_2.parquet", [row], difficulty=2)
    _cell(tmp_path / "other.parquet", [Measurement(metric="mce", value=0.1, n=5)])
    _cell(tmp_path / "half.parquet", [row])
    (tmp_path / "broken.parquet").write_bytes(b"abc")
    pq.write_table(pa.table({"value": [1.0]}), tmp_path / "columns.parquet")
    for name, message in {
        "missing": "cannot read AlexNet's rates from",
        "broken": "cannot read AlexNet's rates from",
        "columns": "cannot read AlexNet's rates from",
        "other": "has no rows of flip_rate_unnormalised",
        "of_2": "was measured at difficulty 2, and the benchmark has 1",
        "half": "top5_distance",
    }.items():
        with pytest.raises(RequestError, match=message) as caught:
            Consistency.read({"alexnet": f"{name}.parquet"}, "benchmark consistency", tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "is_large", "message"),
    [
        (_rates(), False, "AlexNet's rates apply to ImageNet's pictures alone"),
        (_rates(), True, "alexnet has no rates for gaussian_noise"),
        ({"crop": 33}, False, "crop = 33 is more than the 32 of the test pictures"),
    ],
)
def test_what_does_not_fit_the_pictures_is_found_before_any_work(
    settings: dict[str, object], is_large: bool, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Consistency.read(settings, "benchmark").prepare(_large() if is_large else _test_pictures(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"difficulty": 4}, "difficulty = 4"),
        ({"difficulty": 0}, "difficulty = 0"),
        ({"names": []}, "names"),
        (_rates(flip_rate=0), "flip_rate = 0"),
        (_rates(flip_rat=0), "flip_rat"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Consistency.read(settings, "benchmark consistency")
    assert "\n" not in str(caught.value)


def test_an_unknown_perturbation_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown perturbation 'tild', did you mean 'tilt'"):
        Consistency.read({"names": ["tild"]}, "benchmark consistency")


def test_frames_of_a_crop_are_cut_from_larger_pictures() -> None:
    test = _large(1)
    predictions = Consistency(names=("translate",), crop=100).predict(_network(), test, CPU)
    shown = perturb(test.images, "translate", crop=100)
    assert shown.shape[2:4] == (100, 100)
    assert predictions.predicted.tolist() == [frame[0] for frame in _rankings(_network(), shown)[0]]
