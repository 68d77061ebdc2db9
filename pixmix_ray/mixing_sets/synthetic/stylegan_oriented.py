"""StyleGAN (Oriented): pictures of an untrained StyleGAN2 whose convolutions are random oriented wavelets.

M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021; a row of Table 4 of PixMix (Hendrycks et al., CVPR
2022). The network is StyleGAN2's (Karras et al., CVPR 2020) for 256 pixels, with ReLU, new weights every 400 pictures,
one pink noise map a picture, random biases, and for each picture and convolution a random part of the wavelets.

How it is computed. All output channels of such a convolution are one map m, times a random number each, and
demodulation leaves its sign alone. So the features behind it are relu(±m + noise + bias), and what the next convolution
needs of them are nine sums over the channels, one for each pixel of its wavelets, that are then moved and added. The
network is a small perceptron at every pixel between such steps: less than a hundredth of the multiplications, and the
same result.

Where we differ: every picture has its own wavelets, biases, noise and colour weights (in the source the pictures of a
batch share them, but its batches are of one); the noise is periodic; the 1e-8 of demodulation is left out.

The 40 wavelets of 3x3 pixels are edges and lines in eight
orientations, four symmetric patterns, and the negatives of all; the noise lies under a slowly changing envelope.
"""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import ndtri
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.mixing_sets.base import MIXING_SETS
from pixmix_ray.mixing_sets.generated import GeneratedSet, Images
from pixmix_ray.seeding import rng, uniforms

SIDE = 512
ENVELOPE_SIDE = 4


def pink_noise(seed: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """A map for each picture, (N, SIDE, SIDE), of standard deviation 1.

    The amplitudes of the noise fall with the frequency f as f**-alpha, alpha uniform in [0.5, 1.5]. The envelope is
    4x4 numbers of a Laplace distribution, enlarged with Pillow's Lanczos filter.
    """
    columns = SIDE // 2 + 1
    phases, alpha, envelope = (
        uniforms(seed, "pink_noise", purpose, indices=indices, count=count)
        for purpose, count in (("phases", SIDE * columns), ("alpha", 1), ("envelope", ENVELOPE_SIDE**2))
    )
    angles = (2 * np.pi * phases).astype(np.float32).reshape(-1, SIDE, columns)
    frequency = np.hypot(scipy.fft.fftfreq(SIDE)[:, None], scipy.fft.rfftfreq(SIDE)).astype(np.float32)
    frequency[0, 0] = np.inf  # no constant part
    amplitude = np.exp(-(alpha[:, :, None] + 0.5).astype(np.float32) * np.log(frequency))
    spectrum = np.empty(angles.shape, dtype=np.complex64)
    spectrum.real, spectrum.imag = amplitude * np.cos(angles), amplitude * np.sin(angles)
    noise = scipy.fft.irfft2(spectrum, s=(SIDE, SIDE), norm="ortho")
    noise *= _enlarged_maps(_laplace(envelope).reshape(-1, ENVELOPE_SIDE, ENVELOPE_SIDE))
    scaled: NDArray[np.float32] = noise / noise.std(axis=(1, 2), keepdims=True)
    return scaled


def _laplace(u: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.sign(u - 0.5) * -np.log1p(-2 * np.abs(u - 0.5))
    return values


def _enlarged_maps(small: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps (N, 4, 4) enlarged to (N, SIDE, SIDE)."""
    unit = Image.fromarray(np.eye(ENVELOPE_SIDE, dtype=np.float32))
    filters = np.asarray(unit.resize((ENVELOPE_SIDE, SIDE), Image.Resampling.LANCZOS))  # a column for each number
    large: NDArray[np.float32] = filters @ small.astype(np.float32) @ filters.T
    return large


ORIENTATIONS = 8
TEMPLATE = 11  # pixels; the wavelets are cut from the middle, where turning it does not show its borders


def wavelet_bank() -> NDArray[np.float64]:
    """The wavelets, (40, 3, 3): 8 edges, 8 lines, a point, centre against surround, a plus, its sign; the negatives."""
    middle = TEMPLATE // 2
    edge, line = np.ones((2, TEMPLATE, TEMPLATE), dtype=np.float32)
    edge[:, middle], edge[:, middle + 1 :] = 0, -1
    line[:, middle] = -1
    point = np.zeros((3, 3))
    point[1, 1] = 1
    plus = np.ones((3, 3))
    plus[::2, ::2] = 0
    symmetric = np.stack([point, 2 * point - 1, plus, 2 * plus - 1])
    bank = np.concatenate([_turned(edge), _turned(line), symmetric])
    return np.concatenate([bank, -bank])


def _turned(template: NDArray[np.float32]) -> NDArray[np.float64]:
    """The middle 3x3 pixels of the template in each orientation, (ORIENTATIONS, 3, 3), of mean 0."""
    image, middle = Image.fromarray(template), slice(TEMPLATE // 2 - 1, TEMPLATE // 2 + 2)
    angles = np.arange(ORIENTATIONS) * 180 / ORIENTATIONS
    turned = np.stack([np.asarray(image.rotate(angle, Image.Resampling.BILINEAR), np.float64) for angle in angles])
    cut = turned[:, middle, middle]
    centred: NDArray[np.float64] = cut - cut.mean(axis=(1, 2), keepdims=True)
    return centred


PICTURES_A_NETWORK = 400
CHUNK = 4  # pictures that are drawn together, always whole: the last bits of products depend on how many there are
STYLE_SIZE = 512
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128}
RELU_GAIN = math.sqrt(2)
BIAS_RANGE = 0.2
NOISE_RANGE = 0.3
FEWEST_WAVELETS = 5
CHANNEL_MEANS, MEAN_SPREAD = (0.483, 0.455, 0.401), (0.145, 0.142, 0.161)  # ImageNet's, and how much pictures vary
CHANNEL_STDS, STD_SPREAD = (0.219, 0.213, 0.213), (0.063, 0.062, 0.069)
JPEG_QUALITY = 95
WAVELETS = torch.from_numpy(wavelet_bank()).float()
WORKING_SET = 2**17  # features at once, in numbers: what a core's cache holds

Ints = NDArray[np.int64]


@MIXING_SETS.add("stylegan_oriented")
class StyleGanOriented(GeneratedSet):
    """Pictures of untrained StyleGAN2 generators with oriented wavelets; on one core 10,000 take seven minutes."""

    summary: ClassVar[str] = "pictures of untrained StyleGAN2 generators with oriented wavelets"
    source: ClassVar[str] = "made here, after Baradad et al., NeurIPS 2021; PixMix (Hendrycks et al., 2022), Table 4"
    generator: ClassVar[str] = "stylegan_oriented"
    chunk: ClassVar[int] = CHUNK

    def draw(self, indices: Ints, side: int) -> Images:
        """The pictures of these indices in their own size, (N, 256, 256, 3) uint8."""
        numbers, member_of = np.unique(indices // CHUNK, return_inverse=True)
        groups = np.stack([_as_jpeg(_group(self.seed, int(number))) for number in numbers])
        images: Images = groups[member_of, indices % CHUNK]
        return images


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A convolution of the network.

    Attributes:
        number: its place.
        size: the side of its output in pixels.
        in_channels: of its input.
        has_colours: whether its output is turned into colours (the last one of each size).
    """

    number: int
    size: int
    in_channels: int
    has_colours: bool

    @property
    def enlarges(self) -> bool:
        """Whether the output is twice as large as the input."""
        return self.number > 0 and not self.has_colours


LAYERS = [_Layer(number=0, size=4, in_channels=CHANNELS[4], has_colours=True)] + [
    _Layer(number=2 * step + 1 + half, size=size, in_channels=CHANNELS[size if half else size // 2], has_colours=half)
    for step, size in enumerate(list(CHANNELS)[1:])
    for half in (False, True)
]


@dataclass(frozen=True, kw_only=True)
class _Network:
    """The weights that some hundred pictures share.

    Attributes:
        constant: the input of the first layer, (channels, 16).
        styles: for each layer the map from a style to factors of its input channels, (in_channels, STYLE_SIZE).
        colour_styles: the same for the colours of the layers that have them.
    """

    constant: Tensor
    styles: list[Tensor]
    colour_styles: dict[int, Tensor]


@dataclass(frozen=True, kw_only=True)
class _RandomNumbers:
    """Random numbers of some pictures, by what they are for and the layer."""

    seed: int
    indices: Ints

    def uniform(self, purpose: str, layer: int, count: int) -> NDArray[np.float64]:
        """(N, count), in (0, 1)."""
        return uniforms(self.seed, "stylegan_oriented", purpose, layer, indices=self.indices, count=count)

    def normal(self, purpose: str, layer: int, count: int) -> Tensor:
        """(N, count) float32, of mean 0 and variance 1."""
        return torch.from_numpy(ndtri(self.uniform(purpose, layer, count))).float()


def _group(seed: int, number: int) -> Images:
    """CHUNK pictures, the ones from number * CHUNK on, (CHUNK, 256, 256, 3) uint8."""
    first = number * CHUNK
    draws = _RandomNumbers(seed=seed, indices=np.arange(first, first + CHUNK))
    colours = _synthesis(_network(seed, first // PICTURES_A_NETWORK), draws)
    return _normalised(colours, draws)


@lru_cache(maxsize=8)  # threads may work at pictures of different networks
def _network(seed: int, number: int) -> _Network:
    generator = rng(seed, "stylegan_oriented", "network", number)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal((rows, columns), dtype=np.float32))

    return _Network(
        constant=normal(CHANNELS[4], 16),
        styles=[normal(layer.in_channels, STYLE_SIZE) for layer in LAYERS],
        colour_styles={layer.number: normal(CHANNELS[layer.size], STYLE_SIZE) for layer in LAYERS if layer.has_colours},
    )


def _synthesis(network: _Network, draws: _RandomNumbers) -> Tensor:
    """The output of the network, (N, 3, 256, 256) float32."""
    noise = _noise_by_size(draws)
    taps = _tap_weights(network, draws, LAYERS[0]) @ network.constant
    colours = torch.zeros(len(draws.indices), 3, 2, 2)
    for layer in LAYERS:
        strength = torch.from_numpy(draws.uniform("strength", layer.number, 1)).float() * NOISE_RANGE
        weights = _weights(network, draws, layer)
        sums = _sums_of_features(
            _moved_and_added(taps, layer), noise[layer.size] * strength, draws, layer, torch.cat(weights, dim=1)
        )
        taps = sums[:, : weights[0].shape[1]]
        if layer.has_colours:
            colours = _enlarged(colours) + sums[:, -3:].view(-1, 3, layer.size, layer.size)
    return colours


def _noise_by_size(draws: _RandomNumbers) -> dict[int, Tensor]:
    """The noise of the pictures for each size of layers, (N, P)."""
    noise, by_size = torch.from_numpy(pink_noise(draws.seed, draws.indices))[:, None], {}
    for size in reversed(CHANNELS):
        noise = F.avg_pool2d(noise, noise.shape[2] // size)
        by_size[size] = noise.flatten(1)
    return by_size


def _weights(network: _Network, draws: _RandomNumbers, layer: _Layer) -> list[Tensor]:
    """What the features of the layer are summed with, (N, K, channels) each: for the next layer and for the colours."""
    weights = []
    if layer.number + 1 < len(LAYERS):
        weights.append(_tap_weights(network, draws, LAYERS[layer.number + 1]) * RELU_GAIN)
    if layer.has_colours:
        weights.append(_colour_weights(network, draws, layer))
    return weights


def _tap_weights(network: _Network, draws: _RandomNumbers, layer: _Layer) -> Tensor:
    """How much each input channel adds to each pixel of the layer's wavelets, (N, 9, in_channels), demodulated."""
    factors = _styled(network.styles[layer.number], draws, layer.number)
    # Enlarging is a transposed convolution, which adds without flipping; a correlation, seen from its input, flips.
    bank = (WAVELETS if layer.enlarges else WAVELETS.flip(1, 2)).flatten(1)
    order = np.argsort(draws.uniform("wavelets", layer.number, len(bank)), axis=1)
    most = FEWEST_WAVELETS + draws.uniform("subset", layer.number, 1) * (len(bank) + 1 - FEWEST_WAVELETS)
    chosen = (draws.uniform("choice", layer.number, layer.in_channels) * np.floor(most)).astype(np.int64)
    weights = factors[:, :, None] * bank[torch.from_numpy(np.take_along_axis(order, chosen, axis=1))]
    return (weights / weights.square().sum(dim=(1, 2), keepdim=True).sqrt()).transpose(1, 2)


def _colour_weights(network: _Network, draws: _RandomNumbers, layer: _Layer) -> Tensor:
    """How much each feature of the layer adds to red, green and blue, (N, 3, channels)."""
    factors = _styled(network.colour_styles[layer.number], draws, layer.number + 1)
    count = factors.shape[1]
    weights = draws.normal("colours", layer.number, 3 * count).view(-1, 3, count)
    return weights * factors[:, None] * (RELU_GAIN / math.sqrt(count))


def _styled(weights: Tensor, draws: _RandomNumbers, number: int) -> Tensor:
    """Factors of channels by the style of the layer of this number, (N, channels), about 1."""
    style = F.leaky_relu(draws.normal("style", number, STYLE_SIZE), 0.2)
    factors: Tensor = style @ weights.T / math.sqrt(STYLE_SIZE) + 1
    return factors


def _sums_of_features(
    shared_map: Tensor, noise: Tensor, draws: _RandomNumbers, layer: _Layer, weights: Tensor
) -> Tensor:
    """Weighted sums over the features relu(±map + noise + bias) of each pixel, (N, K, P).

    Args:
        shared_map: (N, P).
        noise: (N, P).
        draws: where the sign and the bias of each feature come from.
        layer: whose features they are.
        weights: (N, K, channels).
    """
    channels = CHANNELS[layer.size]
    is_plus = draws.uniform("signs", layer.number, channels) < 0.5
    biases = torch.from_numpy(2 * draws.uniform("biases", layer.number, channels) - 1).float() * BIAS_RANGE
    plus, minus = noise + shared_map, noise - shared_map
    sums = torch.empty(*weights.shape[:2], noise.shape[1])
    features = torch.empty(channels, min(noise.shape[1], WORKING_SET // channels))
    for picture, signs in enumerate(is_plus):
        order, num_plus = torch.from_numpy(np.argsort(~signs, kind="stable")), int(signs.sum())  # those with + first
        bias, weight = biases[picture, order, None], weights[picture][:, order]
        for start in range(0, noise.shape[1], features.shape[1]):
            piece = slice(start, start + features.shape[1])
            torch.add(plus[picture, piece], bias[:num_plus], out=features[:num_plus])
            torch.add(minus[picture, piece], bias[num_plus:], out=features[num_plus:])
            torch.mm(weight, features.relu_(), out=sums[picture, :, piece])
    return sums


def _moved_and_added(taps: Tensor, layer: _Layer) -> Tensor:
    """The layer's map, (N, P), from the sums for each pixel of the wavelets, (N, 9, P) or a quarter of the pixels."""
    if not layer.enlarges:
        return F.fold(taps, (layer.size, layer.size), 3, padding=1).flatten(1)
    spread = F.fold(taps, (layer.size + 1, layer.size + 1), 3, stride=2)
    return F.conv2d(spread, _blur(1), padding=1).flatten(1)


def _enlarged(colours: Tensor) -> Tensor:
    """Colours (N, 3, S, S) at twice the size."""
    return F.conv_transpose2d(colours, _blur(3), stride=2, padding=1, groups=3)


def _blur(channels: int) -> Tensor:
    """StyleGAN2's filter for enlarging, (channels, 1, 4, 4)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    return torch.outer(taps, taps).expand(channels, 1, 4, 4)


def _normalised(colours: Tensor, draws: _RandomNumbers) -> Images:
    """Pictures (N, S, S, 3) uint8 with random means and standard deviations of their channels, cut to [0, 255]."""
    spread = draws.normal("levels", 0, 6)
    mean = torch.tensor(CHANNEL_MEANS) + spread[:, :3] * torch.tensor(MEAN_SPREAD)
    std = torch.tensor(CHANNEL_STDS) + spread[:, 3:] * torch.tensor(STD_SPREAD)
    centred = colours - colours.mean(dim=(2, 3), keepdim=True)
    scaled = centred * (std / centred.square().mean(dim=(2, 3)).sqrt())[:, :, None, None] + mean[:, :, None, None]
    pictures: Images = (255 * scaled.clamp(0, 1)).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pictures


def _as_jpeg(images: Images) -> Images:
    """The pictures as they are after they were stored."""
    stored = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=JPEG_QUALITY)
        stored.append(np.asarray(Image.open(buffer)))
    return np.stack(stored)
