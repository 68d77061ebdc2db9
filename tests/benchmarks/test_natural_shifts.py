"""Other photographs of ImageNet's classes: against a plain loop over files, in each published way to name folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from pixmix_ray.benchmarks import TestPictures
from pixmix_ray.benchmarks.natural_shifts import NaturalShifts
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.errors import DataError, RequestError, WorkError

CPU = torch.device("cpu")
SIDE = 140
TEST = TestPictures(images=np.zeros((1, SIDE, SIDE, 3), np.uint8), labels=np.zeros(1, int), indices=np.arange(1))
PLACES = [7, 20, 400, 999]


def _write(folder: Path, names: list[str], each: int = 3) -> Path:
    draws = np.random.Generator(np.random.Philox(key=len(names)))
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = draws.integers(0, 256, (6, 6, 3), np.uint8)
            Image.fromarray(pixels).resize((40, 30)).save(folder / name / f"{number}.png")
    return folder


def _network(outputs: int = 1000) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(27, outputs))
    return network.eval().requires_grad_(requires_grad=False)


def _logits(file: Path) -> torch.Tensor:
    steps = transforms.Compose(
        [transforms.Resize(SIDE * 256 // 224), transforms.CenterCrop(SIDE), transforms.ToTensor()]
    )
    with Image.open(file) as image:
        logits: torch.Tensor = _network()(steps(image.convert("RGB"))[None])[0]
    return logits


@pytest.mark.parametrize(
    ("names", "classes", "outputs"),
    [
        ([WNIDS[place] for place in PLACES], None, "own"),  # as -A and -Sketch
        ([str(place) for place in PLACES], None, "own"),  # as -V2
        (
            ["bowl", "lamp", "other", "tin"],
            {"bowl": ["n01443537"], "lamp": ["n01484850", "n01491361"], "tin": "n01494475"},
            "all",
        ),
    ],
    ids=["wnids", "places", "objects"],
)
def test_errors_are_those_of_a_loop_over_the_files(
    names: list[str], classes: dict[str, Any] | None, outputs: str, tmp_path: Path
) -> None:
    folder, table = _write(tmp_path / "set", names), tmp_path / "classes.json"
    table.write_text(json.dumps(classes))
    benchmark = NaturalShifts.read(
        {"folders": {"one": str(folder)}, "classes": None if classes is None else str(table), "outputs": outputs}, "it"
    )
    benchmark.prepare(TEST)
    predictions = benchmark.predict(_network(), TEST, CPU)
    right = dict(zip(names, ([place] for place in PLACES), strict=True))
    if classes is not None:
        listed = {name: [value] if isinstance(value, str) else value for name, value in classes.items()}
        right = {name: [WNIDS.index(wnid) for wnid in wnids] for name, wnids in listed.items()}
    own = sorted({place for of in right.values() for place in of}) if outputs == "own" else list(range(1000))
    expected = []
    for name in sorted(right, key=lambda name: right[name][0]):
        for number in range(3):
            logits = _logits(folder / name / f"{number}.png")[own]
            expected.append((own[int(logits.argmax())], float(logits.softmax(0).max()), right[name]))
    assert predictions.predicted.tolist() == [place for place, _, _ in expected]
    np.testing.assert_allclose(predictions.confidence, [confidence for _, confidence, _ in expected], atol=1e-5)
    wrong = [place not in of for place, _, of in expected]
    assert (~predictions.correct).tolist() == wrong
    rows = {(row.metric, row.condition): row for row in benchmark.measure(predictions)}
    assert rows["error", "one"].value == rows["error", ""].value == pytest.approx(np.mean(wrong))


def test_each_set_is_measured_by_itself_and_the_mean_is_over_the_sets(tmp_path: Path) -> None:
    sets = {"small": _write(tmp_path / "a", ["7"], each=2), "large": _write(tmp_path / "b", ["7", "8", "9"], each=4)}
    benchmark = NaturalShifts(folders=sets, limit=10)
    predictions = benchmark.predict(_network(), TEST, CPU)
    assert len(predictions) == 2 + 10
    assert len(set(predictions.index.tolist())) == 12
    rows = {(row.metric, row.condition): row for row in benchmark.measure(predictions)}
    assert rows["error", "small"].value == 0  # one class alone
    assert rows["error", ""].value == pytest.approx(rows["error", "large"].value / 2)
    assert {"error", "rms_calibration_error"} <= {metric for metric, _ in rows}


def test_the_version_follows_content_names_and_classes(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", ["7", "8"])
    first = NaturalShifts(folders={"a": folder}).version()
    assert NaturalShifts(folders={"b": folder}).version() != first
    (folder / "8").rename(folder / "9")
    assert NaturalShifts(folders={"a": folder}).version() != first
    (folder / "9").rename(folder / "8")
    assert NaturalShifts(folders={"a": folder}).version() == first


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder, table = _write(tmp_path / "a", ["bowl"]), tmp_path / "classes.json"
    with pytest.raises(DataError, match="holds the folder 'bowl', which is no class of ImageNet: name folders by"):
        NaturalShifts(folders={"a": folder}).version()
    for text, message in [
        ("{", "cannot read .*classes.json"),
        ('{"bowl": ["n00000000"]}', "cannot read .*KeyError: 'n00000000'"),
        ('{"tin": "n01443537"}', "names none of the folders in .*, such as 'bowl'"),
    ]:
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            NaturalShifts(folders={"a": folder}, classes=table).version()
    with pytest.raises(RequestError, match="folders"):
        NaturalShifts.read({"folders": {}}, "benchmark natural_shifts")
    good = NaturalShifts(folders={"a": _write(tmp_path / "b", ["7"])})
    small = TestPictures(images=np.zeros((1, 64, 64, 3), np.uint8), labels=np.zeros(1, int), indices=np.arange(1))
    with pytest.raises(DataError, match="natural shifts are for networks with ImageNet's 1,000 classes"):
        good.prepare(small)
    with pytest.raises(WorkError, match="natural shifts need a network with the 1000 outputs of ImageNet"):
        good.predict(_network(10), TEST, CPU)
