"""Speckle: some pictures get noise that grows with the pixel (Rusak et al., ECCV 2020, section 3).

Reference: Rusak et al., "A simple way to make neural networks robust against diverse image corruptions", ECCV 2020,
and its code (bethgelab/game-of-noise), whose released network has the clean error of the PixMix paper's table 10. For
a picture x in [0, 1]: clip(x + x n, 0, 1) with n ~ N(0, σ), a fresh n for every pixel and channel. σ is drawn for each
picture from the five that ImageNet-C's speckle noise has, and half of the pictures stay clean.

We differ in one point: a picture gets noise with probability 1/2, where the code takes the second half of every batch.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.transforms.choice import chunk_slices


def _as_sequence(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


Deviations = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), BeforeValidator(_as_sequence)]


@METHODS.add("speckle")
class Speckle(Method):
    """Training on pictures with speckle noise.

    Source: Rusak et al., ECCV 2020, section 3.

    Attributes:
        sigma: standard deviations of the noise on a white pixel, one of which is drawn for each picture; or one number.
        share: the share of pictures that get noise.
    """

    summary: ClassVar[str] = "half of the pictures get noise in proportion to the pixel"
    source: ClassVar[str] = "Rusak et al., ECCV 2020, section 3"

    sigma: Deviations = (0.15, 0.2, 0.35, 0.45, 0.6)
    share: Annotated[float, Field(ge=0, le=1)] = 0.5

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures, some of them noisy: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        noisy, device = super().augment(images, pictures, generator), images.device
        count = len(images)
        choice = torch.randint(len(self.sigma), (count, 1, 1, 1), generator=generator, device=device)
        deviation = torch.tensor(self.sigma, device=device)[choice]
        rows = (torch.rand(count, generator=generator, device=device) < self.share).nonzero().squeeze(1)
        for part in chunk_slices(slice(0, len(rows)), images):
            chosen = noisy.index_select(0, rows[part])
            factor = torch.randn(chosen.shape, generator=generator, device=device)
            factor.mul_(deviation.index_select(0, rows[part])).add_(1)
            noisy.index_copy_(0, rows[part], chosen.mul_(factor).clamp_(0, 1))
        return noisy
