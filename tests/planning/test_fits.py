"""What cannot fit is refused with numbers and the way out: memory of host and device, disk for the cache."""

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.planning.fits import check_fits, training_bytes
from pixmix_ray.planning.plan import Plan, make_plan

Disk = namedtuple("Disk", ["total", "used", "free"])


def test_a_training_step_by_hand() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 5))
    # kept: the 2 pictures flattened (a view of the pictures), 2 x 10 after ReLU, the log-probabilities 2 x 5, labels of
    # 8 bytes, the sum of their weights; and thrice 490 + 55 weights
    kept = 4 * (2 * 48 + 2 * 10 + 2 * 5) + 2 * 8
    found = training_bytes(network, 2, 4)
    assert abs(found - (kept + 3 * 4 * (490 + 55))) <= 4 * 2 * 48 + 8
    assert training_bytes(network, 64, 4) > found


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    """Plans an experiment on sixteen pictures of 20 x 16 pixels with settings on top."""
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((16, 20, 3), number * 60 + len(part), np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")

    def planned(**changes: Any) -> Plan:
        sweep = {
            "results": str(tmp_path / "results"),
            "dataset": {"name": "image_folder", "root": str(tmp_path), "size": 16, "resize": 16},
            "model": {"name": "wide_resnet", "depth": 10, "width": 1},
            "methods": ["baseline"],
            "benchmarks": ["clean"],
            "training": {"epochs": 1},
        }
        return make_plan(read_experiment(sweep | changes))

    return planned


def test_a_small_experiment_fits(plan: Any) -> None:
    check_fits(plan())


@pytest.mark.parametrize(
    ("changes", "memory", "free", "messages"),
    [
        ({}, 2 * 8 * 16 * 16 * 3 - 1, 10**9, ["a trial keeps 8 training pictures of 16 pixels in memory, 0.0 GB"]),
        ({"training": {"epochs": 1, "batch_size": 4096}}, 10**8, 10**9, ["on 4096 pictures of 16 pixels at once"]),
        ({}, 10**12, 16 * 16 * 16 * 3 - 1, ["decoded pictures take 0.0 GB of the cache"]),
        (
            {},
            100,
            100,
            ["the plan has 3 problems", "decoded pictures", "a trial keeps", "training.batch_size"],
        ),
    ],
)
def test_what_is_too_large_is_refused(
    plan: Any,
    changes: dict[str, Any],
    memory: int,
    free: int,
    messages: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=memory))
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(free, 0, free))
    with pytest.raises(RequestError) as caught:
        check_fits(plan(**changes))
    assert all(message in str(caught.value) for message in messages)


def test_what_is_streamed_or_decoded_already_needs_neither_memory_nor_disk(
    plan: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = {"name": "image_folder", "root": str(tmp_path), "size": 16, "resize": 16}
    made = plan(dataset=folder | {"streamed": True})
    (part,) = made.experiment.dataset
    assert part.settings.bytes_to_cache() == 8 * 16 * 16 * 3  # those to test on
    part.settings.load()
    assert part.settings.bytes_to_cache() == 0
    monkeypatch.setattr("pixmix_ray.planning.fits._needed", lambda *_: None)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=1))
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(0, 0, 0))
    check_fits(made)
