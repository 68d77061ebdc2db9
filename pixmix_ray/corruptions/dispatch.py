"""The table of corruptions, and `corrupt`, which applies one of them to any number of pictures.

Source: Hendrycks and Dietterich, ICLR 2019, and hendrycks/robustness@8190fe3. We differ in the random numbers (see
`corruption.py`) and in that ImageNet-C's last step, saving each result as a JPEG of quality 85, is a step of its own
here: `through_jpeg`.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pixmix_ray.corruptions.c.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from pixmix_ray.corruptions.c.digital import brightness, contrast, jpeg_compression, pixelate, saturate
from pixmix_ray.corruptions.c.elastic import elastic_transform
from pixmix_ray.corruptions.c.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.corruptions.c.spatter import spatter
from pixmix_ray.corruptions.c.weather import fog, frost, snow
from pixmix_ray.corruptions.cbar.table import BAR_CORRUPTIONS, BAR_SEVERITIES
from pixmix_ray.corruptions.corruption import Constants, Corruption, Images, Uniforms
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.seeding import uniforms

Variant = Literal["cifar", "tiny_imagenet", "imagenet"]
"""Which column of `SEVERITIES`: "cifar" is for pictures of 32x32, "tiny_imagenet" of 64x64, "imagenet" of 224x224."""

CORRUPTIONS: Final[Mapping[str, Corruption]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}

NAMES: Final = tuple(CORRUPTIONS)
"""All corruptions of C: the 15 of `OFFICIAL` in their order, then the 4 of `EXTRA`."""

CHUNK_VALUES = 2**17  # values worked on at once: the arrays stay in the processor's cache, and memory stays small

TOGETHER: Final = {"spatter": 8, "zoom_blur": 4}
"""Pictures worked on at once at least, whatever their size: these take about as long for one as for some."""


def corrupt(
    images: Images,
    name: str,
    severity: int,
    seed: int = 0,
    *,
    indices: ArrayLike | None = None,
    variant: Variant | None = None,
    frost_folder: Path | None = None,
) -> Images:
    """The pictures corrupted, (N, H, W, 3) uint8; each depends on itself, its index and the request alone.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        name: one of `NAMES`, or of `BAR_NAMES` of the variant.
        severity: 1 (mild) to 5 (severe).
        seed: another seed gives other noise.
        indices: (N,) integers from 0 up that name each picture's random numbers: its place in the whole set. Default:
            0 to N - 1.
        variant: whose constants; default: "imagenet" if the shorter side is 128 or more, "tiny_imagenet" if it is 64 or
            more, else "cifar". C-bar has none of its own for "tiny_imagenet" and takes those of "cifar".
        frost_folder: of the photographs of ice that "frost" lays over a picture (`c.weather`); default: those of the
            installed package imagecorruptions.

    Raises:
        DataError: there are no photographs of ice, for "frost".
        UnknownNameError: there is no corruption of that name, or no such variant.
        RequestError: the images, the severity or the indices are not of the kind above, or the corruption is not in the
            set of that variant.
    """
    check_images(images)
    known = {**CORRUPTIONS, **BAR_CORRUPTIONS}
    if name not in known:
        raise UnknownNameError("corruption", name, known)
    if severity not in range(1, 6):
        raise RequestError(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}: 1 is the mildest")
    chosen = default_variant(images) if variant is None else variant
    if chosen not in SEVERITIES:
        raise UnknownNameError("variant of the severities", chosen, get_args(Variant))
    named = checked_indices(indices, len(images))
    constants = _constants(name, int(severity), chosen)
    corruption = partial(frost, folder=frost_folder) if name == "frost" else known[name]
    corrupted = np.empty(images.shape, np.uint8)
    step = max(TOGETHER.get(name, 1), CHUNK_VALUES // math.prod(images.shape[1:]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        draws = _draws(int(seed), name, int(severity), named[part])
        corrupted[part] = corruption(np.ascontiguousarray(images[part]), constants, draws)
    return corrupted


def through_jpeg(images: Images, quality: int) -> Images:
    """Pictures (N, H, W, 3) uint8 as they come back from JPEG files of a quality from 1 to 100, 4:2:0 chroma.

    ImageNet-C and ImageNet-C-bar were saved so, with quality 85.
    """
    return jpeg_compression(images, (quality,), lambda count: np.empty((len(images), count)))


def default_variant(images: Images) -> Variant:
    """The constants made for pictures of about this size, (N, H, W, 3), the largest that are for no larger pictures."""
    side = min(images.shape[1:3])
    return "imagenet" if side >= 128 else "tiny_imagenet" if side >= 64 else "cifar"


def _constants(name: str, severity: int, variant: str) -> Constants:
    """What a corruption takes; raises if it is one of C-bar that the set of this variant does not have."""
    known = {**SEVERITIES[variant], **BAR_SEVERITIES["imagenet" if variant == "imagenet" else "cifar"]}
    if name not in known:
        others = " or ".join(repr(other) for other, rows in BAR_SEVERITIES.items() if name in rows)
        raise RequestError(
            f"variant must be {others} for {name}, got {variant!r}: "
            f"give variant={others}, or one of BAR_NAMES[{variant!r}]"
        )
    return known[name][severity - 1]


def _draws(seed: int, name: str, severity: int, indices: NDArray[np.int64]) -> Uniforms:
    """The random numbers of these pictures for one corruption at one severity."""
    return lambda count: uniforms(seed, "corruptions", name, severity, indices=indices, count=count)


def check_images(images: Images) -> None:
    """Raises unless this is a batch of colour pictures in bytes."""
    if images.dtype != np.uint8:
        raise RequestError(f"images must be uint8, got {images.dtype}: give pixels from 0 to 255, as they lie in files")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:3]:
        raise RequestError(
            f"images must be (N, H, W, 3), got {images.shape}: put the channels last, and one picture in a batch of one"
        )


def checked_indices(indices: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """The indices as (N,) int64; raises if there is not one for each picture, or they are not whole or negative."""
    if indices is None:
        return np.arange(count)
    given = np.asarray(indices)
    if given.shape != (count,):
        raise RequestError(f"indices must be ({count},), one a picture, got shape {given.shape}: give each picture one")
    if count and (given.dtype.kind not in "iu" or given.min() < 0):
        raise RequestError(
            f"indices must be whole numbers from 0, got {given.dtype} from {given.min()}: "
            "give each picture's place in its data set"
        )
    return given.astype(np.int64)
