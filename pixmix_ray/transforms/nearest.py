"""Rotation and shear that take the nearest pixel, each picture with its own parameter, bit for bit what Pillow gives.

Reference: Pillow's Image.rotate and Image.transform(AFFINE) with NEAREST, which step through the source in fixed point,
16 bits behind the point. Augmentation methods after AutoAugment use these; the bilinear ones are in `geometry`.
"""

import math

import torch
from torch import Tensor


def rotate(images: Tensor, degrees: Tensor, fill: int = 0) -> Tensor:
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
    return _mapped(images, torch.stack([x, cos, sin, y, -sin, cos]), fill)


def shear_x(images: Tensor, coefficient: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source x = x + `coefficient` * y, each pixel the nearest one; as `rotate`."""
    p = coefficient.double()
    one, zero = torch.ones_like(p), torch.zeros_like(p)
    return _mapped(images, torch.stack([0.5 + p * 0.5, one, p, zero, zero, one]), fill)


def shear_y(images: Tensor, coefficient: Tensor, fill: int = 0) -> Tensor:
    """The pictures with source y = y + `coefficient` * x, each pixel the nearest one; as `rotate`."""
    p = coefficient.double()
    one, zero = torch.ones_like(p), torch.zeros_like(p)
    return _mapped(images, torch.stack([zero, one, zero, p * 0.5 + 0.5, p, one]), fill)


def _mapped(images: Tensor, numbers: Tensor, fill: int) -> Tensor:
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
