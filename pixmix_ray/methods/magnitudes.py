"""From a level to an operation of that strength: the tables of AutoAugment, RandAugment and TrivialAugment.

References: the ranges are those of AutoAugment (Cubuk et al., CVPR 2019, appendix, list of all image transformations):
shear ±0.3, translate ±150 pixels (of 331), rotate ±30°, solarize 0 to 256, posterize 4 to 8 bits, the four enhancers
(color, contrast, brightness, sharpness) 0.1 to 1.9, "discretized into 10 values (uniform spacing)". The paper does not
say which end a level starts from. Two readings are in use:

* `PAPER`, that of torchvision: levels 0 to 9, both ends reached, level 0 changes nothing, enhancers go either way from
  1, translations are 150/331 of the side. The older port of DeepVoltaire/AutoAugment has the same levels, and shears
  with the bicubic filter.
* `RELEASE`, that of the authors' TensorFlow code (research/autoaugment): level / 10, so that 9 falls short of the end;
  whole numbers truncated; enhancers from 0.1 at level 0 over 1 at level 5, without a sign; posterize from 4 bits down,
  outside the paper's range; translations 10 pixels of 32.

Where we differ: translations are whole pixels in either table, as in torchvision; what comes in from outside is grey
128 in all channels in either, where the release has the mean colour of CIFAR; at least one bit is kept, where the
release would keep none at level 10.

Pictures are turned and sheared by taking the nearest pixel: the papers do not say, but the authors' codes of
AutoAugment and TrivialAugment do so, and so does torchvision. The bilinear operations of `pixmix_ray.transforms` are
the other choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import torch
from torch import Tensor

from pixmix_ray.transforms import OPERATIONS, apply_each, geometry

Interpolation = Literal["nearest", "bilinear"]
Operation = Callable[[Tensor, Tensor], Tensor]

ENHANCERS: Final = ("color", "contrast", "brightness", "sharpness")

RANDOM_OPERATIONS: Final = (
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The operations of RandAugment and TrivialAugment but for the fourteenth, identity, whose number is 13."""


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """How strong each operation is at a level between 0 and `top`.

    Attributes:
        top: the level at the end of every range.
        shear: the coefficient at the top.
        translate: the shift at the top, in pixels or, where `is_share`, as a share of the side.
        is_share: what `translate` counts in.
        rotate: degrees at the top.
        bits: bits that posterize keeps at level 0.
        fewer_bits: how many bits fewer at the top.
        faintest: the factor of the enhancers at level 0; None if they go either way from 1.
        enhance: by how much the factor changes up to the top.
        is_truncated: whether degrees, bits and the threshold of solarize are truncated to whole numbers, rather than
            bits rounded and the others left as they are.
        fill: the value, 0 to 255, of what comes in from outside the picture.
        interpolation: how rotate and shear find a value between pixels.
    """

    top: float
    shear: float = 0.3
    translate: float
    is_share: bool = True
    rotate: float = 30.0
    bits: int = 8
    fewer_bits: int = 4
    faintest: float | None = 0.1
    enhance: float = 1.8
    is_truncated: bool = True
    fill: int = 128
    interpolation: Interpolation = "nearest"

    def operation(self, name: str) -> Operation:
        """A function of uint8 pictures (N, 3, H, W) and signed levels (N,) that returns new uint8 pictures.

        Args:
            name: a key of `pixmix_ray.transforms.OPERATIONS`.
        """
        table = _GEOMETRY[self.interpolation]
        apply = partial(table[name], fill=self.fill) if name in table else OPERATIONS[name]

        def changed(images: Tensor, level: Tensor) -> Tensor:
            return apply(images, self.parameter(name, level, images.shape[3 if name == "translate_x" else 2]))

        return changed

    def parameter(self, name: str, level: Tensor, side: int) -> Tensor:
        """The parameter (N,) of operation `name`, as `pixmix_ray.transforms` takes it.

        Args:
            name: a key of `pixmix_ray.transforms.OPERATIONS`.
            level: float64 (N,) in [-`top`, `top`]; the sign matters where an operation can go either way.
            side: width or height of the pictures in pixels, for the translations.
        """
        # multiplied first, as in the codes: a level that divides evenly must not fall below its whole number
        if name.startswith("shear"):
            return level * self.shear / self.top
        if name.startswith("translate"):
            return (level * (self.translate * side if self.is_share else self.translate) / self.top).long()
        if name == "rotate":
            degrees = level * self.rotate / self.top
            return degrees.long() if self.is_truncated else degrees
        if name == "posterize":
            fewer = level.abs() * self.fewer_bits / self.top
            return (self.bits - (fewer if self.is_truncated else fewer.round()).long()).clamp_min(1)
        if name == "solarize":
            lower = level.abs() * 256 / self.top
            return 256 - (lower.long() if self.is_truncated else lower)
        if name in ENHANCERS:
            return self._factor(level)
        return level

    def _factor(self, level: Tensor) -> Tensor:
        if self.faintest is None:
            return level * self.enhance / self.top + 1
        return level.abs() * self.enhance / self.top + self.faintest


_GEOMETRY: Final[dict[Interpolation, dict[str, Callable[..., Tensor]]]] = {
    "nearest": {
        "rotate": geometry.rotate_nearest,
        "shear_x": geometry.shear_x_nearest,
        "shear_y": geometry.shear_y_nearest,
        "translate_x": geometry.translate_x,
        "translate_y": geometry.translate_y,
    },
    "bilinear": {
        "rotate": geometry.rotate,
        "shear_x": geometry.shear_x,
        "shear_y": geometry.shear_y,
        "translate_x": geometry.translate_x,
        "translate_y": geometry.translate_y,
    },
}

PAPER: Final = Magnitudes(top=9, translate=150 / 331, faintest=None, enhance=0.9, is_truncated=False)
"""The ranges of AutoAugment's paper as the PyTorch ports read them."""

RELEASE: Final = Magnitudes(top=10, translate=10 / 32, bits=4)
"""The strengths of AutoAugment's own code for CIFAR."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What happens to each of N pictures, in L steps one after the other, as tensors on one device."""

    operation: Tensor
    """int64 (N, L): which operation; the number after the last one leaves a picture as it is."""
    level: Tensor
    """float64 (N, L): its level, negative for the other way."""


def take(images: Tensor, steps: Steps, names: Sequence[str], magnitudes: Magnitudes) -> Tensor:
    """The pictures after all steps: uint8 (N, 3, H, W).

    Args:
        images: uint8 (N, 3, H, W); not changed.
        steps: on the device of `images`.
        names: the operations that `steps.operation` counts through.
        magnitudes: how strong they are.
    """
    operations = [magnitudes.operation(name) for name in names]
    for operation, level in zip(steps.operation.unbind(1), steps.level.unbind(1), strict=True):
        images = apply_each(operations, operation, images, level)
    return images


def signed(level: Tensor, generator: torch.Generator) -> Tensor:
    """The levels, float64 of any shape, each negative with probability 1/2."""
    is_negative = torch.rand(level.shape, generator=generator, device=generator.device) < 0.5
    return torch.where(is_negative, -level, level)
