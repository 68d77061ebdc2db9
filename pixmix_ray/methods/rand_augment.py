"""RandAugment: each picture goes through N operations drawn at random, all of one magnitude M (Cubuk et al., 2020).

Reference: section 3 and figure 2 of the paper. Fourteen operations with identity among them, each drawn with
probability 1/14 and with replacement; geometric ones go either way. N = 3 and M = 5 are the paper's values for
Wide-ResNet-28-10 on CIFAR-10 (appendix); it takes M = 4 for Wide-ResNet-28-2, N = 1, M = 2 and N = 2, M = 14 for
the two on CIFAR-100, and N = 2, M = 9 for ResNet-50 on ImageNet.

M counts on a scale where 10 is the strongest (section 3). The values above 10, and the paper's figures, are on one that
ends at 30, as in torchvision, so `strongest` is a setting. The strengths are AutoAugment's ("the same linear scale"),
see `pixmix_ray.methods.magnitudes`; by those of AutoAugment's release the enhancers do nothing at all at M = 5. Cutout,
which the paper adds on CIFAR, is left out.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Final, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pixmix_ray.errors import RequestError
from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.magnitudes import PAPER, RANDOM_OPERATIONS, RELEASE, Interpolation, Steps, signed, take

MAGNITUDES: Final = {"paper": PAPER, "release": RELEASE}


@METHODS.add("rand_augment")
class RandAugment(Method):
    """Training on pictures after a few random operations of one magnitude.

    Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS
    2020, section 3; the defaults are the paper's for CIFAR-10.

    Attributes:
        num_operations: N, how many operations, one after the other.
        magnitude: M, from 0 to `strongest`.
        strongest: the magnitude at which every operation is at the end of its range.
        magnitudes: "paper", AutoAugment's ranges as the PyTorch ports read them, or "release", AutoAugment's code.
        interpolation: how pictures are turned and sheared: the "nearest" pixel, as in the codes, or "bilinear".
    """

    summary: ClassVar[str] = "a few random operations of one magnitude for each picture"
    source: ClassVar[str] = "Cubuk et al., NeurIPS 2020, section 3"

    num_operations: Annotated[int, Field(ge=1)] = 3
    magnitude: Annotated[float, Field(ge=0)] = 5
    strongest: Annotated[float, Field(gt=0)] = 10
    magnitudes: Literal["paper", "release"] = "paper"
    interpolation: Interpolation = "nearest"

    @model_validator(mode="after")
    def _ends_at_the_strongest(self) -> Self:
        if self.magnitude > self.strongest:
            raise RequestError(
                f"magnitude must be in [0, {self.strongest:g}], got {self.magnitude:g}: "
                "lower it, or set strongest: 30 for a scale of 0 to 30"
            )
        return self

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The changed pictures: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        magnitudes = replace(MAGNITUDES[self.magnitudes], top=self.strongest, interpolation=self.interpolation)
        changed = take(images, self.draw(len(images), generator), RANDOM_OPERATIONS, magnitudes)
        return super().augment(changed, None, generator)

    def draw(self, count: int, generator: torch.Generator) -> Steps:
        """The random choices for `count` pictures, on the device of `generator`."""
        shape, kinds = (count, self.num_operations), len(RANDOM_OPERATIONS) + 1
        operation = torch.randint(0, kinds, shape, generator=generator, device=generator.device)
        level = torch.full(shape, self.magnitude, dtype=torch.float64, device=generator.device)
        return Steps(operation=operation, level=signed(level, generator))
