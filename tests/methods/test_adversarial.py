"""Adversarial training: what is attacked, in which mode, with which noise; the attack itself is in test_attack."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import Method
from pixmix_ray.methods.adversarial import AdversarialL2, AdversarialLinf
from pixmix_ray.models import WideResNet
from pixmix_ray.training import TrainingData, train

Adversarial = AdversarialLinf | AdversarialL2
KINDS: list[type[Adversarial]] = [AdversarialLinf, AdversarialL2]
METHODS: list[Adversarial] = [
    AdversarialLinf(),
    AdversarialL2(),
    AdversarialLinf(eps=0.2, step_size=None, steps=2),
    AdversarialL2(eps=1.5, step_size=0.4, random_start=False, steps=3),
    AdversarialL2(mode="training", steps=2),
]


class _Recorder(nn.Module):
    """A small network that remembers what it saw, and in which mode."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)
            )
        self.seen: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        self.modes.append(self.training)
        return self.layers(images)  # type: ignore[no-any-return]  # torch types modules as Any

    @property
    def batches(self) -> int:
        """How many batches moved the statistics of batch normalisation."""
        return int(self.get_buffer("layers.1.num_batches_tracked"))


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.empty(24, 3, 16, 16).uniform_(-0.1, 1.1, generator=generator).clamp_(0, 1), torch.arange(24) % 10


def _loss(method: Method, network: nn.Module, seed: int = 0) -> Tensor:
    return method.loss(network, *_batch(), np.random.default_rng(seed))


def test_the_defaults_are_the_papers() -> None:
    # Madry et al., section 5: ε 8/255, seven steps of 2/255; 3 for L2 at 224 pixels
    linf, l2 = AdversarialLinf(), AdversarialL2()
    assert [linf.eps * 255, (linf.step_size or 0) * 255, linf.steps] == pytest.approx([8, 2, 7])
    assert linf.attack(torch.empty(1, 3, 224, 224)).eps == linf.attack(torch.empty(1, 3, 32, 32)).eps == 8 / 255
    assert l2.attack(torch.empty(1, 3, 224, 224)).eps == pytest.approx(3)
    assert l2.attack(torch.empty(1, 3, 32, 32)).eps == pytest.approx(3 * 32 / 224)
    assert AdversarialL2(eps=0.5).attack(torch.empty(1, 3, 32, 32)).eps == 0.5
    assert [linf.random_start, linf.mode, l2.random_start, l2.mode] == [True, "evaluation"] * 2


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_loss_is_that_of_the_last_pictures_of_the_attack(method: Adversarial) -> None:
    network, (images, labels) = _Recorder(), _batch()
    loss = _loss(method, network)
    assert len(network.seen) == method.steps + 1
    for seen in network.seen:
        moved = (seen - images).flatten(1)
        length = moved.abs().amax(1) if method.attack(images).norm == "linf" else moved.norm(dim=1)
        assert float(length.max()) <= method.attack(images).eps * (1 + 1e-5)
        assert 0 <= float(seen.min()) <= float(seen.max()) <= 1
    torch.testing.assert_close(loss, F.cross_entropy(network.layers(network.seen[-1]), labels))


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_from_the_clean_picture_moves_by_one_step_at_a_time(kind: type[Adversarial]) -> None:
    network, (images, labels) = _Recorder(), _batch()
    images = 0.1 + 0.8 * images  # away from the border
    method = kind(step_size=1e-3, steps=3, random_start=False)
    method.loss(network, images, labels, np.random.default_rng(0))
    assert torch.equal(network.seen[0], images)
    for before, after in zip(network.seen, network.seen[1:], strict=False):
        moved = (after - before).flatten(1)
        length = moved.abs().amax(1) if kind is AdversarialLinf else moved.norm(dim=1)
        torch.testing.assert_close(length, torch.full_like(length, 1e-3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_without_a_size_is_two_and_a_half_radii_over_the_steps(kind: type[Adversarial]) -> None:
    first, second = _Recorder(), _Recorder()
    given, derived = ({"eps": 0.2, "steps": 5, "step_size": size} for size in (2.5 * 0.2 / 5, None))
    assert torch.equal(_loss(kind.read(given, "method"), first), _loss(kind.read(derived, "method"), second))
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_start_depends_on_the_rng_alone(method: Adversarial) -> None:
    runs = [_Recorder(), _Recorder(), _Recorder()]
    losses = [_loss(method, network, seed) for network, seed in zip(runs, (1, 1, 2), strict=True)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(runs[0].seen[-1], runs[1].seen[-1])
    assert torch.equal(runs[0].seen[0], runs[2].seen[0]) == (not method.random_start)


@pytest.mark.parametrize(("mode", "batches"), [("evaluation", 1), ("training", 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_move_once_a_batch_or_with_every_step_as_the_mode_says(
    kind: type[Adversarial], mode: str, batches: int
) -> None:
    network = _Recorder().train()
    _loss(kind.read({"mode": mode}, "method"), network)
    assert network.batches == batches
    assert network.modes == [mode == "training"] * 7 + [True]
    assert all(module.training for module in network.modules())


def test_a_layer_that_was_frozen_stays_so() -> None:
    network = _Recorder().train()
    network.layers[1].eval()
    _loss(AdversarialLinf(), network)
    assert [module.training for module in network.layers] == [True, False, True, True, True]
    assert network.batches == 0


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_attack_leaves_no_gradient_and_does_not_change_the_batch(method: Adversarial) -> None:
    network, (images, labels) = _Recorder(), _batch()
    loss = method.loss(network, images, labels, np.random.default_rng(0))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert images.grad is None
    assert not images.requires_grad
    assert torch.equal(images, _batch()[0])
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = [parameter.grad for parameter in network.parameters()]
    expected = torch.autograd.grad(
        F.cross_entropy(network.layers(network.seen[-1]), labels), list(network.parameters())
    )
    for gradient, by_hand in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_the_parameters_learn_as_without_but_for_rounding(kind: type[Adversarial]) -> None:
    # an attack outside of any graph would leave casts of the weights behind that pass no gradient on
    network = _Recorder()
    exact = torch.autograd.grad(_loss(kind(), network), list(network.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(kind(), network)
    assert loss.dtype == torch.float32
    rough = torch.autograd.grad(loss, list(network.parameters()))
    last_layer = F.cosine_similarity(exact[-2].flatten(), rough[-2].flatten(), dim=0)
    assert float(last_layer) > 0.95
    assert all(bool(gradient.isfinite().all()) for gradient in rough)


def _digits(limit: int) -> TrainingData:
    digits = Digits(train_limit=limit).load()
    images = torch.from_numpy(np.array(digits.train_images)).permute(0, 3, 1, 2).contiguous()
    return TrainingData(images=images, labels=torch.from_numpy(np.array(digits.train_labels)))


def test_on_a_trained_network_the_attack_raises_the_loss_and_a_wider_ball_more() -> None:
    data = _digits(300)
    images, labels = data.images.float() / 255, data.labels
    network = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10))
    nn.init.zeros_(network.get_parameter("1.weight"))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    clean = float(F.cross_entropy(network(images), labels).detach())
    assert clean < 0.7
    makes: tuple[Callable[[float], Method], ...] = (
        lambda eps: AdversarialLinf(eps=eps / 100, step_size=None),
        lambda eps: AdversarialL2(eps=eps),
    )
    for make in makes:
        losses = [make(eps).loss(network, images, labels, np.random.default_rng(0)) for eps in (0.2, 1.0, 4.0)]
        assert clean < losses[0] < losses[1] < losses[2]


def _network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WideResNet(depth=10, width=1, dropout=0.3).build(10)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "method",
    [
        AdversarialLinf(steps=2),
        AdversarialL2(steps=2),
        AdversarialLinf(steps=1, mode="training"),
    ],  # which draws dropout
    ids=repr,
)
def test_a_training_resumed_after_an_epoch_ends_in_the_same_bits(method: Method, precision: str) -> None:
    data = _digits(38)
    recipe = Recipe.read({"epochs": 2, "batch_size": 16, "lr": 0.05, "precision": precision}, "training")
    whole = _network()
    first, second = [epoch.loss for epoch in train(whole, method, data, recipe, seed=4)]
    epoch = next(train(_network(), method, data, recipe, seed=4))
    saved = load(save({name: tensor.detach().contiguous() for name, tensor in epoch.tensors.items()}))
    resumed = _network(seed=9)
    (last,) = train(resumed, method, data, recipe, seed=4, after=(1, saved))
    assert [epoch.loss, last.loss] == [first, second]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (AdversarialLinf, {"eps": 8}, "eps = 8: .*at most 1"),
        (AdversarialL2, {"eps": 0}, "eps = 0: .*above 0"),
        (AdversarialLinf, {"steps": 0}, "steps = 0: "),
        (AdversarialL2, {"step_size": -1}, "step_size = -1: "),
        (AdversarialL2, {"mode": "test"}, "mode = 'test': .*'evaluation' or 'training'"),
        (AdversarialLinf, {"norm": "l2"}, "'norm'"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_in_one_line(
    kind: type[Method], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        kind.read(settings, "method adversarial")
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_adversarial_training_works_on_a_gpu(method: Method) -> None:
    images, labels = _batch()
    with torch.autocast("cuda", torch.bfloat16):
        loss = method.loss(_Recorder().cuda(), images.cuda(), labels.cuda(), np.random.default_rng(0))
    assert loss.isfinite()
