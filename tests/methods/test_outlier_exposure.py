"""Outlier Exposure: its loss by a second formula, what the network is shown, resumption, and errors before any work."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import DataError, RequestError, UnknownNameError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import Baseline, Method, MethodRun, Setup
from pixmix_ray.methods.outlier_exposure import OutlierExposure, OutlierExposureRun, uniform_cross_entropy
from pixmix_ray.models import WideResNet
from pixmix_ray.training import TrainingData, train
from pixmix_ray.transforms import flip_and_crop

NAME = "pixmix_ray.methods.outlier_exposure:OutlierExposure"


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _noise(count: int, size: int = 8) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.Philox(key=7)).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _plain_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _setup(size: int = 8, **changed: object) -> Setup:
    images = torch.zeros(4, 3, size, size, dtype=torch.uint8)
    about = {"device": images.device, "height": images.shape[2], "images": images}
    return Setup(**{**about, "data_version": "none", "seed": 0, "size": 8, "crop": _plain_crop, **changed})  # type: ignore[arg-type]  # one mapping for fields of several types


class Recorder(nn.Module):
    """A network that remembers what it saw, and answers with the first ten values, spread out."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return 4 * images.flatten(1)[:, :10]


@pytest.fixture
def outliers(tmp_path: Path) -> Path:
    """Six pictures of 8 x 8 pixels, each of one grey: 0, 40, 80, 120, 160, 200."""
    file = tmp_path / "outliers.npy"
    np.save(file, np.repeat(np.arange(0, 240, 40, dtype=np.uint8), 8 * 8 * 3).reshape(6, 8, 8, 3))
    return file


def _run(outliers: Path, setup: Setup | None = None, **settings: object) -> OutlierExposureRun:
    method = OutlierExposure.read({"outliers": str(outliers), **settings}, "method outlier_exposure")
    run = method.start(setup or _setup())
    assert isinstance(run, OutlierExposureRun)
    return run


def test_the_defaults_are_those_of_the_paper(outliers: Path) -> None:
    method = OutlierExposure(outliers=outliers)
    assert (method.weight, method.ratio, method.weight_decay) == (0.5, 2, 5e-4)  # λ 0.5, 256 beside 128
    assert not method.needs_pictures
    assert method.summary and "ICLR 2019" in method.source


def test_the_outliers_part_is_the_cross_entropy_to_the_uniform_distribution() -> None:
    logits = torch.randn(9, 10, generator=_generator(1)) * 5
    expected = F.cross_entropy(logits, torch.full((9, 10), 0.1))  # torch's own, with soft labels
    torch.testing.assert_close(uniform_cross_entropy(logits), expected)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([[0.0, 0.0]], math.log(2)),
        ([[7.0] * 4, [-3.0] * 4], math.log(4)),  # undecided: the least there is, log K
        ([[math.log(3.0), 0.0]], math.log(4) - math.log(3) / 2),  # by hand: log(3 + 1) - (log 3 + 0) / 2
        ([[20_000.0, 0.0]], 10_000.0),
    ],
)
def test_the_outliers_part_by_hand(logits: list[list[float]], expected: float) -> None:
    assert float(uniform_cross_entropy(torch.tensor(logits))) == pytest.approx(expected)
    assert float(uniform_cross_entropy(torch.tensor(logits).bfloat16())) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("weight", "ratio"), [(0.5, 2), (0.0, 1), (2.0, 3)])
def test_the_loss_is_of_one_forward_pass_over_the_pictures_and_fresh_outliers(
    weight: float, ratio: int, outliers: Path
) -> None:
    images, labels = torch.rand(5, 3, 8, 8, generator=_generator(1)), torch.arange(5)
    before, network = images.clone(), Recorder()
    run = _run(outliers, weight=weight, ratio=ratio)
    loss = run.loss(network, images, labels, np.random.default_rng(3))
    (seen,) = network.seen
    assert torch.equal(seen[:5], images)
    assert seen.shape == (5 + 5 * ratio, 3, 8, 8)
    greys = seen[5:] * 255
    assert set(greys.round().int().flatten().tolist()) <= set(range(0, 240, 40))
    assert torch.equal(greys.amax((1, 2, 3)), greys.amin((1, 2, 3)))  # each is one of the six
    log_softmax = (4 * seen.flatten(1)[:, :10]).log_softmax(1)
    expected = -log_softmax[torch.arange(5), labels].mean() - weight * log_softmax[5:].mean(1).mean()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(images, before)


def test_each_step_has_other_outliers_and_they_depend_on_the_generator_alone(outliers: Path) -> None:
    images, labels, network = torch.rand(8, 3, 8, 8, generator=_generator(1)), torch.arange(8), Recorder()
    rng = np.random.default_rng(3)
    run = _run(outliers)
    for _ in range(2):
        run.loss(network, images, labels, rng)
    _run(outliers).loss(network, images, labels, np.random.default_rng(3))
    first, second, again = (seen[8:] for seen in network.seen)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_outliers_are_drawn_uniformly(outliers: Path) -> None:
    draws = _run(outliers).draw(12_000, _generator(1))[:, 0, 0, 0]
    for grey in range(0, 240, 40):
        share = float((draws == grey).float().mean())
        assert share == pytest.approx(1 / 6, abs=4 * math.sqrt(5 / 36 / 12_000))


def test_outliers_are_flipped_and_cropped_as_the_recipe_says(tmp_path: Path) -> None:
    picture = _noise(1)
    np.save(tmp_path / "one.npy", picture)
    original = torch.from_numpy(picture[0]).permute(2, 0, 1)
    crop = partial(flip_and_crop, flip=True, padding=1)
    drawn = _run(tmp_path / "one.npy", _setup(crop=crop)).draw(400, _generator(1))
    framed = [F.pad(side, (1, 1, 1, 1)) for side in (original, original.flip(2))]
    possible = [side[:, top : top + 8, left : left + 8] for side in framed for top in range(3) for left in range(3)]
    kinds = torch.stack([(drawn == one).flatten(1).all(1) for one in possible])
    assert drawn.dtype == torch.uint8
    assert torch.equal(kinds.sum(0), torch.ones(400, dtype=torch.int64))
    assert bool(kinds.any(1).all())  # all 18 occur


def test_the_layout_of_the_pictures_is_kept(outliers: Path) -> None:
    images = torch.rand(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    network = Recorder()
    _run(outliers).loss(network, images, torch.arange(4), np.random.default_rng(0))
    assert network.seen[0].is_contiguous(memory_format=torch.channels_last)


def test_outliers_of_a_folder_are_resized_to_the_training_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (30, 20), (10, 20, 30)).save(tmp_path / "pictures" / "a.png")
    drawn = _run(tmp_path / "pictures").draw(3, _generator(1))
    assert drawn.shape == (3, 3, 8, 8)
    assert drawn[0, :, 4, 4].tolist() == [10, 20, 30]


def test_the_content_of_the_outliers_is_the_version_and_their_place_is_no_part_of_the_identity(outliers: Path) -> None:
    method = OutlierExposure(outliers=outliers)
    moved = OutlierExposure(outliers=outliers.rename(outliers.with_name("moved.npy")))
    assert moved.version()
    assert method.identity() == moved.identity() == {"weight": 0.5, "ratio": 2}
    np.save(outliers, _noise(6))
    assert method.version() != moved.version()


# Training


@pytest.fixture(scope="module")
def data() -> TrainingData:
    digits = Digits(train_limit=35).load()  # batches of 16 leave 3 over
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    return TrainingData(images=images, labels=torch.from_numpy(np.array(digits.train_labels)), version=digits.version)


@pytest.fixture
def noise(tmp_path: Path, data: TrainingData) -> OutlierExposure:
    np.save(tmp_path / "noise.npy", _noise(50, data.images.shape[2]))
    return OutlierExposure(outliers=tmp_path / "noise.npy")


def _recipe(**settings: object) -> Recipe:
    return Recipe.read({"epochs": 3, "batch_size": 16, "lr": 0.05, **settings}, "training")


def _network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


def _bits(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("settings", [{}, {"channels_last": False}, {"precision": "bfloat16", "epochs": 2}], ids=repr)
def test_a_run_interrupted_after_an_epoch_ends_in_the_same_bits(
    settings: dict[str, object], noise: OutlierExposure, data: TrainingData
) -> None:
    recipe, whole = _recipe(**settings), _network()
    losses = [epoch.loss for epoch in train(whole, noise, data, recipe, seed=4)]
    first = next(train(_network(), noise, data, recipe, seed=4))
    saved = {name: tensor.detach().clone() for name, tensor in first.tensors.items()}
    resumed = _network(seed=99)
    rest = [epoch.loss for epoch in train(resumed, noise, data, recipe, seed=4, after=(1, saved))]
    assert [first.loss, *rest] == losses
    assert _bits(resumed.state_dict()) == _bits(whole.state_dict())


def test_a_trained_network_is_undecided_on_outliers_and_not_on_digits(noise: OutlierExposure) -> None:
    digits = Digits(train_limit=300).load()
    known, unknown = (
        torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)
        for pictures in (digits.train_images, _noise(250, digits.train_images.shape[1])[50:])  # not those trained on
    )
    data = TrainingData(images=known.contiguous(), labels=torch.from_numpy(np.array(digits.train_labels)))

    def confidences(method: Method) -> tuple[float, float]:
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64), nn.ReLU(), nn.Linear(64, 10))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.03, generator=_generator(0))
        list(train(network, method, data, _recipe(epochs=20, flip=False, crop_padding=1), seed=0))
        with torch.inference_mode():
            inside, outside = (network(shown / 255).softmax(1).amax(1).mean() for shown in (known, unknown))
        return float(inside), float(outside)

    (inside, outside), (_, without) = confidences(noise), confidences(Baseline())
    assert 0.1 <= outside < 0.2  # undecided between ten classes is 0.1
    assert inside > 0.9
    assert without > 0.4


# Mistakes


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {},
            RequestError,
            "the key 'outliers' is missing: set it to a folder of pictures, or an array file .npy or .npz",
        ),
        ({"outliers": 5}, RequestError, "outliers = 5"),
        ({"outliers": "x", "weight": -1}, RequestError, "weight = -1"),
        ({"outliers": "x", "ratio": 0}, RequestError, "ratio = 0"),
        ({"outlier": "x"}, UnknownNameError, "did you mean 'outliers'?"),
    ],
)
def test_wrong_settings_are_refused_by_name(
    settings: dict[str, object], error: type[RequestError], message: str
) -> None:
    with pytest.raises(error) as caught:
        OutlierExposure.read(settings, "method outlier_exposure")
    assert message in str(caught.value)
    assert str(caught.value).startswith("method outlier_exposure: ") or error is UnknownNameError


def _experiment(folder: Path, **settings: object) -> Path:
    content = {
        "results": "results",
        "dataset": {"name": "digits", "train_limit": 60},
        "model": {"name": "wide_resnet", "depth": 10, "width": 1},
        "methods": [{"name": NAME, **settings}],
        "benchmarks": ["clean"],
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content))
    return folder / "experiment.yaml"


def test_an_experiment_names_the_outliers_relative_to_its_file(outliers: Path) -> None:
    sweep = read_experiment(_experiment(outliers.parent, outliers="outliers.npy"))
    sweep.prepare()
    (trial,) = sweep.trials()
    assert trial.method_version == OutlierExposure(outliers=outliers).version()
    assert "outliers" not in trial.settings["method"]


def test_an_experiment_without_outliers_says_which_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"the key 'outliers' is missing: set it to a folder of pictures"):
        read_experiment(_experiment(tmp_path))


def test_missing_outliers_are_found_when_the_trials_are_planned(tmp_path: Path) -> None:
    sweep = read_experiment(_experiment(tmp_path, outliers="gone"))
    with pytest.raises(DataError, match=r"there is nothing at .*gone: give a folder of pictures, or an array file"):
        sweep.trials()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", b"no array", "cannot be read as an array file"),
        ("pictures/x.png", b"no picture", "cannot decode the picture"),
    ],
)
def test_broken_outliers_are_found_before_any_training(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    sweep = read_experiment(_experiment(tmp_path, outliers=name.partition("/")[0]))
    sweep.trials()
    with pytest.raises(DataError, match=message) as caught:
        sweep.prepare()
    assert str(tmp_path / name) in str(caught.value)


def test_the_run_learns_nothing_that_would_have_to_be_saved(outliers: Path) -> None:
    run: MethodRun = _run(outliers)
    assert run.tensors() == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_outliers_lie_on_the_gpu_of_the_training(outliers: Path) -> None:
    crop = partial(flip_and_crop, flip=True, padding=1)
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8, device="cuda")
    run = _run(outliers, _setup(images=images, crop=crop))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).cuda()
    loss = run.loss(network, images / 255, torch.arange(4, device="cuda"), np.random.default_rng(0))
    assert loss.device.type == "cuda"
    assert loss.isfinite()
    assert run.draw(5, torch.Generator("cuda")).device.type == "cuda"
