"""PRIME: chains of three maximum-entropy primitives, mixed with each other and with the picture.

Reference: Modas et al., "PRIME: A Few Primitives Can Boost Robustness to Common Corruptions", ECCV 2022, section 3 and
algorithm 1, and its code. One picture x goes like this:

    w ~ Dirichlet(1, ..., 1), m ~ Beta(1, 1)
    repeat for each of `width` chains:
        chain = x
        repeat `depth` times: chain = filter, colour curve or displacement of chain      each with probability 1/3
    mixed = (1 - m) x + m (w_1 chain_1 + ... + w_k chain_k)

All is float32, cut to [0, 1] after each primitive. In the code a fixed depth still
draws a number of 1 to 3 and stops at the smaller of both; here it is fixed.

Each primitive is the member of its family with the largest entropy for a given smoothness and strength:

    spectral   x convolved with δ + ω, ω an n x n kernel of N(0, σ²), σ ~ U(0, σ_max); black beyond the border
    colour     x + Σ β_k sin(πkx), a curve for each channel, β ~ N(0, s), s ~ U(0, s_max), k up to a random cut
    spatial    pixels moved by a smooth field Σ c_ij sin(πiu) sin(πjv) with random c_ij and a random cut in i² + j²

with values cut to [0, 1]. All functions work on float32 pictures (N, 3, H, W) in [0, 1], on any device; each primitive
is one function that draws for every picture, and one that does what was drawn. In the code a call draws σ, s, the cuts
and the displacement once for all its pictures, and δ lies one pixel off the centre of the kernel, by a slip; here every
picture has its own draws, as in the paper, and δ lies in the centre.
"""

import math
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.chains import (
    Chains,
    Depth,
    Operation,
    deepest_chain,
    draw_depth,
    draw_weights,
    mix_chains,
    views,
    views_loss,
)
from pixmix_ray.transforms import to_float


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("a kernel has a centre: give an odd number of pixels")
    return value


@METHODS.add("prime")
class Prime(Method):
    """Training on mixes of chains of random filters, colour curves and displacements.

    Source: Modas et al., ECCV 2022, section 3; the defaults are those of its code for CIFAR. For ImageNet that uses
    spatial_cut 500, colour_cut 500, colour_variance 0.05, colour_band 20, jsd false and weight decay 1e-4.

    Attributes:
        width: the number of chains.
        depth: primitives in a chain, or -1 for 1 to 3, drawn for each chain.
        kernel_size: of the filters, in pixels, odd.
        filter_sigma: σ_max, the largest standard deviation of the noise in a filter.
        colour_cut: the highest frequency of colour curves.
        colour_variance: the largest variance of their coefficients.
        colour_band: how many neighbouring frequencies a curve has; None for all up to a random one.
        spatial_cut: the highest frequency of displacements, 3 or more.
        jsd: train on the clean view and two augmented ones with AugMix's consistency loss (the paper for CIFAR), three
            times the work; without, on one augmented view.
    """

    summary: ClassVar[str] = "chains of random filters, colour curves and displacements, mixed with the picture"
    source: ClassVar[str] = "Modas et al., ECCV 2022, section 3"

    width: Annotated[int, Field(ge=1)] = 3
    depth: Depth = -1
    kernel_size: Annotated[int, Field(ge=1), AfterValidator(_odd)] = 3
    filter_sigma: Annotated[float, Field(ge=0)] = 4.0
    colour_cut: Annotated[int, Field(ge=1)] = 100
    colour_variance: Annotated[float, Field(ge=0)] = 0.01
    colour_band: Annotated[int, Field(ge=1)] | None = None
    spatial_cut: Annotated[int, Field(ge=3)] = 100
    jsd: bool = True

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """Mixes float32 (N, 3, H, W), or with `jsd` clean, mix and mix (N, 3, 3, H, W); see `Method.augment`."""
        pixels, primitives = to_float(images), self.primitives(generator)

        def mixed() -> Tensor:
            return mix_chains(pixels, self.draw(len(images), generator), primitives)

        return views(images, mixed) if self.jsd else mixed()

    def draw(self, count: int, generator: torch.Generator) -> Chains:
        """The random choices for `count` pictures, on the device of `generator`."""
        shape = (self.width, count, deepest_chain(self.depth))
        weights, share = draw_weights(count, self.width, 1.0, generator)
        length = draw_depth(self.depth, shape[:2], generator)
        primitive = torch.randint(0, 3, shape, generator=generator, device=generator.device)
        return Chains(
            length=length,
            operation=primitive,
            parameter=primitive,  # not used: the primitives make draws of their own
            weights=weights,
            share=share,
        )

    def primitives(self, generator: torch.Generator) -> tuple[Operation, Operation, Operation]:
        """Filters, colour curves and displacements of float32 pictures in [0, 1], which draw from `generator`."""

        def spectral(images: Tensor, parameter: Tensor) -> Tensor:
            kernels = draw_kernels(len(images), self.kernel_size, self.filter_sigma, generator)
            return filtered(images, kernels)

        def colour(images: Tensor, parameter: Tensor) -> Tensor:
            bounds = self.colour_cut, self.colour_variance, self.colour_band
            return recoloured(images, draw_curves(len(images), *bounds, generator))

        def spatial(images: Tensor, parameter: Tensor) -> Tensor:
            count, _, height, width = images.shape
            field = draw_displacements(count, height, width, self.spatial_cut, generator)
            return displaced(images, field)

        return spectral, colour, spatial

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy, or with `jsd` that of the clean view plus 12 times the divergence of the three views."""
        return views_loss(network, images, labels)


# spectral


def draw_kernels(count: int, size: int, sigma: float, generator: torch.Generator) -> Tensor:
    """Convolution kernels δ + ω, one a picture: float32 (count, size, size), `size` odd, σ up to `sigma`."""
    device = generator.device
    strength = sigma * torch.rand(count, 1, 1, generator=generator, device=device)
    kernels = strength * torch.randn(count, size, size, generator=generator, device=device)
    kernels[:, size // 2, size // 2] += 1
    return kernels


def filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """The pictures after their kernels (N, n, n), the same for all channels; not flipped, as all networks do it."""
    height, width = images.shape[2:]
    size = kernels.shape[1]
    framed = F.pad(images, [size // 2] * 4)
    total = torch.zeros_like(images)
    for y in range(size):  # shifted sums instead of a convolution: the same on every device, no reduced precision
        for x in range(size):
            total.addcmul_(framed[:, :, y : y + height, x : x + width], kernels[:, y, x].view(-1, 1, 1, 1))
    return total.clamp_(0, 1)


# colour


def draw_curves(count: int, cut: int, variance: float, band: int | None, generator: torch.Generator) -> Tensor:
    """The coefficients β of colour curves: float32 (count, 3, cut), entry k - 1 for sin(πkx).

    Args:
        count: the number of pictures.
        cut: the highest frequency is drawn from 1 to this.
        variance: s is drawn up to this.
        band: how many neighbouring frequencies take part, from one that is drawn up to the highest; None for all.
        generator: on the device of the pictures.
    """
    device = generator.device
    highest, lowest, strength = torch.rand(3, count, 1, 1, generator=generator, device=device, dtype=torch.float64)
    last = 1 + (highest * cut).long()
    first = torch.ones_like(last) if band is None else 1 + (lowest * last).long()
    if band is not None:
        last = torch.minimum(last, first + band - 1)
    frequency = torch.arange(1, cut + 1, device=device)
    scale = (strength * variance).sqrt().float() * ((frequency >= first) & (frequency <= last))
    return torch.randn(count, 3, cut, generator=generator, device=device).mul_(scale)


def recoloured(images: Tensor, coefficients: Tensor) -> Tensor:
    """The pictures with x + Σ β_k sin(πkx) for each value x, β float32 (N, 3, K); true to 1e-4.

    A curve and its slope are computed on a fine grid by a Fourier transform, and values in between by the cubic that
    has both at its ends: a hundred sines for each value would take longer than everything else.
    """
    count, channels, cut = coefficients.shape
    intervals = 2 ** math.ceil(math.log2(8 * cut))
    cubic = _cubics(coefficients, intervals)
    position = images.reshape(count, channels, 1, -1) * intervals
    index = position.long().clamp_(max=intervals - 1)
    t = (position - index).squeeze(2)
    constant, linear, square, cube = (power.gather(2, index.squeeze(2)) for power in cubic)
    shift = cube.mul_(t).add_(square).mul_(t).add_(linear).mul_(t).add_(constant)
    return shift.view_as(images).add_(images).clamp_(0, 1)


def _cubics(coefficients: Tensor, intervals: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each interval the cubic in t, 0 to 1 along it: four coefficients (N, 3, intervals), the constant first."""
    frequency = torch.arange(1, coefficients.shape[2] + 1, device=coefficients.device)
    # irfft of 2G points divides by 2G and doubles all frequencies but 0: a sine is -iG, a cosine G
    sines = torch.complex(torch.zeros_like(coefficients), coefficients * -intervals)
    cosines = torch.complex(coefficients * frequency * math.pi, torch.zeros_like(coefficients))
    value, slope = (
        torch.fft.irfft(F.pad(spectrum, (1, intervals - spectrum.shape[2])), 2 * intervals)[..., : intervals + 1]
        for spectrum in (sines, cosines)
    )
    rise, start, end = value.diff(dim=2), slope[..., :-1], slope[..., 1:]
    return value[..., :-1], start, 3 * rise - 2 * start - end, start + end - 2 * rise


# spatial


def draw_displacements(count: int, height: int, width: int, cut: int, generator: torch.Generator) -> Tensor:
    """How far each pixel's source lies to the left of it and above it, in pixels: float32 (count, 2, height, width).

    A cut K is drawn from 2 to C, C uniform on 3 to `cut`, and a temperature T between that of a typical displacement
    of half a pixel and the largest at which the picture nowhere folds over, both by Beta(1/2, 1/2). The field is
    sqrt(T) Σ c_ij sin(πiu) sin(πjv) times the size, c_ij ~ N(0, 1 / (i² + j²)) for i² + j² < (K + 1/2)².

    At W pixels sin(πjv) is, up to its sign, the same for j and for all 2(W - 1)n ± j, so all these modes are drawn as
    one normal number with the sum of their variances. The code takes square pictures; for others the side of the
    temperatures is the longer one.
    """
    device = generator.device
    highest, for_cut, for_temperature = torch.rand(3, count, generator=generator, device=device, dtype=torch.float64)
    upper = 3 + (highest * (cut - 2)).long()
    drawn = (2 + _arcsine(for_cut) * (upper - 1)).long().minimum(upper)
    low, high = temperature_range(max(height, width), drawn)
    temperature = low + _arcsine(for_temperature) * (high.maximum(low) - low)
    deviation = mode_deviations(height, width, cut, device)[drawn]
    modes = torch.randn(count, 2, *deviation.shape[1:], generator=generator, device=device)
    modes.mul_((deviation * temperature.sqrt().float().view(-1, 1, 1)).unsqueeze(1))
    field = _sines(height, modes.shape[2], device) @ (modes @ _sines(width, modes.shape[3], device).t())
    return field.mul_(torch.tensor([width, height], device=device).view(2, 1, 1))


def temperature_range(size: int, cut: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest temperature for pictures of `size` pixels and cuts (N,) of 2 or more: float64 (N,)."""
    log = cut.double().log()
    return 1 / (math.pi * size**2 * log), 4 / (math.pi**3 * cut**2 * log)


@lru_cache(maxsize=4)
def mode_deviations(height: int, width: int, highest: int, device: torch.device) -> Tensor:
    """The standard deviation of each mode that the pixels can tell apart, for every cut K; see `draw_displacements`.

    Returns:
        float32 (highest + 1, I, J), row K for cut K; I modes along `height` pixels, J along `width`.
    """
    (i, along_height), (j, along_width) = _folded(height, highest), _folded(width, highest)
    square = i.unsqueeze(1) ** 2 + j**2
    shell = square.double().sqrt().add_(0.5).long()  # the lowest cut K for which i^2 + j^2 < (K + 1/2)^2
    counted = shell <= highest
    shape = highest + 1, min(highest, max(height - 2, 0)), min(highest, max(width - 2, 0))
    place = (shell * shape[1] + along_height.unsqueeze(1)) * shape[2] + along_width
    variance = torch.zeros(shape, dtype=torch.float64)
    variance.view(-1).index_add_(0, place[counted], square[counted].double().reciprocal_())
    return variance.cumsum(0).sqrt_().float().to(device)


def displaced(images: Tensor, displacement: Tensor) -> Tensor:
    """The pictures with pixel (x, y) from (x - dx, y - dy), `displacement` (N, 2, H, W): bilinear, edges repeated."""
    height, width = images.shape[2:]
    column = torch.arange(width, dtype=torch.float32, device=images.device)
    row = torch.arange(height, dtype=torch.float32, device=images.device).unsqueeze(1)
    x = (column - displacement[:, 0]) * (2 / max(width - 1, 1)) - 1
    y = (row - displacement[:, 1]) * (2 / max(height - 1, 1)) - 1
    return F.grid_sample(images, torch.stack([x, y], 3), padding_mode="border", align_corners=True)


def _arcsine(uniform: Tensor) -> Tensor:
    """Numbers from Beta(1/2, 1/2), the arcsine distribution, made of numbers from U(0, 1)."""
    return (uniform * (math.pi / 2)).sin().square()


@lru_cache(maxsize=8)
def _sines(size: int, count: int, device: torch.device) -> Tensor:
    """sin(πku) at `size` points u from 0 to 1 for k from 1 to `count`: float32 (size, count)."""
    points = torch.linspace(0, 1, size, dtype=torch.float64).unsqueeze(1)
    return (math.pi * points * torch.arange(1, count + 1)).sin().float().to(device)


def _folded(size: int, highest: int) -> tuple[Tensor, Tensor]:
    """The modes of 1 to `highest` that are not 0 at all of `size` pixels, and the place of the lowest that looks so."""
    period = max(2 * (size - 1), 1)
    mode = torch.arange(1, highest + 1)
    mode = mode[mode % max(size - 1, 1) != 0]
    within = mode % period
    return mode, torch.minimum(within, period - within) - 1
