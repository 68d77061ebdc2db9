"""PRIME against SciPy and NumPy, picture by picture, and its distributions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate, map_coordinates
from scipy.stats import ks_2samp, kstest, uniform
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.errors import RequestError
from pixmix_ray.methods import prime as primitives
from pixmix_ray.methods.chains import blend, consistency_loss, run_chains
from pixmix_ray.methods.prime import Prime

Float = NDArray[np.float64]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pixels(count: int, height: int, width: int) -> Tensor:
    """Noise with some values at both ends."""
    return (torch.rand(count, 3, height, width, generator=_generator(1)) * 1.1 - 0.05).clamp_(0, 1)


SIZES = [(32, 32), (8, 8), (40, 33), (9, 21)]


# The primitives


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_filter_correlates_every_channel_with_the_pictures_kernel(size: tuple[int, int], kernel_size: int) -> None:
    images, kernels = _pixels(6, *size), primitives.draw_kernels(6, kernel_size, 4.0, _generator(2))
    ours = primitives.filtered(images, kernels).double().numpy()
    for row in range(6):
        for channel in range(3):
            kernel, image = kernels[row].double().numpy(), images[row, channel].double().numpy()
            expected = np.clip(correlate(image, kernel, mode="constant"), 0, 1)
            np.testing.assert_allclose(ours[row, channel], expected, rtol=0, atol=1e-5)


def test_kernels_are_a_centred_impulse_plus_noise_of_random_strength() -> None:
    kernels = primitives.draw_kernels(40_000, 3, 4.0, _generator(3)).double()
    kernels[:, 1, 1] -= 1
    # the variance of U(0, 4) noise is E[sigma^2] = 16 / 3, and its fourth moment 3 E[sigma^4] = 3 * 256 / 5
    error = math.sqrt((3 * 256 / 5) / 40_000)
    assert kernels.square().mean(0).numpy() == pytest.approx(16 / 3, abs=4 * error)
    assert kernels.mean(0).numpy() == pytest.approx(0, abs=4 * math.sqrt(16 / 3 / 40_000))
    assert (kernels**4).mean((0, 1, 2)).item() == pytest.approx(3 * 256 / 5, rel=0.05)  # of one strength: 3 (16 / 3)^2


@pytest.mark.parametrize(
    ("cut", "variance", "band"), [(100, 0.01, None), (1, 0.5, None), (7, 0.3, None), (500, 0.05, 20), (30, 0.2, 4)]
)
@pytest.mark.parametrize("size", [(32, 32), (8, 13)])
def test_a_colour_curve_adds_sines_of_the_values(
    cut: int, variance: float, band: int | None, size: tuple[int, int]
) -> None:
    images = _pixels(6, *size)
    coefficients = primitives.draw_curves(6, cut, variance, band, _generator(4))
    ours = primitives.recoloured(images, coefficients).double().numpy()
    frequency = np.arange(1, cut + 1)
    for row in range(6):
        for channel in range(3):
            image: Float = images[row, channel].double().numpy()
            beta = coefficients[row, channel].double().numpy()
            expected = np.clip(image + np.sin(np.pi * image[..., None] * frequency) @ beta, 0, 1)
            np.testing.assert_allclose(ours[row, channel], expected, rtol=0, atol=1e-4)


def test_curves_have_all_frequencies_up_to_a_random_one() -> None:
    coefficients = primitives.draw_curves(20_000, 12, 0.5, None, _generator(5)).double()
    is_there = coefficients != 0
    count = is_there.sum(2)
    assert bool((count == count[:, :1]).all())  # the same for all channels
    assert torch.equal(is_there, torch.arange(12) < count.unsqueeze(2))
    shares = torch.bincount(count[:, 0], minlength=13)[1:].numpy() / 20_000
    assert shares == pytest.approx(1 / 12, abs=4 * math.sqrt(1 / 12 / 20_000))
    # s ~ U(0, 1/2): variance 1/4, fourth moment 3 E[s^2] = 1/4
    assert coefficients[:, :, 0].square().mean().item() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 / 20_000))


def test_curves_of_a_band_have_neighbouring_frequencies() -> None:
    is_there = (primitives.draw_curves(20_000, 12, 0.5, 4, _generator(6)) != 0)[:, 0].long()
    first, count = is_there.argmax(1), is_there.sum(1)
    place = torch.arange(12)
    assert torch.equal(is_there.bool(), (place >= first.unsqueeze(1)) & (place < (first + count).unsqueeze(1)))
    # highest h uniform on 1..12, lowest l on 1..h, band of min(4, h - l + 1): by enumeration
    expected = np.zeros((12, 5))
    for highest in range(1, 13):
        for lowest in range(1, highest + 1):
            expected[lowest - 1, min(4, highest - lowest + 1)] += 1 / 12 / highest
    ours = torch.bincount(first * 5 + count, minlength=60).view(12, 5).numpy() / 20_000
    np.testing.assert_allclose(ours, expected, atol=4 * math.sqrt(0.1 / 20_000))


@pytest.mark.parametrize("size", SIZES)
def test_displaced_pixels_are_interpolated_with_repeated_edges(size: tuple[int, int]) -> None:
    images = _pixels(5, *size)
    displacement = torch.randn(5, 2, *size, generator=_generator(7)) * 4
    ours = primitives.displaced(images, displacement).double().numpy()
    row, column = np.mgrid[: size[0], : size[1]]
    for number in range(5):
        dx, dy = displacement[number].double().numpy()
        for channel in range(3):
            image = images[number, channel].double().numpy()
            expected = map_coordinates(image, [row - dy, column - dx], order=1, mode="nearest")
            np.testing.assert_allclose(ours[number, channel], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("height", "width", "highest"), [(8, 8, 30), (5, 11, 30), (20, 20, 6), (3, 2, 9), (1, 6, 4)])
def test_folded_modes_have_the_covariance_of_all_modes(height: int, width: int, highest: int) -> None:
    device = torch.device("cpu")
    deviations = primitives.mode_deviations(height, width, highest, device).double().numpy()
    mode = np.arange(1, highest + 1)
    energy = mode[:, None] ** 2 + mode**2
    y, x = (np.sin(np.pi * np.linspace(0, 1, side)[:, None] * mode) for side in (height, width))
    # what the modes are worth together at each pair of pixels, that is the covariance of the field
    for cut in range(2, highest + 1):
        variance = (energy < (cut + 0.5) ** 2) / energy
        expected = np.einsum("ij,yi,xj,zi,wj->yxzw", variance, y, x, y, x, optimize=True)
        _, i, j = deviations.shape
        ours = np.einsum("ij,yi,xj,zi,wj->yxzw", deviations[cut] ** 2, y[:, :i], x[:, :j], y[:, :i], x[:, :j])
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def _displacement(rng: np.random.Generator, size: int, largest_cut: int) -> Float:
    """One displacement field as the paper and the code define it, mode by mode: (2, size, size)."""
    upper = int(rng.integers(3, largest_cut + 1))
    cut: int = min(int(rng.beta(0.5, 0.5) * (upper - 1) + 2), upper)
    log = math.log(cut)
    low, high = 1 / (math.pi * size**2 * log), 4 / (math.pi**3 * cut**2 * log)
    temperature = rng.beta(0.5, 0.5) * (max(low, high) - low) + low
    mode = np.arange(1, cut + 1)
    radius = np.sqrt(mode[:, None] ** 2 + mode**2)
    sines = np.sin(np.pi * np.linspace(0, 1, size)[:, None] * mode)
    noise = rng.standard_normal((2, cut, cut)) * (radius < cut + 0.5) / radius
    field: Float = math.sqrt(temperature) * size * sines @ noise @ sines.T
    return field


@pytest.mark.parametrize(("size", "largest_cut"), [(32, 100), (12, 5)])
def test_displacements_have_the_distribution_of_the_reference(size: int, largest_cut: int) -> None:
    rng = np.random.default_rng(8)
    reference = np.stack([_displacement(rng, size, largest_cut) for _ in range(2000)])
    ours = primitives.draw_displacements(2000, size, size, largest_cut, _generator(9)).double().numpy()
    assert ours.shape == reference.shape
    assert np.abs(ours[:, :, [0, -1]]).max() < 1e-4  # edges stay
    middle, quarter = size // 2, size // 4
    statistics: list[Callable[[Float], Float]] = [
        lambda field: field[:, 0, middle, middle],
        lambda field: field[:, 1, quarter, middle],
        lambda field: np.sqrt(np.square(field).mean((1, 2, 3))),
        lambda field: np.abs(np.diff(field, axis=3)).max((1, 2, 3)),
        lambda field: field[:, 0, quarter, quarter] * field[:, 0, quarter, quarter + 1],
        lambda field: field[:, 0, quarter, quarter] * field[:, 1, quarter, quarter],
    ]
    for statistic in statistics:
        assert ks_2samp(statistic(ours), statistic(reference)).pvalue > 0.001


def test_the_lowest_temperature_moves_pixels_by_half_a_pixel() -> None:
    # at the centre of a large picture the expected square of a displacement is about n^2 pi T log(K) / 4
    low, high = primitives.temperature_range(64, torch.tensor([10, 30]))
    displacement = 64 * (math.pi * low * torch.tensor([10.0, 30.0]).log()).sqrt() / 2
    assert displacement.tolist() == pytest.approx([0.5, 0.5])
    assert high.tolist() == pytest.approx([4 / (math.pi**3 * k**2 * math.log(k)) for k in (10, 30)])


def test_displacements_scale_with_the_sides_of_oblong_pictures() -> None:
    field = primitives.draw_displacements(4000, 12, 24, 20, _generator(10)).double()
    along_width, along_height = field.square().mean((0, 2, 3)).sqrt()
    assert float(along_width / along_height) == pytest.approx(2, rel=0.05)


# The chains


@pytest.mark.parametrize("method", [Prime(), Prime(width=1, depth=5), Prime(width=4, depth=2)])
def test_chains_apply_their_primitives_in_order_and_are_mixed_by_their_weights(method: Prime) -> None:
    images = _pixels(80, 8, 9)
    draws = method.draw(80, _generator(11))
    # three functions that do not commute
    functions = (lambda x: x * 0.5, lambda x: 1 - x, lambda x: x.square())
    chains = run_chains(images, draws, [lambda x, parameter, f=function: f(x) for function in functions])  # type: ignore[misc]
    mixed = blend(images, chains, draws.weights, draws.share)
    for row, image in enumerate(images.double()):
        total = torch.zeros_like(image)
        for number in range(method.width):
            chain = image
            for step in range(int(draws.length[number, row])):
                chain = functions[int(draws.operation[number, row, step])](chain)
            torch.testing.assert_close(chains[number, row].double(), chain, rtol=0, atol=1e-6)
            total += float(draws.weights[number, row]) * chain
        share = float(draws.share[row])
        torch.testing.assert_close(mixed[row].double(), (1 - share) * image + share * total, rtol=0, atol=1e-6)


def test_the_choices_have_the_published_distributions() -> None:
    draws = Prime().draw(20_000, _generator(12))
    for numbers in (draws.length - 1, draws.operation):
        shares = torch.bincount(numbers.flatten()) / numbers.numel()
        assert shares.numpy() == pytest.approx(np.full(3, 1 / 3), abs=4 * math.sqrt(1 / 3 / numbers.numel()))
    assert kstest(draws.share.numpy(), uniform().cdf).pvalue > 0.001
    torch.testing.assert_close(draws.weights.sum(0), torch.ones(20_000))
    assert bool((Prime(depth=4).draw(10, _generator(12)).length == 4).all())


IMAGENET = {"spatial_cut": 500, "colour_cut": 500, "colour_variance": 0.05, "colour_band": 20, "jsd": False}


@pytest.mark.parametrize("settings", [{"jsd": False}, {}, IMAGENET])
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 8, 8), (5, 3, 40, 33)])
def test_every_size_is_augmented_in_range_by_the_generator_alone(
    settings: dict[str, object], shape: tuple[int, ...]
) -> None:
    method = Prime.read(settings, "method prime")
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=_generator(1))
    before = images.clone()
    augmented = method.augment(images, None, _generator(13))
    assert augmented.shape == ((shape[0], 3, *shape[1:]) if method.jsd else shape)
    assert augmented.dtype == torch.float32
    assert bool(((augmented >= 0) & (augmented <= 1)).all())
    assert torch.equal(images, before)
    assert torch.equal(augmented, method.augment(images, None, _generator(13)))


def test_every_picture_has_its_own_draws() -> None:
    # the code draws the strength of a primitive once for a whole batch: one constant would be the same for all here
    images = torch.full((200, 3, 8, 8), 128, dtype=torch.uint8)
    augmented = Prime(jsd=False).augment(images, None, _generator(14))
    assert len({picture.numpy().tobytes() for picture in augmented}) > 150


def test_the_loss_compares_views_unless_told_otherwise() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5))
    images, labels = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8), torch.arange(10) % 5
    views = Prime().augment(images, None, _generator(15))
    torch.testing.assert_close(views[:, 0], images / 255, rtol=0, atol=0)
    assert not torch.equal(views[:, 1], views[:, 2])
    loss = Prime().loss(network, views, labels, np.random.default_rng(0))
    torch.testing.assert_close(loss, consistency_loss(network, views, labels), rtol=0, atol=0)
    plain = Prime(jsd=False).loss(network, views[:, 1], labels, np.random.default_rng(0))
    torch.testing.assert_close(plain, F.cross_entropy(network(views[:, 1]), labels))


@pytest.mark.parametrize(
    "settings", [{"width": 0}, {"depth": 0}, {"kernel_size": 4}, {"spatial_cut": 2}, {"colour_band": 0}]
)
def test_a_setting_out_of_range_is_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=next(iter(settings))):
        Prime.read(settings, "method prime")
