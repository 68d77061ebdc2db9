"""ImageNet-R: the largest of 200 of a thousand outputs, against a plain loop over files, and refusals in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from pixmix_ray.benchmarks import TestPictures
from pixmix_ray.benchmarks.renditions import Renditions
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.errors import DataError, RequestError, WorkError
from pixmix_ray.metrics import Measurement, Predictions

CPU = torch.device("cpu")
CHOSEN = WNIDS[3:1000:5][:200]  # every fifth class, to stand for the published 200
TEST = TestPictures(images=np.zeros((1, 140, 140, 3), np.uint8), labels=np.zeros(1, int), indices=np.arange(1))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One or two pictures of noise in each of 200 folders."""
    folder = tmp_path_factory.mktemp("imagenet-r")
    draws = np.random.Generator(np.random.Philox(key=3))
    for number, wnid in enumerate(CHOSEN):
        (folder / wnid).mkdir()
        for place in range(1 + number % 2):
            pixels = draws.integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / wnid / f"art_{place}.png")
    return folder


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published, tmp_path / "r")


def _network(outputs: int = 1000) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(108, outputs))
    return network.eval().requires_grad_(requires_grad=False)


def _expected(folder: Path, file: Path) -> tuple[int, int, float]:
    """Label, prediction and its probability, as the reference code has them: masked logits, softmax over the 200."""
    steps = transforms.Compose([transforms.Resize(160), transforms.CenterCrop(140), transforms.ToTensor()])
    with Image.open(file) as image:
        logits = _network()(steps(image.convert("RGB"))[None])[0]
    held = sorted(path.name for path in folder.iterdir())
    mask = [wnid in held for wnid in WNIDS]
    probability = logits[torch.tensor(mask)].softmax(dim=0)
    place = int(probability.argmax())
    return WNIDS.index(file.parent.name), WNIDS.index(held[place]), float(probability[place])


def test_predictions_are_the_largest_of_the_200_outputs(published: Path) -> None:
    benchmark = Renditions(files=published)
    benchmark.prepare(TEST)
    predictions = benchmark.predict(_network(), TEST, CPU)
    files = sorted(published.rglob("*.png"))
    expected = [_expected(published, file) for file in files]
    assert predictions.index.tolist() == list(range(300))
    assert predictions.label.tolist() == [label for label, _, _ in expected]
    assert predictions.predicted.tolist() == [predicted for _, predicted, _ in expected]
    np.testing.assert_allclose(predictions.confidence, [confidence for _, _, confidence in expected], atol=1e-5)
    rows = {row.metric: row for row in benchmark.measure(predictions)}
    assert rows["error"].value == pytest.approx(np.mean([label != predicted for label, predicted, _ in expected]))
    assert rows["error"].n == 300
    assert {"rms_calibration_error", "mean_absolute_calibration_error", "aurra", "soft_f1"} <= set(rows)


def test_a_limit_takes_renditions_evenly(published: Path) -> None:
    benchmark = Renditions(files=published, limit=7)
    benchmark.prepare(TEST)
    predictions = benchmark.predict(_network(), TEST, CPU)
    assert predictions.index.tolist() == [i * 300 // 7 for i in range(7)]
    whole = Renditions(files=published).predict(_network(), TEST, CPU)
    assert predictions.predicted.tolist() == whole.predicted[predictions.index].tolist()


def test_measuring_needs_no_files(published: Path) -> None:
    benchmark = Renditions(files=published)
    predictions: Predictions = benchmark.predict(_network(), TEST, CPU)
    rows: list[Measurement] = Renditions.from_identity(benchmark.identity()).measure(predictions)
    assert rows == benchmark.measure(predictions)
    assert "files" not in benchmark.identity()


def test_the_version_is_the_content(published: Path, copied: Path) -> None:
    version = Renditions(files=published).version()
    assert len(version) == 12
    assert Renditions(files=copied).version() == version
    _picture(copied / CHOSEN[0] / "art_0.png")
    changed = Renditions(files=copied).version()
    shutil.move(copied / CHOSEN[0] / "art_0.png", copied / CHOSEN[1] / "art_.png")
    shutil.rmtree(copied / CHOSEN[0])
    assert len({version, changed, Renditions(files=copied).version()}) == 3


def _picture(file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (20, 20)).save(file)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), "cannot read the folder"),
    "other class": (
        lambda folder: _picture(folder / "cat" / "a.png"),
        "holds the folder 'cat', which is not a class of",
    ),
    "one less": (lambda folder: shutil.rmtree(folder / CHOSEN[7]), "holds 199 classes, ImageNet-R has 200"),
    "empty": (lambda folder: (folder / CHOSEN[0] / "art_0.png").unlink(), f"no pictures in .*{CHOSEN[0]}"),
    "broken": (
        lambda folder: (folder / CHOSEN[0] / "art_0.png").write_bytes(b"abc"),
        r"cannot decode the picture .*art_0\.png",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_named_in_one_line(copied: Path, case: str) -> None:
    spoil, message = BROKEN[case]
    spoil(copied)
    with pytest.raises(DataError, match=message) as caught:
        Renditions(files=copied).prepare(TEST)
    assert "\n" not in str(caught.value)


def test_it_is_for_networks_and_pictures_of_imagenet(published: Path) -> None:
    small = TestPictures(images=np.zeros((1, 32, 32, 3), np.uint8), labels=np.zeros(1, int), indices=np.arange(1))
    with pytest.raises(DataError, match="ImageNet's 1,000 classes, and the test pictures have 32 pixels"):
        Renditions(files=published).prepare(small)
    with pytest.raises(WorkError, match="the 1000 outputs of ImageNet, this one has 10"):
        Renditions(files=published, limit=3).predict(_network(outputs=10), TEST, CPU)


def test_the_folder_has_to_be_named() -> None:
    with pytest.raises(RequestError, match="the key 'files' is missing: set it to the folder imagenet-r"):
        Renditions.read({}, "benchmark renditions")
