"""The recipes of the paper for ImageNet and Places365 plan as they are where folders of the published layouts are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixmix_ray.corruptions import BAR_NAMES, OFFICIAL
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.planning.fits import check_fits
from pixmix_ray.planning.plan import make_plan

RECIPES = Path(__file__).parents[2] / "experiments"
CLASSES = WNIDS[:2]


def _picture(file: Path, key: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.Generator(np.random.Philox(key=key)).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((40, 30)).save(file)


def _classes(folder: Path, key: int) -> None:
    for number, name in enumerate(CLASSES):
        _picture(folder / name / "a.JPEG", key + number)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """What the recipes want below ../data, with two classes or a picture of each."""
    data = tmp_path / "data"
    for number, name in enumerate(("imagenet/train", "imagenet/val", "stylized-imagenet", "imagenet-r")):
        _classes(data / name, 10 * number)
    (data / "classes.txt").write_text("\n".join(CLASSES))
    for folder, names in (("ImageNet-C", OFFICIAL), ("ImageNet-C-bar", BAR_NAMES["imagenet"])):
        for name in names:
            for severity in range(1, 6):
                _classes(data / folder / name / str(severity), severity)
    for name in (
        "gaussian_noise",
        "shot_noise",
        "motion_blur",
        "zoom_blur",
        "snow",
        "brightness",
        "translate",
        "rotate",
        "tilt",
        "scale",
    ):
        for of in CLASSES:
            (data / "ImageNet-P" / name / of).mkdir(parents=True)
            (data / "ImageNet-P" / name / of / "a.mp4").write_bytes(name.encode())
    for number, name in enumerate(
        ("mixing/fractals", "mixing/fvis", "ood/dtd/images", "ood/places69", "ood/imagenet", "imagenet22k")
    ):
        _picture(data / name / "a.png", 100 + number)
    np.save(data / "ood" / "svhn.npy", np.zeros((2, 32, 32, 3), np.uint8))
    for name in ("resnet50-0676ba61.pth", "resnet18_places365.pth.tar"):
        (data / name).write_bytes(b"weights")
    for number, name in enumerate(("airfield", "alcove")):
        _picture(data / "places365" / "data_large_standard" / "a" / name / "1.jpg", 200 + number)
        _picture(data / "places365" / "val_large" / f"{number}.jpg", 202 + number)
    lists = {"train_standard": "/a/airfield/1.jpg 0\n/a/alcove/1.jpg 1", "val": "0.jpg 0\n1.jpg 1"}
    for name, line in lists.items():
        (data / "places365" / f"places365_{name}.txt").write_text(line)
    (data / "places365" / "categories_places365.txt").write_text("/a/airfield 0\n/b/ballroom 1")
    recipes = tmp_path / "experiments"
    recipes.mkdir()
    for file in ("table03_imagenet.yaml", "table12_places365.yaml"):
        (recipes / file).write_text((RECIPES / file).read_text())
    return recipes


@pytest.mark.parametrize(
    ("file", "overrides", "trials", "cells"),
    [
        ("table03_imagenet.yaml", ["dataset.classes=DATA/classes.txt"], 8, 48),
        ("table12_places365.yaml", ["benchmarks.anomalies.folders.svhn=DATA/ood/svhn.npy"], 2, 6),
    ],
)
def test_a_recipe_plans(folders: Path, file: str, overrides: list[str], trials: int, cells: int) -> None:
    filled = [override.replace("DATA", str(folders.parent / "data")) for override in overrides]
    sweep = read_experiment(folders / file, [f"results={folders / 'results'}", *filled])
    plan = make_plan(sweep)
    check_fits(plan)
    assert len(plan.trials_to_run()) == trials
    assert len(plan.cells_to_run()) == cells
    for trial in plan.trials:
        assert (trial.training.lr, trial.training.batch_size, trial.training.crop) == (0.01, 512, "resized")
        assert trial.training.weight_decay == (1e-4 if trial.method.name == "mixup" else 5e-4)
        if trial.method.name == "pixmix":
            assert [trial.setting(name) for name in ("k", "beta", "severity")] == [4, 4, 1]
