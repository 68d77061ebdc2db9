"""Corruptions and C-bar: against a plain loop over pictures, files in the published layouts, sums in plain Python."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Resize

from pixmix_ray.benchmarks import Corruptions, TestPictures
from pixmix_ray.benchmarks.corruptions_bar import CorruptionsBar
from pixmix_ray.corruptions import BAR_NAMES, OFFICIAL, corrupt, through_jpeg
from pixmix_ray.datasets import Digits
from pixmix_ray.datasets.official_folders import CorruptedFolders
from pixmix_ray.errors import DataError, RequestError, UnknownNameError
from pixmix_ray.metrics import ALEXNET_ERRORS, Measurement, Predictions

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


def _cells(predictions: Predictions) -> dict[tuple[str, int], int]:
    """How many rows there are of each corruption and severity."""
    cells = list(zip(predictions.condition.tolist(), predictions.severity.tolist(), strict=True))
    return {cell: cells.count(cell) for cell in cells}


def test_by_default_the_fifteen_are_shown_at_every_severity(frost: Path) -> None:
    predictions = Corruptions(frost=frost).predict(_network(), _test_pictures(2), CPU)
    assert len(OFFICIAL) == 15
    assert _cells(predictions) == {(name, severity): 2 for name in OFFICIAL for severity in range(1, 6)}
    assert Corruptions(frost=frost).notes() == ()


@pytest.fixture
def frost(tmp_path: Path) -> Path:
    """A folder of photographs of ice, or what passes for them."""
    draws = np.random.Generator(np.random.Philox(key=8))
    (tmp_path / "frost").mkdir()
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        Image.fromarray(draws.integers(0, 256, (315, 560, 3), np.uint8)).save(tmp_path / "frost" / name)
    return tmp_path / "frost"


def test_frost_is_made_of_the_photographs_in_the_folder_and_they_are_in_the_version(frost: Path) -> None:
    benchmark = Corruptions(names=("frost",), severities=(2,), frost=frost)
    shown = corrupt(_test_pictures(4).images, "frost", 2, 0, frost_folder=frost)
    predicted, _ = _one_by_one(_network(), shown)
    assert benchmark.predict(_network(), _test_pictures(4), CPU).predicted.tolist() == predicted
    assert benchmark.version().startswith("frost-")
    assert Corruptions(names=("frost",), frost=frost).version() == benchmark.version()
    assert Corruptions(frost=frost, exclude=("frost",)).version() == ""


def test_missing_photographs_of_frost_are_found_at_plan_with_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frost1\.png.*exclude: \[frost\]") as caught:
        Corruptions(frost=tmp_path).version()
    assert "\n" not in str(caught.value)


def test_what_is_excluded_is_left_out_and_said() -> None:
    benchmark = Corruptions(names=("fog", "frost", "contrast"), exclude=("frost",), severities=(1,))
    predictions = benchmark.predict(_network(), _test_pictures(2), CPU)
    assert _cells(predictions) == {("fog", 1): 2, ("contrast", 1): 2}
    assert benchmark.notes() == ("2 of the 15 corruptions: only fog, contrast",)
    assert Corruptions(exclude=("frost",)).notes() == ("14 of the 15 corruptions: without frost",)
    assert Corruptions(exclude=("frost",)).identity()["exclude"] == ["frost"]


def test_by_default_c_bar_is_the_ten_of_the_size_of_the_pictures() -> None:
    predictions = CorruptionsBar(severities=(1, 5)).predict(_network(), _test_pictures(2), CPU)
    assert len(BAR_NAMES["cifar"]) == 10
    assert _cells(predictions) == {(name, severity): 2 for name in BAR_NAMES["cifar"] for severity in (1, 5)}
    lines = predictions.select((predictions.condition == "lines") & (predictions.severity == 5))
    predicted, _ = _one_by_one(_network(), corrupt(_test_pictures(2).images, "lines", 5, 0))
    assert lines.predicted.tolist() == predicted


def test_c_bars_other_ten_are_refused_for_small_pictures() -> None:
    with pytest.raises(DataError, match="perlin_noise is not made for pictures of this size"):
        CorruptionsBar(names=("lines", "perlin_noise")).prepare(_test_pictures(2))
    with pytest.raises(DataError, match="exclude leaves no corruption of lines"):
        CorruptionsBar(names=("lines",), exclude=("lines",)).prepare(_test_pictures(2))


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


def _predictions(made_up: Cells, side: int = 32) -> Predictions:
    return Predictions.join(
        [
            Predictions(
                condition=np.full(60, name),
                severity=np.full(60, severity, np.int8),
                index=np.arange(60, dtype=np.int32),
                label=np.full(60, 3, np.int16),
                predicted=np.where(right, 3, 4).astype(np.int16),
                confidence=np.array(confidence, np.float32),
                extras={
                    "label_log_probability": np.log(np.array(confidence, np.float32)),
                    "squared_error": np.array(confidence, np.float32) / 2,
                    "side": np.full(60, side, np.int16),
                },
            )
            for (name, severity), (right, confidence) in made_up.items()
        ]
    )


@pytest.fixture(scope="module")
def measured(made_up: Cells) -> list[Measurement]:
    """What the benchmark makes of them."""
    return Corruptions(exclude=("frost",)).measure(_predictions(made_up))


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


def test_on_pictures_of_imagenets_size_errors_are_divided_by_alexnets(made_up: Cells) -> None:
    rows = Corruptions(exclude=("frost",)).measure(_predictions(made_up, side=224))
    ratios = []
    for name in ("gaussian_noise", "brightness", "contrast"):
        errors = [_error(made_up[name, severity][0]) for severity in range(1, 6)]
        ratios.append(sum(errors) / sum(ALEXNET_ERRORS[name]))
        assert _row(rows, "ce", name).value == pytest.approx(ratios[-1])
        assert _row(rows, "error", name).value == pytest.approx(sum(errors) / 5)
    mce = _row(rows, "mce")
    assert mce.value == pytest.approx(sum(ratios) / 3)
    assert _row(rows, "error").value == pytest.approx(sum(_error(right) for right, _ in made_up.values()) / 15)
    # of the mean over 60 pictures, each wrong answer weighed by its corruption's normaliser
    weights = {name: 5 / sum(ALEXNET_ERRORS[name]) / 15 for name in ALEXNET_ERRORS}
    shares = [sum(weights[name] * (not right[i]) for (name, _), (right, _) in made_up.items()) for i in range(60)]
    assert sum(shares) / 60 == pytest.approx(mce.value)
    assert mce.standard_error == pytest.approx(np.std(shares, ddof=1) / math.sqrt(60))


def test_severities_are_normalised_by_alexnets_errors_at_the_same(made_up: Cells) -> None:
    everything = _predictions(made_up, side=224)
    rows = Corruptions(exclude=("frost",), severities=(2, 4)).measure(
        everything.select(np.isin(everything.severity, (2, 4)))
    )
    errors = [_error(made_up["contrast", severity][0]) for severity in (2, 4)]
    by_alexnet = ALEXNET_ERRORS["contrast"][1] + ALEXNET_ERRORS["contrast"][3]
    assert _row(rows, "ce", "contrast").value == pytest.approx(sum(errors) / by_alexnet)


@pytest.mark.parametrize(("normaliser", "side", "is_plain"), [("nothing", 224, True), ("alexnet", 32, False)])
def test_what_is_divided_by_can_be_said(made_up: Cells, normaliser: str, side: int, is_plain: bool) -> None:
    benchmark = Corruptions.read({"normaliser": normaliser, "exclude": ["frost"]}, "benchmark corruptions")
    rows = benchmark.measure(_predictions(made_up, side=side))
    assert (_row(rows, "mce").value == pytest.approx(_row(rows, "error").value)) is is_plain


def test_a_corruption_without_a_normaliser_is_refused_on_imagenet_alone() -> None:
    benchmark = Corruptions(names=("fog", "spatter"))
    benchmark.prepare(_test_pictures(2))
    large = TestPictures(images=np.zeros((1, 224, 224, 3), np.uint8), labels=np.zeros(1, int), indices=np.arange(1))
    with pytest.raises(DataError, match="spatter by severity are not known: exclude it, or set normaliser: nothing"):
        benchmark.prepare(large)
    benchmark.model_copy(update={"normaliser": "nothing"}).prepare(large)


def test_c_bar_is_never_normalised_and_has_the_same_rows(made_up: Cells) -> None:
    renamed = dict(zip(("gaussian_noise", "brightness", "contrast"), BAR_NAMES["imagenet"], strict=False))
    cells = {(renamed[name], severity): cell for (name, severity), cell in made_up.items()}
    rows = CorruptionsBar().measure(_predictions(cells, side=224))
    plain = Corruptions(exclude=("frost",)).measure(_predictions(made_up))
    assert len(rows) == len(plain)
    for row in plain:
        other = _row(rows, row.metric, renamed.get(row.condition, row.condition), row.severity)
        assert other.value == pytest.approx(row.value)
        assert other.standard_error == pytest.approx(row.standard_error)


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
    assert first.names == tuple(name for name in OFFICIAL if name in ("contrast", "gaussian_noise"))


def test_an_unknown_corruption_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"'gausian_noise', did you mean 'gaussian_noise'"):
        Corruptions.read({"names": ["gausian_noise"]}, "benchmark corruptions")


@pytest.mark.parametrize(
    "settings",
    [{"names": []}, {"severities": []}, {"severities": [0]}, {"severities": [1, 6]}, {"exclude": list(OFFICIAL)}],
    ids=repr,
)
def test_no_corruption_and_severities_out_of_range_are_refused(settings: dict[str, list[int]]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        Corruptions.read(settings, "benchmark corruptions")


@pytest.mark.parametrize("settings", [{"severities": [0]}, {"exclude": ["fogg"]}, {"names": ["fog"]}], ids=repr)
def test_c_bar_refuses_the_same(settings: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"severity must be|'fogg'|'fog'"):
        CorruptionsBar.read(settings, "benchmark corruptions_bar")


def _official_c(folder: Path, name: str, count: int = 20) -> None:
    """Five severities of the first test pictures under a corruption, as in CIFAR-10-C, with a seed of its own."""
    test = _test_pictures(count)
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", np.concatenate([corrupt(test.images, name, s, seed=99) for s in range(1, 6)]))
    np.save(folder / "labels.npy", np.tile(test.labels, 5))


@pytest.mark.parametrize(("kind", "name"), [(Corruptions, "shot_noise"), (CorruptionsBar, "lines")])
def test_published_arrays_are_shown_in_place_of_pictures_made_here(
    tmp_path: Path, kind: type[Corruptions | CorruptionsBar], name: str
) -> None:
    _official_c(tmp_path, name)
    benchmark = kind.read({"names": [name], "files": str(tmp_path), "limit": 7}, "benchmark")
    assert isinstance(benchmark, Corruptions | CorruptionsBar)
    whole = _test_pictures(20)
    test = benchmark.pictures(whole.images, whole.labels)
    benchmark.prepare(test)
    predictions = benchmark.predict(_network(), test, CPU)
    for severity in (1, 4):
        part = predictions.select(predictions.severity == severity)
        shown = corrupt(whole.images, name, severity, seed=99)[test.indices]
        assert part.predicted.tolist() == _one_by_one(_network(), shown)[0]
        assert part.index.tolist() == test.indices.tolist()


@pytest.mark.parametrize(("kind", "name"), [(Corruptions, "shot_noise"), (CorruptionsBar, "lines")])
def test_every_row_can_say_whose_pictures_they_were(
    tmp_path: Path, kind: type[Corruptions | CorruptionsBar], name: str
) -> None:
    _official_c(tmp_path / "a", name)
    _official_c(tmp_path / "b", name)
    here, official, moved = (
        kind.read({"names": [name], "files": files}, "benchmark")
        for files in (None, str(tmp_path / "a"), str(tmp_path / "b"))
    )
    assert here.version() == ""
    assert official.version().startswith("official-")
    assert here.identity()["files"] is None
    assert official.identity() == moved.identity() == {**here.identity(), "files": "official"}
    assert official.version() == moved.version()
    assert "the published files" in official.notes()
    assert kind.from_identity(official.identity()).identity() == official.identity()


def test_broken_or_missing_files_are_found_before_any_forward_pass(tmp_path: Path) -> None:
    _official_c(tmp_path, "fog", count=12)
    benchmark = Corruptions(names=("fog", "snow"), files=tmp_path)
    for check in (benchmark.version, lambda: benchmark.prepare(_test_pictures(12))):
        with pytest.raises(DataError, match=r"snow\.npy is missing: it holds five severities"):
            check()
    with pytest.raises(DataError, match=r"labels\.npy is of 12 test pictures, the data set has 13"):
        Corruptions(names=("fog",), files=tmp_path).prepare(_test_pictures(13))


@pytest.mark.parametrize(("kind", "name"), [(Corruptions, "fog"), (CorruptionsBar, "perlin_noise")])
def test_published_folders_are_shown_as_they_are(
    tmp_path: Path, kind: type[Corruptions | CorruptionsBar], name: str
) -> None:
    draws = np.random.Generator(np.random.Philox(key=4))
    images = draws.integers(0, 256, (5, 4, 128, 128, 3), np.uint8)
    for severity, pictures in enumerate(images, 1):
        for place, picture in enumerate(pictures):
            file = tmp_path / name / f"{severity * 0.8:.2f}" / f"n0{place // 2}" / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
    test = TestPictures(
        images=np.zeros((3, 128, 128, 3), np.uint8), labels=np.array([0, 0, 1]), indices=np.array([0, 1, 3])
    )
    benchmark = kind.read({"names": [name], "files": str(tmp_path), "severities": [2, 5]}, "benchmark")
    assert benchmark.version().startswith("official-")
    benchmark.prepare(test)
    recorder = _Recorder()
    predictions = benchmark.predict(recorder, test, CPU)
    shown = torch.cat(recorder.shown).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(shown, np.concatenate([images[1][[0, 1, 3]], images[4][[0, 1, 3]]]))
    assert {row.metric for row in benchmark.measure(predictions)} >= {"error", "ce", "mce", "brier_score"}


class _Recorder(nn.Module):
    """Knows five classes, and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(images.clone())
        return images.flatten(1)[:, :5]


def test_no_more_than_a_batch_of_corrupted_pictures_is_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from pixmix_ray.benchmarks import corruptions as module
    from pixmix_ray.benchmarks import made_pictures

    made: list[int] = []

    def counted(images: NDArray[np.uint8], *rest: object, **named: object) -> NDArray[np.uint8]:
        made.append(len(images))
        return images

    monkeypatch.setattr(module, "corrupt", counted)
    test = _test_pictures(60)
    monkeypatch.setattr(made_pictures, "PIECE_BYTES", 25 * test.images[0].size)
    Corruptions(names=("fog",), severities=(1,), keep_gb=0).predict(_network(), test, CPU)
    assert made == [25, 25, 10]


@pytest.mark.parametrize(("kind", "name"), [(Corruptions, "contrast"), (CorruptionsBar, "lines")])
def test_pictures_made_here_may_be_saved_as_the_published_ones_were(
    kind: type[Corruptions | CorruptionsBar], name: str
) -> None:
    test = _test_pictures(3)
    benchmark = kind.read({"names": [name], "severities": [2], "jpeg_quality": 85}, "benchmark")
    recorder = _Recorder()
    benchmark.predict(recorder, test, CPU)
    shown = torch.cat(recorder.shown).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(shown, through_jpeg(corrupt(test.images, name, 2), 85))
    assert benchmark.identity()["jpeg_quality"] == 85
    assert not {"jpeg_quality", "resize"} & set(kind().identity())


def test_published_folders_may_be_resized_as_the_official_code_does(tmp_path: Path) -> None:
    picture = np.random.Generator(np.random.Philox(key=4)).integers(0, 256, (224, 224, 3), np.uint8)
    for severity in range(1, 6):
        (tmp_path / "fog" / str(severity) / "n01").mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "fog" / str(severity) / "n01" / "0.png")
    files = CorruptedFolders(folder=tmp_path, names=("fog",), severities=(1,), resize=256)
    (found,) = files.images("fog", 1, np.array([0]), 224)
    by_torchvision = Compose([Resize(256), CenterCrop(224)])(Image.fromarray(picture))
    assert np.array_equal(found, np.asarray(by_torchvision))
    benchmark = Corruptions.read({"names": ["fog"], "files": str(tmp_path), "resize": 256}, "benchmark corruptions")
    assert benchmark.identity()["resize"] == 256


def test_the_mean_over_every_corruption_and_severity_is_a_row_of_its_own(
    made_up: Cells, measured: list[Measurement]
) -> None:
    values = [_rms(confidence, right) for right, confidence in made_up.values()]
    assert _row(measured, "rms_calibration_error_by_severity").value == pytest.approx(sum(values) / 15, abs=1e-6)
    assert _row(measured, "rms_calibration_error").value != pytest.approx(sum(values) / 15, abs=1e-3)


def test_an_error_that_falls_with_severity_is_noted_in_the_row() -> None:
    predictions = _predictions(
        {("fog", s): ([i >= 60 - 12 * (6 - s) for i in range(60)], [0.5] * 60) for s in range(1, 6)}
    )
    notes = {row.condition: row.note for row in Corruptions(names=("fog",)).measure(predictions) if row.metric == "ce"}
    assert notes == {"fog": ""}
    falling = replace(predictions, severity=(6 - predictions.severity).astype(np.int8))
    (note,) = (row.note for row in Corruptions(names=("fog",)).measure(falling) if row.metric == "ce")
    assert note == "error falls from 80.0% at severity 1 to 0.0% at 5"


def test_frost_is_left_out_where_there_are_no_photographs_and_the_row_says_so(
    made_up: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmix_ray.benchmarks.corruptions.has_installed_photographs", lambda: False)
    found = Corruptions()
    assert found.exclude == ("frost",)
    assert "without frost, which needs photographs of ice: pip install" in found.notes()[0]
    assert _row(found.measure(_predictions(made_up)), "mce").note == "14 of the 15 corruptions: without frost"
    assert Corruptions.from_identity(found.identity()).exclude == ("frost",)
    several: list[dict[str, object]] = [
        {"exclude": []},
        {"names": ["frost"]},
        {"frost": "somewhere"},
        {"files": "somewhere"},
    ]
    for asked in several:
        assert "frost" in Corruptions.read(asked, "benchmark corruptions").wanted
    monkeypatch.setattr("pixmix_ray.benchmarks.corruptions.has_installed_photographs", lambda: True)
    assert Corruptions().exclude == ()
