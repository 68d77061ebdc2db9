"""Cutout: one square of every picture is painted over with the mean colour (DeVries and Taylor 2017, section 3.2).

The PixMix paper uses a side of half the picture (appendix A), which is the original's 16 pixels on CIFAR-10 (the
original takes 8 on CIFAR-100). The mean colour is 0 after the normalisation, hence 0.5 before CIFAR's of .5/.5, and
ImageNet's own mean for pictures of its size. An odd length is taken as it is; the original code makes the hole one
pixel smaller.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.transforms import paint_

MEAN = (0.485, 0.456, 0.406)  # of ImageNet
IMAGENET_SIDE = 128
Level = Annotated[float, Field(ge=0, le=1)]


@METHODS.add("cutout")
class Cutout(Method):
    """One square hole a picture, its centre anywhere, cut off at the border.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    arXiv:1708.04552, section 3.2.

    Attributes:
        length: side of the hole in pixels; None is half of the picture's shorter side, as in the PixMix paper.
        colour: of the hole, in [0, 1]; None is 0.5, and for pictures of 128 pixels or more ImageNet's mean.
    """

    summary: ClassVar[str] = "one square of every picture is painted over"
    source: ClassVar[str] = "DeVries and Taylor, arXiv:1708.04552, section 3.2"

    implied: ClassVar[frozenset[str]] = frozenset({"colour"})
    length: Annotated[int, Field(ge=1)] | None = None
    colour: tuple[Level, Level, Level] | None = None

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures, each with one square of a colour: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        count, _, height, width = images.shape
        length = self.length or max(1, min(height, width) // 2)
        centres = torch.rand(2, count, generator=generator, device=images.device)
        boxes = torch.stack([*_edges(centres[0], height, length), *_edges(centres[1], width, length)])
        colour = self.colour or (MEAN if min(height, width) >= IMAGENET_SIDE else (0.5, 0.5, 0.5))
        painted = super().augment(images, pictures, generator)
        if len(set(colour)) == 1:
            return paint_(painted, boxes, colour[0])
        for channel, level in enumerate(colour):
            paint_(painted[:, channel : channel + 1], boxes, level)
        return painted


def _edges(uniform: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Start and end, int64 (N,), of holes of `length` in `size` positions, their centres drawn by U(0, 1) (N,)."""
    start = (uniform * size).long() - length // 2
    return start.clamp_min(0), (start + length).clamp_max(size)
