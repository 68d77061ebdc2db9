"""Crops of a batch, each picture with its own box: resized, bit for bit as Pillow does it, or with padding and flip.

Reference: Pillow's Image.crop and Image.resize(BILINEAR), which widens the filter when it shrinks a picture. It resizes
along x, rounds to uint8, then resizes along y; Pillow 13 begins with y where the height shrinks much more, which moves
some values by one, but results must not depend on its version, so that here x is always first. The weights of a pixel
are computed in float64, sum to 1, and are then rounded to multiples of 2**-22; the sums are whole numbers.

The draws are those of torchvision's RandomResizedCrop, the "Inception crop" (Szegedy et al., "Going Deeper with
Convolutions", CVPR 2015, section 6).

Nothing here waits for the device.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.transforms.choice import chunk_slices

_PRECISION_BITS = 22
_ATTEMPTS = 10


def random_resized_crop(
    images: Tensor,
    generator: torch.Generator,
    *,
    size: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool,
) -> Tensor:
    """Random parts of the pictures, resized: uint8 (N, 3, size, size); the usual augmentation of ImageNet.

    Args:
        images: uint8 (N, 3, H, W); not changed.
        generator: where the draws come from; on the device of `images`.
        size: width and height of the result in pixels.
        scale: the smallest and the largest area of a part, as a share of the picture.
        ratio: the smallest and the largest width over height of a part.
        flip: whether to flip half of the results left to right.
    """
    top, left, height, width = random_boxes(images, generator, scale=scale, ratio=ratio)
    is_flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5 if flip else None
    return resized_crop(images, top, left, height, width, size, is_flipped)


def random_boxes(
    images: Tensor,
    generator: torch.Generator,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """A random part for each picture: int64 (4, N), the top, left, height and width.

    Of ten parts with area uniform and ratio log-uniform, the first that fits into the picture; if none does, the
    largest one at the centre with a permitted ratio. For the arguments see `random_resized_crop`.
    """
    count, _, full_height, full_width = images.shape
    device = images.device
    uniforms = torch.rand(count, 2 * _ATTEMPTS + 2, dtype=torch.float64, generator=generator, device=device)
    area = (scale[0] + (scale[1] - scale[0]) * uniforms[:, :_ATTEMPTS]) * (full_height * full_width)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * uniforms[:, _ATTEMPTS : 2 * _ATTEMPTS]).exp()
    widths, heights = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (widths > 0) & (widths <= full_width) & (heights > 0) & (heights <= full_height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    central_height = min(full_height, round(full_width / ratio[0]))
    central_width = min(full_width, round(full_height * ratio[1]))
    height = torch.where(fits.any(1), heights.gather(1, first).squeeze(1), central_height)
    width = torch.where(fits.any(1), widths.gather(1, first).squeeze(1), central_width)
    free = torch.stack([full_height - height, full_width - width])
    corner = ((free + 1) * uniforms[:, 2 * _ATTEMPTS :].t()).long()
    return torch.cat([torch.where(fits.any(1), corner, free // 2), torch.stack([height, width])])


def random_box(
    full_height: int,
    full_width: int,
    uniforms: Sequence[float],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """The top, left, height and width of a random part of one picture, as by `random_boxes`, from 22 numbers in [0, 1).

    For pictures of different sizes, one at a time.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for share, log_ratio in zip(uniforms[:_ATTEMPTS], uniforms[_ATTEMPTS : 2 * _ATTEMPTS], strict=True):
        area = (scale[0] + (scale[1] - scale[0]) * share) * (full_height * full_width)
        aspect = math.exp(low + (high - low) * log_ratio)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= full_width and 0 < height <= full_height:
            free = full_height - height, full_width - width
            top, left = (int((space + 1) * at) for space, at in zip(free, uniforms[2 * _ATTEMPTS :], strict=True))
            return top, left, height, width
    height, width = min(full_height, round(full_width / ratio[0])), min(full_width, round(full_height * ratio[1]))
    return (full_height - height) // 2, (full_width - width) // 2, height, width


def resized_crop(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    height: Tensor,
    width: Tensor,
    size: int,
    is_flipped: Tensor | None = None,
) -> Tensor:
    """The boxes of the pictures, resized: uint8 (N, 3, size, size).

    Args:
        images: uint8 (N, 3, H, W); not changed.
        top: first row of each box, int64 (N,); the boxes lie within the pictures and are not empty.
        left: first column of each box, int64 (N,).
        height: rows of each box, int64 (N,).
        width: columns of each box, int64 (N,).
        size: width and height of the result in pixels.
        is_flipped: which of the results to flip left to right, bool (N,); none by default.
    """
    column, column_weights = _weights(left, width, size, images.shape[3])
    row, row_weights = _weights(top, height, size, images.shape[2])
    if is_flipped is not None:
        column = torch.where(is_flipped[:, None], column.flip(1), column)
        column_weights = torch.where(is_flipped[:, None, None], column_weights.flip(1), column_weights)
    resized = images.new_empty(len(images), 3, size, size)
    for part in chunk_slices(slice(0, len(images)), images):
        columns = images[part].permute(0, 3, 1, 2).flatten(2).unsqueeze(1)  # (n, 1, W, 3 * H)
        narrow = _weighted_sums(columns, column[part], column_weights[part])
        rows = narrow.view(-1, size, 3, images.shape[2]).permute(0, 2, 3, 1).contiguous()  # (n, 3, H, size)
        resized[part] = _weighted_sums(rows, row[part], row_weights[part])
    return resized


def _weighted_sums(lines: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    """Sums of consecutive lines: uint8 (n, c, size, m) of `lines` (n, c, L, m), by `_weights`."""
    count, channels, length, _ = lines.shape
    flat = lines.flatten(0, 2)
    origin = torch.arange(0, len(flat), length, device=lines.device).view(count, channels, 1)
    total = torch.full((1,), 1 << (_PRECISION_BITS - 1), dtype=torch.int32, device=lines.device)
    for tap in range(weights.shape[2]):
        line = (first + tap).clamp_(max=length - 1)  # beyond the box, the weight is 0
        index = (origin + line.unsqueeze(1)).flatten()
        chosen = flat.index_select(0, index).view(count, channels, *first.shape[1:], -1)
        total = chosen.int().mul_(weights[:, None, :, tap, None]).add_(total)
    return total.bitwise_right_shift_(_PRECISION_BITS).clamp_(0, 255).to(torch.uint8)


def _weights(start: Tensor, extent: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """For boxes of `extent` of the `length` lines: the first line of each sum and the weights of the lines.

    These are int64 (n, size) and, in multiples of 2**-22, int32 (n, size, taps). The order of operations is Pillow's.
    """
    widest = max(1.0, length / size)
    scale = (extent.double() / size).unsqueeze(1)
    support = scale.clamp_min(1.0)
    centre = (torch.arange(size, dtype=torch.float64, device=extent.device) + 0.5) * scale
    first = (centre - support + 0.5).clamp_min_(0).floor_()
    end = torch.minimum((centre + support + 0.5).floor_(), extent.unsqueeze(1))
    line = first.unsqueeze(2) + torch.arange(2 * math.ceil(widest) + 1, device=extent.device)
    distance = (line - centre.unsqueeze(2)).add_(0.5).mul_(support.reciprocal().unsqueeze(2)).abs_()
    weights = torch.where(line < end.unsqueeze(2), (1 - distance).clamp_min_(0), 0.0)
    total = weights[..., 0].clone()
    for tap in range(1, weights.shape[2]):  # one after the other: another order may differ in the last bit
        total += weights[..., tap]
    whole = weights.div_(total.unsqueeze(2)).mul_(1 << _PRECISION_BITS).add_(0.5).to(torch.int32)
    # fewer lines than 2 * support lie closer than that, so that further weights, if any, were rounded to 0
    return start.unsqueeze(1) + first.long(), whole[..., : math.ceil(2 * widest)]


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures, float32 (N, 3, H, W), of another height and width: bilinear, with antialiasing when reduced."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def flip_and_crop(images: Tensor, generator: torch.Generator, *, flip: bool, padding: int) -> Tensor:
    """The pictures (N, 3, H, W) flipped left to right half of the time, then cropped after zero padding.

    Args:
        images: uint8 (N, 3, H, W).
        generator: where the draws come from; on the device of `images`.
        flip: whether to flip at all.
        padding: black pixels on each side before the crop, 0 or more.
    """
    count, device = len(images), images.device
    is_flipped = torch.zeros(count, dtype=torch.bool, device=device)
    if flip:
        is_flipped = torch.rand(count, generator=generator, device=device) < 0.5
    top, left = torch.randint(0, 2 * padding + 1, (2, count), generator=generator, device=device)
    if not flip:
        return crop_with_padding(images, top, left, padding)
    both = torch.cat([images, images.flip(3)])  # twice as much, and still four times faster than a choice of each
    return crop_with_padding(both, top, left, padding, torch.arange(count, device=device) + count * is_flipped)


def crop_with_padding(images: Tensor, top: Tensor, left: Tensor, padding: int, rows: Tensor | None = None) -> Tensor:
    """The windows (M, 3, H, W) at `top` and `left`, int64 (M,) in 0..2 * padding, of the pictures in a black frame.

    Args:
        images: uint8 (N, 3, H, W).
        top: of each window.
        left: of each window.
        padding: the width of the frame in pixels.
        rows: int64 (M,), the picture of each window; by default all pictures, M = N.
    """
    count, channels, height, width = images.shape
    framed = torch.nn.functional.pad(images, (padding, padding, padding, padding)).contiguous()
    if rows is None:
        rows = torch.arange(count, device=images.device)
    # all runs of `width` neighbouring pixels of a channel, as overlapping rows of one view: a window is some of them,
    # and the gather copies whole runs
    runs = framed.view(-1).as_strided((max(framed.numel() - width + 1, 0), width), (1, 1))
    stride = width + 2 * padding
    channel = torch.arange(channels, device=images.device).unsqueeze(1) * (height + 2 * padding)
    line = torch.arange(height, device=images.device)
    first = rows * (channels * (height + 2 * padding)) + top
    starts = (first.view(-1, 1, 1) + channel + line) * stride + left.view(-1, 1, 1)
    return runs.index_select(0, starts.view(-1)).view(len(rows), channels, height, width)
