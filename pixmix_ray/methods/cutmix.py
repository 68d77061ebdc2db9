"""CutMix: a box of every picture is replaced by that of another picture (Yun et al., ICCV 2019, section 3).

As in the authors' code there is one box a batch, it is cut off at the border, and the labels are weighed by the area
that is left. Probability 0.5 is their setting for CIFAR (1 for ImageNet).
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pixmix_ray.methods.base import METHODS, Method, mixed_cross_entropy, whole_batch


@dataclass(frozen=True, kw_only=True)
class Box:
    """Rows top <= y < bottom and columns left <= x < right, in pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """The number of pixels in the box."""
        return (self.bottom - self.top) * (self.right - self.left)


def cut_box(height: int, width: int, weight: float, centre: tuple[int, int]) -> Box:
    """The box of about (1 - `weight`) of the picture's area around `centre` (y, x), cut off at the border."""
    half_height, half_width = (int(side * math.sqrt(1 - weight)) // 2 for side in (height, width))
    y, x = centre
    return Box(
        top=max(y - half_height, 0),
        bottom=min(y + half_height, height),
        left=max(x - half_width, 0),
        right=min(x + half_width, width),
    )


@METHODS.add("cutmix")
class CutMix(Method):
    """Training on pictures with a box of another picture, the area drawn as 1 - λ, λ ~ Beta(α, α).

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV
    2019, section 3.

    Attributes:
        alpha: α > 0; 1 draws λ uniformly.
        probability: the share of batches that are cut.
    """

    summary: ClassVar[str] = "a box of every picture comes from another picture, labels by area"
    source: ClassVar[str] = "Yun et al., ICCV 2019, section 3"

    alpha: Annotated[float, Field(gt=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy to both labels, weighed by area, a scalar; see `Method.loss`."""
        return cutmix_loss(network, images, labels, rng, alpha=self.alpha, probability=self.probability)


def cutmix_loss(
    network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator, *, alpha: float, probability: float
) -> Tensor:
    """The loss of one batch, cut or left whole, a scalar; the arguments are those of `Method.loss` and of `CutMix`."""
    if rng.random() >= probability:
        return cross_entropy(network(images), labels)
    height, width = images.shape[2:]
    weight = float(rng.beta(alpha, alpha))
    box = cut_box(height, width, weight, (int(rng.integers(height)), int(rng.integers(width))))
    batch = whole_batch(images, labels)
    partners, (all_images, all_labels) = batch.shuffled(rng, images.device), batch.fetch()
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    cut = images.clone()
    cut[:, :, rows, columns] = all_images[:, :, rows, columns].index_select(0, partners)
    return mixed_cross_entropy(network(cut), labels, all_labels[partners], 1 - box.area / (height * width))
