"""A different operation for each picture of a batch: pictures of one operation go together."""

from collections.abc import Callable, Sequence
from itertools import pairwise

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
