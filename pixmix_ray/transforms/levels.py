"""From a level of severity to the parameter of an operation: the table of AugMix, which PixMix uses.

Reference: AugMix (Hendrycks et al., ICLR 2020), augmentations.py of its code, which the code of PixMix repeats. A level
is drawn from U(0.1, severity) with severity at most 10. Whole parameters are truncated, so at severity 3 some
operations often change nothing. The four enhancers get a factor of 0.1 + 0.18 level, which is below 1 (darker, greyer)
up to level 5.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

NINE: Final = (
    "autocontrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The operations that CIFAR-C does not contain."""

ALL: Final = (*NINE, "color", "contrast", "brightness", "sharpness")
"""The thirteen operations of the recipe in the paper's code; the last four overlap with CIFAR-C."""

UNCHANGED: Final = {"rotate": 0, "translate_x": 0, "translate_y": 0}
"""The parameters of small levels that leave a picture as it is."""


def operation_parameter(name: str, level: Tensor, is_negative: Tensor, size: int) -> Tensor:
    """The parameter (N,) of operation `name`: int64 where it is a whole number, else float64.

    Args:
        name: one of `ALL`.
        level: float64 (N,) in (0, 10].
        is_negative: bool (N,), whether to go the other way; used by the geometric operations alone.
        size: the width of the pictures in pixels, the unit of the translations.
    """
    return _PARAMETERS[name](level, torch.where(is_negative, -1, 1), size)


def _whole(level: Tensor, largest: float) -> Tensor:
    return (level * largest / 10).long()  # in this order: a level that divides evenly must not fall below its integer


def _unused(level: Tensor, sign: Tensor, size: int) -> Tensor:
    return level


def _degrees(level: Tensor, sign: Tensor, size: int) -> Tensor:
    return sign * _whole(level, 30)


def _slope(level: Tensor, sign: Tensor, size: int) -> Tensor:
    return sign * (level * 0.3 / 10)


def _pixels(level: Tensor, sign: Tensor, size: int) -> Tensor:
    return sign * _whole(level, size / 3)


def _factor(level: Tensor, sign: Tensor, size: int) -> Tensor:
    return level * 1.8 / 10 + 0.1


_PARAMETERS: Final[dict[str, Callable[[Tensor, Tensor, int], Tensor]]] = {
    "autocontrast": _unused,
    "equalize": _unused,
    "posterize": lambda level, sign, size: 4 - _whole(level, 4),
    "rotate": _degrees,
    "solarize": lambda level, sign, size: 256 - _whole(level, 256),
    "shear_x": _slope,
    "shear_y": _slope,
    "translate_x": _pixels,
    "translate_y": _pixels,
    "color": _factor,
    "contrast": _factor,
    "brightness": _factor,
    "sharpness": _factor,
}
