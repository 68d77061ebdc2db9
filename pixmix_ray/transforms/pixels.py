"""Values of pixels: bytes as floats in [0, 1], and boxes of pictures painted over."""

import math

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """The values of uint8 pictures of any shape divided by 255: new float32 of that shape, in [0, 1]."""
    return images.float().div_(255)


def paint_(images: Tensor, boxes: Tensor, value: float) -> Tensor:
    """The pictures, changed in place: `value` in all channels of a box of each.

    Args:
        images: float32 (N, 3, H, W).
        boxes: int64 (4, N): the first row of each box, the row after its last one, and likewise its columns; within
            the pictures.
        value: what to paint with.
    """
    row, column = (torch.arange(side, device=images.device) for side in images.shape[2:])
    top, bottom, left, right = boxes.unsqueeze(2)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    box = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    # cut to a range of one value there: one pass, and unlike filling by a mask it is vectorised
    lowest, highest = torch.where(box, value, -math.inf), torch.where(box, value, math.inf)
    return torch.clamp(images, lowest, highest, out=images)
