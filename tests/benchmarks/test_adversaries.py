"""Attacks: the ball, the closed form on a linear model, the official code's centre, AutoAttack, the settings."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.attacks import Attack, pgd
from pixmix_ray.benchmarks import Adversaries, TestPictures, adversaries
from pixmix_ray.benchmarks.adversaries import start_noise
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.models import WideResNet

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


def _grey(count: int = 24) -> TestPictures:
    """Noise far from both ends of the range, so that nothing is cut off."""
    draws = np.random.Generator(np.random.Philox(key=3))
    images = draws.integers(90, 160, (count, 8, 8, 3)).astype(np.uint8)
    return TestPictures(images=images, labels=np.arange(count) % 2, indices=np.arange(count) * 3)


def test_the_default_attack_is_the_papers() -> None:
    # section 3.1: L-infinity 2/255 and 20 steps; the official code's steps are of .5/255
    attack = Adversaries()
    assert [attack.eps * 255, attack.step_size * 255, attack.steps] == pytest.approx([2, 0.5, 20])


ATTACKS = [
    Adversaries(),
    Adversaries(steps=1),
    Adversaries(eps=8 / 255, step_size=16 / 255, steps=5),
    Adversaries(eps=1.0, step_size=0.3, steps=4),
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
        Adversaries(step_size=4 / 255, steps=1),
        Adversaries(eps=0.1, step_size=0.2, steps=1),
        Adversaries(eps=0.1, step_size=0.07, steps=3, seed=5),
        Adversaries(eps=1.0, step_size=1.0, steps=2),
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
    attack = Attack(norm="linf", eps=0.1, step=0.01, steps=2)
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
        attack = Adversaries(eps=eps / 255, step_size=eps / 4 / 255)
        losses.append(loss(_attacked(network, test, attack)))
    assert losses[0] < losses[1] < losses[2] < losses[3]


def test_more_steps_do_better_than_one() -> None:
    network, test = _frozen(_convolutional), _pictures(60)
    labels = torch.from_numpy(test.labels)
    losses = [
        float(
            F.cross_entropy(
                network(_attacked(network, test, Adversaries(eps=0.1, step_size=0.02, steps=steps))), labels
            )
        )
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
    attack = Adversaries(eps=0.1, step_size=0.2, steps=1)
    inside = (_clean(test) > 0.1) & (_clean(test) < 0.9)
    up, down = (_attacked(network, shown, attack) - _clean(test) for shown in (test, flipped))
    torch.testing.assert_close(up[inside], -down[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eps", 8),
        ("eps", 0),
        ("eps", -0.1),
        ("step_size", 2),
        ("step_size", 0),
        ("steps", 0),
        ("steps", 1.5),
        ("epsilon", 0.1),
    ],
)
def test_settings_out_of_range_are_refused_with_name_and_value_in_one_line(key: str, value: float) -> None:
    with pytest.raises(RequestError, match=key) as caught:
        Adversaries.read({key: value}, "benchmark adversaries")
    message = str(caught.value)
    assert "\n" not in message
    assert key == "epsilon" or str(value) in message


# the official code's centre


def test_around_a_noised_centre_the_attack_is_that_of_the_official_code() -> None:
    # its loop as the facts tell it: the noise stays in the tensor around which it projects
    network, test = _frozen(_convolutional), _grey()
    settings = Adversaries(centre="noised")
    labels = torch.from_numpy(test.labels)
    noised = _clean(test) + start_noise(_clean(test), test.indices, settings)
    attacked = noised.clone()
    for _ in range(20):
        attacked = attacked.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(attacked), labels, reduction="sum"), attacked)
        moved = attacked.detach() + 0.5 / 255 * gradient.sign()
        attacked = torch.min(torch.max(moved, noised - 2 / 255), noised + 2 / 255).clamp(0, 1)
    torch.testing.assert_close(_attacked(network, test, settings), attacked, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("centre", "reach"), [("clean", 2), ("noised", 4)])
def test_how_far_from_the_clean_picture_each_centre_lets_the_attack_go(centre: str, reach: int) -> None:
    # on a linear model it goes all the way; pixmix_facts measured 4.0/255 for the official code
    settings = Adversaries.read({"centre": centre}, "benchmark adversaries")
    moved = (_attacked(_frozen(_linear), _grey(), settings) - _clean(_grey())).abs()
    assert float(moved.max()) == pytest.approx(reach / 255, rel=0.01)
    assert float(_attacked(_frozen(_linear), _pictures(), settings).min()) >= 0
    beyond = float((moved > 2.001 / 255).float().mean())  # half of the noise points the way that the attack goes
    assert beyond == pytest.approx({"clean": 0, "noised": 0.5}[centre], abs=0.03)


def test_the_centre_is_told_in_the_row() -> None:
    assert Adversaries().identity()["centre"] == "clean"
    assert Adversaries(centre="noised").identity()["centre"] == "noised"


# L2, restarts, start


def test_on_a_linear_model_the_l2_attack_goes_eps_along_the_gradient() -> None:
    network, test = _frozen(_linear), _grey()
    weights = network.get_parameter("1.weight").view(2, 3, 8, 8)
    labels = torch.from_numpy(test.labels)
    uphill = weights[1 - labels] - weights[labels]
    expected = _clean(test) + 0.3 * uphill / uphill.flatten(1).norm(dim=1)[:, None, None, None]
    settings = Adversaries(norm="l2", eps=0.3, step_size=0.3, steps=30)
    torch.testing.assert_close(_attacked(network, test, settings), expected, rtol=0, atol=2e-3)


def test_l2_starts_are_uniform_in_the_ball() -> None:
    images = torch.zeros(4000, 3, 2, 2)
    settings = Adversaries(norm="l2", eps=0.5)
    noise = start_noise(images, np.arange(4000), settings).flatten(1)
    radius = noise.norm(dim=1) / 0.5
    assert float(radius.max()) <= 1 + 1e-6
    # the share within radius r of 12 dimensions is r^12: uniform, so mean 1/2 with a standard error of .0046
    assert float((radius**12).mean()) == pytest.approx(0.5, abs=0.02)
    assert float((radius**12).var()) == pytest.approx(1 / 12, abs=0.01)
    direction = noise / noise.norm(dim=1, keepdim=True)
    assert float(direction.mean(dim=0).abs().max()) < 0.025  # 1 / sqrt(12 * 4000) = .0046
    torch.testing.assert_close(direction.T @ direction / 4000, torch.eye(12) / 12, rtol=0, atol=0.012)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_belong_to_picture_seed_and_restart(norm: str) -> None:
    settings = Adversaries.read({"norm": norm}, "benchmark adversaries")
    images = torch.zeros(3, 3, 4, 4)
    first = start_noise(images, np.array([4, 5, 6]), settings)
    assert torch.equal(first[[2, 0]], start_noise(images[:2], np.array([6, 4]), settings))
    assert not torch.equal(first, start_noise(images, np.array([4, 5, 6]), settings, 1))
    assert not torch.equal(first, start_noise(images, np.array([4, 5, 6]), settings.model_copy(update={"seed": 1})))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_picture_is_misread_if_one_of_the_restarts_succeeds(norm: str) -> None:
    network, test = _frozen(_convolutional), _pictures(200)
    eps = {"linf": 0.2, "l2": 2.0}[norm]
    common = {"norm": norm, "eps": eps, "step_size": eps / 50, "steps": 1}  # short, so that the start matters
    settings = Adversaries.read({**common, "restarts": 4}, "benchmark adversaries")
    labels = torch.from_numpy(test.labels)
    attack = Attack(norm=settings.norm, eps=eps, step=eps / 50, steps=1)
    misread = []
    for restart in range(4):
        noise = start_noise(_clean(test), test.indices, settings, restart)
        attacked = pgd(network, _clean(test), labels, noise, attack)
        misread.append((network(attacked).argmax(dim=1) != labels).numpy())
    found = settings.predict(network, test, CPU)
    once = Adversaries.read(common, "benchmark adversaries").predict(network, test, CPU)
    assert np.array_equal(~once.correct, misread[0])
    assert np.array_equal(~found.correct, np.any(misread, axis=0))
    assert found.correct.sum() < once.correct.sum()  # else this would tell nothing


def test_without_a_random_start_the_attack_starts_at_the_clean_picture() -> None:
    recorder, test = _Recorder(_frozen(_linear)), _pictures()
    Adversaries(random_start=False).predict(recorder, test, CPU)
    torch.testing.assert_close(recorder.shown[0], _clean(test), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"norm": "l1"}, "norm"),
        ({"centre": "clear"}, "centre"),
        ({"attack": "fgsm"}, "attack"),
        ({"restarts": 0}, "restarts"),
        ({"restarts": 2, "random_start": False}, "restarts = 2 without random_start"),
        ({"centre": "noised", "norm": "l2"}, "centre = 'noised'"),
        ({"centre": "noised", "random_start": False}, "centre = 'noised'"),
        ({"attack": "autoattack", "steps": 40}, "steps is a setting of pgd"),
        ({"attack": "autoattack", "centre": "noised"}, "centre is a setting of pgd"),
    ],
    ids=repr,
)
def test_settings_that_do_not_fit_together_are_refused_in_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        Adversaries.read(settings, "benchmark adversaries")
    assert "\n" not in str(caught.value)


def test_a_wide_l2_ball_is_no_mistake() -> None:
    assert Adversaries(norm="l2", eps=3.0, step_size=1.5).eps == 3.0


# AutoAttack


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoAttack with few steps; skips where its library is not there."""
    pytest.importorskip("torchattacks")
    monkeypatch.setattr(adversaries, "STEPS", 10)
    monkeypatch.setattr(adversaries, "QUERIES", 40)


def _ten_classes(count: int = 16) -> TestPictures:
    digits = Digits().load()
    images, labels = np.array(digits.test_images[:count]), np.array(digits.test_labels[:count])
    return TestPictures(images=images, labels=labels, indices=np.arange(count))


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
def test_autoattack_stays_in_its_ball_and_is_the_same_again(norm: str, eps: float) -> None:
    # channels last, as the networks of trials are
    network = _frozen(lambda: WideResNet(depth=10, width=1, dropout=0.0).build(10)).to(
        memory_format=torch.channels_last
    )
    settings = Adversaries.read({"attack": "autoattack", "norm": norm, "eps": eps}, "benchmark adversaries")
    recorder, test, state = _Recorder(network).eval(), _ten_classes(8), torch.get_rng_state()
    found = settings.predict(recorder, test, CPU)
    moved = (recorder.shown[-1] - _clean(test)).flatten(1)
    distance = moved.abs().amax(dim=1) if norm == "linf" else moved.norm(dim=1)
    assert float(distance.max()) <= eps * (1 + 1e-4)
    assert 0 <= float(recorder.shown[-1].min()) <= float(recorder.shown[-1].max()) <= 1
    assert torch.equal(torch.get_rng_state(), state)
    again = settings.predict(network, test, CPU)
    assert np.array_equal(found.predicted, again.predicted)
    assert np.array_equal(found.confidence, again.confidence)
    clean = network(_clean(test)).argmax(dim=1).numpy() == test.labels
    assert (found.correct <= clean).all()  # what is misread already stays so


@pytest.mark.usefixtures("_quick")
def test_autoattack_needs_four_classes() -> None:
    with pytest.raises(WorkError, match="autoattack needs 4 classes or more, the network knows 2"):
        Adversaries(attack="autoattack").predict(_frozen(_linear), _pictures(), CPU)


def test_autoattack_without_its_library_says_what_to_install_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(adversaries, "installed", absent)
    monkeypatch.setattr(adversaries, "LIBRARY", "no_such_library")
    settings = Adversaries(attack="autoattack")
    for run in (settings.version, lambda: settings.predict(_frozen(_convolutional), _pictures(), CPU)):
        with pytest.raises(RequestError, match=r"pip install 'pixmix_ray\[autoattack\]'") as caught:
            run()
        assert "\n" not in str(caught.value)
    assert Adversaries().version() == ""


@pytest.mark.parametrize(
    ("settings", "eps", "step_size"),
    [
        ({}, 2 / 255, 0.5 / 255),  # the paper's, to the last bit
        ({"norm": "l2"}, 0.5, 0.125),
        ({"eps": 8 / 255}, 8 / 255, 2 / 255),
        ({"norm": "l2", "eps": 3.0}, 3.0, 0.75),
        ({"norm": "l2", "eps": 3.0, "step_size": 0.1}, 3.0, 0.1),
        ({"attack": "autoattack", "norm": "l2"}, 0.5, 0.125),
    ],
    ids=repr,
)
def test_norm_radius_and_step_are_one_choice(settings: dict[str, object], eps: float, step_size: float) -> None:
    found = Adversaries.read(settings, "benchmark adversaries")
    assert (found.eps, found.step_size) == (eps, step_size)
    assert Adversaries.from_identity(found.identity()) == found


def test_a_step_across_the_whole_ball_is_refused() -> None:
    with pytest.raises(RequestError, match=r"step_size = 0\.5 leads across the whole ball of radius eps = 0\.00784"):
        Adversaries.read({"step_size": 0.5}, "benchmark adversaries")
