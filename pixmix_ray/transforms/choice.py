"""A different operation for each picture of a batch, and from a level of severity to the parameter of an operation.

The table of levels is AugMix's, which PixMix uses. Reference: AugMix (Hendrycks et al., ICLR 2020), augmentations.py of
its code, which the code of PixMix repeats. A level is drawn from U(0.1, severity) with severity at most 10. Whole
parameters are truncated, so at severity 3 some operations often change nothing. The four enhancers get a factor of 0.1
+ 0.18 level, which is below 1 (darker, greyer) up to level 5.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

CHUNK_VALUES = 2**19  # values; on a processor, larger intermediate results are mapped afresh each time: twice as slow


def apply_each(
    operations: Sequence[Callable[[Tensor, Tensor], Tensor]], choice: Tensor, images: Tensor, parameters: Tensor
) -> Tensor:
    """The pictures, each after the operation that `choice` names: new uint8 (N, 3, H, W).

    The sizes of the groups are the one thing for which the host waits for the device.

    Args:
        operations: functions of pictures (n, 3, H, W) and parameters (n,), as in `pixmix_ray.transforms.OPERATIONS`.
        choice: int64 (N,), which of `operations`; `len(operations)` leaves a picture as it is.
        images: uint8 (N, 3, H, W); not changed.
        parameters: (N,) one number for each picture; or (K, N), row i for operation i.
    """
    order, parts = sort_into_groups(choice, len(operations))
    changed = images.clone(memory_format=torch.contiguous_format)
    for number, (operation, whole) in enumerate(zip(operations, parts, strict=True)):
        row = parameters if parameters.ndim == 1 else parameters[number]
        for part in chunk_slices(whole, images):
            rows = order[part]
            made = operation(images.index_select(0, rows), row.index_select(0, rows))
            _copy_rows_(changed, rows, made.contiguous())
    return changed


def _copy_rows_(images: Tensor, rows: Tensor, made: Tensor) -> None:
    """Put `made` (n, ...) at `rows`, int64 (n,), of `images` (N, ...), in place; both contiguous, of one dtype."""
    _as_words(images).index_copy_(0, rows, _as_words(made))


def _as_words(images: Tensor) -> Tensor:
    """The same memory as rows of eight-byte words where they divide so: a copy of rows is ten times faster by words."""
    rows = images.flatten(1)  # contiguous, so a view
    per_word = 8 // rows.element_size()
    divides = rows.shape[1] % per_word == 0 and rows.storage_offset() % per_word == 0
    return rows.view(torch.int64) if divides else rows


def sort_into_groups(group: Tensor, num_groups: int) -> tuple[Tensor, list[slice]]:
    """The positions of `group`, int64 and flattened, sorted by group, and which of them each group holds.

    Positions with the number `num_groups` belong to none and come last. The host waits for the device here.
    """
    numbers, order = group.flatten().sort(stable=True)
    ends = torch.searchsorted(numbers, torch.arange(num_groups, device=group.device), right=True).tolist()
    return order, [slice(start, end) for start, end in pairwise([0, *ends])]


def chunk_slices(part: slice, images: Tensor, values: int | None = None) -> list[slice]:
    """`part` cut into slices of at most `values` values of `images`; one slice on a GPU; none if it is empty."""
    size = max(1, part.stop - part.start)
    if images.device.type == "cpu":
        size = min(size, max(1, (values or CHUNK_VALUES) // images.shape[1:].numel()))
    return [slice(start, min(start + size, part.stop)) for start in range(part.start, part.stop, size)]


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
