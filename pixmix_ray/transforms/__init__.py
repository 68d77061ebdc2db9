"""Image operations on a batch, each picture with its own parameter, bit for bit what Pillow gives.

`apply` takes pictures as they are stored, (N, H, W, 3); the functions behind it, `OPERATIONS`, take uint8 tensors
(N, 3, H, W). Parameters: posterize the bits kept (1 to 8); rotate degrees as in Image.rotate; solarize the threshold;
shear and translate the coefficient p of Image.transform(AFFINE), (1, p, 0, 0, 1, 0) and (1, 0, p, 0, 1, 0) for x and
likewise for y, bilinear with black fill; color, contrast, brightness and sharpness the factor of ImageEnhance.
autocontrast, equalize and invert have none.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.transforms import blending, colour, geometry
from pixmix_ray.transforms.choice import ALL, NINE, UNCHANGED, apply_each, chunk_slices, operation_parameter
from pixmix_ray.transforms.colour import paint_, to_float
from pixmix_ray.transforms.resizing import (
    crop_with_padding,
    flip_and_crop,
    random_box,
    random_boxes,
    random_resized_crop,
    resized,
    resized_crop,
)

__all__ = [
    "ALL",
    "NINE",
    "OPERATIONS",
    "UNCHANGED",
    "apply",
    "apply_each",
    "blending",
    "crop_with_padding",
    "flip_and_crop",
    "operation_parameter",
    "paint_",
    "random_box",
    "random_boxes",
    "random_resized_crop",
    "resized",
    "resized_crop",
    "to_float",
]

Images = TypeVar("Images", NDArray[np.uint8], Tensor)

OPERATIONS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "autocontrast": lambda images, parameter: colour.autocontrast(images),
    "equalize": lambda images, parameter: colour.equalize(images),
    "posterize": colour.posterize,
    "rotate": geometry.rotate,
    "solarize": colour.solarize,
    "shear_x": geometry.shear_x,
    "shear_y": geometry.shear_y,
    "translate_x": geometry.translate_x,
    "translate_y": geometry.translate_y,
    "color": colour.color,
    "contrast": colour.contrast,
    "brightness": colour.brightness,
    "sharpness": colour.sharpness,
    "invert": lambda images, parameter: colour.invert(images),
}
"""Name -> function of uint8 pictures (N, 3, H, W) and a parameter (N,) that returns new uint8 pictures (N, 3, H, W)."""


def apply(name: str, images: Images, parameter: ArrayLike | Tensor = 0.0) -> Images:
    """The pictures after operation `name`, uint8 (N, H, W, 3), of the same kind (array or tensor) as `images`.

    Args:
        name: a key of `OPERATIONS`.
        images: uint8 (N, H, W, 3), a NumPy array (a memory map, too) or a tensor on any device; not changed.
        parameter: one number for all pictures, or one for each, (N,); what it means is said in this module's docstring.

    Raises:
        RequestError: the name is unknown; a shape or a dtype is wrong; or a parameter is not a finite number or, for
            posterize, not a whole one from 1 to 8.
    """
    if name not in OPERATIONS:
        raise UnknownNameError("operation", name, OPERATIONS)
    tensor = _pictures(images)
    numbers = _numbers(name, parameter, len(tensor)).to(tensor.device)
    changed = torch.empty_like(tensor)
    for part in chunk_slices(slice(0, len(tensor)), tensor):
        planes = tensor[part].permute(0, 3, 1, 2).contiguous()
        changed[part] = OPERATIONS[name](planes, numbers[part]).permute(0, 2, 3, 1)
    return changed if isinstance(images, Tensor) else changed.numpy()


def _pictures(images: Images) -> Tensor:
    """The pictures as a contiguous tensor, uint8 (N, H, W, 3)."""
    if not isinstance(images, np.ndarray | Tensor):
        raise RequestError(f"pictures are {type(images).__name__}: give a NumPy array or a tensor, uint8 (N, H, W, 3)")
    shape = tuple(images.shape)
    if str(images.dtype) not in ("uint8", "torch.uint8") or len(shape) != 4 or shape[3] != 3 or 0 in shape[1:]:
        raise RequestError(f"pictures are {images.dtype} {shape}: give uint8 (N, H, W, 3), with N = 1 for one picture")
    if isinstance(images, Tensor):
        return images.contiguous()
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))  # torch does not take read-only arrays


def _numbers(name: str, parameter: ArrayLike | Tensor, count: int) -> Tensor:
    """The parameter of each of `count` pictures: int64 or float64 (count,)."""
    if isinstance(parameter, Tensor):  # NumPy does not have all of torch's dtypes
        dtype = torch.float64 if parameter.is_floating_point() else torch.int64
        parameter = parameter.detach().to("cpu", dtype).numpy()
    values = np.asarray(parameter)
    if values.dtype.kind not in "biuf":
        raise RequestError(f"{name}: the parameter is of type {values.dtype}: give one number or {count} of them")
    if values.ndim > 1 or values.size not in (1, count):
        raise RequestError(f"{name}: parameter of shape {values.shape}: give one number or {count} of them")
    if not (is_finite := np.isfinite(values)).all():
        raise RequestError(f"{name}: the parameter {values[~is_finite].flat[0]} is not finite: give finite numbers")
    is_possible = (values >= 1) & (values <= 8) & (values == np.floor(values))
    if name == "posterize" and not is_possible.all():
        raise RequestError(f"posterize keeps 1 to 8 bits, got {values[~is_possible].flat[0]}: give whole numbers")
    whole = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    return torch.from_numpy(whole).expand(count)
