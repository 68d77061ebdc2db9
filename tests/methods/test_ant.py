"""Adversarial noise training: the generator learns, who gets which noise, and resumption; see also test_ant_noise."""

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import Setup
from pixmix_ray.methods.ant import Ant, AntRun, Opponent, Weights, new_weights
from pixmix_ray.models import WideResNet
from pixmix_ray.training import TrainingData, train


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _digits(limit: int) -> TrainingData:
    digits = Digits(train_limit=limit).load()
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    return TrainingData(images=images, labels=torch.from_numpy(np.array(digits.train_labels)))


def _setup(images: Tensor, seed: int = 0) -> Setup:
    return Setup(
        images=images,
        device=images.device,
        height=images.shape[2],
        data_version="",
        seed=seed,
        size=images.shape[2],
        crop=lambda images, generator: images,
    )


def _classifier() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.LazyLinear(10)
        )


def _trained(data: TrainingData) -> nn.Module:
    network, images = _classifier(), data.images.float() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)  # dropout
        network(images)
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(network(images), data.labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_generator_learns_to_raise_the_loss_and_leaves_the_classifier_alone(kernel: int) -> None:
    data = _digits(48)
    network, images = _trained(data), data.images.float() / 255
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for parameter in network.parameters():
        parameter.grad = None
    opponent = Opponent(new_weights(kernel, _generator(1)), 5e-3)

    def losses() -> NDArray[np.float64]:
        """On the same three draws of white noise, whatever the generator makes of them."""
        weights = {name: weight.detach().clone() for name, weight in opponent.weights.items()}
        found = [Opponent(weights, 1e-9).learn(network, images, data.labels, 8.0, _generator(k)) for k in (90, 91, 92)]
        return np.array([float(loss) for loss in found])

    untrained = losses()
    for step in range(60):
        opponent.learn(network, images, data.labels, 8.0, _generator(step))
    assert opponent.steps == 60
    assert bool((losses() > 1.1 * untrained).all())
    # weights and statistics of batch normalisation as they were, and the mode too
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(module.training for module in network.modules())


# who gets which noise


def _run(method: Ant, epochs: int, images: Tensor | None = None) -> AntRun:
    """A run at the start of an epoch."""
    run = method.start(_setup(torch.zeros(1, 3, 8, 8) if images is None else images))
    for number in range(1, epochs + 1):
        run.begin_epoch(nn.Identity(), number)
    return run


def _colour(channel: int) -> Weights:
    """A generator whose noise is as good as all in one channel."""
    weights = {name: torch.zeros_like(weight) for name, weight in new_weights(1, _generator(0)).items()}
    weights["4.bias"][channel] = 1e6
    return weights


def _moved(run: AntRun, count: int, seed: int = 0) -> list[int]:
    """The channel that moved in each picture of a batch, -1 where none did."""
    images = torch.full((count, 3, 8, 8), 0.5)
    moved = (run.noisy(images, np.random.default_rng(seed), _generator(seed)) - images).abs().sum((2, 3))
    return [int(row.argmax()) if float(row.max()) > 1e-3 else -1 for row in moved]


@pytest.mark.parametrize(
    ("settings", "epochs", "count", "expected"),
    [
        ({}, 1, 20, [10, 0, 0, 10]),  # no earlier one yet: half noisy, half clean
        ({}, 2, 20, [6, 2, 2, 10]),  # 30 % of the present, 10 % of two earlier ones
        ({}, 2, 70, [21, 7, 7, 35]),  # the authors' batch size
        ({}, 2, 6, [2, 0, 1, 3]),  # a last batch: up to 1.8, 2.4 and 3, rounded
        ({}, 2, 1, [0, 0, 0, 1]),
        ({"replayed": 0}, 2, 20, [10, 0, 0, 10]),
        ({"clean": 0.0, "current": 1.0}, 2, 20, [20, 0, 0, 0]),
        ({"clean": 0.2, "current": 0.2, "replayed": 5}, 2, 20, [4, 6, 6, 4]),  # only two to share the rest
        ({"clean": 1.0, "current": 0.0}, 2, 20, [0, 0, 0, 20]),
    ],
)
def test_a_batch_is_divided_among_the_generators(
    settings: dict[str, float], epochs: int, count: int, expected: list[int]
) -> None:
    run = _run(Ant(eps=2.0, renew_every=None, history="present", **settings), epochs)
    run.opponent = Opponent(_colour(0), 1e-4)
    run.earlier = [_colour(1), _colour(2)][:epochs]
    moved = _moved(run, count)
    counts = [moved.count(channel) for channel in (0, 1, 2, -1)]
    assert counts[0] == expected[0]
    assert sorted(counts[1:3]) == sorted(expected[1:3])
    assert counts[3] == expected[3]


def test_the_earlier_generators_are_drawn_anew_for_each_batch_and_never_twice() -> None:
    run = _run(Ant(eps=2.0, clean=0.0, current=0.0), 3)
    run.earlier = [_colour(channel) for channel in range(3)]
    pairs = {tuple(dict.fromkeys(_moved(run, 4, seed))) for seed in range(60)}
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}


def test_each_epoch_keeps_the_generator_it_starts_with() -> None:
    data = _digits(32)
    network, images = _trained(data), data.images.float() / 255
    run = Ant(lr=1e-2, history="present").start(_setup(data.images))
    untrained = {name: weight.detach().clone() for name, weight in run.opponent.weights.items()}
    run.begin_epoch(network, 1)
    run.loss(network, images, data.labels, np.random.default_rng(1))
    run.begin_epoch(network, 2)
    assert len(run.earlier) == 2
    assert all(torch.equal(run.earlier[0][name], weight) for name, weight in untrained.items())
    assert all(torch.equal(run.earlier[1][name], weight) for name, weight in run.opponent.weights.items())
    assert not torch.equal(run.earlier[1]["4.weight"], untrained["4.weight"])


def test_a_new_generator_learns_beside_the_old_one_and_replaces_it() -> None:
    data = _digits(32)
    network, images = _trained(data), data.images.float() / 255
    run = Ant(renew_every=2, renew_steps=3, history="present").start(_setup(data.images))
    rng = np.random.default_rng(1)

    def step() -> None:
        run.loss(network, images, data.labels, rng)

    for number in (1, 2):
        run.begin_epoch(network, number)
        step()
        assert run.successor is None
    run.begin_epoch(network, 3)
    old, new = run.opponent, run.successor
    assert new is not None
    assert [group["lr"] for group in new.optimizer.param_groups] == [5e-4]
    assert not torch.equal(new.weights["1.weight"], run.earlier[0]["1.weight"])  # untrained, but not the first again
    step()
    step()
    assert (run.opponent, run.successor) == (old, new)
    assert (old.steps, new.steps) == (4, 2)
    step()
    assert run.successor is None
    assert torch.equal(run.opponent.weights["1.weight"], new.weights["1.weight"])
    assert run.opponent.steps == 0
    assert [group["lr"] for group in run.opponent.optimizer.param_groups] == [1e-4]


def test_by_default_what_was_retrained_is_replayed() -> None:
    data = _digits(32)
    network, images = _trained(data), data.images.float() / 255
    run = Ant(renew_steps=2).start(_setup(data.images))
    rng = np.random.default_rng(1)
    for number in (1, 2, 3):
        run.begin_epoch(network, number)
        assert (run.successor is None) == (number == 1)  # a new one every epoch but the first
        for _ in range(2):
            run.loss(network, images, data.labels, rng)
        assert len(run.earlier) == number - 1
        if run.earlier:  # the one that was just retrained, as it was before it went on learning
            assert all(torch.equal(run.earlier[-1][name], weight) for name, weight in run.opponent.weights.items())
    assert not torch.equal(run.earlier[0]["1.weight"], run.earlier[1]["1.weight"])


def test_the_loss_is_the_classifiers_on_the_mixed_batch_and_its_statistics_move_once() -> None:
    data = _digits(32)
    network, images = _trained(data), data.images.float() / 255
    network.get_submodule("3").eval()  # no dropout, to meet the same loss again
    before, batches = images.clone(), int(network.get_buffer("1.num_batches_tracked"))

    def loss(seed: int) -> Tensor:
        run, classifier = _run(Ant(renew_every=None), 2, data.images), copy.deepcopy(network)
        found = run.loss(classifier, images, data.labels, np.random.default_rng(seed))
        assert int(classifier.get_buffer("1.num_batches_tracked")) == batches + 1
        gradients = torch.autograd.grad(found, list(classifier.parameters()))
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        return found.detach()

    assert torch.equal(loss(5), loss(5))
    assert not torch.equal(loss(5), loss(6))
    assert torch.equal(images, before)
    rng = np.random.default_rng(5)  # the loss by hand: one step of the generator, then the classifier on the rest
    generator, run = _generator(int(rng.integers(2**63))), _run(Ant(renew_every=None), 2, data.images)
    run.opponent.learn(network, images, data.labels, Ant().radius(images), generator)
    torch.testing.assert_close(loss(5), F.cross_entropy(network(run.noisy(images, rng, generator)), data.labels))


def test_the_noise_is_as_long_under_autocast_and_the_classifier_still_learns() -> None:
    data = _digits(32)
    network, images = _trained(data), data.images.float() / 255
    run = _run(Ant(clean=0.0), 2, data.images)
    weights = run.opponent.weights["1.weight"].detach().clone()
    with torch.autocast("cpu", torch.bfloat16):
        noisy = run.noisy(images, np.random.default_rng(1), _generator(1))
        loss = run.loss(network, images, data.labels, np.random.default_rng(1))
    lengths = (noisy - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, Ant().radius(images)), rtol=1e-4, atol=0)
    assert noisy.dtype == torch.float32
    assert not torch.equal(run.opponent.weights["1.weight"], weights)
    gradients = torch.autograd.grad(loss, list(network.parameters()))  # an error if a cached cast cut the graph
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients[-2:])


# resumption


def _network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


def _saved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors after a way through a file."""
    return load(save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}))


@pytest.mark.parametrize(
    ("method", "precision"),  # four steps: begun in one epoch, done in the next
    [(Ant(), "float32"), (Ant(kernel=3, renew_every=1, renew_steps=4, lr=1e-2), "bfloat16")],
    ids=repr,
)
def test_a_training_resumed_from_any_epoch_ends_in_the_same_bits(method: Ant, precision: str) -> None:
    data = _digits(38)
    recipe = Recipe.read({"epochs": 3, "batch_size": 16, "lr": 0.05, "precision": precision}, "training")
    whole = _network()
    saved, losses = [], []
    for epoch in train(whole, method, data, recipe, seed=4):
        saved.append(_saved(epoch.tensors))
        losses.append(epoch.loss)
    for number in (1, 2):
        resumed = _network(seed=9)
        rest = list(train(resumed, method, data, recipe, seed=4, after=(number, saved[number - 1])))
        assert [epoch.loss for epoch in rest] == losses[number:]
        last = _saved(rest[-1].tensors)
        assert last.keys() == saved[-1].keys()
        assert all(torch.equal(last[name], tensor) for name, tensor in saved[-1].items())


def test_all_that_was_learned_is_in_the_tensors() -> None:
    data = _digits(32)
    network, images = _trained(data), data.images.float() / 255
    method = Ant(renew_every=1, renew_steps=9)
    run = _run(method, 2, data.images)
    run.loss(network, images, data.labels, np.random.default_rng(1))
    given = _saved(run.tensors())
    before = {name: tensor.clone() for name, tensor in given.items()}
    fresh = method.start(_setup(data.images, seed=77))  # another seed: nothing may come from it
    fresh.restore(given)
    found = fresh.tensors()
    assert found.keys() == before.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    assert fresh.successor is not None
    assert (fresh.opponent.steps, fresh.successor.steps) == (1, 1)
    fresh.loss(network, images, data.labels, np.random.default_rng(1))
    assert all(torch.equal(given[name], tensor) for name, tensor in before.items())  # a copy, not the given one


# settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 2}, "kernel = 2: .*1 or 3"),
        ({"eps": 0}, "eps = 0: "),
        ({"clean": 0.8}, "clean and current must be 1 or less together, got 0.8 and 0.3: lower one"),
        ({"current": -0.1}, "current = -0.1: "),
        ({"replayed": -1}, "replayed = -1: "),
        ({"renew_every": 0}, "renew_every = 0: "),
        ({"lr": 0}, "lr = 0: "),
        ({"epsilon": 1}, "'epsilon', did you mean"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Ant.read(settings, "method ant")
    assert "\n" not in str(caught.value)


def test_the_defaults_are_those_of_the_authors_code() -> None:
    assert Ant().identity() == {
        "kernel": 1,
        "eps": None,
        "lr": 1e-4,
        "clean": 0.5,
        "current": 0.3,
        "replayed": 2,
        "renew_every": 1,
        "renew_steps": 1000,
        "renew_lr": 5e-4,
        "history": "retrained",
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kernel", [1, 3])
def test_adversarial_noise_training_works_on_a_gpu_and_goes_on_from_a_file(kernel: int) -> None:
    data, method = _digits(32), Ant.read({"kernel": kernel, "renew_every": 1}, "method ant")
    network, images = _trained(data).cuda(), (data.images.float() / 255).cuda()
    run = _run(method, 2, images)
    with torch.autocast("cuda", torch.bfloat16):
        assert run.loss(network, images, data.labels.cuda(), np.random.default_rng(1)).isfinite()
    fresh = _run(method, 0, images)
    fresh.restore(_saved({name: tensor.cpu() for name, tensor in run.tensors().items()}))
    with torch.autocast("cuda", torch.bfloat16):
        assert fresh.loss(network, images, data.labels.cuda(), np.random.default_rng(1)).isfinite()
    assert fresh.opponent.steps == 2
