"""A wrong normalisation in front of somebody else's weights is noticed, a right one is not."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixmix_ray.evaluation.normalisation import NORMALISATIONS, better_input
from pixmix_ray.models import Normalise

CPU = torch.device("cpu")
RNG = np.random.Generator(np.random.Philox(key=8))
IMAGES = RNG.integers(0, 256, (256, 8, 8, 3), np.uint8)


class _Network(nn.Module):
    """Reads a class from the mean of the normalised green channel, by thresholds that a training would have found."""

    def __init__(self, trained_with: str, given: str) -> None:
        super().__init__()
        self.normalise = Normalise(*NORMALISATIONS[given])
        mean, std = (torch.tensor(values)[1] for values in NORMALISATIONS[trained_with])
        self.register_buffer("borders", (torch.tensor([0.49, 0.50, 0.51]) - mean) / std)

    def forward(self, images: Tensor) -> Tensor:
        found = self.normalise(images)[:, 1].mean((1, 2))
        place = torch.bucketize(found, self.get_buffer("borders"))
        return nn.functional.one_hot(place, 4).float()


LABELS = np.digitize(IMAGES[..., 1].mean(axis=(1, 2)) / 255, [0.49, 0.50, 0.51])


@pytest.mark.parametrize("trained_with", NORMALISATIONS)
def test_another_normalisation_is_named_with_the_way_out(trained_with: str) -> None:
    imagenet = "with ImageNet's normalisation"
    given = imagenet if trained_with != imagenet else "without normalisation"
    network = _Network(trained_with, given)
    before = {name: tensor.clone() for name, tensor in network.normalise.named_buffers()}
    said = better_input(network, IMAGES, LABELS, CPU)
    mean, std = (list(values) for values in NORMALISATIONS[trained_with])
    assert f"set model.mean={mean} and model.std={std}" in said
    assert f"and 0.0% {trained_with}:" in said and "\n" not in said
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.normalise.named_buffers())


@pytest.mark.parametrize("trained_with", NORMALISATIONS)
def test_of_the_right_one_nothing_is_said(trained_with: str) -> None:
    assert better_input(_Network(trained_with, trained_with), IMAGES, LABELS, CPU) == ""


class _OfSize(nn.Module):
    """Reads the class from the green of the middle pixel, if the picture is large."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise((0, 0, 0), (1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        found = self.normalise(images)[:, 1].mean((1, 2))
        place = torch.bucketize(found, torch.tensor([0.49, 0.50, 0.51])) * (images.shape[2] == 64)
        return nn.functional.one_hot(place, 4).float()


def test_of_a_network_near_chance_another_size_is_named() -> None:
    is_read = LABELS > 0  # without those that a network that is blind reads by chance
    said = better_input(_OfSize(), IMAGES[is_read], LABELS[is_read], CPU)
    assert (
        "misreads 100.0% as it is" in said
        and "of 64 pixels: if it was trained that way, set model.input_size=64" in said
    )


def test_of_a_network_that_normalises_by_itself_nothing_is_said() -> None:
    assert better_input(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), IMAGES, LABELS, CPU) == ""
