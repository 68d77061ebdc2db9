"""Perturbation sequences, as in CIFAR-10-P and ImageNet-P: a picture becomes a film whose class should not flicker.

Source: Hendrycks and Dietterich, ICLR 2019, and hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py. A
noise sequence begins with the clean picture, with which each later frame is compared; in the others each frame is
compared with the one before. The difficulty, 1 to 3, is how strong the noise is, or, in the others, how many frames
apart are compared: their frames and draws are the same at each. The authors say that most people use 1 only.

We differ in the random numbers (a function of seed, perturbation, difficulty and picture index), and in that the frames
of ImageNet-P are not sent through H.264 video here; `through_h264` does that. Noise aside, the frames of a
given layer are the bytes that the original's libraries give (224x224 spatter and Gaussian blur: but ten in a million).

Sequences as they come back from H.264 video, in which ImageNet-P was published.

Source: hendrycks/robustness@8190fe3, make_imagenet_p.py: frames encoded by libx264 with the preset veryslow and colours
at half the resolution, noise tuned for grain, everything else with crf 20. The encoder is that of PyAV, an optional
extra; its bytes may differ from one version to the next, so the version belongs to what is measured.
"""

import importlib
import math
from collections.abc import Mapping
from io import BytesIO
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from pixmix_ray.corruptions.corruption import Images, Stream
from pixmix_ray.corruptions.dispatch import Variant, check_images, checked_indices, default_variant
from pixmix_ray.corruptions.p.geometry import Frames, Size
from pixmix_ray.corruptions.p.table import TABLE, Perturbation
from pixmix_ray.errors import DataError, RequestError, UnknownNameError

NUM_SCORED = 10

PERTURBATIONS: Final[Mapping[str, tuple[str, ...]]] = {name: tuple(rows)[:NUM_SCORED] for name, rows in TABLE.items()}
"""Variant -> the ten perturbations whose mean is reported, in order; "cifar" has spatter where the other has snow."""

EXTRA_PERTURBATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(rows)[NUM_SCORED:] for name, rows in TABLE.items()
}
"""Variant -> the four that are not, meant for validation."""

DIFFICULTIES: Final = (1, 2, 3)

MOVING_VALUES = 3 * 2**15  # of pictures that are moved alike: 32 of 32x32, and at least four
CHUNK_VALUES = 2**15  # of other pictures worked on at once; their frames are thirty times as many


def perturb(
    images: Images,
    name: str,
    seed: int = 0,
    *,
    difficulty: int = 1,
    indices: ArrayLike | None = None,
    variant: Variant | None = None,
    crop: int | None = None,
) -> Frames:
    """A sequence of T frames for each picture, (N, T, H, W, 3) uint8; it depends on picture, index and request alone.

    The frames of CIFAR-10's 10,000 pictures take 950 MB a perturbation: give some hundred pictures at a time.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        name: one of `PERTURBATIONS` or `EXTRA_PERTURBATIONS`, which hold the same names for both variants.
        seed: another seed gives other noise, snow and spatter.
        difficulty: 1 to 3: noise grows with it, all else does not depend on it (see above).
        indices: (N,) integers from 0 up that name each picture's random numbers: its place in the whole set. Default:
            0 to N - 1.
        variant: whose constants; default: "imagenet" if the shorter side is 128 or more, else "cifar".
        crop: the side of the centre that is kept of each frame; what is moved comes from the whole picture. Default:
            all of it is kept. ImageNet-P is made of pictures whose shorter side is 256, with crop=224.

    Raises:
        UnknownNameError: there is no perturbation of that name, or no such variant.
        RequestError: the images, the difficulty, the indices or the crop are not of the kind above.
    """
    check_images(images)
    fitting = default_variant(images) if variant is None else variant
    chosen = "cifar" if fitting == "tiny_imagenet" else fitting  # there is no Tiny ImageNet-P of its own
    perturbation = _perturbation(name, chosen, difficulty)
    named = checked_indices(indices, len(images))
    size = _kept(images, crop)
    level = int(difficulty) if len(perturbation.make) > 1 else 1
    frames = np.empty((len(images), perturbation.frames, *size, 3), np.uint8)
    step = _pictures_at_once(perturbation, math.prod(images.shape[1:]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        stream = Stream(seed=int(seed), name=name, difficulty=level, indices=named[part])
        frames[part] = perturbation.make[level - 1](np.ascontiguousarray(images[part]), size, stream)
    return frames


def frames(name: str, variant: Variant, difficulty: int = 1) -> int:
    """How many frames a sequence of this perturbation has: 16 to 41, the same at each difficulty.

    Raises:
        UnknownNameError: there is no perturbation of that name, or no such variant.
        RequestError: the difficulty is not 1, 2 or 3.
    """
    return _perturbation(name, variant, difficulty).frames


def compares_with_first(name: str) -> bool:
    """Whether each frame of this perturbation is compared with the first, clean one, not with the one before: noise.

    Raises:
        UnknownNameError: there is no perturbation of that name.
    """
    return len(_perturbation(name, "cifar", 1).make) > 1


def _perturbation(name: str, variant: str, difficulty: int) -> Perturbation:
    if variant not in TABLE:
        raise UnknownNameError("variant of the perturbations", variant, TABLE)
    if name not in TABLE[variant]:
        raise UnknownNameError("perturbation", name, TABLE[variant])
    if difficulty not in DIFFICULTIES:
        raise RequestError(f"difficulty must be 1, 2 or 3, got {difficulty!r}: 1 is the easiest, and the usual one")
    return TABLE[variant][name]


def _kept(images: Images, crop: int | None) -> Size:
    """The size of the frames."""
    height, width = images.shape[1:3]
    if crop is None:
        return height, width
    if crop not in range(1, min(height, width) + 1):
        raise RequestError(
            f"crop must be from 1 to the shorter side of the pictures, {min(height, width)}, got {crop!r}: "
            "give larger pictures or a smaller crop"
        )
    return int(crop), int(crop)


def _pictures_at_once(perturbation: Perturbation, size: int) -> int:
    return max(4, MOVING_VALUES // size) if perturbation.is_moving else max(1, CHUNK_VALUES // size)


RATE = 25  # frames a second, ffmpeg's own default
COMMON = {"preset": "veryslow", "threads": "1"}
NOISE, OTHER = {"tune": "grain"}, {"crf": "20"}


def encoder() -> ModuleType:
    """PyAV; raises DataError if it is not installed."""
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise DataError(
            f"H.264 needs PyAV, which cannot be imported ({error}): pip install 'pixmix_ray[video]', or leave codec out"
        ) from error


def through_h264(sequences: Frames, *, is_noise: bool) -> Frames:
    """Sequences (N, T, H, W, 3) uint8 as they come back from videos, the same shape.

    Args:
        sequences: of frames with an even height and width.
        is_noise: whether they are tuned for grain.

    Raises:
        DataError: PyAV is not installed, or the frames have an odd side.
    """
    height, width = sequences.shape[2:4]
    if height % 2 or width % 2:
        raise DataError(f"H.264 halves colours, and frames are {width} x {height}: their sides must be even")
    return np.stack([_through(frames, NOISE if is_noise else OTHER) for frames in sequences])


def _through(frames: Frames, options: dict[str, str]) -> Frames:
    av = encoder()
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={**COMMON, **options})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(decoded)
