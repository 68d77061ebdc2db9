"""Projected gradient descent: the ball, the closed form on a linear model, and the paper's settings."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.benchmarks import Adversaries, TestPictures
from pixmix_ray.benchmarks.adversaries import pgd
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError

CPU = torch.device("cpu")


def _pictures(count: int = 24) -> TestPictures:
    """Noise with many pixels at and near both ends of the range, where the ball is cut off; two classes."""
    draws = np.random.Generator(np.random.Philox(key=2))
    images = draws.integers(-40, 296, (count, 8, 8, 3)).clip(0, 255).astype(np.uint8)
    return TestPictures(images=images, labels=np.arange(count) % 2, indices=np.arange(count))


def _clean(test: TestPictures) -> Tensor:
    return torch.from_numpy(test.images.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def _frozen(make: Callable[[], nn.Module], seed: int = 4) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval().requires_grad_(requires_grad=False)


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def _convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))


class _Recorder(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.detach().clone())
        return self.network(images)  # type: ignore[no-any-return]


def _attacked(network: nn.Module, test: TestPictures, attack: Adversaries) -> Tensor:
    """The pictures that are classified in the end: the last that the network is shown."""
    recorder = _Recorder(network)
    attack.predict(recorder, test, CPU)
    assert len(recorder.shown) == attack.steps + 1  # one batch: a forward pass for each step, and one to classify
    return recorder.shown[-1]


def test_the_default_attack_is_the_papers() -> None:
    # section 3.1: L-infinity 2/255 and 20 steps; the official code's steps are of .5/255
    attack = Adversaries()
    assert [attack.eps * 255, attack.step * 255, attack.steps] == pytest.approx([2, 0.5, 20])


ATTACKS = [
    Adversaries(),
    Adversaries(steps=1),
    Adversaries(eps=8 / 255, step=20 / 255, steps=5),
    Adversaries(eps=1.0, step=0.3, steps=4),
    Adversaries(eps=1e-4),
]


@pytest.mark.parametrize("make", [_linear, _convolutional])
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_attacked_pictures_stay_in_the_ball_around_the_clean_one_and_in_range(
    attack: Adversaries, make: Callable[[], nn.Module]
) -> None:
    recorder, test = _Recorder(_frozen(make)), _pictures()
    attack.predict(recorder, test, CPU)
    for shown in recorder.shown:  # every step, and above all the last
        assert float((shown - _clean(test)).abs().max()) <= attack.eps + 1e-6
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1


@pytest.mark.parametrize(
    "attack",
    [
        Adversaries(),  # 20 steps of .5/255 cross the ball of 4/255 from any start
        Adversaries(step=4 / 255, steps=1),
        Adversaries(eps=0.1, step=0.2, steps=1),
        Adversaries(eps=0.1, step=0.07, steps=3, seed=5),
        Adversaries(eps=1.0, step=1.0, steps=2),
    ],
    ids=repr,
)
def test_on_a_linear_model_the_attack_is_clean_plus_eps_times_the_sign_of_the_weights(attack: Adversaries) -> None:
    # the loss of two classes grows along the other class's weights less the right one's, everywhere
    network, test = _frozen(_linear), _pictures()
    weights = network.get_parameter("1.weight").view(2, 3, 8, 8)
    labels = torch.from_numpy(test.labels)
    uphill = (weights[1 - labels] - weights[labels]).sign()
    expected = (_clean(test) + attack.eps * uphill).clamp(0, 1)
    torch.testing.assert_close(_attacked(network, test, attack), expected, rtol=0, atol=1e-6)


def test_fewer_steps_than_cross_the_ball_move_by_their_length_from_the_start() -> None:
    # from a start in the middle, two steps of .01 within a ball of .1
    network, test = _frozen(_linear), _pictures()
    labels, clean = torch.from_numpy(test.labels), _clean(test)
    attack = Adversaries(eps=0.1, step=0.01, steps=2)
    weights = network.get_parameter("1.weight").view(2, 3, 8, 8)
    expected = (clean + 0.02 * (weights[1 - labels] - weights[labels]).sign()).clamp(0, 1)
    before = clean.clone()
    found = pgd(network, clean, labels, torch.zeros_like(clean), attack)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(clean, before)
    assert not found.requires_grad


def test_the_loss_does_not_fall_and_a_wider_ball_raises_it_more() -> None:
    digits = Digits().load()
    images, labels = np.array(digits.test_images[:60]), np.array(digits.test_labels[:60])
    test = TestPictures(images=images, labels=labels, indices=np.arange(60))
    network = _frozen(lambda: nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10)))

    def loss(images: Tensor) -> float:
        return float(F.cross_entropy(network(images), torch.from_numpy(labels)))

    losses = [loss(_clean(test))]
    for eps in (2, 8, 32):
        attack = Adversaries(eps=eps / 255, step=eps / 4 / 255)
        losses.append(loss(_attacked(network, test, attack)))
    assert losses[0] < losses[1] < losses[2] < losses[3]


def test_more_steps_do_better_than_one() -> None:
    network, test = _frozen(_convolutional), _pictures(60)
    labels = torch.from_numpy(test.labels)
    losses = [
        float(F.cross_entropy(network(_attacked(network, test, Adversaries(eps=0.1, step=0.02, steps=steps))), labels))
        for steps in (1, 20)
    ]
    assert losses[0] < losses[1]


class _Flat(nn.Module):
    """No slope anywhere, so that an attack ends where it starts."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1)[:, :2]


def test_the_start_is_uniform_in_the_ball() -> None:
    grey = TestPictures(
        images=np.full((50, 8, 8, 3), 128, np.uint8), labels=np.zeros(50, np.int64), indices=np.arange(50)
    )
    attack = Adversaries(eps=0.1)
    start = ((_attacked(_Flat(), grey, attack) - 128 / 255) / 0.1).flatten()
    assert float(start.abs().max()) <= 1 + 1e-5
    # 9,600 draws: mean 0 with a standard error of .006, variance 1/3 with .003, quarters of .25 with .0044
    assert float(start.mean()) == pytest.approx(0, abs=0.03)
    assert float(start.var()) == pytest.approx(1 / 3, abs=0.015)
    quarters = torch.histc(start, bins=4, min=-1, max=1) / len(start)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.022)


def test_the_start_belongs_to_the_picture_and_the_seed() -> None:
    images = np.full((3, 8, 8, 3), 128, np.uint8)
    labels = np.zeros(3, np.int64)

    def starts(indices: list[int], seed: int = 0) -> Tensor:
        test = TestPictures(images=images, labels=labels, indices=np.array(indices))
        return _attacked(_Flat(), test, Adversaries(seed=seed))

    first = starts([4, 5, 6])
    assert torch.equal(first[[2, 0, 1]], starts([6, 4, 5]))
    assert torch.equal(first[0], starts([3, 4, 9])[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, starts([4, 5, 6], seed=1))


def test_labels_not_predictions_are_attacked() -> None:
    # an untargeted attack on a picture that is misread already goes on leading away from its label
    network, test = _frozen(_linear), _pictures(2)
    flipped = TestPictures(images=test.images, labels=1 - test.labels, indices=test.indices)
    attack = Adversaries(eps=0.1, step=0.2, steps=1)
    inside = (_clean(test) > 0.1) & (_clean(test) < 0.9)
    up, down = (_attacked(network, shown, attack) - _clean(test) for shown in (test, flipped))
    torch.testing.assert_close(up[inside], -down[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [("eps", 8), ("eps", 0), ("eps", -0.1), ("step", 2), ("step", 0), ("steps", 0), ("steps", 1.5), ("epsilon", 0.1)],
)
def test_settings_out_of_range_are_refused_with_name_and_value_in_one_line(key: str, value: float) -> None:
    with pytest.raises(RequestError, match=key) as caught:
        Adversaries.read({key: value}, "benchmark adversaries")
    message = str(caught.value)
    assert "\n" not in message
    assert key == "epsilon" or str(value) in message
