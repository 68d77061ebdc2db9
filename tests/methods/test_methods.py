"""What holds for every method, and the rules of each, worked by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray import methods
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.methods import (
    Baseline,
    CutMix,
    Cutout,
    Edsr,
    Method,
    Mixup,
    OutlierExposure,
    PixMix,
    Sin,
)
from pixmix_ray.methods.cutmix import Box, cut_box
from pixmix_ray.transforms import ALL, NINE

METHODS: list[Method] = [
    methods.Baseline(),
    methods.Cutout(),
    methods.Cutout(length=5),
    methods.Mixup(),
    methods.Mixup(alpha=0.2, probability=0.5),
    methods.CutMix(),
    methods.CutMix(probability=1.0),
    methods.PixMix(),
    methods.PixMix(k=0),
    methods.PixMix(k=2, beta=5, severity=1, operations="nine"),
    methods.PixMixCutMix(),
    methods.PixMixCutMix(k=1, probability=1.0),
    methods.AutoAugment(),
    methods.AutoAugment(policy="imagenet", magnitudes="release"),
    methods.RandAugment(),
    methods.RandAugment(num_operations=1, magnitude=9, strongest=30, interpolation="bilinear"),
    methods.TrivialAugment(),
    methods.TrivialAugment(space="standard"),
    methods.Noise2Net(share=1.0, width=4, blocks=2),
    methods.AugMix(),
    methods.AugMix(operations="all", depth=2),
    methods.IPMix(jsd=False),
    methods.IPMix(jsd=False, t=0),
    methods.Prime(jsd=False),
    methods.HybridAugment(),
    methods.HybridAugment(paired=False, recombine=False, overflow="clip"),
    methods.LayerMix(),
    methods.LayerMix(beta=1, magnitude=10),
    methods.Speckle(),
    methods.Speckle(sigma=0.4, share=1.0),
    methods.Ant(),
    methods.AdversarialLinf(),
    methods.AdversarialL2(),
]


def _pixels(seed: int, count: int = 24, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=_generator(seed))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _network(size: int = 32) -> nn.Module:
    torch.nn.init.normal_((linear := nn.Linear(3 * size * size, 10)).weight, std=0.02, generator=_generator(9))
    return nn.Sequential(nn.Flatten(), linear)


class Recorder(nn.Module):
    """A network that remembers what it saw, and answers with the first ten pixels."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images.flatten(1)[:, :10]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_augmented_pictures_are_floats_in_range_and_depend_on_the_generator_alone(method: Method) -> None:
    images, pictures = _pixels(1), _pixels(2)
    before = images.clone(), pictures.clone()
    augmented = method.augment(images, pictures, _generator(3))
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert 0 <= float(augmented.min()) <= float(augmented.max()) <= 1  # false for NaN
    assert torch.equal(images, before[0])
    assert torch.equal(pictures, before[1])
    assert torch.equal(augmented, method.augment(images, pictures, _generator(3)))


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 33), (0, 8, 8)])
def test_every_size_and_number_of_pictures_is_augmented(method: Method, shape: tuple[int, int, int]) -> None:
    images = _pixels(1, *shape)
    assert method.augment(images, _pixels(2, *shape), _generator(3)).shape == images.shape


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_loss_is_finite_differentiable_and_depends_on_the_seed_alone(method: Method) -> None:
    images, labels = method.augment(_pixels(1), _pixels(2), _generator(3)), torch.arange(24) % 10
    before, network = images.clone(), _network()
    loss = method.loss(network, images, labels, np.random.default_rng(4))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss.shape == ()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert torch.equal(images, before)
    assert torch.equal(loss, method.loss(network, images, labels, np.random.default_rng(4)))


@pytest.mark.parametrize("kind", methods.METHODS.ours.values())
def test_a_method_says_what_it_is_and_where_it_comes_from(kind: type[Method]) -> None:
    assert kind.summary
    assert kind.source
    assert kind.weight_decay == (1e-4 if kind is Mixup else 5e-4)  # section 3.2 of the paper


def test_every_method_of_the_table_is_tested_here_but_those_that_need_files() -> None:
    tested = {type(method) for method in METHODS}
    assert set(methods.METHODS.ours.values()) - tested == {OutlierExposure, Sin, Edsr}


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_method_that_mixes_pictures_in_says_so_and_asks_for_them(method: Method) -> None:
    if method.needs_pictures:
        with pytest.raises(RequestError, match="needs pictures to mix with"):
            method.augment(_pixels(1), None, _generator(3))
    else:
        method.augment(_pixels(1), None, _generator(3))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (PixMix, {"k": -1}),
        (PixMix, {"beta": 0}),
        (PixMix, {"severity": 0}),
        (PixMix, {"severity": 11}),
        (PixMix, {"operations": "twelve"}),
        (PixMix, {"operations": [13]}),
        (PixMix, {"partner": "none"}),
        (Mixup, {"alpha": 0}),
        (Mixup, {"probability": 1.1}),
        (CutMix, {"alpha": -1}),
        (CutMix, {"probability": -0.1}),
        (Cutout, {"length": 0}),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(kind: type[Method], settings: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        kind.read(settings, f"method {kind.__name__}")


def test_a_misspelt_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'severity'"):
        PixMix.read({"severty": 3}, "method pixmix")


@pytest.mark.parametrize(("given", "name", "operations"), [(13, "all", ALL), (9, "nine", NINE)])
def test_pixmix_takes_the_number_of_operations_for_their_name(
    given: int, name: str, operations: tuple[str, ...]
) -> None:
    assert PixMix.read({"operations": given}, "method pixmix").identity()["operations"] == name
    assert len(operations) == given


def test_the_baseline_only_scales() -> None:
    images = _pixels(1)
    torch.testing.assert_close(Baseline().augment(images, None, _generator(0)), images / 255, rtol=0, atol=0)
    network, labels = _network(), torch.arange(24) % 10
    loss = Baseline().loss(network, images / 255, labels, np.random.default_rng(0))
    torch.testing.assert_close(loss, F.cross_entropy(network(images / 255), labels))


# Cutout


@pytest.mark.parametrize(
    ("settings", "height", "width", "length"),
    [
        ({}, 32, 32, 16),
        ({}, 20, 64, 10),
        ({"length": 8}, 32, 32, 8),
        ({"length": 5}, 16, 16, 5),
        ({"length": 1}, 8, 8, 1),
    ],
)
def test_cutout_paints_one_clipped_square_around_a_centre_anywhere(
    settings: dict[str, int], height: int, width: int, length: int
) -> None:
    images = torch.zeros(4000, 3, height, width, dtype=torch.uint8)
    hole = Cutout(**settings).augment(images, None, _generator(1)) == 0.5
    assert torch.equal(hole[:, 0], hole[:, 1])
    assert torch.equal(hole[:, 0], hole[:, 2])
    for is_covered, size in ((hole[:, 0].any(2), height), (hole[:, 0].any(1), width)):
        start, extent = is_covered.int().argmax(1), is_covered.sum(1)
        expected = {
            (max(c - length // 2, 0), min(c - length // 2 + length, size) - max(c - length // 2, 0))
            for c in range(size)
        }
        assert set(zip(start.tolist(), extent.tolist(), strict=True)) == expected
    assert torch.equal(hole[:, 0].sum((1, 2)), hole[:, 0].any(2).sum(1) * hole[:, 0].any(1).sum(1))  # a full rectangle


@pytest.mark.parametrize(
    ("settings", "side", "colour"),
    [
        ({}, 32, (0.5, 0.5, 0.5)),  # the mean of CIFAR's normalisation
        ({}, 128, (0.485, 0.456, 0.406)),  # ImageNet's
        ({"colour": (0.1, 0.2, 0.3)}, 32, (0.1, 0.2, 0.3)),
    ],
)
def test_cutout_paints_the_mean_colour(
    settings: dict[str, object], side: int, colour: tuple[float, float, float]
) -> None:
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    painted = Cutout.read(settings, "method cutout").augment(images, None, _generator(1))
    for channel, level in enumerate(colour):
        assert sorted(set(painted[:, channel].flatten().tolist())) == pytest.approx([0, level])


def test_cutout_centres_are_uniform() -> None:
    # side 16 around a centre uniform on 0..31 covers the corner if both coordinates are at most 8: (9 / 32) ** 2,
    # and the middle pixel 16 if both lie in 9..24: 1 / 4
    images = torch.zeros(20_000, 3, 32, 32, dtype=torch.uint8)
    covered = (Cutout().augment(images, None, _generator(2)) == 0.5)[:, 0].float().mean(0)
    assert float(covered[0, 0]) == pytest.approx((9 / 32) ** 2, abs=4 * np.sqrt(0.079 * 0.921 / 20_000))
    assert float(covered[16, 16]) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 20_000))


# Mixup and CutMix


def test_mixup_blends_pictures_and_losses_with_one_coefficient() -> None:
    images, labels = torch.rand(8, 3, 4, 4, generator=_generator(1)), torch.arange(8)
    draws = np.random.default_rng(5)  # the same draws as the method's: whether, how much, with whom
    draws.random()
    weight, order = draws.beta(0.4, 0.4), draws.permutation(8)
    network = Recorder()
    loss = Mixup(alpha=0.4).loss(network, images, labels, np.random.default_rng(5))
    torch.testing.assert_close(network.seen, weight * images + (1 - weight) * images[order])
    log_softmax = network.seen.flatten(1)[:, :10].log_softmax(1)
    rows = torch.arange(8)
    expected = -weight * log_softmax[rows, labels] - (1 - weight) * log_softmax[rows, labels[order]]
    torch.testing.assert_close(loss, expected.mean())


@pytest.mark.parametrize(
    ("height", "width", "weight", "centre", "box", "area"),
    [
        (32, 32, 0.75, (10, 20), Box(top=2, bottom=18, left=12, right=28), 256),  # side 32 * sqrt(1/4) = 16
        (32, 32, 0.75, (2, 31), Box(top=0, bottom=10, left=23, right=32), 90),  # cut off above and on the right
        (32, 32, 0.9, (16, 16), Box(top=11, bottom=21, left=11, right=21), 100),  # side int(10.12) = 10
        (20, 40, 0.51, (10, 20), Box(top=3, bottom=17, left=6, right=34), 392),  # sides 14 and 28
        (32, 32, 1.0, (16, 16), Box(top=16, bottom=16, left=16, right=16), 0),
        (32, 32, 0.0, (16, 16), Box(top=0, bottom=32, left=0, right=32), 1024),
    ],
)
def test_the_box_of_cutmix_by_hand(
    height: int, width: int, weight: float, centre: tuple[int, int], box: Box, area: int
) -> None:
    assert cut_box(height, width, weight, centre) == box
    assert box.area == area


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_replaces_one_box_and_weighs_the_labels_by_the_area_left(seed: int) -> None:
    images, labels = torch.rand(12, 3, 16, 16, generator=_generator(1)), torch.arange(12) % 10
    network = Recorder()
    loss = CutMix(probability=1.0).loss(network, images, labels, np.random.default_rng(seed))
    is_kept = (network.seen == images).all(1).all(0)  # a random picture differs in every pixel
    rows, columns = (~is_kept).any(1), (~is_kept).any(0)
    assert torch.equal(~is_kept, rows.unsqueeze(1) & columns)  # a rectangle
    if not is_kept.all():
        y, x = int(rows.int().argmax()), int(columns.int().argmax())
        partners = (network.seen[:, None, :, y, x] == images[None, :, :, y, x]).all(2).int().argmax(1)
        weight = float(is_kept.float().mean())
        outside = F.cross_entropy(network.seen.flatten(1)[:, :10], labels)
        inside = F.cross_entropy(network.seen.flatten(1)[:, :10], labels[partners])
        torch.testing.assert_close(loss, weight * outside + (1 - weight) * inside)


@pytest.mark.parametrize(("kind", "share"), [(Mixup, 0.25), (CutMix, 0.5), (CutMix, 0.0)])
def test_a_batch_is_mixed_with_the_probability_asked_for(kind: Callable[..., Method], share: float) -> None:
    images, labels, network = torch.rand(4, 3, 8, 8, generator=_generator(1)), torch.arange(4), Recorder()
    rng, method = np.random.default_rng(2), kind(probability=share)
    is_plain = []
    for _ in range(400):
        method.loss(network, images, labels, rng)
        is_plain.append(network.seen is images)
    assert np.mean(is_plain) == pytest.approx(1 - share, abs=4 * np.sqrt(share * (1 - share) / 400))


# PixMix; its arithmetic is compared with Pillow and NumPy in test_pixmix_reference.py


def test_pixmix_uses_the_mixing_picture_as_often_as_the_rounds_allow() -> None:
    # k = 4: one minus the mean over r = 0..4 of (1/2)^r is 0.6125
    draws = PixMix().draw(40_000, _generator(1))
    takes_place = torch.arange(4) < draws.rounds.unsqueeze(1)
    is_used = (takes_place & ~draws.is_copy[:, 1:]).any(1).float().mean()
    assert float(is_used) == pytest.approx(0.6125, abs=4 * np.sqrt(0.6125 * 0.3875 / 40_000))


def test_pixmix_leaves_a_tenth_of_the_pictures_as_they_are() -> None:
    # No round (1 of 5), and no copy or one that changes nothing. On noise of 8 x 8 pixels three operations never change
    # anything: a move of int(level 8 / 30) = 0 pixels either way, and equalize, whose step is 64 // 255 = 0. A turn is
    # of 0 degrees with probability 0.080; in 0.004 solarize finds no pixel so bright.
    images = _pixels(1, 20_000, 8, 8)
    mixed = PixMix().augment(images, _pixels(2, 20_000, 8, 8), _generator(4))
    share = float((mixed == images / 255).flatten(1).all(1).float().mean())
    expected = 1 / 5 * (1 / 2 + 1 / 2 * (3 + 0.080 + 0.004) / 13)
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 20_000))


@pytest.mark.parametrize(("partner", "share"), [("both", 0.5), ("augmented", 1.0), ("pictures", 0.0)])
def test_the_kind_of_partners_leaves_the_start_alone(partner: str, share: float) -> None:
    is_copy = PixMix.read({"partner": partner}, "pixmix").draw(10_000, _generator(1)).is_copy
    assert float(is_copy[:, 0].float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float(is_copy[:, 1:].float().mean()) == pytest.approx(share, abs=0.01)


def test_mixing_with_copies_alone_needs_no_pictures() -> None:
    images = _pixels(1)
    method = PixMix(partner="augmented")
    alone = method.augment(images, None, _generator(1))
    assert torch.equal(alone, method.augment(images, _pixels(2), _generator(1)))


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (None, "got None: give a mixing set"),
        (_pixels(2, 24, 36, 36), r"\(24, 3, 36, 36\)"),
        (_pixels(2, 23), "crop them"),
    ],
)
def test_pixmix_says_which_pictures_it_needs(pictures: Tensor | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        PixMix().augment(_pixels(1), pictures, _generator(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_method_works_on_a_gpu(method: Method) -> None:
    images, pictures = _pixels(1).cuda(), _pixels(2).cuda()
    augmented = method.augment(images, pictures, torch.Generator("cuda").manual_seed(3))
    assert augmented.device == images.device
    labels = torch.arange(24, device="cuda") % 10
    assert method.loss(_network().cuda(), augmented, labels, np.random.default_rng(4)).isfinite()
