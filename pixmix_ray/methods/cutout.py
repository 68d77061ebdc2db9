"""Cutout: one square of every picture is painted over with the mean colour (DeVries and Taylor 2017, section 3.2).

The PixMix paper uses a side of half the picture (appendix A), which is the original's 16 pixels on CIFAR-10 (the
original takes 8 on CIFAR-100). The mean colour is 0 after CIFAR's .5/.5 normalisation, hence 0.5 before it. An odd
length is taken as it is; the original code makes the hole one pixel smaller.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.transforms import paint_


@METHODS.add("cutout")
class Cutout(Method):
    """One square hole a picture, its centre anywhere, cut off at the border.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
    arXiv:1708.04552, section 3.2.

    Attributes:
        length: side of the hole in pixels; None is half of the picture's shorter side, as in the PixMix paper.
    """

    summary: ClassVar[str] = "one square of every picture is painted over"
    source: ClassVar[str] = "DeVries and Taylor, arXiv:1708.04552, section 3.2"

    length: Annotated[int, Field(ge=1)] | None = None

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures with one square of 0.5 each: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        count, _, height, width = images.shape
        length = self.length or max(1, min(height, width) // 2)
        centres = torch.rand(2, count, generator=generator, device=images.device)
        boxes = torch.stack([*_edges(centres[0], height, length), *_edges(centres[1], width, length)])
        return paint_(super().augment(images, pictures, generator), boxes, 0.5)


def _edges(uniform: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Start and end, int64 (N,), of holes of `length` in `size` positions, their centres drawn by U(0, 1) (N,)."""
    start = (uniform * size).long() - length // 2
    return start.clamp_min(0), (start + length).clamp_max(size)
