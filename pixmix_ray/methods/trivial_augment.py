"""TrivialAugment: each picture goes through one random operation of a random strength (Müller and Hutter, ICCV 2021).

Reference: section 3 and the table of augmentation spaces of the paper, and its code (automl/trivialaugment,
aug_lib.py). One of fourteen operations with identity among them and one of the 31 strengths 0 to 30, both uniform;
geometric ones go either way. In both spaces the enhancers run from dark to bright without a sign, whole numbers are
truncated, translations are in pixels whatever the size of the picture, and the fill is black. torchvision's
TrivialAugmentWide differs from the paper: its enhancers go either way from 1, up to 0.99, so that strength 0 changes
nothing, it keeps fractional degrees, rounds the bits of posterize, and solarizes from 255 down instead of 256. Cutout,
which the paper adds on CIFAR, is left out.
"""

from dataclasses import replace
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.magnitudes import RANDOM_OPERATIONS, Interpolation, Magnitudes, Steps, signed, take

STRONGEST: Final = 30

SPACES: Final = {
    "wide": Magnitudes(
        top=STRONGEST,
        shear=0.99,
        translate=32,
        is_share=False,
        rotate=135,
        fewer_bits=6,
        faintest=0.01,
        enhance=1.99,
        fill=0,
    ),
    "standard": Magnitudes(top=STRONGEST, translate=10, is_share=False, fill=0),
}


@METHODS.add("trivial_augment")
class TrivialAugment(Method):
    """Training on pictures after one random operation of random strength; nothing to tune.

    Source: Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021,
    section 3.

    Attributes:
        space: "wide", the paper's best, or "standard", RandAugment's narrower ranges (called RA in the paper).
        interpolation: how pictures are turned and sheared: the "nearest" pixel, as in the codes, or "bilinear".
    """

    summary: ClassVar[str] = "one random operation of random strength for each picture"
    source: ClassVar[str] = "Müller and Hutter, ICCV 2021, section 3"

    space: Literal["wide", "standard"] = "wide"
    interpolation: Interpolation = "nearest"

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The changed pictures: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        magnitudes = replace(SPACES[self.space], interpolation=self.interpolation)
        changed = take(images, draw(len(images), generator), RANDOM_OPERATIONS, magnitudes)
        return super().augment(changed, None, generator)


def draw(count: int, generator: torch.Generator) -> Steps:
    """The random choices for `count` pictures, on the device of `generator`."""
    shape, device = (count, 1), generator.device
    operation = torch.randint(0, len(RANDOM_OPERATIONS) + 1, shape, generator=generator, device=device)
    level = torch.randint(0, STRONGEST + 1, shape, generator=generator, device=device).double()
    return Steps(operation=operation, level=signed(level, generator))
