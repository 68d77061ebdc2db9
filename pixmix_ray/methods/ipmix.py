"""IPMix: chains of image operations, or of patches mixed with a complex picture, mixed with the picture.

Reference: Huang et al., "IPMix: Label-Preserving Data Augmentation Method for Training Robust Classifiers", NeurIPS
2023, section 3, and its code of 2023. One picture x with its mixing picture y goes like this:

    w ~ Dirichlet(1, ..., 1), m ~ Beta(1, 1)
    repeat for each of k chains:
        chain = x
        repeat r times, r uniform on 0..t:
            in half of the chains:   chain = operation(chain)         image level: one of ten, level U(0.1, severity)
            in the other half:       chain = chain, a patch mixed with the same patch of y
    mixed = (1 - m) x + m (w_1 chain_1 + ... + w_k chain_k)

A patch has a side s drawn from `patch_sizes` and lies anywhere in the picture; half of the patches are squares, half
are oblong ("scars") with sides from 2 to s. One as large as the picture makes this a mix on the pixel level. A patch
is mixed in one of four ways, drawn uniformly: additive or multiplicative as in PixMix; or with every pixel, or every
value of every pixel, taken from the chain with probability p ~ U(0, 1) and from y otherwise.

Chains are uint8 after each step, patches truncated as in the code; the final mix stays float32. We differ in that by
default additive and multiplicative mixes are clipped to [0, 1] as in PixMix: in the code values beyond (6.9 % of them
with the defaults) wrap around modulo 256 when they become uint8, by accident; `overflow: wrap` does so. A side larger
than the picture is cut to its size. The code for ImageNet also mixes patches with augmented copies of the picture; that
variant is not offered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pixmix_ray.methods.base import METHODS, Method, matching
from pixmix_ray.methods.chains import Chains, Operation, at_level, blend, draw_weights, run_chains, views, views_loss
from pixmix_ray.transforms import OPERATIONS, blending, to_float

Noise = Callable[[Tensor, int], Tensor]
"""From slots, int64 (n,), and a number of channels C to numbers from U(0, 1), float32 (n, C, H, W)."""

IMAGE_OPERATIONS: Final[dict[str, Operation]] = {
    "equalize": at_level("equalize"),
    "posterize": at_level("posterize"),
    "rotate": at_level("rotate"),
    "solarize": at_level("solarize"),
    "shear_x": at_level("shear_x"),
    "shear_y": at_level("shear_y"),
    "translate_x": at_level("translate_x"),
    "translate_y": at_level("translate_y"),
    "mirror": lambda images, level: images.flip(3),
    "invert": OPERATIONS["invert"],
}
"""The ten operations of the code: eight of AugMix's nine (no autocontrast), a flip from left to right, the negative."""

MIXINGS: Final = ("add", "multiply", "pixels", "elements")
"""The four ways to mix a patch."""


@dataclass(frozen=True, kw_only=True)
class PatchChoices:
    """All random choices for N pictures but the noise of `Noise`, as tensors on one device.

    A slot is one step of one chain of one picture, counted through (k, N, t); choices are drawn for every slot,
    whether it takes place or not.
    """

    length: Tensor
    """int64 (k, N), 0 to t: how many steps the chain has."""
    is_patched: Tensor
    """bool (k, N): a chain of patches instead of image operations."""
    operation: Tensor
    """int64 (k, N, t): which of `IMAGE_OPERATIONS`."""
    level: Tensor
    """float64 (k, N, t): negative where a geometric operation goes the other way."""
    mixing: Tensor
    """int64 (k, N, t): which of `MIXINGS`."""
    box: Tensor
    """int64 (4, k, N, t): top, left, height and width of the patch."""
    a: Tensor
    """float32 (k, N, t): the coefficient of the chain in a sum or product."""
    b: Tensor
    """float32 (k, N, t): the coefficient of the mixing picture."""
    kept: Tensor
    """float32 (k, N, t): the probability that a pixel or element stays that of the chain."""
    weights: Tensor
    """float32 (k, N): w, which sums to 1 over the chains."""
    share: Tensor
    """float32 (N,): m, of the chains in the mix."""


@METHODS.add("ipmix")
class IPMix(Method):
    """Training on mixes of chains of image operations and of patches mixed with complex pictures.

    Source: Huang et al., NeurIPS 2023, section 3; the defaults are those of its code for CIFAR. For ImageNet that uses
    beta 4, severity 1 and patch sizes 4, 8, 16, 32, 64 and 224.

    Attributes:
        k: the number of chains.
        t: the largest number of steps in a chain; it is drawn from 0 to t.
        beta: β > 0 of sums and products; the larger, the closer to the chain.
        severity: levels of image operations are drawn up to this, at most 10.
        patch_sizes: the largest sides of a patch in pixels, each 2 or more.
        jsd: train on the clean view and two augmented ones with AugMix's consistency loss, three times the work; the
            authors' notes say that the paper's figures were made so. Without, on one augmented view.
        overflow: what becomes of sums and products beyond [0, 1]: clip, or wrap as in the authors' code.
    """

    summary: ClassVar[str] = "chains of operations and of patches mixed with complex pictures"
    source: ClassVar[str] = "Huang et al., NeurIPS 2023, section 3"
    implied: ClassVar[frozenset[str]] = frozenset({"overflow"})

    k: Annotated[int, Field(ge=1)] = 3
    t: Annotated[int, Field(ge=0)] = 3
    beta: Annotated[float, Field(gt=0)] = 3.0
    severity: Annotated[float, Field(gt=0, le=10)] = 3.0
    patch_sizes: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (4, 8, 16, 32)
    jsd: bool = True
    overflow: Literal["clip", "wrap"] = "clip"

    @property
    def needs_pictures(self) -> bool:
        """Always."""
        return True

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """Mixes float32 (N, 3, H, W), or with `jsd` clean, mix and mix (N, 3, 3, H, W); see `Method.augment`.

        Raises:
            RequestError: `pictures` are missing or not of the same shape as `images`.
        """
        partners = matching("ipmix", images, pictures)
        height, width = images.shape[2:]

        def noise(slots: Tensor, channels: int) -> Tensor:
            return torch.rand(len(slots), channels, height, width, generator=generator, device=images.device)

        def mixed() -> Tensor:
            choices = self.draw(len(images), height, width, generator)
            chains = patched_chains(images, partners, choices, noise, self.overflow)
            return blend(images, chains, choices.weights, choices.share)

        return views(images, mixed) if self.jsd else mixed()

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> PatchChoices:
        """The random choices for `count` pictures of `height` x `width` pixels, on the device of `generator`."""
        device, chains = generator.device, (self.k, count)
        shape = (14, *chains, self.t)
        numbers = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
        operation, level, sign, mixing, size, scar, *box, beyond, for_a, for_b, kept = numbers
        sides = torch.tensor([min(side, height, width) for side in self.patch_sizes], device=device)
        magnitude = 0.1 + (self.severity - 0.1) * level
        a, b = blending.coefficients(for_a, for_b, beyond < 0.5, self.beta)
        weights, share = draw_weights(count, self.k, 1.0, generator)
        return PatchChoices(
            length=torch.randint(0, self.t + 1, chains, generator=generator, device=device),
            is_patched=torch.rand(chains, generator=generator, device=device) < 0.5,
            operation=(operation * len(IMAGE_OPERATIONS)).long(),
            level=torch.where(sign < 0.5, -magnitude, magnitude),
            mixing=(mixing * len(MIXINGS)).long(),
            box=_boxes(sides[(size * len(sides)).long()], scar < 0.5, torch.stack(box), (height, width)),
            a=a,
            b=b,
            kept=kept.float(),
            weights=weights,
            share=share,
        )

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy, or with `jsd` that of the clean view plus 12 times the divergence of the three views."""
        return views_loss(network, images, labels)


def _boxes(side: Tensor, is_scar: Tensor, uniforms: Tensor, size: tuple[int, int]) -> Tensor:
    """Top, left, height and width of patches, int64 (4, ...), from U(0, 1) float64 (4, ...) and largest sides (...).

    The patch starts where a square of the largest side would fit; an oblong one has sides from 2 to the largest.
    """
    fits = torch.stack([size[0] - side, size[1] - side])
    start = (uniforms[:2] * (fits + 1)).long()
    scar = torch.minimum(2 + (uniforms[2:] * (side - 1)).long(), side)
    return torch.cat([start, torch.where(is_scar, scar, side)])


def patched_chains(
    images: Tensor, pictures: Tensor, choices: PatchChoices, noise: Noise, overflow: Literal["clip", "wrap"] = "clip"
) -> Tensor:
    """What the chains make of the pictures: uint8 (k, N, 3, H, W).

    Args:
        images: uint8 (N, 3, H, W); not changed.
        pictures: uint8 (N, 3, H, W), the mixing picture of each image; not changed.
        choices: the random ones, on the same device.
        noise: makes the random masks of pixels and elements.
        overflow: what becomes of sums and products beyond [0, 1].
    """
    k, count, t = choices.operation.shape
    level = choices.level.flatten()
    operations = [_with_level(operation, level) for operation in IMAGE_OPERATIONS.values()]
    operations += [_on_patch(mixing, pictures, choices, noise, overflow) for mixing in MIXINGS]
    mixing = choices.mixing + len(IMAGE_OPERATIONS)
    chains = Chains(
        length=choices.length,
        operation=torch.where(choices.is_patched.unsqueeze(2), mixing, choices.operation),
        parameter=torch.arange(k * count * t, device=images.device).view(k, count, t),  # slots
        weights=choices.weights,
        share=choices.share,
    )
    return run_chains(images, chains, operations)


def _with_level(operation: Operation, level: Tensor) -> Operation:
    """An image operation as a function of slots instead of levels."""
    return lambda images, slots: operation(images, level[slots])


def _on_patch(mixing: str, pictures: Tensor, choices: PatchChoices, noise: Noise, overflow: str) -> Operation:
    """A way to mix patches, as a function of chains, uint8 (n, 3, H, W), and slots (n,)."""
    t = choices.operation.shape[2]
    boxes, a, b, kept = choices.box.flatten(1), choices.a.flatten(), choices.b.flatten(), choices.kept.flatten()

    def mix(chains: Tensor, slots: Tensor) -> Tensor:
        partners = slots // t % len(pictures)
        is_patch = _inside(boxes[:, slots], chains)
        if mixing in ("pixels", "elements"):
            numbers = noise(slots, 1 if mixing == "pixels" else 3)
            is_taken = is_patch & (numbers >= kept[slots].view(-1, 1, 1, 1))
            return torch.where(is_taken, pictures.index_select(0, partners), chains)
        if overflow == "wrap":
            values = _unclipped(
                mixing, to_float(chains), to_float(pictures.index_select(0, partners)), a[slots], b[slots]
            )
            levels = (values * 255).clamp(-(2.0**31), 2.0**31).long().remainder(256)  # as a cast to uint8 does it
            return torch.where(is_patch, levels.to(torch.uint8), chains)
        blend_ = blending.add_ if mixing == "add" else blending.multiply_
        mixed = to_float(chains)
        blend_(mixed, pictures.index_select(0, partners), a[slots], b[slots])
        return torch.where(is_patch, mixed.mul_(255).to(torch.int32).to(torch.uint8), chains)

    return mix


def _unclipped(mixing: str, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """PixMix's sum or product of float32 pictures (n, 3, H, W) with coefficients (n,), left as it is."""
    a, b = a.view(-1, 1, 1, 1), b.view(-1, 1, 1, 1)
    if mixing == "add":
        return (a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2
    return (2 * x) ** a * (2 * y).clamp_min(1e-37) ** b / 2


def _inside(box: Tensor, images: Tensor) -> Tensor:
    """Which pixels lie in the boxes (4, n): bool (n, 1, H, W)."""
    top, left, height, width = box.unsqueeze(2)
    row, column = (torch.arange(side, device=images.device) for side in images.shape[2:])
    in_rows: Tensor = (row >= top) & (row < top + height)
    in_columns: Tensor = (column >= left) & (column < left + width)
    return in_rows[:, None, :, None].logical_and(in_columns[:, None, None, :])
