"""The training loop: the optimiser against hand and torch, the batches, and what it must leave alone."""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError, TrainingDivergedError
from pixmix_ray.experiment.recipe import Recipe, cosine
from pixmix_ray.methods import Baseline, Cutout, Method, Mixup, PixMix
from pixmix_ray.mixing_sets import Pictures
from pixmix_ray.models import WideResNet
from pixmix_ray.training import TrainingData, train

PLAIN = {"flip": False, "crop_padding": 0}


def _numbered(count: int, size: int = 4) -> TrainingData:
    """Pictures whose pixels are their label, which is their number."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(count, 3, size, size).contiguous()
    return TrainingData(images=images, labels=labels)


def _alike(count: int) -> TrainingData:
    """The same noise picture many times, so that the order of the pictures does not matter."""
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return TrainingData(images=pixels.expand(count, 3, 8, 8).contiguous(), labels=torch.full((count,), 2))


def _small_network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 10),
        )


class _OneParameter(nn.Module):
    """Logits that do not depend on the parameter, but through which its gradient is zero rather than missing."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10] + 0 * self.weight


class _Slope(Method):
    """The loss 3 w of the one parameter w: its gradient is 3 everywhere."""

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        return 3 * next(network.parameters()).sum()


def _run(network: nn.Module, method: Method, data: TrainingData, recipe: Recipe, seed: int = 0) -> list[float]:
    return [epoch.loss for epoch in train(network, method, data, recipe, seed=seed)]


def test_one_step_of_nesterov_with_weight_decay_by_hand() -> None:
    # gradient 3 + .01 * 2 = 3.02; buffer 3.02; step .1 * (3.02 + .9 * 3.02) = .1 * 5.738
    network = _OneParameter(2.0)
    losses = _run(network, _Slope(), _alike(1), Recipe(epochs=1, weight_decay=0.01))
    assert network.weight.item() == pytest.approx(2 - 0.5738, abs=1e-6)
    assert losses == [pytest.approx(6.0)]  # 3 * 2, before the step


def test_two_epochs_of_two_steps_by_hand_use_a_rate_for_each_step() -> None:
    # the rates of steps 0 to 3 of 4: .1 and .05 are those of epochs, the other two lie between
    rates = [0.1, 0.05 + 0.05 / 2**0.5, 0.05, 0.05 - 0.05 / 2**0.5]
    weight, buffer = 1.0, 0.0
    means = []
    for epoch in ((0, 1), (2, 3)):
        losses = []
        for step in epoch:
            losses.append(3 * weight)
            gradient = 3 + 0.01 * weight
            buffer = 0.9 * buffer + gradient
            weight -= rates[step] * (gradient + 0.9 * buffer)
        means.append(sum(losses) / 2)
    network = _OneParameter(1.0)
    recipe = Recipe(epochs=2, batch_size=1, weight_decay=0.01, final_lr=0)
    assert _run(network, _Slope(), _alike(2), recipe) == pytest.approx(means, abs=1e-5)
    assert network.weight.item() == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_run_is_that_of_torchs_optimiser_with_the_official_schedule(channels_last: bool) -> None:
    data, recipe = _alike(10), Recipe(epochs=3, batch_size=4, channels_last=channels_last, **PLAIN)
    network, reference = _small_network(), _small_network()
    losses = _run(network, Baseline(), data, recipe)

    optimizer = torch.optim.SGD(reference.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 1e-5 + (1 - 1e-5) * 0.5 * (1 + np.cos(step / 9 * np.pi))
    )
    expected = []
    for _ in range(3):
        total = 0.0
        for size in (4, 4, 2):
            loss = F.cross_entropy(reference(data.images[:size] / 255), data.labels[:size])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            scheduler.step()
            total += loss.item() * size
        expected.append(total / 10)
    assert losses == pytest.approx(expected, rel=1e-4)
    for (name, ours), theirs in zip(network.state_dict().items(), reference.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name, check_stride=False)


@pytest.mark.parametrize(
    ("method", "asked", "decay"),
    [
        (Baseline(), None, 5e-4),
        (Cutout(), None, 5e-4),
        (Mixup(), None, 1e-4),
        (Mixup(), 5e-4, 5e-4),
        (Baseline(), 0.0, 0.0),
        (Mixup(), 0.0, 0.0),
    ],
    ids=repr,
)
def test_the_weight_decay_is_the_methods_unless_the_recipe_says_otherwise(
    method: Method, asked: float | None, decay: float
) -> None:
    # the loss has no slope, so one step takes off lr * (1 + .9) * decay * weight
    network = _OneParameter(1000.0)
    _run(network, method, _alike(4), Recipe(epochs=1, weight_decay=asked))
    assert 1000 - network.weight.item() == pytest.approx(0.1 * 1.9 * decay * 1000, abs=1e-3)


class _Recorder(Method):
    """Remembers the batches."""

    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        self.seen.append((images.clone(), labels.clone()))
        return super().loss(network, images, labels, rng)


@pytest.fixture
def recorder() -> Iterator[_Recorder]:
    _Recorder.seen.clear()
    yield _Recorder()
    _Recorder.seen.clear()


def _shown_labels(recorder: _Recorder) -> list[int]:
    return [int(label) for _, labels in recorder.seen for label in labels]


class _AnyNumberOfClasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(256))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3)).unsqueeze(1) * self.scale


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 128, [3]), (5, 1, [1] * 5), (201, 128, [128, 73])],
)
def test_an_epoch_shows_every_picture_once_and_ends_with_a_smaller_batch(
    recorder: _Recorder, count: int, batch_size: int, sizes: list[int]
) -> None:
    recipe = Recipe(epochs=2, batch_size=batch_size, lr=1e-3, **PLAIN)
    _run(_AnyNumberOfClasses(), recorder, _numbered(count), recipe)
    assert [len(labels) for _, labels in recorder.seen] == sizes * 2
    shown = _shown_labels(recorder)
    assert sorted(shown[:count]) == sorted(shown[count:]) == list(range(count))


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(600, [600, 100]), (512, [512, 188]), (100, [100] * 7), (300, [300, 300, 100])]
)
def test_batches_have_the_size_asked_for_however_many_are_augmented_at_once(
    recorder: _Recorder, batch_size: int, sizes: list[int]
) -> None:
    labels = torch.arange(700) % 250
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(700, 3, 4, 4).contiguous()
    recipe = Recipe(epochs=1, batch_size=batch_size, lr=1e-3, **PLAIN)
    _run(_AnyNumberOfClasses(), recorder, TrainingData(images=images, labels=labels), recipe)
    assert [len(labels) for _, labels in recorder.seen] == sizes
    assert sorted(_shown_labels(recorder)) == sorted(labels.tolist())


def test_pictures_keep_their_labels_and_come_as_fractions(recorder: _Recorder) -> None:
    _run(_AnyNumberOfClasses(), recorder, _numbered(40), Recipe(epochs=1, batch_size=16, lr=1e-3, **PLAIN))
    for images, labels in recorder.seen:
        assert images.dtype == torch.float32
        expected = (labels.float() / 255).view(-1, 1, 1, 1).expand_as(images)
        torch.testing.assert_close(images, expected, check_stride=False)


def test_the_order_changes_with_the_epoch_and_with_the_seed(recorder: _Recorder) -> None:
    recipe = Recipe(epochs=2, batch_size=16, lr=1e-3, **PLAIN)
    for seed in (0, 1, 0):
        _run(_AnyNumberOfClasses(), recorder, _numbered(40), recipe, seed=seed)
    shown = _shown_labels(recorder)
    first, second, other, again = shown[:40], shown[40:80], shown[80:120], shown[160:200]
    assert first == again
    assert len({tuple(order) for order in (first, second, other, tuple(range(40)))}) == 4


class _Draws(Method):
    """Remembers one draw of each kind a step: from the host's generator, of dropout, and of the augmentation."""

    host: ClassVar[list[float]] = []
    dropout: ClassVar[list[bytes]] = []
    pictures: ClassVar[list[bytes]] = []

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        self.host.append(rng.random())
        self.dropout.append(F.dropout(torch.ones(64), 0.5).numpy().tobytes())
        self.pictures.append(images.contiguous().numpy().tobytes())
        return super().loss(network, images, labels, rng)


def test_every_step_of_every_epoch_and_seed_draws_anew() -> None:
    for draws in (_Draws.host, _Draws.dropout, _Draws.pictures):
        draws.clear()
    for seed in (0, 1):  # pictures that are all alike, so that their order makes no difference
        _run(_small_network(), _Draws(), _alike(8), Recipe(epochs=3, batch_size=4), seed=seed)
    assert len(set(_Draws.host)) == len(_Draws.host) == 12
    assert len(set(_Draws.dropout)) == 12
    assert len(set(_Draws.pictures)) == 12


def test_flip_mirrors_about_half_of_the_pictures_and_only_where_asked_for(recorder: _Recorder) -> None:
    ramp = torch.arange(8, dtype=torch.uint8).view(1, 1, 1, 8).expand(400, 3, 8, 8).contiguous()
    data = TrainingData(images=ramp, labels=torch.zeros(400, dtype=torch.int64))
    for flip, fewest, most in [(False, 0, 0), (True, 150, 250)]:  # five standard deviations of 400 coin flips are 50
        recorder.seen.clear()
        _run(_AnyNumberOfClasses(), recorder, data, Recipe(epochs=1, flip=flip, crop_padding=0, lr=1e-3))
        images = torch.cat([images for images, _ in recorder.seen])
        is_mirrored = images[:, 0, 0, 0] > images[:, 0, 0, -1]
        expected = torch.where(is_mirrored.view(-1, 1, 1, 1), ramp.flip(3), ramp).float() / 255
        torch.testing.assert_close(images, expected, check_stride=False)
        assert fewest <= int(is_mirrored.sum()) <= most


def test_the_crop_shifts_by_up_to_the_padding_and_fills_with_black(recorder: _Recorder) -> None:
    white = torch.full((400, 3, 8, 8), 255, dtype=torch.uint8)
    data = TrainingData(images=white, labels=torch.zeros(400, dtype=torch.int64))
    _run(_AnyNumberOfClasses(), recorder, data, Recipe(epochs=1, crop_padding=2, lr=1e-3))
    images = torch.cat([images for images, _ in recorder.seen])
    assert torch.equal(images, (images > 0).float())
    # offset 0 to 4 in a frame of 2: 2, 1, 0, 1 or 2 rows and columns of black
    for axis in (2, 3):
        lost = 8 - images.amax(dim=(1, 5 - axis)).sum(dim=1)
        counts = torch.bincount(lost.long(), minlength=3).tolist()
        assert len(counts) == 3
        assert counts == pytest.approx([80, 160, 160], abs=50)  # five standard deviations


def test_a_tiny_run_learns_digits() -> None:
    digits = Digits(train_limit=256).load()
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    data = TrainingData(images=images, labels=torch.from_numpy(np.array(digits.train_labels)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = WideResNet(depth=10, width=1, dropout=0).build(10)
    recipe = Recipe(epochs=4, batch_size=16, lr=0.05, flip=False, crop_padding=1)
    losses = _run(network, Baseline(), data, recipe)
    assert losses[0] < 2.5  # chance is log 10 = 2.3
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert losses[-1] < 0.85 * losses[0]


def test_epochs_are_counted_from_one_and_timed() -> None:
    recipe = Recipe(epochs=3, lr=1e-3, **PLAIN)
    epochs = list(train(_small_network(), Baseline(), _alike(4), recipe, seed=0))
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert all(0 < epoch.seconds < 60 for epoch in epochs)


def test_what_happens_between_two_epochs_does_not_matter() -> None:
    data, recipe = _alike(12), Recipe(epochs=3, batch_size=4)
    plain, disturbed = _small_network(dropout=0.5), _small_network(dropout=0.5)
    _run(plain, Baseline(), data, recipe)
    for _ in train(disturbed, Baseline(), data, recipe, seed=0):
        disturbed.eval()
        torch.rand(3)
        with torch.no_grad():
            disturbed(torch.rand(2, 3, 8, 8))
    for ours, theirs in zip(plain.state_dict().values(), disturbed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def _bank_of_noise() -> Pictures:
    pixels = np.random.Generator(np.random.Philox(key=5)).integers(0, 256, (3 * 81, 3), dtype=np.uint8)
    sides = np.full(3, 9)
    return Pictures(pixels=pixels, offsets=np.arange(3) * 81, heights=sides, widths=sides, version="noise")


def _numpy_state() -> str:
    return repr(np.random.get_state(legacy=False))  # noqa: NPY002  # looked at, not drawn from


@pytest.mark.parametrize("method", [Baseline(), Mixup(), PixMix(k=2)], ids=repr)
def test_training_leaves_global_generators_data_and_arguments_alone(method: Method) -> None:
    data = TrainingData(images=_alike(6).images, labels=_alike(6).labels, pictures=_bank_of_noise().to("cpu"))
    images, labels = data.images.clone(), data.labels.clone()
    network = _small_network(dropout=0.3)
    states = torch.get_rng_state(), random.getstate(), _numpy_state()
    for _ in train(network, method, data, Recipe(epochs=2, batch_size=4), seed=7):
        assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert _numpy_state() == states[2]
    assert torch.equal(data.images, images)
    assert torch.equal(data.labels, labels)


def test_the_global_generator_does_not_steer_the_run() -> None:
    weights = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            network = _small_network(dropout=0.5)
            torch.manual_seed(seed)
            _run(network, PixMix(k=2, partner="augmented"), _alike(8), Recipe(epochs=1, batch_size=4))
            weights.append(network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


class _NanAfter(Method):
    """A loss that is not finite from the given call on."""

    calls: ClassVar[list[int]] = []
    first: int
    value: str = "nan"

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        self.calls.append(1)
        loss = super().loss(network, images, labels, rng)
        return loss * float(self.value) if len(self.calls) >= self.first else loss


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize(("first", "epoch"), [(1, 1), (3, 2), (4, 2), (6, 3)])  # two batches an epoch
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_epoch(first: int, epoch: int, value: str) -> None:
    _NanAfter.calls.clear()
    state = torch.get_rng_state()
    finished = []
    with pytest.raises(TrainingDivergedError, match=f"epoch {epoch}:") as caught:
        method, recipe = _NanAfter(first=first, value=value), Recipe(epochs=5, batch_size=4)
        for done in train(_small_network(dropout=0.5), method, _alike(8), recipe, seed=0):
            finished.append(done.number)  # noqa: PERF401  # they count even where the run ends early
    assert caught.value.epoch == epoch
    assert finished == list(range(1, epoch))
    assert torch.equal(torch.get_rng_state(), state)


def test_pixmix_without_pictures_is_refused_rather_than_trained_without() -> None:
    with pytest.raises(RequestError, match="pictures"):
        _run(_small_network(), PixMix(), _alike(4), Recipe(epochs=1))


def test_bfloat16_trains_float32_weights_to_about_the_same_loss() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        network = _small_network()
        recipe = Recipe.read({"epochs": 2, "batch_size": 4, "lr": 0.01, "precision": precision}, "training")
        losses.append(_run(network, Baseline(), _alike(12), recipe))
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_the_schedule_of_the_loop_spans_all_steps_of_all_epochs() -> None:
    # momentum next to 0 and a constant slope of 3: each step moves the parameter by 3 times its rate
    network, places = _OneParameter(0.0), [0.0]
    recipe = Recipe(epochs=5, batch_size=2, momentum=1e-9, weight_decay=0, final_lr=0.01)
    for _ in train(network, _Slope(), _alike(6), recipe, seed=0):
        places.append(network.weight.item())  # noqa: PERF401  # the network changes meanwhile
    moved = [(earlier - later) / 3 for earlier, later in pairwise(places)]
    expected = [sum(cosine(3 * epoch + step, 15, 0.1, 0.01) for step in range(3)) for epoch in range(5)]
    assert moved == pytest.approx(expected, abs=1e-5)
