"""Anomaly detection: generated sets against scipy, the protocol against the facts, areas against scikit-learn."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import integrate, ndimage, special, stats
from scipy.io import savemat
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from pixmix_ray.benchmarks import Anomalies, TestPictures, base
from pixmix_ray.benchmarks.outlier_sets import PAPER_SETS, blobs, gaussian, rademacher
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import DataError, RequestError, UnknownNameError, WorkError
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.models import Normalise

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
        extras={
            "max_logit": np.array(inside + outside, np.float32),
            "energy": -np.array(inside + outside, np.float32),
            "draw": np.zeros(count, np.uint8),
        },
    )


def test_further_scores_are_minus_the_largest_logit_and_the_free_energy_of_the_logits() -> None:
    network, test = _Recorder(), _digits(120)
    settings = Anomalies(generated=("blobs",))
    rows = settings.measure(settings.predict(network, test, CPU))
    logits = np.concatenate([network(shown).double().numpy() for shown in list(network.shown)])
    strange = np.r_[np.zeros(120), np.ones(24)]
    scores = {"": -special.softmax(logits, axis=1).max(axis=1), "_max_logit": -logits.max(axis=1)}
    scores["_energy"] = -special.logsumexp(logits, axis=1)
    for suffix, score in scores.items():
        for condition in ("blobs", ""):
            found = _row(rows, f"auroc{suffix}", condition).value
            assert found == pytest.approx(roc_auc_score(strange, score), abs=1e-4)
            found = _row(rows, f"aupr{suffix}", condition).value
            assert found == pytest.approx(average_precision_score(strange, score), abs=1e-4)
    fewer = Anomalies(generated=("blobs",), scores=("msp",)).measure(settings.predict(network, test, CPU))
    assert {row.metric for row in fewer} == {"auroc", "aupr", "fpr95"}
    assert [row for row in rows if row.metric in ("auroc", "aupr", "fpr95")] == fewer


# several draws


def test_values_are_means_over_draws_and_the_spread_is_theirs(tmp_path: Path) -> None:
    settings = Anomalies(generated=("gaussian",), folders={"noise": _folder(tmp_path / "noise", 30)}, repeats=3)
    network, test = _Recorder(), _digits(60)
    predictions = settings.predict(network, test, CPU)
    rows = settings.measure(predictions)
    inside = predictions.confidence[predictions.condition == "in_distribution"]
    for name in ("gaussian", "noise"):
        values = []
        for draw in range(3):
            drawn = (predictions.condition == name) & (predictions.extras["draw"] == draw)
            assert drawn.sum() == 12
            scores = -np.concatenate([inside, predictions.confidence[drawn]]).astype(np.float64)
            values.append(roc_auc_score(np.r_[np.zeros(60), np.ones(12)], scores))
        mean = sum(values) / 3
        assert _row(rows, "auroc", name).value == pytest.approx(mean)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 3)  # as numpy.std in the reference
        assert _row(rows, "auroc_std", name).value == pytest.approx(spread)
        assert _row(rows, "auroc", name).n == 60 + 36
    assert _row(rows, "auroc").value == pytest.approx(
        (_row(rows, "auroc", "gaussian").value + _row(rows, "auroc", "noise").value) / 2
    )
    assert not [row for row in rows if row.metric.endswith("_std") and not row.condition]


def test_draws_of_generated_sets_share_no_picture_and_those_of_folders_differ(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "noise", 30)
    settings = Anomalies(generated=("rademacher",), folders={"noise": folder}, repeats=3)
    network = _Recorder()
    predictions = settings.predict(network, _digits(60), CPU)
    assert len(torch.unique(torch.cat(network.shown[1:4]).flatten(1), dim=0)) == 36
    drawn = predictions.select(predictions.condition == "noise")
    rows = [drawn.index[drawn.extras["draw"] == draw].tolist() for draw in range(3)]
    assert rows[0] == [i * 30 // 12 for i in range(12)]  # the first is evenly spaced
    assert all(len(set(row)) == 12 and set(row) <= set(range(30)) for row in rows)
    assert rows[1] != rows[2]
    # the first draw is the one that there is without repeats
    once = Anomalies(generated=("rademacher",), folders={"noise": folder}).predict(_Recorder(), _digits(60), CPU)
    first = predictions.select(predictions.extras["draw"] == 0)
    assert np.array_equal(once.confidence, first.confidence)


def test_a_folder_no_larger_than_a_draw_is_drawn_once(tmp_path: Path) -> None:
    settings = Anomalies(generated=("blobs",), folders={"few": _folder(tmp_path / "few", 3)}, repeats=4)
    rows = settings.measure(settings.predict(_Recorder(), _digits(60), CPU))
    assert {row.condition for row in rows if row.metric == "auroc_std"} == {"blobs"}
    assert _row(rows, "auroc", "few").n == 18


# which sets


def test_the_papers_sets_that_are_not_given_are_named() -> None:
    # section 3.1: Gaussian, Rademacher, Blobs, Textures, SVHN, LSUN, Places69
    assert PAPER_SETS == ("gaussian", "rademacher", "blobs", "textures", "svhn", "lsun", "places69")
    settings = Anomalies()
    assert settings.missing == ("textures", "svhn", "lsun", "places69")
    identity = settings.identity()
    assert identity["missing"] == ["textures", "svhn", "lsun", "places69"]
    assert identity["averaged_over"] == "3 sets, 3 of the 7 wanted"
    (note,) = settings.notes()
    assert note.startswith("averaged over 3 sets, 3 of the 7 wanted; missing: textures, svhn, lsun, places69")
    assert "\n" not in note


def test_all_seven_leave_nothing_to_say_and_more_are_counted(tmp_path: Path) -> None:
    folders = dict.fromkeys(("places69", "svhn", "lsun", "textures", "cifar100"), tmp_path)
    settings = Anomalies(folders=folders)
    assert settings.notes() == ()
    assert settings.identity()["averaged_over"] == "8 sets, 7 of the 7 wanted"
    assert settings.identity()["others"] == ["textures", "svhn", "lsun", "places69", "cifar100"]
    assert Anomalies(generated=("gaussian",), wanted=("gaussian",)).notes() == ()
    assert "folders" not in settings.identity()


@pytest.mark.parametrize(
    "settings",
    [{"scores": ["energy"]}, {"scores": ["msp", "enrgy"]}, {"repeats": 0}, {"repeats": 256}, {"wanted": "svhn"}],
    ids=repr,
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        Anomalies.read(settings, "benchmark anomalies")
    assert "\n" not in str(caught.value)
    assert next(iter(settings)) in str(caught.value) or "anomaly score 'enrgy'" in str(caught.value)


# published layouts


def _svhn(path: Path, count: int = 20, **arrays: object) -> NDArray[np.uint8]:
    pictures = np.random.Generator(np.random.Philox(key=9)).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    content = {"X": pictures.transpose(1, 2, 3, 0), "y": np.ones((count, 1), np.uint8), **arrays}
    savemat(path, {name: array for name, array in content.items() if array is not None}, do_compression=True)
    return pictures


@pytest.mark.parametrize("is_folder", [False, True])
def test_svhn_is_read_as_published(tmp_path: Path, is_folder: bool) -> None:
    pictures = _svhn(tmp_path / "test_32x32.mat")
    where = tmp_path if is_folder else tmp_path / "test_32x32.mat"
    settings = Anomalies(folders={"svhn": where})
    network = _Recorder()
    settings.prepare(_digits(60))
    settings.predict(network, _digits(60), CPU)
    expected = torch.from_numpy(pictures[[i * 20 // 12 for i in range(12)]]).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(network.shown[-1], expected)
    assert settings.version().startswith("svhn:")
    assert settings.version() == Anomalies(folders={"svhn": tmp_path / "test_32x32.mat"}).version()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_array_file_is_one_more_set(tmp_path: Path, suffix: str) -> None:
    pictures = np.random.Generator(np.random.Philox(key=9)).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    file = tmp_path / f"lsun.{suffix}"
    np.save(file, pictures) if suffix == "npy" else np.savez(file, images=pictures)
    network = _Recorder()
    Anomalies(folders={"lsun": file}).predict(network, _digits(60), CPU)
    expected = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(network.shown[-1], expected)


@pytest.mark.filterwarnings("ignore::pixmix_ray.datasets.PassedOverWarning")
def test_folders_are_read_as_published(tmp_path: Path) -> None:
    layouts = {
        "textures": [
            f"dtd/images/{kind}/{kind}_{number:04d}.jpg" for kind in ("banded", "waffled") for number in range(3)
        ],
        "lsun": [f"test/{number:02x}/{number}.webp" for number in range(5)],  # as its data.py exports them
        "places69": [f"places/{kind}/{number}.jpg" for kind in ("a/abbey", "b/bayou") for number in "12"],
        "imagenet": [f"val/n0{number}/ILSVRC2012_val_{number:08d}.JPEG" for number in (1440764, 1443537)],
    }
    for place, files in enumerate(layouts.values()):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 40), (40 * place, 10, 90)).save(tmp_path / file)
    (tmp_path / "dtd" / "imdb").mkdir()  # beside the pictures DTD holds its splits
    savemat(tmp_path / "dtd" / "imdb" / "imdb.mat", {"images": 1})
    folders = {name: tmp_path / files[0].partition("/")[0] for name, files in layouts.items()}
    predictions = Anomalies(generated=(), folders=folders).predict(_Recorder(), _digits(60), CPU)
    assert {name: int((predictions.condition == name).sum()) for name in layouts} == {
        name: len(files) for name, files in layouts.items()
    }


@pytest.mark.filterwarnings("ignore::pixmix_ray.datasets.PassedOverWarning")
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("test_lmdb/data.mdb", "test_lmdb is a database as LSUN publishes it: write its pictures to a folder with"),
        ("train_32x32.mat", "contains train_32x32.mat but not test_32x32.mat"),
        ("dtd-r1.0.1.tar.gz", "no pictures in"),
    ],
)
def test_a_folder_in_which_the_published_pictures_are_missing_says_which_and_what_to_do(
    tmp_path: Path, file: str, said: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"")
    settings = Anomalies(folders={"lsun": tmp_path})
    for call in (settings.version, lambda: settings.prepare(_digits(60))):
        with pytest.raises(DataError, match=r"^anomalies, set lsun: ") as caught:
            call()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
    Image.new("RGB", (40, 40)).save(tmp_path / "exported.png")
    settings.prepare(_digits(60))  # pictures beside it are what is meant


def _broken_sets(folder: Path) -> dict[str, Path]:
    """Files that are no set of pictures, each for another reason."""
    made = {name: folder / f"{name}.{suffix}" for name, suffix in _BROKEN.items()}
    _svhn(made["cut"])
    made["cut"].write_bytes(made["cut"].read_bytes()[:5000])
    made["text"].write_text("no MATLAB file")
    _svhn(made["other_name"], X=None)
    _svhn(made["float"], X=np.zeros((32, 32, 3, 4)))
    _svhn(made["grey"], X=np.zeros((32, 32, 4), np.uint8))
    savemat(made["plain"], {"X": np.zeros((32, 32, 3, 4), np.uint8)})
    np.save(made["float_array"], np.zeros((4, 32, 32, 3), np.float32))
    np.save(made["channels_first"], np.zeros((4, 3, 32, 32), np.uint8))
    np.save(made["pickled"], np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (made["database"] / "data.mdb").parent.mkdir()
    (made["database"] / "data.mdb").write_bytes(b"")
    return made


_BROKEN = {
    "cut": "mat",
    "text": "mat",
    "other_name": "mat",
    "float": "mat",
    "grey": "mat",
    "plain": "mat",
    "float_array": "npy",
    "channels_first": "npy",
    "pickled": "npy",
    "database": "lmdb",
}


@pytest.mark.filterwarnings("ignore::pixmix_ray.datasets.PassedOverWarning")
@pytest.mark.parametrize("name", _BROKEN)
def test_what_is_no_set_of_pictures_is_refused_in_one_line_before_the_network_runs(tmp_path: Path, name: str) -> None:
    settings = Anomalies(folders={"lsun": _broken_sets(tmp_path)[name]})
    with pytest.raises(DataError, match=name) as caught:
        settings.prepare(_digits(60))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


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
    for score in ("max_logit", "energy"):  # set to order the pictures alike
        assert _row(rows, f"auroc_{score}", "blobs").value == _row(rows, f"auroc_{score}").value == auroc


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
    with pytest.raises(RequestError, match="no set of outliers"):
        Anomalies.read({"generated": []}, "benchmark anomalies")


def test_the_order_of_names_does_not_matter() -> None:
    assert Anomalies(generated=("blobs", "gaussian")) == Anomalies(generated=("gaussian", "blobs"))


class _Normalising(nn.Module):
    """Ten classes from what its normalisation makes of pictures, which it remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(self.normalise(images.clone()))
        return self.seen[-1].mean((2, 3)).repeat(1, 4)[:, :10]


@pytest.mark.parametrize("is_past", [False, True])
def test_noise_may_go_past_the_normalisation_as_in_the_official_code(is_past: bool) -> None:
    network = _Normalising().eval()
    benchmark = Anomalies(generated=("rademacher",), wanted=("rademacher",), noise_past_normalisation=is_past)
    benchmark.predict(network, _digits(20), CPU)
    noise = network.seen[-1]
    if is_past:
        assert noise.abs().allclose(torch.ones(()), atol=1e-6)  # -1 and 1, as the set is defined
    else:
        by_hand = torch.tensor([(1 - 0.4) / 0.2, (1 - 0.5) / 0.3, (1 - 0.6) / 0.4])
        assert noise.amax((0, 2, 3)).allclose(by_hand)


def test_a_network_without_our_normalisation_cannot_be_fed_past_it() -> None:
    benchmark = Anomalies(generated=("gaussian",), wanted=("gaussian",), noise_past_normalisation=True)
    with pytest.raises(WorkError, match=r"needs a network with one Normalise of pixmix_ray\.models, this one has 0"):
        benchmark.predict(nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), _digits(20), CPU)


def test_blobs_are_blurred_as_much_as_is_said_and_old_identities_stay() -> None:
    draws = np.random.Generator(np.random.Philox(key=2)).uniform(size=(2, 64, 64, 3))
    expected = ndimage.gaussian_filter((draws < 0.7).astype(float), (0, 2, 2, 2), mode="nearest", truncate=4)
    assert np.allclose(blobs(draws, sigma=2), np.where(expected < 0.75, 0, expected), atol=1e-6)
    assert np.array_equal(blobs(draws), blobs(draws, sigma=1.5))
    assert not {"blobs_sigma", "noise_past_normalisation"} & set(Anomalies().identity())
    assert Anomalies(blobs_sigma=2).identity()["blobs_sigma"] == 2
