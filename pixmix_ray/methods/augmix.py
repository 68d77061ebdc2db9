"""AugMix: several chains of random operations, mixed with each other and with the picture.

Reference: Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty", ICLR 2020,
section 3 and algorithm 1, and its code. One picture x goes like this:

    w ~ Dirichlet(α, ..., α), m ~ Beta(α, α)
    repeat for each of `width` chains:
        chain = x
        repeat `depth` times: chain = operation(chain)      a uniform choice, at a level from U(0.1, severity)
    mixed = (1 - m) x + m (w_1 chain_1 + ... + w_k chain_k)

Chains are uint8 after each operation, bit for bit as with Pillow; the mix stays float32. AugMix is published with a
Jensen-Shannon consistency loss over three views of each picture; the PixMix paper (appendix A) trains it without, so
that a step costs as much as with any other method, and so does the default here. Severity 3 is the code's for CIFAR;
its code for ImageNet takes 1.

A whole batch goes at once: `AugMix.draw` makes all random choices, `chains.run_chains` carries them out.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.chains import (
    Chains,
    Depth,
    at_level,
    deepest_chain,
    draw_depth,
    draw_weights,
    mix_chains,
    views,
    views_loss,
)
from pixmix_ray.transforms import ALL, NINE

_SETS = {"all": ALL, "nine": NINE}


@METHODS.add("augmix")
class AugMix(Method):
    """Training on mixes of chains of operations.

    Source: Hendrycks et al., ICLR 2020, section 3; the defaults are the paper's for CIFAR, but for `jsd`.

    Attributes:
        severity: levels are drawn up to this, at most 10.
        width: the number of chains.
        depth: operations in a chain, or -1 for 1 to 3, drawn for each chain.
        alpha: α > 0 of the Dirichlet and Beta distributions; 1 draws all weights uniformly.
        operations: the "nine" that CIFAR-C does not contain (the paper's), or "all" thirteen.
        jsd: train on the clean view and two augmented ones with the consistency loss (the AugMix paper), three times
            the work; without, on one augmented view with the cross-entropy (the PixMix paper, appendix A).
    """

    summary: ClassVar[str] = "several chains of operations, mixed with the picture"
    source: ClassVar[str] = "Hendrycks et al., ICLR 2020, section 3"

    severity: Annotated[float, Field(gt=0, le=10)] = 3.0
    width: Annotated[int, Field(ge=1)] = 3
    depth: Depth = -1
    alpha: Annotated[float, Field(gt=0)] = 1.0
    operations: Literal["nine", "all"] = "nine"
    jsd: bool = False

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """Mixes float32 (N, 3, H, W), or with `jsd` clean, mix and mix (N, 3, 3, H, W); see `Method.augment`."""

        def mixed() -> Tensor:
            operations = [at_level(name) for name in _SETS[self.operations]]
            return mix_chains(images, self.draw(len(images), generator), operations)

        return views(images, mixed) if self.jsd else mixed()

    def draw(self, count: int, generator: torch.Generator) -> Chains:
        """The random choices for `count` pictures, on the device of `generator`."""
        depth = draw_depth(self.depth, (self.width, count), generator)
        shape = (3, self.width, count, deepest_chain(self.depth))
        operation, level, sign = torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device)
        weights, share = draw_weights(count, self.width, self.alpha, generator)
        magnitude = 0.1 + (self.severity - 0.1) * level
        return Chains(
            length=depth,
            operation=(operation * len(_SETS[self.operations])).long(),
            parameter=torch.where(sign < 0.5, -magnitude, magnitude),
            weights=weights,
            share=share,
        )

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy, or with `jsd` that of the clean view plus 12 times the divergence of the three views."""
        return views_loss(network, images, labels)
