"""Projected gradient ascent: steps and projections by hand, a second implementation, what is left untouched."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixmix_ray.attacks import Attack, Norm, as_at_224, pgd, random_noise
from pixmix_ray.errors import WorkError
from pixmix_ray.models import evaluation_mode

NORMS: tuple[Norm, ...] = ("linf", "l2")


def _picture(*values: float) -> Tensor:
    """One picture of one pixel."""
    return torch.tensor(values).view(1, 3, 1, 1)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class _Linear(nn.Module):
    """Two classes with the logits 0 and w · x, so that the loss of class 0 grows along w and that of 1 against it."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        value = images.flatten(1) @ self.weights
        return torch.stack([torch.zeros_like(value), value], dim=1)


def _convolutional() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(288, 5)
        )


def _extremes(count: int = 20) -> Tensor:
    """Pictures with many values at and near both ends of the range."""
    return torch.empty(count, 3, 8, 8).uniform_(-0.2, 1.2, generator=_generator(1)).clamp_(0, 1)


@pytest.mark.parametrize(
    ("norm", "step", "steps", "label", "expected"),
    [
        ("linf", 0.04, 1, 0, (0.54, 0.5, 0.46)),  # by the sign of (3, 0, -4)
        ("linf", 0.04, 2, 0, (0.58, 0.5, 0.42)),
        ("linf", 0.04, 3, 0, (0.60, 0.5, 0.40)),  # 0.12, back to the ball of 0.1
        ("linf", 0.04, 1, 1, (0.46, 0.5, 0.54)),
        ("l2", 0.05, 1, 0, (0.53, 0.5, 0.46)),  # along (3, 0, -4) / 5
        ("l2", 0.05, 2, 0, (0.56, 0.5, 0.42)),
        ("l2", 0.05, 9, 0, (0.56, 0.5, 0.42)),  # the ball of 0.1 ends there
        ("l2", 0.05, 1, 1, (0.47, 0.5, 0.54)),
    ],
)
def test_steps_on_a_linear_network_by_hand(
    norm: Norm, step: float, steps: int, label: int, expected: Sequence[float]
) -> None:
    attack = Attack(norm=norm, eps=0.1, step=step, steps=steps)
    images = _picture(0.5, 0.5, 0.5)
    attacked = pgd(_Linear(3, 0, -4), images, torch.tensor([label]), torch.zeros_like(images), attack)
    torch.testing.assert_close(attacked, _picture(*expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "images", "noise", "expected"),
    [
        ("linf", (0.5, 0.5, 0.5), (0.3, 0.05, -0.4), (0.6, 0.55, 0.4)),
        ("l2", (0.5, 0.5, 0.5), (0.3, 0.0, -0.4), (0.56, 0.5, 0.42)),  # length 0.5, brought to 0.1
        ("l2", (0.5, 0.5, 0.5), (0.03, 0.0, -0.04), (0.53, 0.5, 0.46)),  # within already
        ("linf", (0.98, 0.5, 0.02), (0.1, 0.0, -0.1), (1.0, 0.5, 0.0)),
        ("l2", (0.98, 0.5, 0.02), (0.06, 0.0, -0.08), (1.0, 0.5, 0.0)),
    ],
)
def test_where_nothing_slopes_the_attack_ends_at_its_start_brought_into_ball_and_range(
    norm: Norm, images: Sequence[float], noise: Sequence[float], expected: Sequence[float]
) -> None:
    attack = Attack(norm=norm, eps=0.1, step=0.1, steps=2)
    attacked = pgd(_Linear(0, 0, 0), _picture(*images), torch.tensor([0]), _picture(*noise), attack)
    torch.testing.assert_close(attacked, _picture(*expected), rtol=0, atol=1e-6)


def _numpy_pgd(
    weights: NDArray[np.float64], images: NDArray[np.float64], labels: NDArray[np.int64], attack: Attack
) -> NDArray[np.float64]:
    """The attack on softmax(x W) from the clean picture, (N, D), with the gradient (p - y) Wᵀ written out."""
    attacked = images.copy()
    for _ in range(attack.steps):
        logits = attacked @ weights
        odds = np.exp(logits - logits.max(1, keepdims=True))
        gradient = (odds / odds.sum(1, keepdims=True) - np.eye(weights.shape[1])[labels]) @ weights.T
        if attack.norm == "linf":
            moved = np.clip(attacked + attack.step * np.sign(gradient) - images, -attack.eps, attack.eps)
        else:
            moved = attacked + attack.step * gradient / np.linalg.norm(gradient, axis=1, keepdims=True) - images
            moved *= np.minimum(1, attack.eps / np.linalg.norm(moved, axis=1, keepdims=True))
        attacked = np.clip(images + moved, 0, 1)
    return attacked


@pytest.mark.parametrize(
    "attack",
    [Attack(norm="linf", eps=0.1, step=0.03, steps=7), Attack(norm="l2", eps=0.6, step=0.25, steps=7)],
    ids=lambda attack: str(attack.norm),
)
def test_a_softmax_regression_is_attacked_as_in_numpy(attack: Attack) -> None:
    images, labels = _extremes(), torch.arange(20) % 4
    network = nn.Sequential(nn.Flatten(), linear := nn.Linear(192, 4, bias=False))
    nn.init.normal_(linear.weight, std=0.1, generator=_generator(3))
    weights = linear.weight.detach().double().numpy().T
    expected = _numpy_pgd(weights, images.flatten(1).double().numpy(), labels.numpy(), attack)
    attacked = pgd(network, images, labels, torch.zeros_like(images), attack)
    np.testing.assert_allclose(attacked.flatten(1).numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [1e-3, 0.1, 2.0])
def test_attacked_pictures_stay_in_the_ball_and_in_range(norm: Norm, eps: float) -> None:
    network, images, attack = _convolutional().eval(), _extremes(), Attack(norm=norm, eps=eps, step=eps, steps=4)
    noise = random_noise(tuple(images.shape), attack, _generator(2))
    attacked = pgd(network, images, torch.arange(20) % 5, noise, attack)
    moved = (attacked - images).flatten(1)
    lengths = moved.abs().amax(1) if norm == "linf" else moved.norm(dim=1)
    assert float(lengths.max()) <= eps * (1 + 1e-5) + 1e-7
    assert float(lengths.min()) > 0
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1


@pytest.mark.parametrize("norm", NORMS)
def test_an_attack_leaves_pictures_parameters_and_statistics_as_they_are(norm: Norm) -> None:
    network, images = _convolutional().eval(), _extremes()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}, images.clone()
    attack = Attack(norm=norm, eps=0.1, step=0.05, steps=2)
    with torch.no_grad():  # as an evaluation runs
        attacked = pgd(network, images, torch.arange(20) % 5, torch.zeros_like(images), attack)
    assert not attacked.requires_grad
    assert attacked.grad is None
    assert images.grad is None
    assert torch.equal(images, before[1])
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in network.state_dict().items())


def test_the_random_start_is_uniform_in_either_ball() -> None:
    # 60,000 values: variance of U(-ε, ε) is ε²/3; in the L2 ball (r/ε)^12 is uniform for pictures of 12 values
    images = torch.empty(5000, 3, 2, 2)
    cube = random_noise(tuple(images.shape), Attack(norm="linf", eps=0.1, step=1, steps=1), _generator(1)) / 0.1
    assert float(cube.abs().max()) <= 1 + 1e-6
    assert float(cube.mean()) == pytest.approx(0, abs=4 * np.sqrt(1 / 3 / 60_000))
    assert float(cube.var()) == pytest.approx(1 / 3, abs=4 * np.sqrt(4 / 45 / 60_000))
    ball = random_noise(tuple(images.shape), Attack(norm="l2", eps=3.0, step=1, steps=1), _generator(1)) / 3
    radius = ball.flatten(1).norm(dim=1)
    assert float(radius.max()) <= 1 + 1e-6
    assert (torch.histc(radius**12, 4, 0, 1) / 5000).tolist() == pytest.approx([0.25] * 4, abs=0.025)
    assert float(ball.flatten(1).mean(0).abs().max()) < 4 / np.sqrt(12 * 5000)


def test_evaluation_mode_gives_every_module_its_own_mode_back() -> None:
    network = _convolutional()
    network.get_submodule("1").eval()  # a layer that somebody froze
    modes = [module.training for module in network.modules()]
    with evaluation_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(RuntimeError, match="shapes"), evaluation_mode(network):
        network.get_submodule("5")(torch.zeros(1, 7))
    assert [module.training for module in network.modules()] == modes


def test_a_radius_changes_with_the_root_of_the_number_of_values() -> None:
    assert as_at_224(135.0, torch.empty(2, 3, 224, 224)) == 135
    assert as_at_224(3.0, torch.empty(2, 3, 32, 32)) == pytest.approx(3 / 7)


class _WithoutGradients(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.detach().flatten(1)[:, :3]


class _Tuple(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, int]:
        return images.flatten(1)[:, :3], 1


class _NanGradients(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images - images).flatten(1)[:, :3].sqrt()  # its derivative at 0 is infinite, times 0


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (_WithoutGradients(), "no gradients with respect to its pictures.* leave adversaries out"),
        (_Tuple(), r"returns a tuple: it must return logits alone, a tensor \(N, K\): wrap it"),
        (_NanGradients(), "gradients under attack are NaN or infinite"),
    ],
    ids=["no gradients", "a tuple", "NaN"],
)
def test_networks_that_cannot_be_attacked_are_refused_in_one_line(network: nn.Module, message: str) -> None:
    images, labels = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    attack = Attack(norm="linf", eps=0.1, step=0.05, steps=2)
    with pytest.raises(WorkError, match=message):
        pgd(network, images, labels, torch.zeros_like(images), attack)
