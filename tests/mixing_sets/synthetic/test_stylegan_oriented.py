"""The oriented StyleGAN: pictures of the full network; wavelets, noise and levels of the facts."""

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.mixing_sets.synthetic import stylegan_oriented as stylegan
from pixmix_ray.mixing_sets.synthetic.stylegan_oriented import (
    CHANNELS,
    CHUNK,
    LAYERS,
    SIDE,
    StyleGanOriented,
    _enlarged_maps,
    pink_noise,
    wavelet_bank,
)


def test_the_layers_are_stylegan2s_for_256_pixels() -> None:
    # By hand: one convolution of 4 pixels, then for each size one that enlarges and one that does not.
    assert [layer.size for layer in LAYERS] == [4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    assert [layer.in_channels for layer in LAYERS] == [512] * 10 + [256, 256, 128]
    assert [layer.enlarges for layer in LAYERS] == [False, *[True, False] * 6]
    assert {size: min(32768 // size, 512) for size in (4, 8, 16, 32, 64, 128, 256)} == CHANNELS


def by_hand(flat: list[float]) -> NDArray[np.float64]:
    return np.array(flat, dtype=np.float64).reshape(3, 3)


def test_the_bank_holds_40_wavelets_and_their_negatives() -> None:
    bank = wavelet_bank()
    assert bank.shape == (40, 3, 3) and np.array_equal(bank[20:], -bank[:20])
    assert len({wavelet.round(6).tobytes() for wavelet in bank}) == 40
    # By hand: the edge and the line that are not turned, less their mean.
    assert bank[0] == pytest.approx(by_hand([1, 0, -1] * 3))
    assert bank[8] == pytest.approx(by_hand([2 / 3, -4 / 3, 2 / 3] * 3))
    assert bank[16] == pytest.approx(by_hand([0, 0, 0, 0, 1, 0, 0, 0, 0]))
    assert bank[17] == pytest.approx(by_hand([-1, -1, -1, -1, 1, -1, -1, -1, -1]))
    assert bank[18] == pytest.approx(by_hand([0, 1, 0, 1, 1, 1, 0, 1, 0]))
    assert bank[19] == pytest.approx(by_hand([-1, 1, -1, 1, 1, 1, -1, 1, -1]))
    assert np.abs(bank[:16].mean(axis=(1, 2))).max() < 1e-6


@pytest.mark.parametrize("kind", [0, 8])
def test_wavelets_turn_by_an_eighth_of_a_half_turn(kind: int) -> None:
    bank = wavelet_bank()
    for step in range(4):  # four steps are a quarter turn against the clock
        assert bank[kind + step + 4] == pytest.approx(np.rot90(bank[kind + step]), abs=1e-6)
    # The direction of the edge: by hand, 0 for step 0, and 22.5 degrees more for each, as well as 3x3 pixels can.
    y, x = np.mgrid[-1:2, -1:2]
    angles = [np.degrees(np.arctan2((w * y).sum(), -(w * x).sum())) for w in bank[:8]]
    assert angles == pytest.approx(list(np.arange(8) * 22.5), abs=5)


def test_noise_is_pink_with_unit_deviation() -> None:
    maps = pink_noise(0, np.arange(12))
    assert maps.shape == (12, SIDE, SIDE) and maps.dtype == np.float32
    assert np.abs(maps.std(axis=(1, 2)) - 1).max() < 1e-4
    # The slope of the spectrum, averaged in octaves: amplitudes fall as f**-alpha, alpha in [0.5, 1.5]. The
    # envelope is a factor of the lowest frequencies only.
    power = np.abs(np.fft.rfft2(maps)) ** 2
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    octaves = [(frequency > low) & (frequency <= 2 * low) for low in (1 / 32, 1 / 16, 1 / 8)]
    amplitude = np.sqrt([power[:, octave].mean(axis=1) for octave in octaves])
    alpha = np.log2(amplitude[0] / amplitude[2]) / 2
    assert alpha.min() > 0.45 and alpha.max() < 1.55 and np.ptp(alpha) > 0.4


def test_the_envelope_is_pillows_enlargement() -> None:
    small = np.random.default_rng(0).laplace(size=(2, 4, 4))
    large = _enlarged_maps(small)
    for number in range(2):
        image = Image.fromarray(small[number].astype(np.float32))
        expected = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        assert np.abs(large[number] - expected).max() < 1e-4


def enlarged(images: Tensor) -> Tensor:
    """Zeros between the pixels, then StyleGAN2's filter [1, 3, 3, 1], four times its mean: by the definition."""
    count, channels, side, _ = images.shape
    spread = torch.zeros(count, channels, 2 * side, 2 * side)
    spread[:, :, ::2, ::2] = images
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (torch.outer(taps, taps) / 64 * 4).expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=channels)


def full_network(seed: int, index: int) -> Tensor:
    """The picture before levels, (3, 256, 256), by StyleGAN2's modulated convolutions: the second implementation."""
    draws = stylegan._RandomNumbers(seed=seed, indices=np.array([index]))
    network, bank = stylegan._network(seed, index // 400), torch.from_numpy(wavelet_bank()).float()
    noise = torch.from_numpy(pink_noise(seed, np.array([index])))[:, None]
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    blur = torch.outer(taps, taps) / 64 * 4

    def factors(weights: Tensor, number: int) -> Tensor:
        style = F.leaky_relu(draws.normal("style", number, 512)[0], 0.2)
        scaled: Tensor = weights @ style / 512**0.5 + 1
        return scaled

    features, colours = network.constant.view(1, 512, 4, 4), torch.zeros(1, 3, 2, 2)
    for layer in LAYERS:
        channels = CHANNELS[layer.size]
        # Any numbers with these signs: demodulation takes their sizes out.
        signs = torch.from_numpy(np.where(draws.uniform("signs", layer.number, channels)[0] < 0.5, 1.0, -1.0)).float()
        per_output = signs * (torch.randn(channels, generator=torch.Generator().manual_seed(1)).abs() + 0.1)
        order = draws.uniform("wavelets", layer.number, 40)[0].argsort()
        size = int(5 + 36 * draws.uniform("subset", layer.number, 1)[0, 0])
        chosen = order[(size * draws.uniform("choice", layer.number, layer.in_channels)[0]).astype(int)]
        weight = bank[torch.from_numpy(chosen)][None] * per_output[:, None, None, None]
        weight = weight * factors(network.styles[layer.number], layer.number)[None, :, None, None]
        weight = weight / weight.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        if layer.enlarges:
            features = F.conv_transpose2d(features, weight.transpose(0, 1), stride=2)
            features = F.conv2d(features, blur.expand(channels, 1, 4, 4), padding=1, groups=channels)
        else:
            features = F.conv2d(features, weight, padding=1)
        strength = float(draws.uniform("strength", layer.number, 1)[0, 0]) * 0.3
        bias = torch.from_numpy(0.4 * draws.uniform("biases", layer.number, channels)[0] - 0.2).float()
        area = F.interpolate(noise, (layer.size, layer.size), mode="area")
        features = 2**0.5 * F.relu(features + strength * area + bias[:, None, None])
        if layer.has_colours:
            weight = draws.normal("colours", layer.number, 3 * channels).view(3, channels)
            weight = weight * factors(network.colour_styles[layer.number], layer.number + 1) / channels**0.5
            colours = enlarged(colours) + torch.einsum("kc,nchw->nkhw", weight, features)
    return colours[0]


def test_pictures_are_those_of_the_full_network() -> None:
    index = 403  # of the second network
    draws = stylegan._RandomNumbers(seed=7, indices=np.arange(400, 404))
    fast = stylegan._synthesis(stylegan._network(7, 1), draws)[3]
    full = full_network(7, index)
    assert float((fast - full).abs().max()) < 1e-3 * float(full.std())
    image = StyleGanOriented(seed=7).draw(np.array([index]), 36)[0]
    buffer = io.BytesIO()
    levelled = stylegan._normalised(torch.stack([full] * CHUNK), draws)[3]
    Image.fromarray(np.ascontiguousarray(levelled)).save(buffer, "JPEG", quality=95)
    difference = np.abs(image.astype(int) - np.asarray(Image.open(buffer)))
    assert difference.mean() < 0.1 and difference.max() <= 8


def test_channels_have_the_means_and_deviations_of_the_facts() -> None:
    draws = stylegan._RandomNumbers(seed=0, indices=np.arange(600))
    generator = torch.Generator().manual_seed(0)
    colours = 5 * torch.randn(600, 3, 16, 16, generator=generator).clamp(-1, 1) + 3
    images = stylegan._normalised(colours, draws) / 255
    means, stds = images.mean(axis=(1, 2)), images.std(axis=(1, 2))
    # Clipping and truncation move them a little.
    assert means.mean(axis=0) == pytest.approx([0.483, 0.455, 0.401], abs=0.025)
    assert means.std(axis=0) == pytest.approx([0.145, 0.142, 0.161], abs=0.03)
    assert stds.mean(axis=0) == pytest.approx([0.219, 0.213, 0.213], abs=0.03)
    assert stds.std(axis=0) == pytest.approx([0.063, 0.062, 0.069], abs=0.02)


def test_weights_are_new_every_400_pictures() -> None:
    first, again, second = (stylegan._network(0, number) for number in (0, 0, 1))
    assert torch.equal(first.constant, again.constant) and not torch.equal(first.constant, second.constant)
    assert abs(float(first.styles[3].std()) - 1) < 0.01 and first.styles[10].shape == (256, 512)
