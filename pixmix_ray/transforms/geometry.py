"""Geometric operations on a batch, each picture with its own parameter, bit for bit what Pillow gives.

Reference: Pillow's Image.rotate and Image.transform(AFFINE), both BILINEAR with black fill. Pillow maps the centre
(x + 0.5, y + 0.5) of an output pixel to a source position; a position outside [0, W) x [0, H) is black; otherwise it
blends the pixels around it in float64, edge pixels repeated, and truncates. Multiplications and additions are kept
apart, in Pillow's order: fused ones are off by one where a blend should be a whole number.

All functions take uint8 pictures (N, 3, H, W) and a parameter (N,), on any device, and return new uint8 pictures
(N, 3, H, W). Nothing here waits for the device, but for `rotate` with a floating-point tensor of degrees.
"""

import math
from functools import cache

import torch
from torch import Tensor


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """The pictures turned counter-clockwise by `degrees` about their centre; only fractional degrees pass the host."""
    height, width = images.shape[2:]
    cos, sin = _cos_sin(degrees)
    column, row = _centres(images)
    x = cos * column + sin * row + (cos * (-width / 2) + sin * (-height / 2) + width / 2)
    y = -sin * column + cos * row + (-sin * (-width / 2) + cos * (-height / 2) + height / 2)
    left, right, x_weight, x_inside = _neighbours(x, width)
    top, bottom, y_weight, y_inside = _neighbours(y, height)
    upper = _lerp(_pick(images, top * width + left), _pick(images, top * width + right), x_weight)
    lower = _lerp(_pick(images, bottom * width + left), _pick(images, bottom * width + right), x_weight)
    return _truncated(_lerp(upper, lower, y_weight), x_inside & y_inside)


def shear_x(images: Tensor, coefficient: Tensor) -> Tensor:
    """The pictures with source x = x + `coefficient` * y: the top row stays."""
    column, row = _centres(images)
    return _resample(images, column + _per_picture(coefficient) * row, axis=3)


def shear_y(images: Tensor, coefficient: Tensor) -> Tensor:
    """The pictures with source y = y + `coefficient` * x: the left column stays."""
    column, row = _centres(images)
    return _resample(images, _per_picture(coefficient) * column + row, axis=2)


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """The pictures with source x = x + `pixels`; a tensor of integers takes a shorter way to the same result."""
    return _translate(images, pixels, axis=3)


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """The pictures with source y = y + `pixels`; a tensor of integers takes a shorter way to the same result."""
    return _translate(images, pixels, axis=2)


def flip_and_crop(images: Tensor, generator: torch.Generator, *, flip: bool, padding: int) -> Tensor:
    """The pictures (N, 3, H, W) flipped left to right half of the time, then cropped after zero padding.

    This is the usual augmentation of CIFAR (flip, then a crop of the original size), drawn for each picture.

    Args:
        images: uint8 (N, 3, H, W).
        generator: where the draws come from; on the device of `images`.
        flip: whether to flip at all.
        padding: black pixels on each side before the crop, 0 or more.
    """
    count, device = len(images), images.device
    if flip:
        flipped = torch.rand(count, generator=generator, device=device) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=generator, device=device)
    return crop_with_padding(images, offsets[0], offsets[1], padding)


def crop_with_padding(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """The windows (N, 3, H, W) at `top` and `left`, int64 (N,) in 0..2 * padding, of the pictures in a black frame."""
    height, width = images.shape[2:]
    framed = torch.nn.functional.pad(images, (padding, padding, padding, padding))
    windows = framed.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, 3, 2 * padding + 1, 2 * padding + 1, H, W)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def _rounded_cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine of minus the angle, as Pillow rounds them."""
    angle = -math.radians(degrees % 360.0)
    return round(math.cos(angle), 15), round(math.sin(angle), 15)


@cache
def _whole_degrees(device: torch.device) -> Tensor:
    """(360, 2) float64: cosine and sine for 0 to 359 degrees."""
    return torch.tensor([_rounded_cos_sin(degrees) for degrees in range(360)], dtype=torch.float64, device=device)


def _cos_sin(degrees: Tensor) -> Tensor:
    """(2, N, 1, 1) float64: cosine and sine; by Python's own, as torch's differ from them in the last bit."""
    if degrees.is_floating_point():
        pairs = torch.tensor([_rounded_cos_sin(angle) for angle in degrees.tolist()], dtype=torch.float64)
        pairs = pairs.view(-1, 2).to(degrees.device)
    else:
        pairs = _whole_degrees(degrees.device)[degrees.remainder(360)]
    return pairs.t().reshape(2, -1, 1, 1)


def _per_picture(parameter: Tensor) -> Tensor:
    """A parameter (N,) as float64 that broadcasts over (N, H, W)."""
    return parameter.double().view(-1, 1, 1)


def _centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """The centres of the pixels as float64: x of the columns (1, 1, W) and y of the rows (1, H, 1)."""
    height, width = images.shape[2:]
    column = torch.arange(width, dtype=torch.float64, device=images.device) + 0.5
    row = torch.arange(height, dtype=torch.float64, device=images.device) + 0.5
    return column.view(1, 1, -1), row.view(1, -1, 1)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For positions along an axis of `size` pixels: pixel before, pixel after, weight of the latter, whether inside."""
    is_inside = (position >= 0) & (position < size)
    shifted = position - 0.5
    before = shifted.floor()
    weight = shifted.sub_(before)
    first = before.long()
    return first.clamp(0, size - 1), (first + 1).clamp_(0, size - 1), weight, is_inside


def _resample(images: Tensor, position: Tensor, axis: int) -> Tensor:
    """The pictures resampled along `axis` (2 or 3) at source positions that broadcast to (N, H, W)."""
    before, after, weight, is_inside = _neighbours(position, images.shape[axis])
    first, second = _pick(images, _flat_index(images, before, axis)), _pick(images, _flat_index(images, after, axis))
    return _truncated(_lerp(first, second, weight), is_inside)


def _translate(images: Tensor, pixels: Tensor, axis: int) -> Tensor:
    """The pictures moved along `axis` (2 or 3)."""
    column, row = _centres(images)
    centre, size = (row if axis == 2 else column), images.shape[axis]
    if pixels.is_floating_point():
        return _resample(images, centre + _per_picture(pixels), axis)
    source = centre.long() + pixels.view(-1, 1, 1)
    is_inside = (source >= 0) & (source < size)
    return _pick(images, _flat_index(images, source.clamp_(0, size - 1), axis)).mul_(is_inside.unsqueeze(1))


def _flat_index(images: Tensor, along: Tensor, axis: int) -> Tensor:
    """Where in the flattened pictures lie the pixels with coordinate `along` on `axis` and their own on the other."""
    column, row = (centres.long() for centres in _centres(images))  # truncated, a centre is the coordinate
    width = images.shape[3]
    return along * width + column if axis == 2 else row * width + along


def _pick(images: Tensor, index: Tensor) -> Tensor:
    """The pixels (N, 3, H, W) at positions `index`, int64 (N, H, W), in the flattened pictures."""
    flat = index.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, flat).view_as(images)


def _lerp(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """The blend first + (second - first) * weight in float64, the product rounded before the sum."""
    start = first.double()
    return (second.double() - start).mul_(weight.unsqueeze(1)).add_(start)


def _truncated(values: Tensor, is_inside: Tensor) -> Tensor:
    """`values` truncated to uint8, black where the position lay outside."""
    return values.to(torch.int32).to(torch.uint8).mul_(is_inside.unsqueeze(1))
