"""LayerMix: a picture is changed, mixed with another change of itself and with a complex picture, by one operation.

Reference: Ahmad et al., "LayerMix: Enhanced Data Augmentation through Fractal Integration for Robust Deep Learning",
arXiv 2501.04861, and its code (ahmadmughees/LayerMix 47beacc), from which the numbers here are. One picture x with its
mixing picture y goes like this, f the same operation throughout, each time at a new strength, s uniform on 0, 1, 2:

    x_1 = f(x)                          s = 0: that is all
    x_2 = blend(x_1, f(x)), clipped     s = 1: that is all
    x_3 = f(blend(x_2, y), clipped)

A blend is additive or multiplicative as in PixMix (1/3 each), or takes every pixel, or every value of every pixel, from
the first picture with probability p ~ U(0, 1), else from the second (1/6 each). All is float32.

Strengths are drawn between 0.1 and the operation's maximum times magnitude / 10, in the code's own way, which has odd
ends: shears have 0.09 to 0.1 at magnitude 3; one of the two kinds of posterize keeps no bit (a black picture) in four
of five draws; and one of solarize inverts from a threshold below 0, which is all values, in two of three. Affine
operations are about the centre, bilinear, black outside. The code draws more operations too, and uses the first alone.

The paper's figures are made with fractals in colour or in grey. WRN-40-4, 100 epochs, one view, or three with `jsd`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.methods.base import METHODS, Method, matching
from pixmix_ray.methods.chains import Operation, views, views_loss
from pixmix_ray.transforms import apply_each, blending, colour, to_float

LEAST = 0.1  # strength
GREY: Final = (0.2989, 0.587, 0.114)


def _affine(images: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Pictures read where [x, y, 1] in pixels from the centre leads by two rows of three numbers or tensors (N,)."""
    count, _, height, width = images.shape
    scale = torch.tensor([[1, height / width, 2 / width], [width / height, 1, 2 / height]], device=images.device)
    entries = [torch.as_tensor(entry, dtype=images.dtype, device=images.device) for row in rows for entry in row]
    matrices = torch.stack([entry.expand(count) for entry in entries], 1).view(-1, 2, 3) * scale
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Pictures turned about their centre."""
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    return _affine(images, [[cos, sin, 0], [-sin, cos, 0]])


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Values rounded down to multiples of 2^-bits, bits whole numbers (N,); all to 0 where there are none."""
    levels = torch.exp2(bits).view(-1, 1, 1, 1)
    return torch.minimum((images * levels).floor(), levels - 1) / levels


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values of the threshold (N,) or more inverted."""
    return torch.where(images >= threshold.view(-1, 1, 1, 1), 1 - images, images)


def autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Each channel stretched to [0, 1]; a channel of one value stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low), images).clamp(0, 1)


def equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Each channel's histogram flattened, by way of 8 bits."""
    return to_float(colour.equalize((images * 255.999).to(torch.uint8)))


def grey(images: Tensor, strength: Tensor) -> Tensor:
    """The brightness in all three channels."""
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(GREY)).unsqueeze(1).expand_as(images)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An operation and how its strength is drawn.

    Attributes:
        apply: from float32 pictures (n, 3, H, W) in [0, 1] and parameters (n,) to new ones.
        most: the strength at magnitude 10, in the parameter's unit, or with `axis` as a share of that side in pixels.
        axis: 2 or 3.
        is_signed: whether it goes either way with probability 1/2.
        reverses: whether the magnitude that counts is 1 less the one given.
        parameter: what strengths (n,) mean, where they are not the parameter themselves.
    """

    apply: Operation
    most: float = 1.0
    axis: int | None = None
    is_signed: bool = False
    reverses: bool = False
    parameter: Callable[[Tensor], Tensor] | None = None

    def strengths(self, images: Tensor, magnitude: float, uniforms: Tensor) -> Tensor:
        """The parameters (n,) that two uniform numbers each, (n, 2), stand for."""
        most = self.most if self.axis is None else int(self.most * images.shape[self.axis])
        end = most * (1 - magnitude if self.reverses else magnitude) / 10
        strength = LEAST + (end - LEAST) * uniforms[:, 0]
        if self.is_signed:
            strength = torch.where(uniforms[:, 1] < 0.5, -strength, strength)
        return strength if self.parameter is None else self.parameter(strength)


KINDS: Final[dict[str, Kind]] = {
    "equalize": Kind(apply=equalize),
    "posterize": Kind(apply=posterize, most=4, parameter=torch.floor),
    "posterize_increasing": Kind(apply=posterize, most=4, parameter=lambda strength: 4 - strength.floor()),
    "solarize": Kind(apply=solarize),
    "solarize_increasing": Kind(apply=solarize, reverses=True),
    "autocontrast": Kind(apply=autocontrast),
    "grey": Kind(apply=grey),
    "rotate": Kind(apply=rotate, most=30, is_signed=True),
    "shear_x": Kind(apply=lambda x, p: _affine(x, [[1, p, 0], [0, 1, 0]]), most=0.3, is_signed=True),
    "shear_y": Kind(apply=lambda x, p: _affine(x, [[1, 0, 0], [p, 1, 0]]), most=0.3, is_signed=True),
    "translate_x": Kind(apply=lambda x, p: _affine(x, [[1, 0, p], [0, 1, 0]]), most=0.33, axis=3, is_signed=True),
    "translate_y": Kind(apply=lambda x, p: _affine(x, [[1, 0, 0], [0, 1, p]]), most=0.33, axis=2, is_signed=True),
}
"""The twelve operations."""

BLENDS: Final = ("add", "multiply", "add", "multiply", "pixels", "elements")
"""The ways to mix, equally likely."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """All random choices for N pictures but the noise of pixels and elements, as tensors on one device."""

    steps: Tensor
    """int64 (N,), 0 to 2: s."""
    operation: Tensor
    """int64 (N,): which of `KINDS`."""
    uniforms: Tensor
    """float64 (3, N, 2): strength and direction of the operation, each of the three times."""
    blend: Tensor
    """int64 (2, N): which of `BLENDS`."""
    a: Tensor
    """float32 (2, N): the coefficient of the picture in a sum or product."""
    b: Tensor
    """float32 (2, N): the coefficient of what it is mixed with."""
    kept: Tensor
    """float32 (2, N): p, the probability that a pixel or element stays."""


@METHODS.add("layermix")
class LayerMix(Method):
    """Training on pictures changed by one operation, mixed with another such change and with complex pictures.

    Source: Ahmad et al., arXiv 2501.04861; the defaults are those of its code for CIFAR.

    Attributes:
        beta: the blending ratio β > 0 of sums and products; the larger, the closer to the picture.
        magnitude: of the operations, at most 10.
        jsd: train on the clean view and two augmented ones with AugMix's consistency loss, three times the work.
    """

    summary: ClassVar[str] = "one operation in layers, mixed with itself and with complex pictures"
    source: ClassVar[str] = "Ahmad et al., arXiv 2501.04861"

    beta: Annotated[float, Field(gt=0)] = 3.0
    magnitude: Annotated[float, Field(gt=0, le=10)] = 3.0
    jsd: bool = False

    @property
    def needs_pictures(self) -> bool:
        """Always."""
        return True

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """Mixes float32 (N, 3, H, W), or with `jsd` clean, mix and mix (N, 3, 3, H, W); see `Method.augment`.

        Raises:
            RequestError: `pictures` are missing or not of the same shape as `images`.
        """
        partners = matching("layermix", images, pictures)

        def mixed() -> Tensor:
            return self.mix(to_float(images), to_float(partners), self.draw(len(images), generator), generator)

        return views(images, mixed) if self.jsd else mixed()

    def draw(self, count: int, generator: torch.Generator) -> Layers:
        """The random choices for `count` pictures, on the device of `generator`."""
        device = generator.device
        beyond, for_a, for_b, kept = torch.rand(4, 2, count, dtype=torch.float64, generator=generator, device=device)
        a, b = blending.coefficients(for_a, for_b, beyond < 0.5, self.beta)
        return Layers(
            steps=torch.randint(3, (count,), generator=generator, device=device),
            operation=torch.randint(len(KINDS), (count,), generator=generator, device=device),
            uniforms=torch.rand(3, count, 2, dtype=torch.float64, generator=generator, device=device),
            blend=torch.randint(len(BLENDS), (2, count), generator=generator, device=device),
            a=a,
            b=b,
            kept=kept.float(),
        )

    def mix(self, images: Tensor, pictures: Tensor, layers: Layers, generator: torch.Generator) -> Tensor:
        """The mixes: float32 (N, 3, H, W) in [0, 1]; the host waits for the device once a line of the algorithm.

        Args:
            images: float32 (N, 3, H, W) in [0, 1]; not changed.
            pictures: the mixing picture of each, likewise.
            layers: the random choices, on the same device.
            generator: draws the noise of pixels and elements.
        """
        once = self._operate(images, layers, 0, least=0)
        twice = blend(once, self._operate(images, layers, 1, least=1), layers, 0, generator)
        return self._operate(blend(twice, pictures, layers, 1, generator), layers, 2, least=2)

    def _operate(self, images: Tensor, layers: Layers, number: int, *, least: int) -> Tensor:
        """The pictures after their operation, with the strength of this number; those of fewer steps as they are."""

        def at_rows(kind: Kind) -> Operation:
            def operate(chosen: Tensor, rows: Tensor) -> Tensor:
                return kind.apply(chosen, kind.strengths(images, self.magnitude, layers.uniforms[number, rows]).float())

            return operate

        choice = torch.where(layers.steps >= least, layers.operation, len(KINDS))
        rows = torch.arange(len(images), device=images.device)
        return apply_each([at_rows(kind) for kind in KINDS.values()], choice, images, rows)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy, or with `jsd` that of the clean view plus 12 times the divergence of the three views."""
        return views_loss(network, images, labels)


def blend(images: Tensor, others: Tensor, layers: Layers, number: int, generator: torch.Generator) -> Tensor:
    """The pictures mixed with others, clipped to [0, 1]; those of `number` steps or fewer as they are.

    Args:
        images: float32 (N, 3, H, W) in [0, 1]; not changed.
        others: likewise.
        layers: the random choices.
        number: 0 for the first blend, 1 for the second.
        generator: draws the noise of pixels and elements.
    """

    def mixing(kind: str) -> Operation:
        def mix(x: Tensor, rows: Tensor) -> Tensor:
            y = others.index_select(0, rows)
            a, b, kept = (of[number, rows].view(-1, 1, 1, 1) for of in (layers.a, layers.b, layers.kept))
            if kind == "add":
                return ((a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2).clamp(0, 1)
            if kind == "multiply":
                return ((2 * x) ** a * (2 * y).clamp_min(1e-37) ** b / 2).clamp(0, 1)
            channels = 1 if kind == "pixels" else x.shape[1]
            noise = torch.rand(len(x), channels, *x.shape[2:], generator=generator, device=x.device)
            return torch.where(noise < kept, x, y)

        return mix

    choice = torch.where(layers.steps > number, layers.blend[number], len(BLENDS))
    return apply_each(
        [mixing(kind) for kind in BLENDS], choice, images, torch.arange(len(images), device=images.device)
    )
