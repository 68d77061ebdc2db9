"""The table of corruptions, and `corrupt`, which applies one of them to any number of pictures.

Source: Hendrycks and Dietterich, ICLR 2019, and hendrycks/robustness@8190fe3. We differ in the random numbers (see
`corruption.py`) and in that ImageNet-C's last step, saving each result as a JPEG of quality 85, is not done here.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.corruptions.blur import defocus_blur
from pixmix_ray.corruptions.colour import brightness, contrast
from pixmix_ray.corruptions.corruption import Corruption, Draws, Images
from pixmix_ray.corruptions.digital import jpeg_compression, pixelate
from pixmix_ray.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from pixmix_ray.corruptions.severities import SEVERITIES
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.seeding import uniforms

Variant = Literal["cifar", "imagenet"]
"""Which column of `SEVERITIES`: "cifar" is made for pictures of 32x32, "imagenet" for 224x224."""

CORRUPTIONS: Final[Mapping[str, Corruption]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}

NAMES: Final = tuple(CORRUPTIONS)
"""The corruptions that are here, in the official order."""

CHUNK_VALUES = 2**17  # values worked on at once: the arrays stay in the processor's cache, and memory stays small


def corrupt(
    images: Images,
    name: str,
    severity: int,
    seed: int = 0,
    *,
    indices: ArrayLike | None = None,
    variant: Variant | None = None,
) -> Images:
    """The pictures corrupted, (N, H, W, 3) uint8; each depends on itself, its index and the request alone.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        name: one of `NAMES`.
        severity: 1 (mild) to 5 (severe).
        seed: another seed gives other noise.
        indices: (N,) integers from 0 up that name each picture's random numbers: its place in the whole set. Default:
            0 to N - 1.
        variant: whose constants; default: "imagenet" if the shorter side is 128 or more, else "cifar".

    Raises:
        UnknownNameError: there is no corruption of that name, or no such variant.
        RequestError: the images, the severity or the indices are not of the kind above.
    """
    _check_images(images)
    if name not in CORRUPTIONS:
        raise UnknownNameError("corruption", name, NAMES)
    if severity not in range(1, 6):
        raise RequestError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}: 1 is the mildest")
    chosen = default_variant(images) if variant is None else variant
    if chosen not in SEVERITIES:
        raise UnknownNameError("variant of the severities", chosen, get_args(Variant))
    named = _checked_indices(indices, len(images))
    constants = SEVERITIES[chosen][name][int(severity) - 1]
    corrupted = np.empty(images.shape, np.uint8)
    step = max(1, CHUNK_VALUES // math.prod(images.shape[1:]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        draws = _draws(int(seed), name, int(severity), named[part])
        corrupted[part] = CORRUPTIONS[name](np.ascontiguousarray(images[part]), constants, draws)
    return corrupted


def default_variant(images: Images) -> Variant:
    """The constants made for pictures of about this size, (N, H, W, 3): "imagenet" from 128 pixels on, else "cifar"."""
    return "imagenet" if min(images.shape[1:3]) >= 128 else "cifar"


def _draws(seed: int, name: str, severity: int, indices: NDArray[np.int64]) -> Draws:
    """The random numbers of these pictures for one corruption at one severity."""
    return lambda count: uniforms(seed, "corruptions", name, severity, indices=indices, count=count)


def _check_images(images: Images) -> None:
    """Raises unless this is a batch of colour pictures in bytes."""
    if images.dtype != np.uint8:
        raise RequestError(f"images must be uint8, got {images.dtype}: give pixels from 0 to 255, as they lie in files")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
        raise RequestError(
            f"images must be (N, H, W, 3), got {images.shape}: put the channels last, and one picture in a batch of one"
        )


def _checked_indices(indices: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """The indices as (N,) int64; raises if there is not one for each picture, or they are not whole or negative."""
    if indices is None:
        return np.arange(count)
    given = np.asarray(indices)
    if given.shape != (count,):
        raise RequestError(f"indices must be ({count},), one a picture, got shape {given.shape}: give each picture one")
    if count and (given.dtype.kind not in "iu" or given.min() < 0):
        raise RequestError(
            f"indices must be whole numbers from 0 up, got {given.dtype} from {given.min()}: "
            "give each picture's place in its data set"
        )
    return given.astype(np.int64)
