"""Several workers train together what one trains alone: processes that are forked off this one, joined by gloo."""

import copy
import itertools
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed import FileStore  # type: ignore[attr-defined]  # it is there where torch can distribute

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import WorkError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import AdversarialLinf, AugMix, Baseline, CutMix, HybridAugment, Method, Mixup, PixMix
from pixmix_ray.mixing_sets import Pictures
from pixmix_ray.training import BatchShare, Epoch, TrainingData, train
from pixmix_ray.training.workers import ALONE, ConnectedWorkers, Workers, normalised_together

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Sixty-seven digits, of which seven are held out, and five mixing pictures of noise."""
    digits = Digits(train_limit=67).load()
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    pixels = np.random.Generator(np.random.Philox(key=5)).integers(0, 256, (5 * 36 * 36, 3), dtype=np.uint8)
    sides = np.full(5, 36)
    bank = Pictures(pixels=pixels, offsets=np.arange(5) * 36 * 36, heights=sides, widths=sides, version="noise")
    return TrainingData(
        images=images,
        labels=torch.from_numpy(np.array(digits.train_labels)),
        pictures=bank.to("cpu"),
        held_out=torch.arange(0, 67, 10),
    )


def _recipe(**settings: object) -> Recipe:
    common = {"epochs": 2, "batch_size": 24, "lr": 0.1, "flip": False}
    return Recipe.read({**common, **settings}, "training")


def _fresh(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


class Dropping(nn.Module):
    """Drops some pictures altogether, as layers of stochastic depth do."""

    def forward(self, images: Tensor) -> Tensor:
        kept = images.new_empty((len(images), 1, 1, 1)).bernoulli_(0.8)
        return images * kept if self.training else images


class Smooth(nn.Module):
    """A network in float64 and without kinks, so that roundings stay as small as they are, which drops things."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.SiLU(), nn.Dropout(0.2), nn.Conv2d(6, 8, 3, stride=2),
            nn.BatchNorm2d(8), nn.SiLU(), Dropping(), nn.Dropout2d(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 10),
        ).double()  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.double())
        return logits


FRESH = _fresh(Smooth)
LINEAR = _fresh(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))


def _network() -> nn.Module:
    return copy.deepcopy(FRESH)


def _together(of: int, work: Callable[[Workers], Any], told_at: int | None = None) -> list[Any]:
    """What `work` returns at each of so many workers, forked off this process; the last is told of its end once."""
    torch.set_num_threads(1)  # threads of torch do not outlive a fork
    with tempfile.TemporaryDirectory() as folder:

        def at_work(rank: int) -> None:
            store = FileStore(f"{folder}/store", of)
            steps, is_last = itertools.count(1), rank == of - 1
            workers = ConnectedWorkers(
                BatchShare(rank=rank, of=of), lambda: next(steps) == told_at and is_last, store, torch.device("cpu")
            )
            torch.save(work(workers), f"{folder}/{rank}")
            workers.close()

        processes = [FORK.Process(target=at_work, args=(rank,)) for rank in range(of)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0] * of
        return [torch.load(f"{folder}/{rank}", weights_only=False) for rank in range(of)]


def _states(workers: Workers, method: Method, data: TrainingData, recipe: Recipe, after: Any = None) -> list[Epoch]:
    """All states of a training, with their tensors as they were."""
    epochs = train(_network(), method, data, recipe, seed=3, after=after, workers=workers)
    return [
        replace(epoch, tensors={name: tensor.detach().clone() for name, tensor in epoch.tensors.items()})
        for epoch in epochs
    ]


def _check_close(found: Epoch, expected: Epoch) -> None:
    assert (found.number, found.validation_error) == (expected.number, expected.validation_error)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)  # its sum is float32
    for name, tensor in expected.tensors.items():
        if not name.startswith("epoch."):
            torch.testing.assert_close(found.tensors[name], tensor, msg=name)


# what draws for each picture, compares views, mixes the pictures of a batch in three ways, and attacks them
DRAWING = (PixMix(), AugMix(jsd=True), Mixup(), CutMix(probability=0.8), HybridAugment(), AdversarialLinf(steps=2))


@pytest.mark.parametrize(
    ("of", "batch_size", "methods"), [(2, 24, DRAWING), (4, 19, (PixMix(), Mixup()))], ids=["two", "four"]
)  # 60 = 3 * 19 + 3
def test_workers_end_where_one_ends_who_sees_the_same_batches(
    of: int, batch_size: int, methods: Sequence[Method], data: TrainingData
) -> None:
    recipe = _recipe(batch_size=batch_size)

    def trained(workers: Workers) -> list[list[Epoch]]:
        return [_states(workers, method, data, recipe) for method in methods]

    together = _together(of, trained)
    for number, expected in enumerate(trained(ALONE)):
        for of_worker in together:
            for found, state in zip(of_worker[number], expected, strict=True):
                _check_close(found, state)
        first, last = (of_worker[number][-1].tensors for of_worker in (together[0], together[-1]))
        assert all(torch.equal(first[name], tensor) for name, tensor in last.items())  # not one bit apart


def test_a_training_goes_on_in_the_middle_of_an_epoch_at_every_worker_or_at_one(data: TrainingData) -> None:
    recipe = _recipe(checkpoint_every="1 step")
    alone = _states(ALONE, PixMix(), data, recipe)
    together = _together(2, lambda workers: _states(workers, PixMix(), data, recipe))
    middle = together[0][4]
    assert not middle.is_whole and middle.number == 2
    assert middle.tensors["epoch.cpu"].shape[0] == 2
    for of in (1, 2):
        rest = _together(of, lambda workers: _states(workers, PixMix(), data, recipe, (1, middle.tensors)))
        assert len(rest[0]) == len(alone) - 5
        _check_close(rest[0][-1], alone[-1])
        assert of == 1 or all(
            torch.equal(rest[0][-1].tensors[name], tensor) for name, tensor in together[0][-1].tensors.items()
        )


@pytest.mark.parametrize("method", [PixMix(), Mixup()], ids=repr)
def test_accumulated_gradients_are_those_of_the_batch_where_nothing_is_normalised(
    method: Method, data: TrainingData
) -> None:
    def trained(workers: Workers, accumulation: int) -> Tensor:
        network = copy.deepcopy(LINEAR)
        list(train(network, method, data, _recipe(accumulation=accumulation), seed=0, workers=workers))
        return network.get_parameter("1.weight").detach()

    expected = trained(ALONE, 1)
    torch.testing.assert_close(trained(ALONE, 5), expected, rtol=1e-4, atol=1e-5)
    for found in _together(3, lambda workers: trained(workers, 3)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert "accumulation" not in _recipe().identity() and _recipe(accumulation=2).identity()["accumulation"] == 2


def test_a_state_is_saved_once_a_worker_is_told_that_it_will_end(data: TrainingData) -> None:
    def work(workers: Workers) -> tuple[bool, int]:
        state = next(iter(train(_network(), Baseline(), data, _recipe(), seed=0, workers=workers)))
        return state.is_whole, int(state.tensors["epoch.batches"])

    assert _together(2, work, told_at=2) == [(False, 2), (False, 2)]


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_batches_are_normalised_like_a_whole_one(kind: type[nn.BatchNorm1d]) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (6, 3) if kind is nn.BatchNorm1d else (6, 3, 4, 4)
    images, weights = (torch.randn(shape, generator=generator) * 3 + 1 for _ in range(2))

    def passed(workers: Workers) -> tuple[Tensor, ...]:
        own = images[workers.share.slice(6)].clone().requires_grad_()
        network = normalised_together(nn.Sequential(kind(3)), workers)
        (network(own) * weights[workers.share.slice(6)]).sum().backward()
        state = network.state_dict()
        assert own.grad is not None
        gradient = workers.total(network[0].weight.grad.clone())  # type: ignore[index]  # torch leaves it so
        return own.grad, gradient, state["0.running_mean"], state["0.running_var"], network.eval()(own).detach()

    expected = passed(ALONE)
    found = _together(2, passed)
    for place in (0, 4):
        torch.testing.assert_close(torch.cat([of[place] for of in found]), expected[place])
    for of in found:
        for place in (1, 2, 3):
            torch.testing.assert_close(of[place], expected[place])


def test_a_normalisation_of_another_kind_is_refused() -> None:
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(WorkError, match=r"^Own normalises batches in its own way.*workers=1$"):
        normalised_together(nn.Sequential(Own(3)), Workers(BatchShare(rank=0, of=2)))


@pytest.mark.parametrize(("count", "of", "slices"), [(7, 3, [(0, 3), (3, 5), (5, 7)]), (2, 3, [(0, 2)] * 3)])
def test_shares_cover_a_batch_and_none_is_empty(count: int, of: int, slices: list[tuple[int, int]]) -> None:
    shares = [BatchShare(rank=rank, of=of).slice(count) for rank in range(of)]
    assert [(part.start, part.stop) for part in shares] == slices
