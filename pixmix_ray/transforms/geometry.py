"""Geometric operations on a batch, each picture with its own parameter, bit for bit what Pillow gives.

Reference: Pillow's Image.rotate and Image.transform(AFFINE), both BILINEAR. Pillow maps the centre
(x + 0.5, y + 0.5) of an output pixel to a source position; a position outside [0, W) x [0, H) gets the fill colour;
otherwise it blends the pixels around it in float64, edge pixels repeated, and truncates. Multiplications and additions
are kept apart, in Pillow's order: fused ones are off by one where a blend should be a whole number.

All functions take uint8 pictures (N, 3, H, W) and a parameter (N,), on any device, and return new uint8 pictures
(N, 3, H, W). `fill` (0 to 255) is the value of all channels outside the source picture: 0, black, by default.
Nothing here waits for the device, but for `rotate` with a floating-point tensor of degrees. A call takes fewer than
2**31 pixels.

`rotate_nearest` and the shears like it take the nearest pixel instead. Reference: Pillow's Image.rotate and
Image.transform(AFFINE) with NEAREST, which step through the source in fixed point, 16 bits behind the point.
Augmentation methods after AutoAugment use these; the others are bilinear.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

_CHANNEL_BITS = 8  # red, green and blue of a pixel are packed into one int32: one look-up instead of three


def rotate(images: Tensor, degrees: Tensor, fill: int = 0) -> Tensor:
    """The pictures turned counter-clockwise by `degrees` about their centre; only fractional degrees pass the host."""
    cos, sin = _cosine_and_sine(degrees).t().reshape(2, -1, 1, 1)
    height, width = images.shape[2:]
    column, row = _centres(images)
    x = (cos * column + sin * row).add_(cos * (-width / 2) + sin * (-height / 2) + width / 2)
    y = (-sin * column + cos * row).add_(-sin * (-width / 2) + cos * (-height / 2) + height / 2)
    is_inside = _is_inside(x, width).mul_(_is_inside(y, height))
    left, x_weight = _split(x, width)
    top, y_weight = _split(y, height)
    index, packed = _flat_index(top.mul_(width).add_(left)), _packed(images, width + 1)
    pixels = [_picked(packed[start:], index) for start in (0, 1, width, width + 1)]

    def values(channel: int) -> Tensor:
        first, second, third, fourth = (_channel(pixel, channel) for pixel in pixels)
        upper, lower = _between(first, second, x_weight), _between(third, fourth, x_weight)
        return lower.sub_(upper).mul_(y_weight).add_(upper)

    return _filled(images, values, is_inside, fill)


def shear_x(images: Tensor, coefficient: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source x = x + `coefficient` * y: the top row stays."""
    column, row = _centres(images)
    return _resample(images, column + _per_picture(coefficient) * row, 3, fill)


def shear_y(images: Tensor, coefficient: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source y = y + `coefficient` * x: the left column stays."""
    column, row = _centres(images)
    return _resample(images, _per_picture(coefficient) * column + row, 2, fill)


def translate_x(images: Tensor, pixels: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source x = x + `pixels`; a tensor of integers takes a shorter way to the same result."""
    return _translate(images, pixels, 3, fill)


def translate_y(images: Tensor, pixels: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source y = y + `pixels`; a tensor of integers takes a shorter way to the same result."""
    return _translate(images, pixels, 2, fill)


def _rounded_cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine of minus the angle, as Pillow rounds them."""
    angle = -math.radians(degrees % 360.0)
    return round(math.cos(angle), 15), round(math.sin(angle), 15)


@cache
def _whole_degrees(device: torch.device) -> Tensor:
    """(360, 2) float64: cosine and sine for 0 to 359 degrees."""
    return torch.tensor([_rounded_cos_sin(degrees) for degrees in range(360)], dtype=torch.float64, device=device)


def _cosine_and_sine(degrees: Tensor) -> Tensor:
    """(N, 2) float64, of minus the angle; by Python's own functions, as torch's differ from them in the last bit."""
    if not degrees.is_floating_point():
        return _whole_degrees(degrees.device)[degrees.remainder(360)]
    pairs = torch.tensor([_rounded_cos_sin(angle) for angle in degrees.tolist()], dtype=torch.float64)
    return pairs.view(-1, 2).to(degrees.device)


def _per_picture(parameter: Tensor) -> Tensor:
    """A parameter (N,) as float64 that broadcasts over (N, H, W)."""
    return parameter.double().view(-1, 1, 1)


def _centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """The centres of the pixels as float64: x of the columns (1, 1, W) and y of the rows (1, H, 1)."""
    height, width = images.shape[2:]
    column = torch.arange(width, dtype=torch.float64, device=images.device) + 0.5
    row = torch.arange(height, dtype=torch.float64, device=images.device) + 0.5
    return column.view(1, 1, -1), row.view(1, -1, 1)


def _is_inside(position: Tensor, size: int) -> Tensor:
    """1.0 where 0 <= `position` < `size`, else 0.0; as float64, since comparisons that give bool are slow."""
    return position.clamp(0.0, math.nextafter(size, 0.0)).eq_(position)


def _split(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The pixel before each position along an axis of `size` pixels, and the weight of the next; overwrites `position`.

    Where Pillow repeats an edge pixel, the weight is 0 here, which gives the same: the next may be any pixel.
    """
    shifted = position.sub_(0.5).clamp_(0, size - 1)
    before = shifted.floor()
    return before, shifted.sub_(before)


def _resample(images: Tensor, position: Tensor, axis: int, fill: int) -> Tensor:
    """The pictures resampled along `axis` (2 or 3) at positions that broadcast to (N, H, W); overwrites `position`."""
    column, row = (centres - 0.5 for centres in _centres(images))
    width = images.shape[3]
    step = width if axis == 2 else 1
    is_inside = _is_inside(position, images.shape[axis])
    before, weight = _split(position, images.shape[axis])
    index = _flat_index(before * width + column if axis == 2 else row * width + before)
    packed = _packed(images, step)
    first, second = _picked(packed, index), _picked(packed[step:], index)

    def values(channel: int) -> Tensor:
        return _between(_channel(first, channel), _channel(second, channel), weight)

    return _filled(images, values, is_inside, fill)


def _translate(images: Tensor, pixels: Tensor, axis: int, fill: int) -> Tensor:
    """The pictures moved along `axis` (2 or 3)."""
    column, row = _centres(images)
    centre, size = (row if axis == 2 else column), images.shape[axis]
    if pixels.is_floating_point():
        return _resample(images, centre + _per_picture(pixels), axis, fill)
    source = (centre.long() + pixels.view(-1, 1, 1)).unsqueeze(1)
    is_inside, kept = (source >= 0) & (source < size), source.clamp(0, size - 1)
    if axis == 3:
        moved = images.gather(3, kept.expand_as(images))
    else:  # whole rows go together, several times faster
        lines = images.flatten(0, 2)
        first = torch.arange(0, len(lines), size, device=images.device).view(-1, images.shape[1], 1, 1)
        moved = lines.index_select(0, (first + kept).flatten()).view_as(images)
    return moved.mul_(is_inside) if fill == 0 else moved.masked_fill_(~is_inside, fill)


def _packed(images: Tensor, extra: int) -> Tensor:
    """All pixels in one row, int32 (N * H * W + extra,): red + 256 green + 65536 blue, then `extra` zeros."""
    red, green, blue = (images[:, channel].int() for channel in range(3))
    pixels = red.add_(green, alpha=1 << _CHANNEL_BITS).add_(blue, alpha=1 << 2 * _CHANNEL_BITS)
    return torch.nn.functional.pad(pixels.flatten(), (0, extra))


def _flat_index(index: Tensor) -> Tensor:
    """From where in its picture, float64 (N, H, W), to where among all packed pixels, int32; overwrites `index`."""
    count, height, width = index.shape
    if count == 1:
        return index.int()
    start = torch.arange(count, dtype=torch.float64, device=index.device).mul_(height * width)
    return index.add_(start.view(-1, 1, 1)).int()


def _picked(packed: Tensor, index: Tensor) -> Tensor:
    """The packed pixels at `index` (N, H, W)."""
    return packed.index_select(0, index.flatten()).view_as(index)


def _channel(pixels: Tensor, channel: int) -> Tensor:
    """One channel of packed pixels: int32 of their shape."""
    shifted = pixels.bitwise_right_shift(_CHANNEL_BITS * channel) if channel else pixels
    return shifted.bitwise_and(255) if channel < 2 else shifted


def _between(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """What lies between two int32 (N, H, W), float64, the product rounded before the sum."""
    return (second - first).double().mul_(weight).add_(first.double())


def _filled(images: Tensor, values: Callable[[int], Tensor], is_inside: Tensor, fill: int) -> Tensor:
    """New pictures as `images`: the values of each channel (N, H, W) truncated, or `fill` where `is_inside` is 0.

    A channel at a time, so that what lies between stays in the caches of a processor.
    """
    filled, mask = torch.empty_like(images), is_inside.to(torch.int16).to(torch.uint8)
    is_outside = None if fill == 0 else mask == 0
    for channel in range(3):
        pixels = values(channel).to(torch.int16).to(torch.uint8)
        filled[:, channel] = pixels.mul_(mask) if is_outside is None else pixels.masked_fill_(is_outside, fill)
    return filled


def rotate_nearest(images: Tensor, degrees: Tensor, fill: int = 0) -> Tensor:
    """The pictures turned counter-clockwise about their centre, each pixel the nearest one: Pillow's, bit for bit.

    Args:
        images: uint8 (N, 3, H, W), of any size up to 16,000 pixels.
        degrees: (N,), floating-point or whole; nothing waits for the device.
        fill: the value of what comes in from outside.
    """
    height, width = images.shape[2:]
    radians = degrees.double().mul(-math.pi / 180)
    cos, sin = radians.cos(), radians.sin()
    x = (0.5 - width / 2) * cos + (0.5 - height / 2) * sin + width / 2
    y = (width / 2 - 0.5) * sin + (0.5 - height / 2) * cos + height / 2
    return _nearest(images, torch.stack([x, cos, sin, y, -sin, cos]), fill)


def shear_x_nearest(images: Tensor, coefficient: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source x = x + `coefficient` * y, each pixel the nearest one; as `rotate_nearest`."""
    p = coefficient.double()
    one, zero = torch.ones_like(p), torch.zeros_like(p)
    return _nearest(images, torch.stack([0.5 + p * 0.5, one, p, zero, zero, one]), fill)


def shear_y_nearest(images: Tensor, coefficient: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source y = y + `coefficient` * x, each pixel the nearest one; as `rotate_nearest`."""
    p = coefficient.double()
    one, zero = torch.ones_like(p), torch.zeros_like(p)
    return _nearest(images, torch.stack([zero, one, zero, p * 0.5 + 0.5, p, one]), fill)


def _nearest(images: Tensor, numbers: Tensor, fill: int) -> Tensor:
    """The nearest pixels of the pictures, in steps through the source.

    Args:
        images: uint8 (N, 3, H, W).
        numbers: float64 (6, N): the x of the first pixel, the step of x to the right and the step of x down; and of y.
        fill: the value of what comes in from outside.
    """
    # Pillow's fixed-point numbers
    fixed = (numbers * 65536 + 0.5).floor_()
    height, width = images.shape[2:]
    column = torch.arange(width, dtype=torch.int32, device=images.device)
    row = torch.arange(height, dtype=torch.int32, device=images.device).unsqueeze(1)
    x, x_right, x_down, y, y_right, y_down = fixed.to(torch.int32)[..., None, None]
    x = (x + column * x_right + row * x_down) >> 16
    y = (y + column * y_right + row * y_down) >> 16
    is_outside = ((x < 0) | (x >= width)) | ((y < 0) | (y >= height))
    index = (y * width + x).masked_fill_(is_outside, 0).long().flatten(1).unsqueeze(1)
    picked = images.flatten(2).gather(2, index.expand(-1, images.shape[1], -1)).view_as(images)
    return picked.masked_fill_(is_outside.unsqueeze(1), fill)
