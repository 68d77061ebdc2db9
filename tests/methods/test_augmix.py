"""AugMix against a reference that goes picture by picture with Pillow, its distributions, and its loss by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import beta, kstest, uniform
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.errors import RequestError
from pixmix_ray.methods.augmix import AugMix
from pixmix_ray.methods.chains import at_level, blend, consistency_loss, draw_weights, run_chains
from pixmix_ray.transforms import ALL, NINE

Operate = Callable[[Image.Image, float, int], Image.Image]


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _factor(level: float) -> float:
    return level * 1.8 / 10 + 0.1


# level to operation as in the official code: whole parameters truncated, a sign for geometric operations alone
PILLOW: dict[str, Operate] = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, level, sign: ImageOps.equalize(image),
    "posterize": lambda image, level, sign: ImageOps.posterize(image, 4 - int(level * 4 / 10)),
    "rotate": lambda image, level, sign: image.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR),
    "solarize": lambda image, level, sign: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
    "shear_x": lambda image, level, sign: _moved(image, 1, sign * (level * 0.3 / 10), 0, 0, 1, 0),
    "shear_y": lambda image, level, sign: _moved(image, 1, 0, 0, sign * (level * 0.3 / 10), 1, 0),
    "translate_x": lambda image, level, sign: _moved(image, 1, 0, sign * int(level * (image.width / 3) / 10), 0, 1, 0),
    "translate_y": lambda image, level, sign: _moved(image, 1, 0, 0, 0, 1, sign * int(level * (image.width / 3) / 10)),
    "color": lambda image, level, sign: ImageEnhance.Color(image).enhance(_factor(level)),
    "contrast": lambda image, level, sign: ImageEnhance.Contrast(image).enhance(_factor(level)),
    "brightness": lambda image, level, sign: ImageEnhance.Brightness(image).enhance(_factor(level)),
    "sharpness": lambda image, level, sign: ImageEnhance.Sharpness(image).enhance(_factor(level)),
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _smooth_pictures(count: int, height: int, width: int) -> Tensor:
    """Random pictures with structure and some black and white areas: enlarged noise of high contrast."""
    coarse = torch.randn(count, 3, 6, 6, generator=_generator(1)) * 90 + 128
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("method", "operations", "size"),
    [
        (AugMix(), NINE, (32, 32)),
        (AugMix(operations="all", severity=10), ALL, (40, 33)),
        (AugMix(operations="all", width=1, depth=5, alpha=0.2), ALL, (8, 8)),
        (AugMix(severity=1, width=5, depth=1), NINE, (24, 40)),
    ],
)
def test_chains_equal_pillow_in_every_bit_and_are_mixed_by_their_weights(
    method: AugMix, operations: tuple[str, ...], size: tuple[int, int]
) -> None:
    images, draws = _smooth_pictures(60, *size), method.draw(60, _generator(2))
    chains = run_chains(images, draws, [at_level(name) for name in operations])
    mixed = blend(images, chains, draws.weights, draws.share).double().numpy()
    for row, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        share = float(draws.share[row])
        expected = (1 - share) * image / 255
        for number in range(method.width):
            chain = Image.fromarray(image)
            for step in range(int(draws.length[number, row])):
                level = float(draws.parameter[number, row, step])
                name = operations[int(draws.operation[number, row, step])]
                chain = PILLOW[name](chain, abs(level), -1 if level < 0 else 1)
            np.testing.assert_array_equal(chains[number, row].permute(1, 2, 0).numpy(), np.asarray(chain))
            expected = expected + share * float(draws.weights[number, row]) * np.asarray(chain) / 255
        np.testing.assert_allclose(mixed[row].transpose(1, 2, 0), expected, rtol=0, atol=1e-6)


def test_the_choices_have_the_published_distributions() -> None:
    draws = AugMix().draw(20_000, _generator(3))
    for numbers, count in ((draws.length - 1, 3), (draws.operation, 9)):
        shares = torch.bincount(numbers.flatten(), minlength=count) / numbers.numel()
        assert len(shares) == count
        assert shares.numpy() == pytest.approx(1 / count, abs=4 * math.sqrt(1 / count / numbers.numel()))
    assert kstest(draws.parameter.abs().flatten().numpy(), uniform(0.1, 2.9).cdf).pvalue > 0.001
    assert float((draws.parameter < 0).double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(180_000))
    for one, other in ((draws.length[0], draws.length[1]), (draws.operation[0, :, 0], draws.operation[0, :, 1])):
        correlation = np.corrcoef(one.numpy(), other.numpy())[0, 1]
        assert abs(correlation) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize(("width", "alpha"), [(3, 1.0), (2, 0.3), (5, 4.0)])
def test_weights_are_dirichlet_and_shares_beta(width: int, alpha: float) -> None:
    weights, share = draw_weights(20_000, width, alpha, _generator(4))
    assert weights.dtype == share.dtype == torch.float32
    torch.testing.assert_close(weights.sum(0), torch.ones(20_000))
    assert kstest(share.numpy(), beta(alpha, alpha).cdf).pvalue > 0.001
    for weight in weights:  # each component of a Dirichlet variate is a Beta variate
        assert kstest(weight.numpy(), beta(alpha, (width - 1) * alpha).cdf).pvalue > 0.001
        assert abs(np.corrcoef(weight.numpy(), share.numpy())[0, 1]) < 4 / math.sqrt(20_000)


def test_a_tiny_alpha_still_gives_weights() -> None:
    weights, share = draw_weights(2000, 3, 1e-4, _generator(4))
    assert bool(weights.isfinite().all())
    assert bool(share.isfinite().all())
    torch.testing.assert_close(weights.sum(0), torch.ones(2000))


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_a_fixed_depth_is_kept(depth: int) -> None:
    draws = AugMix(depth=depth).draw(50, _generator(5))
    assert bool((draws.length == depth).all())
    assert draws.operation.shape == (3, 50, depth)


@pytest.mark.parametrize("depth", [0, -2])
def test_a_depth_that_is_none_is_refused(depth: int) -> None:
    with pytest.raises(RequestError, match=f"depth = {depth}: a chain has 1 or more operations, or -1"):
        AugMix.read({"depth": depth}, "method augmix")


@pytest.mark.parametrize("settings", [{}, {"operations": "all"}, {"jsd": True}])
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 8, 8), (5, 3, 40, 33)])
def test_every_size_is_augmented_in_range_by_the_generator_alone(
    settings: dict[str, object], shape: tuple[int, ...]
) -> None:
    method = AugMix.read(settings, "method augmix")
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=_generator(1))
    before = images.clone()
    augmented = method.augment(images, None, _generator(6))
    assert augmented.shape == ((shape[0], 3, *shape[1:]) if method.jsd else shape)
    assert augmented.dtype == torch.float32
    assert bool(((augmented >= 0) & (augmented <= 1)).all())
    assert torch.equal(images, before)
    assert torch.equal(augmented, method.augment(images, None, _generator(6)))


def test_a_mix_is_not_rounded_to_8_bits() -> None:
    mixed = AugMix().augment(_smooth_pictures(20, 32, 32), None, _generator(7)) * 255
    assert float((mixed - mixed.round()).abs().max()) > 0.4


# The consistency loss


class Recorder(nn.Module):
    """A network that remembers what it saw, and answers with the first `classes` pixels, scaled."""

    def __init__(self, classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.classes, self.scale, self.seen = classes, scale, list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return images.flatten(1)[:, : self.classes] * self.scale


def test_the_views_are_the_clean_pictures_and_two_different_mixes() -> None:
    images = _smooth_pictures(40, 32, 32)
    clean, first, second = AugMix(jsd=True).augment(images, None, _generator(8)).unbind(1)
    torch.testing.assert_close(clean, images / 255, rtol=0, atol=0)
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_views_go_through_the_network_in_one_pass_view_after_view() -> None:
    views, network = torch.rand(4, 3, 3, 5, 5, generator=_generator(9)), Recorder(4)
    AugMix(jsd=True).loss(network, views, torch.arange(4), np.random.default_rng(0))
    assert len(network.seen) == 1
    torch.testing.assert_close(network.seen[0], torch.cat([views[:, 0], views[:, 1], views[:, 2]]), rtol=0, atol=0)


def _divergence(views: NDArray[np.float64]) -> float:
    """The mean over views of the Kullback-Leibler divergence from their mean, for one picture's predictions (3, K)."""
    mean = np.maximum(views.mean(0), 1e-7)
    return sum(float(np.sum(p[p > 0] * np.log(p[p > 0] / mean[p > 0]))) for p in views) / 3


def test_the_loss_is_the_cross_entropy_of_the_clean_view_plus_twelve_divergences() -> None:
    # one picture, two classes, predictions (3/4, 1/4), (1/2, 1/2), (1/4, 3/4) by logits (log 3, 0), (0, 0), (0, log 3):
    # the mean is (1/2, 1/2), both outer divergences are 3/4 log(3/2) + 1/4 log(1/2), the middle one is 0
    views = torch.zeros(1, 3, 3, 1, 1)
    views[0, 0, 0, 0, 0] = views[0, 2, 1, 0, 0] = math.log(3)
    outer = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    loss = AugMix(jsd=True).loss(Recorder(2), views, torch.tensor([0]), np.random.default_rng(0))
    assert float(loss) == pytest.approx(-math.log(0.75) + 12 * 2 * outer / 3, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 60.0, 3000.0])  # with 60 some probabilities are below the bound, then 0
def test_the_loss_equals_the_definition_in_numpy(scale: float) -> None:
    views, labels = torch.rand(16, 3, 3, 4, 4, generator=_generator(10)), torch.arange(16) % 7
    logits = views.flatten(2)[..., :7].double().numpy() * scale
    log_p = logits - logits.max(2, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(2, keepdims=True))
    entropy = -log_p[np.arange(16), 0, labels.numpy()].mean()
    expected = entropy + 12 * np.mean([_divergence(picture) for picture in np.exp(log_p)])
    before = views.clone()
    assert float(consistency_loss(Recorder(7, scale), views, labels)) == pytest.approx(expected, rel=1e-5)
    assert torch.equal(views, before)


def test_without_jsd_the_loss_is_the_cross_entropy() -> None:
    images, labels = torch.rand(8, 3, 4, 4, generator=_generator(11)), torch.arange(8) % 5
    loss = AugMix().loss(Recorder(5), images, labels, np.random.default_rng(0))
    torch.testing.assert_close(loss, F.cross_entropy(images.flatten(1)[:, :5], labels))


def test_equal_views_have_no_divergence_and_a_finite_gradient() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    views = torch.rand(6, 1, 3, 4, 4, generator=_generator(12)).expand(-1, 3, -1, -1, -1)
    loss = consistency_loss(network, views, torch.arange(6) % 3)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.testing.assert_close(loss, F.cross_entropy(network(views[:, 0]), torch.arange(6) % 3))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
