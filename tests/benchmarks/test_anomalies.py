"""Anomaly detection: generated sets against scipy, the protocol against the facts, areas against scikit-learn."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import integrate, ndimage, stats
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from pixmix_ray.benchmarks import Anomalies, Measurement, Predictions, TestPictures, base
from pixmix_ray.benchmarks.anomalies import blobs, gaussian, rademacher
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import DataError, RequestError, UnknownNameError

CPU = torch.device("cpu")
SETS = ("gaussian", "rademacher", "blobs")


class _Recorder(nn.Module):
    """A network with fixed random weights that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.network = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10))
        self.requires_grad_(requires_grad=False).eval()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.detach().clone())
        return 4 * self.network(images)  # type: ignore[no-any-return]


def _digits(count: int = 60) -> TestPictures:
    digits = Digits().load()
    return TestPictures(
        images=np.array(digits.test_images[:count]),
        labels=np.array(digits.test_labels[:count]),
        indices=np.arange(count, dtype=np.int64),
    )


def _uniforms(count: int) -> NDArray[np.float64]:
    return np.random.Generator(np.random.Philox(key=11)).uniform(2.0**-54, 1, (count, 32, 32, 3))


def _row(rows: list[Measurement], metric: str, condition: str = "") -> Measurement:
    (found,) = [row for row in rows if (row.metric, row.condition) == (metric, condition)]
    return found


def _signed(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """From [0, 1] back to [-1, 1], the scale of the reference."""
    return 2 * pictures.astype(np.float64) - 1


def test_gaussian_pictures_are_normal_of_deviation_half_clipped_at_one() -> None:
    values = _signed(gaussian(_uniforms(40))).ravel()
    num = len(values)
    assert (values.min(), values.max()) == (-1, 1)
    clipped = stats.norm.sf(2)  # on each side
    for share in ((values == 1).mean(), (values == -1).mean()):
        assert share == pytest.approx(clipped, abs=5 * math.sqrt(clipped / num))
    within, _ = integrate.quad(lambda z: (z / 2) ** 2 * stats.norm.pdf(z), -2, 2)
    variance = within + 2 * clipped
    assert values.mean() == pytest.approx(0, abs=5 * math.sqrt(variance / num))
    assert values.var() == pytest.approx(variance, abs=5 * math.sqrt(2 / num) * variance)
    inside = values[np.abs(values) < 1]
    expected = stats.truncnorm(-2, 2, scale=0.5)
    assert stats.kstest(inside[:20_000], expected.cdf).pvalue > 1e-3


def test_rademacher_values_are_minus_one_or_one_with_equal_probability() -> None:
    values = _signed(rademacher(_uniforms(40)))
    assert set(np.unique(values)) == {-1.0, 1.0}
    assert (values > 0).mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(values.size))
    # every value for itself: colours and neighbours are independent
    tolerance = 5 / math.sqrt(values[..., 0].size)
    assert (values[..., 0] * values[..., 1]).mean() == pytest.approx(0, abs=tolerance)
    assert (values[:, :, 1:] * values[:, :, :-1]).mean() == pytest.approx(0, abs=tolerance)


def test_blobs_are_those_of_scipy_picture_by_picture_over_all_three_axes() -> None:
    draws = _uniforms(12)
    made = blobs(draws)
    for picture, draw in zip(made, draws, strict=True):
        lit = (draw < 0.7).astype(np.float64)
        # sigma 1.5, radius int(4 * 1.5 + .5) = 6, nearest edge, colours blurred too
        blurred = ndimage.gaussian_filter(lit, sigma=1.5, mode="nearest", radius=6)
        expected = 2 * np.where(blurred < 0.75, 0, blurred) - 1
        np.testing.assert_allclose(_signed(picture), expected, rtol=0, atol=1e-6)


def test_blobs_by_statistics() -> None:
    made = blobs(_uniforms(60))
    values = made[made > 0]
    assert float(values.min()) >= 0.75
    # the blur leaves mean .7; the threshold above it leaves the smaller part lit
    assert 0.1 < len(values) / made.size < 0.45
    # blurred across colours, they are nearly grey, unlike noise
    spread = np.ptp(np.where(made > 0, 1, 0), axis=3).mean()
    assert spread < 0.25


@pytest.mark.parametrize("make", [gaussian, rademacher, blobs])
def test_generated_pictures_are_floats_in_0_to_1_and_leave_the_draws_alone(make: type) -> None:
    draws = _uniforms(3)
    before = draws.copy()
    made = make(draws)
    assert made.dtype == np.float32
    assert made.shape == (3, 32, 32, 3)
    assert 0 <= made.min() <= made.max() <= 1
    assert np.array_equal(draws, before)


@pytest.mark.parametrize(("inside", "outside"), [(60, 12), (364, 72), (5, 1), (4, 1)])
def test_there_is_one_strange_picture_for_five_test_pictures(inside: int, outside: int) -> None:
    predictions = Anomalies().predict(_Recorder(), _digits(inside), CPU)
    counts = {name: int((predictions.condition == name).sum()) for name in np.unique(predictions.condition)}
    assert counts == {"in_distribution": inside, **dict.fromkeys(SETS, outside)}
    assert set(predictions.label[predictions.condition != "in_distribution"].tolist()) == {-1}
    rows = Anomalies().measure(predictions)
    assert {row.n for row in rows if row.condition} == {inside + outside}


def test_the_pictures_shown_are_those_sets() -> None:
    network = _Recorder()
    Anomalies().predict(network, _digits(), CPU)
    inside, normal, signs, spots = network.shown
    torch.testing.assert_close(inside, torch.from_numpy(_digits().images).permute(0, 3, 1, 2).float() / 255)
    assert 0.02 < float((normal == 1).float().mean()) < 0.026
    assert torch.equal(signs, signs.round())
    assert float(spots[spots > 0].min()) >= 0.75
    assert len({len(normal), len(signs), len(spots), 12}) == 1
    assert len(torch.unique(signs.flatten(1), dim=0)) == 12  # each another


def test_generated_sets_depend_on_the_seed_and_grow_without_changing() -> None:
    def first(seed: int, count: int) -> list[Tensor]:
        network = _Recorder()
        Anomalies(seed=seed).predict(network, _digits(count), CPU)
        return [shown[:4] for shown in network.shown[1:]]

    again, longer, other = first(0, 20), first(0, 60), first(1, 20)
    assert all(torch.equal(a, b) for a, b in zip(again, longer, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(again, other, strict=True))


def test_areas_are_those_of_scikit_learn_with_strange_pictures_as_the_positive_class() -> None:
    predictions = Anomalies().predict(_Recorder(), _digits(364), CPU)
    rows = Anomalies().measure(predictions)
    inside = predictions.confidence[predictions.condition == "in_distribution"]
    for name in SETS:
        outside = predictions.confidence[predictions.condition == name]
        scores = -np.concatenate([inside, outside]).astype(np.float64)  # the less confident, the stranger
        strange = np.r_[np.zeros(364), np.ones(72)]
        assert _row(rows, "auroc", name).value == pytest.approx(roc_auc_score(strange, scores), abs=1e-5)
        assert _row(rows, "aupr", name).value == pytest.approx(average_precision_score(strange, scores), abs=1e-5)
        # by its definition: the share of test pictures flagged where the share of strange ones is nearest to .95
        thresholds = np.unique(scores)
        recalls = np.array([(scores[strange == 1] >= t).mean() for t in thresholds])
        nearest = thresholds[np.abs(recalls - 0.95) == np.abs(recalls - 0.95).min()]
        flagged = [(scores[strange == 0] >= threshold).mean() for threshold in nearest]
        assert min(flagged) - 1e-6 <= _row(rows, "fpr95", name).value <= max(flagged) + 1e-6
    for metric in ("auroc", "aupr", "fpr95"):
        values = [_row(rows, metric, name).value for name in SETS]
        assert _row(rows, metric).value == pytest.approx(sum(values) / 3)


def _made_up(inside: list[float], outside: list[float]) -> Predictions:
    count = len(inside) + len(outside)
    return Predictions(
        condition=np.array(["in_distribution"] * len(inside) + ["blobs"] * len(outside)),
        severity=np.zeros(count, np.int8),
        index=np.arange(count, dtype=np.int32),
        label=np.array([0] * len(inside) + [-1] * len(outside), np.int16),
        predicted=np.zeros(count, np.int16),
        confidence=np.array(inside + outside, np.float32),
    )


@pytest.mark.parametrize(
    ("inside", "outside", "auroc", "fpr"),
    [
        ([0.9, 0.8], [0.3, 0.2], 1.0, 0.0),  # strange pictures are less sure: perfect
        ([0.3, 0.2], [0.9, 0.8], 0.0, 1.0),
        ([0.9, 0.4], [0.6, 0.1], 0.75, 0.5),  # three of four pairs in order
        ([0.5, 0.5], [0.5, 0.5], 0.5, 1.0),
    ],
)
def test_the_less_confident_picture_is_the_stranger_one(
    inside: list[float], outside: list[float], auroc: float, fpr: float
) -> None:
    rows = Anomalies(generated=("blobs",)).measure(_made_up(inside, outside))
    assert _row(rows, "auroc", "blobs").value == auroc
    assert _row(rows, "auroc").value == auroc
    assert _row(rows, "fpr95", "blobs").value == fpr


def _folder(path: Path, count: int, size: tuple[int, int] = (40, 48)) -> Path:
    """A folder of noise pictures, larger than the test pictures and not square."""
    path.mkdir()
    draws = np.random.Generator(np.random.Philox(key=count))
    for number in range(count):
        Image.fromarray(draws.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path / f"{number:03d}.png")
    return path


@pytest.fixture
def _every_warning() -> Iterator[None]:
    """Torch's warnings that come once a process come every time, so that no test hides them from another."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.usefixtures("_every_warning")
def test_a_folder_of_pictures_is_one_more_set(tmp_path: Path) -> None:
    settings = Anomalies(folders={"noise": _folder(tmp_path / "noise", 20)})
    network = _Recorder()
    predictions = settings.predict(network, _digits(), CPU)
    shown = network.shown[-1]
    assert shown.shape == (12, 3, 32, 32)  # a fifth of sixty
    # Resize(32) of the shorter side, then CenterCrop(32), of pictures floor(i * 20 / 12)
    for number in (0, 5, 11):
        with Image.open(tmp_path / "noise" / f"{number * 20 // 12:03d}.png") as image:
            resized = image.resize((38, 32), Image.Resampling.BILINEAR).crop((3, 0, 35, 32))
        expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(shown[number], expected)
    rows = settings.measure(predictions)
    names = (*SETS, "noise")
    assert {row.condition for row in rows} == {*names, ""}
    assert _row(rows, "auroc").value == pytest.approx(sum(_row(rows, "auroc", name).value for name in names) / 4)


def test_a_folder_gives_the_same_in_batches_of_seven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Anomalies(folders={"noise": _folder(tmp_path / "noise", 20)})
    whole = settings.predict(_Recorder(), _digits(), CPU)
    monkeypatch.setattr(base, "BATCH", 7)
    in_sevens = settings.predict(_Recorder(), _digits(), CPU)
    assert np.array_equal(whole.condition, in_sevens.condition)
    assert np.array_equal(whole.index, in_sevens.index)
    assert np.array_equal(whole.predicted, in_sevens.predicted)
    np.testing.assert_allclose(whole.confidence, in_sevens.confidence, rtol=0, atol=1e-6)


def test_folders_alone_and_small_ones_are_taken_whole(tmp_path: Path) -> None:
    settings = Anomalies(generated=(), folders={"few": _folder(tmp_path / "few", 3)})
    predictions = settings.predict(_Recorder(), _digits(), CPU)
    assert int((predictions.condition == "few").sum()) == 3
    rows = settings.measure(predictions)
    assert _row(rows, "auroc", "few").n == 18  # 3 and 15 of the 60 test pictures, so that the share stays 1:5
    assert _row(rows, "auroc").value == _row(rows, "auroc", "few").value


def test_the_version_follows_names_and_bytes_of_the_folders_but_not_their_place(tmp_path: Path) -> None:
    first = _folder(tmp_path / "first", 3)
    same = _folder(tmp_path / "same", 3)
    other = _folder(tmp_path / "other", 4)
    version = Anomalies(folders={"noise": first}).version()
    assert version
    assert version == Anomalies(folders={"noise": same}).version()
    assert version != Anomalies(folders={"noise": other}).version()
    assert version != Anomalies(folders={"texture": first}).version()
    settings = Anomalies(folders={"noise": first}), Anomalies(folders={"noise": same})
    assert settings[0].identity() == settings[1].identity()


def test_a_missing_or_empty_folder_is_found_by_the_version(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="missing"):
        Anomalies(folders={"textures": tmp_path / "missing"}).version()
    with pytest.raises(DataError, match="empty"):
        Anomalies(folders={"textures": tmp_path / "empty"}).version()


def test_a_picture_that_cannot_be_decoded_is_found_by_name_before_the_network_runs(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "noise", 3)
    settings = Anomalies(folders={"noise": folder})
    settings.prepare(_digits())
    (folder / "001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"001\.png"):
        settings.prepare(_digits())
    with pytest.raises(DataError, match="gone"):
        Anomalies(folders={"noise": tmp_path / "gone"}).prepare(_digits())


def test_folders_start_at_the_experiment_file(tmp_path: Path) -> None:
    _folder(tmp_path / "noise", 2)
    settings = Anomalies.read({"folders": {"noise": "noise"}}, "benchmark anomalies", tmp_path)
    assert settings.folders == {"noise": tmp_path / "noise"}


@pytest.mark.parametrize("name", ["gaussian", "blobs", "in_distribution", ""])
def test_a_folder_may_not_take_a_name_that_means_something_else(tmp_path: Path, name: str) -> None:
    # in_distribution are the test pictures, and the empty name is the mean over all sets
    with pytest.raises(RequestError, match="folders"):
        Anomalies.read({"folders": {name: str(_folder(tmp_path / "noise", 1))}}, "benchmark anomalies")


def test_an_unknown_generated_set_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="'gausian', did you mean 'gaussian'"):
        Anomalies.read({"generated": ["gausian"]}, "benchmark anomalies")


def test_no_set_at_all_is_refused() -> None:
    with pytest.raises(RequestError, match="no set at all"):
        Anomalies.read({"generated": []}, "benchmark anomalies")


def test_the_order_of_names_does_not_matter() -> None:
    assert Anomalies(generated=("blobs", "gaussian")) == Anomalies(generated=("gaussian", "blobs"))
