"""The training recipe; the defaults are the paper's for CIFAR (§3.2) with the official code's schedule."""

import math
from typing import Literal

from pydantic import Field

from pixmix_ray.settings import Settings


class Recipe(Settings):
    """How long, how fast and how exactly a network is trained.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step; the last batch of an epoch may be smaller.
        lr: learning rate of the first step.
        final_lr: where the cosine schedule ends.
        momentum: of Nesterov's accelerated gradient.
        weight_decay: on all parameters; none means the method's own (5e-4, for Mixup 1e-4).
        flip: mirror half of the pictures; switch it off where left and right matter, as in digits.
        crop_padding: pixels of black border before the random crop.
        precision: float32, or bfloat16 autocast, which is faster where the processor has it (docs/speed.md).
        channels_last: memory layout; faster in every case measured so far (docs/speed.md).
    """

    epochs: int = Field(100, ge=1)
    batch_size: int = Field(128, ge=1)
    lr: float = Field(0.1, gt=0)
    final_lr: float = Field(1e-6, ge=0)
    momentum: float = Field(0.9, gt=0, lt=1)
    weight_decay: float | None = Field(None, ge=0)
    flip: bool = True
    crop_padding: int = Field(4, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True


def cosine(step: int, steps: int, first: float, last: float) -> float:
    """The learning rate of a step, on a half cosine from `first` to `last` (Loshchilov and Hutter, ICLR 2017).

    >>> [round(cosine(step, 4, 0.1, 0.0), 4) for step in range(4)]
    [0.1, 0.0854, 0.05, 0.0146]
    """
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / steps))
