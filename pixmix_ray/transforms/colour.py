"""Colour operations on a batch, each picture with its own parameter, bit for bit what Pillow gives.

References: Pillow's ImageOps (autocontrast, equalize, posterize, solarize) and ImageEnhance (Color, Contrast,
Brightness, Sharpness). Pillow truncates where one would round, in float64 for the look-up tables and in float32 for
the enhancers; the order of the arithmetic below is Pillow's, because another order is off by one on some pixels.

All operations take uint8 pictures (N, 3, H, W) and a parameter (N,), on any device, and return new uint8 pictures
(N, 3, H, W). Nothing here waits for the device.

And pixels as floats in [0, 1], and boxes of pictures painted over.
"""

import math

import torch
from torch import Tensor

_GREY_WEIGHTS = (19595.0, 38470.0, 7471.0)  # ITU-R 601-2 luma times 65536


def autocontrast(images: Tensor) -> Tensor:
    """The pictures with each channel stretched to 0..255; a channel of one value stays as it is."""
    low = images.amin((2, 3), keepdim=True).double()
    span = images.amax((2, 3), keepdim=True).double() - low
    full = torch.full((), 255.0, dtype=torch.float64, device=images.device)
    # a tensor over a tensor: with a Python number torch multiplies by the reciprocal, and some values are off by one
    scale = torch.where(span > 0, torch.div(full, span), 1.0)
    offset = torch.where(span > 0, -low * scale, 0.0)
    return _truncated(images.double().mul_(scale).add_(offset))


def equalize(images: Tensor) -> Tensor:
    """The pictures with each channel's histogram flattened; a channel with too few distinct pixels stays as it is."""
    count, channels, height, width = images.shape
    values = images.reshape(count * channels, height * width)
    bins = values.long()
    histogram = torch.zeros(count * channels, 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(1, bins, torch.ones_like(histogram[:1, :1]).expand_as(bins))
    below = histogram.cumsum(1, dtype=torch.int32) - histogram
    brightest = values.amax(1, keepdim=True).long()
    step = below.gather(1, brightest) // 255  # all pixels but those of the brightest value
    # in float64 a quotient of such whole numbers never rounds up to the next one, and division is faster
    ramp = below.add_(step // 2).double().div_(step.clamp_min(1)).clamp_max_(255).to(torch.int16)
    identity = torch.arange(256, dtype=torch.int16, device=images.device)
    table = torch.where(step > 0, ramp, identity).to(torch.uint8)
    return table.gather(1, bins).view_as(images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The pictures with the highest `bits` (1 to 8) bits of each value kept."""
    mask = -(1 << (8 - bits.long())) & 255
    return images & _per_picture(mask, torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """The pictures with values of `threshold` (0 to 256) or more inverted."""
    whole = threshold.ceil() if threshold.is_floating_point() else threshold
    lowest = _per_picture(whole.clamp(0, 255), torch.uint8)
    flipped_bits = _per_picture((whole <= 255) * 255, torch.uint8)  # 255 - x is x with all bits flipped
    is_bright = torch.maximum(images, lowest) == images  # as images >= lowest, which is not vectorised
    return is_bright.view(torch.uint8).mul_(flipped_bits).bitwise_xor_(images)


def invert(images: Tensor) -> Tensor:
    """The pictures' negatives."""
    return ~images  # 255 - x is x with all bits flipped


def color(images: Tensor, factor: Tensor) -> Tensor:
    """The pictures between grey (factor 0) and themselves (1), or beyond."""
    pixels = images.float()
    return _blend(_grey(pixels), pixels, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """The pictures between their mean grey, one value a picture (factor 0), and themselves (1), or beyond."""
    pixels = images.float()
    grey = _grey(pixels).mean((1, 2, 3), keepdim=True, dtype=torch.float64)  # a sum of integers: exact
    return _blend(grey.add_(0.5).floor_().float(), pixels, factor)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """The pictures between black (factor 0) and themselves (1), or beyond."""
    return _truncated(images.float().mul_(_per_picture(factor, torch.float32)))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """The pictures between smoothed (factor 0) and themselves (1), or beyond; the outermost pixels never change."""
    height, width = images.shape[2:]
    if min(height, width) < 3:
        return images.clone()
    # sums of neighbours run over all pictures laid end to end: contiguous, and wrong for outermost pixels alone
    values = images.to(torch.int16).flatten()
    across = (values[:-2] + values[1:-1]).add_(values[2:])
    total = (across[: -2 * width] + across[width:-width]).add_(across[2 * width :])
    total.add_(values[width + 1 : -width - 1], alpha=4)
    pixels = images.float()
    smooth = torch.zeros(images.shape, device=images.device)
    # weights 1 and 5 of 13; a thirteenth is never half-way
    smooth.flatten()[width + 1 : -width - 1] = total.float().add_(6.5).mul_(1 / 13).floor_()
    sharpened = _blend(smooth, pixels, factor)
    for edge in (0, -1):
        sharpened[:, :, edge] = images[:, :, edge]
        sharpened[:, :, :, edge] = images[:, :, :, edge]
    return sharpened


def _grey(pixels: Tensor) -> Tensor:
    """(N, 1, H, W) float32 whole numbers: Pillow's conversion to mode L. Sums stay below 2**24, so float32 is exact."""
    red, green, blue = (pixels[:, i : i + 1] * weight for i, weight in enumerate(_GREY_WEIGHTS))
    return red.add_(green).add_(blue).add_(32768.0).mul_(2.0**-16).floor_()


def _blend(degenerate: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """Pillow's Image.blend: in float32, cut to 0..255, truncated; overwrites `pixels`."""
    difference = pixels.sub_(degenerate)
    return _truncated(difference.mul_(_per_picture(factor, torch.float32)).add_(degenerate))


def _truncated(values: Tensor) -> Tensor:
    """`values` cut to 0..255 and truncated to uint8; overwrites its argument. By way of int16, which is vectorised."""
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def _per_picture(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter (N,) so that it broadcasts over pictures (N, 3, H, W)."""
    return parameter.to(dtype).view(-1, 1, 1, 1)


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
