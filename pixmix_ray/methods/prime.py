"""PRIME: chains of three maximum-entropy primitives, mixed with each other and with the picture.

Reference: Modas et al., "PRIME: A Few Primitives Can Boost Robustness to Common Corruptions", ECCV 2022, section 3 and
algorithm 1, and its code. One picture x goes like this:

    w ~ Dirichlet(1, ..., 1), m ~ Beta(1, 1)
    repeat for each of `width` chains:
        chain = x
        repeat `depth` times: chain = filter, colour curve or displacement of chain      each with probability 1/3
    mixed = (1 - m) x + m (w_1 chain_1 + ... + w_k chain_k)

All is float32, cut to [0, 1] after each primitive. The primitives are in `prime_primitives`, with what differs from the
code there. In the code a fixed depth still draws a number of 1 to 3 and stops at the smaller of both; here it is fixed.
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from pixmix_ray.methods import prime_primitives
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
            kernels = prime_primitives.draw_kernels(len(images), self.kernel_size, self.filter_sigma, generator)
            return prime_primitives.filtered(images, kernels)

        def colour(images: Tensor, parameter: Tensor) -> Tensor:
            bounds = self.colour_cut, self.colour_variance, self.colour_band
            return prime_primitives.recoloured(images, prime_primitives.draw_curves(len(images), *bounds, generator))

        def spatial(images: Tensor, parameter: Tensor) -> Tensor:
            count, _, height, width = images.shape
            field = prime_primitives.draw_displacements(count, height, width, self.spatial_cut, generator)
            return prime_primitives.displaced(images, field)

        return spectral, colour, spatial

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy, or with `jsd` that of the clean view plus 12 times the divergence of the three views."""
        return views_loss(network, images, labels)
