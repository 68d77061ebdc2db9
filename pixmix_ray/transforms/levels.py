"""From a level of severity to the parameter of an operation: the table of AugMix, which PixMix uses.

Reference: AugMix (Hendrycks et al., ICLR 2020), augmentations.py of its code, which the code of PixMix repeats. A level
is drawn from U(0.1, severity) with severity at most 10. Whole parameters are truncated, so at severity 3 some
operations often change nothing. The four enhancers get a factor of 0.1 + 0.18 level, which is below 1 (darker, greyer)
up to level 5.
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from pixmix_ray.transforms.geometry import cosine_and_sine

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


def operation_parameter(name: str, level: Tensor, is_negative: Tensor, size: int) -> Tensor:
    """The parameter (N,) of operation `name`: int64 where it is a whole number, else float64.

    Args:
        name: one of `ALL`.
        level: float64 (N,) in (0, 10].
        is_negative: bool (N,), whether to go the other way; used by the geometric operations alone.
        size: the width of the pictures in pixels, the unit of the translations.
    """
    return _PARAMETERS[name](level, torch.where(is_negative, -1, 1), size)


def compiled_parameters(
    names: Sequence[str], choice: Tensor, level: Tensor, is_negative: Tensor, size: int
) -> Tensor:
    """What the compiled operations take: float64 (N, 2), the parameter, but for rotate the cosine and the sine.

    Args:
        names: of operations, from `ALL`.
        choice: int64 (N,), which of `names`; the rest is as in `operation_parameter`.
        level: float64 (N,).
        is_negative: bool (N,).
        size: of the pictures.
    """
    numbers = torch.empty(len(names), len(level), 2, dtype=torch.float64)
    for name, numbers_of_one in zip(names, numbers, strict=True):
        parameter = operation_parameter(name, level, is_negative, size)
        numbers_of_one.copy_(cosine_and_sine(parameter) if name == "rotate" else parameter.unsqueeze(1))
    return numbers[choice, torch.arange(len(level))]


def _whole(level: Tensor, largest: float) -> Tensor:
    return (level * largest / 10).long()  # in this order: a level that divides evenly must not fall below its integer


_PARAMETERS: Final[dict[str, Callable[[Tensor, Tensor, int], Tensor]]] = {
    "autocontrast": lambda level, sign, size: level,
    "equalize": lambda level, sign, size: level,
    "posterize": lambda level, sign, size: 4 - _whole(level, 4),
    "rotate": lambda level, sign, size: sign * _whole(level, 30),
    "solarize": lambda level, sign, size: 256 - _whole(level, 256),
    "shear_x": lambda level, sign, size: sign * (level * 0.3 / 10),
    "shear_y": lambda level, sign, size: sign * (level * 0.3 / 10),
    "translate_x": lambda level, sign, size: sign * _whole(level, size / 3),
    "translate_y": lambda level, sign, size: sign * _whole(level, size / 3),
    "color": lambda level, sign, size: level * 1.8 / 10 + 0.1,
    "contrast": lambda level, sign, size: level * 1.8 / 10 + 0.1,
    "brightness": lambda level, sign, size: level * 1.8 / 10 + 0.1,
    "sharpness": lambda level, sign, size: level * 1.8 / 10 + 0.1,
}
