"""Pictures held out of training: which they are, the error on them, and that measuring it changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.methods import Baseline
from pixmix_ray.models import WideResNet
from pixmix_ray.models.weights import read_header
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.training import TrainingData, train
from pixmix_ray.training.trial import Progress, held_out_rows, train_trial

CPU = torch.device("cpu")


def test_the_pictures_held_out_are_a_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    rows = held_out_rows(labels, 0.1, "content")
    assert list(np.bincount(labels[rows])) == [10, 5, 1]
    assert list(rows) == sorted(set(rows))  # each once
    assert list(rows) != list(range(10)) + list(range(100, 105)) + [150]  # by chance, not the first


def test_the_pictures_held_out_follow_from_the_content_alone_and_a_larger_share_holds_a_smaller() -> None:
    labels = np.arange(200) % 7
    rows = held_out_rows(labels, 0.1, "content")
    assert np.array_equal(rows, held_out_rows(labels, 0.1, "content"))
    assert not np.array_equal(rows, held_out_rows(labels, 0.1, "other content"))
    assert set(rows) < set(held_out_rows(labels, 0.3, "content"))
    assert (len(rows), len(held_out_rows(labels, 0.001, "content"))) == (20, 1)


class _Counting(nn.Module):
    """The class that a picture's first pixel names; it counts in training and in evaluation, and draws in both."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.seen: list[tuple[bool, list[int]]] = []

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images[:, 0, 0, 0] * 255).round().long()
        self.seen.append((self.training, pixels.tolist()))
        torch.rand(1)
        return self.scale * nn.functional.one_hot(pixels, 100).float()


def _numbered(wrong: int) -> TrainingData:
    """Twenty pictures of their number, of which rows 3, 7, 8, 9 are held out and `wrong` of these are of class 99."""
    labels = torch.arange(20)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(20, 3, 4, 4).contiguous()
    held_out = torch.tensor([3, 7, 8, 9])
    labels[held_out[:wrong]] = 99
    return TrainingData(images=images, labels=labels, held_out=held_out)


@pytest.mark.parametrize("wrong", [0, 1, 4])
def test_the_error_is_that_of_the_pictures_held_out_as_they_are_which_are_never_trained_on(wrong: int) -> None:
    network = _Counting()
    recipe = Recipe(epochs=2, batch_size=5, flip=False, crop_padding=0)
    errors = [epoch.validation_error for epoch in train(network, Baseline(), _numbered(wrong), recipe, seed=0)]
    assert errors == [wrong / 4] * 2
    trained = [pixels for is_training, pixels in network.seen if is_training]
    assert [len(pixels) for pixels in trained] == [5, 5, 5, 1] * 2  # sixteen are left
    for epoch in (trained[:4], trained[4:]):
        assert sorted(number for pixels in epoch for number in pixels) == [
            n for n in range(20) if n not in (3, 7, 8, 9)
        ]
    assert [pixels for is_training, pixels in network.seen if not is_training] == [[3, 7, 8, 9]] * 2


def _network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


def test_measuring_the_error_changes_no_bit_of_the_training() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.arange(50) % 10
    held_out = torch.arange(40, 50)
    with_error = TrainingData(images=images, labels=labels, held_out=held_out)
    without = TrainingData(images=images[:40], labels=labels[:40])
    recipe = Recipe(epochs=2, batch_size=16)
    first, second = _network(), _network()
    before = torch.random.get_rng_state()
    errors = [epoch.validation_error for epoch in train(first, Baseline(), with_error, recipe, seed=3)]
    assert [epoch.validation_error for epoch in train(second, Baseline(), without, recipe, seed=3)] == [None, None]
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, tensor in first.state_dict().items():  # running means and variances too
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert all(module.training for module in first.modules())
    # the second way to the last error: the network after training, in evaluation mode
    predicted = first.eval()(images[held_out] / 255).argmax(dim=1)
    assert errors[-1] == (predicted != labels[held_out]).double().mean().item()


@pytest.fixture
def trials(experiment: Path) -> list[Trial]:
    """Two seeds that hold a fifth of 200 pictures out."""
    overrides = ["training.epochs=2", "training.validation=0.2", "training.lr=0.05", "seeds=[0, 1]"]
    return read_experiment(experiment, overrides).trials()


def test_errors_are_told_and_kept_and_the_same_when_a_trial_goes_on(trials: list[Trial], tmp_path: Path) -> None:
    (trial, _), store, other = trials, Store(tmp_path / "whole"), Store(tmp_path / "parts")
    whole = [progress.validation_error for progress in train_trial(trial, store, CPU)]
    assert all(error is not None and 0 <= error <= 1 and (40 * error).is_integer() for error in whole)
    assert (store.read_json(trial_file(trial.id, "done.json")) or {})["validation_errors"] == whole

    first: Progress = next(iter(train_trial(trial, other, CPU)))  # interrupted after its first epoch
    path = trial_file(trial.id, "progress.safetensors")
    assert '"validation_error": ' in read_header(other.read(path) or b"", path)["history"]
    rest = [progress.validation_error for progress in train_trial(trial, other, CPU)]
    assert [first.validation_error, *rest] == whole
    assert (other.read_json(trial_file(trial.id, "done.json")) or {})["validation_errors"] == whole
