"""Methods in somebody's own training: on batches, as transforms, in worker processes, and in a script like timm's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from pixmix_ray.augmentation import Augment
from pixmix_ray.errors import RequestError
from pixmix_ray.methods import METHODS, Method, PixMix
from pixmix_ray.timm import with_method

SMALL = {"name": "fractals", "count": 8}
NEEDS_FILES = {"outlier_exposure", "sin", "edsr"}
BY_NAME = [
    name
    for name, kind in METHODS.ours.items()
    if name == "pixmix" or not (kind.start is not Method.start or name in NEEDS_FILES)
]


def batch(count: int = 4, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_method_without_memory_trains_in_a_loop_of_ones_own(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    images, labels, augment = batch(), torch.arange(4), Augment(name, SMALL)
    before = images.clone()
    augmented = augment(images)
    assert augmented.dtype == torch.float32 and augmented.shape[-3:] == images.shape[-3:]
    assert augmented.min() >= 0 and augmented.max() <= 1
    assert torch.equal(images, before)
    augment.loss(network, augmented, labels).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert network[1].weight.grad is not None


def test_it_is_a_transform_of_torchvision() -> None:
    flow = v2.Compose(
        [v2.RandomCrop(24), Augment({"name": "pixmix", "k": 2}, SMALL), v2.Normalize([0.5] * 3, [0.5] * 3)]
    )
    picture, label = flow(batch()[0], 3)
    assert picture.shape == (3, 24, 24) and label == 3
    assert picture.min() >= -1 and picture.max() <= 1


def test_bytes_and_fractions_mean_the_same_and_a_seed_repeats() -> None:
    images = batch()
    first, second, other = (Augment("pixmix", SMALL, seed=seed) for seed in (0, 0, 1))
    made = first(images)
    assert torch.equal(made, second(images / 255))
    assert not torch.equal(made, first(images)) and not torch.equal(made, other(images))


def _used(augment: Any) -> Tensor:
    made: Tensor = augment(batch(16))  # one picture alone may by chance be left as it is
    return made


def test_workers_of_a_loader_do_not_repeat_each_other() -> None:
    augment = Augment(PixMix(), SMALL)
    data: Any = [augment] * 2  # each item is made in a worker of its own
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, collate_fn=_used)
    first, second = loader
    assert not torch.equal(first, second)


def test_a_pipeline_like_timms_gets_the_method_before_the_conversion() -> None:
    flow = transforms.Compose([transforms.RandomCrop(24), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    found = with_method(flow, "pixmix", SMALL)
    assert [type(step).__name__ for step in found.transforms] == ["RandomCrop", "Augment", "ToTensor", "Normalize"]
    assert found(picture).shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Augment("pixmx"), "did you mean 'pixmix'"),
        (lambda: Augment("ant"), "ant learns in the course of a training"),
        (
            lambda: with_method(transforms.RandomCrop(3), "pixmix"),
            r"the transforms \(RandomCrop\) hold none of ToNumpy",
        ),
        (lambda: Augment("pixmix", SMALL)(batch()[:, :, :16]), r"pictures to mix are square, got \(16, 32\)"),
    ],
)
def test_what_cannot_be_done_is_told(make: Any, error: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=error):
        make()
