"""The one table of perturbations: how many frames each has and what makes them, for each set and each difficulty.

Source: the constants of hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py (Hendrycks and
Dietterich, ICLR 2019). The two sets belong to two sizes of picture, 32x32 ("cifar") and 224x224 out of 256
("imagenet"), and are no rescaling of each other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pixmix_ray.corruptions.corruption import Images, Stream
from pixmix_ray.corruptions.p.geometry import (
    Frames,
    Size,
    centre,
    gaussian_blurred,
    inverse_affine,
    motion_blurred,
    resampled,
    shifted,
    tilted,
    zoom_blurred,
)
from pixmix_ray.corruptions.p.noise import NOISY_FRAMES, gaussian_noise, shot_noise, speckle_noise
from pixmix_ray.corruptions.p.weather import brightened, falling_snow, with_snow, with_water

Sequence = Callable[[Images, Size, Stream], Frames]
"""Makes sequences: of pictures (N, H, W, 3), the size of the centre kept, and draws, frames (N, T, *size, 3) uint8."""


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One perturbation of one set.

    Attributes:
        frames: in a sequence.
        make: what makes the sequence at difficulty 1, 2 and 3; one for all where difficulty is how far apart the frames
            lie that are compared.
        is_moving: whether a frame moves all pictures alike: then more pictures at once are faster.
    """

    frames: int
    make: tuple[Sequence, ...]
    is_moving: bool = False


def _noise(kind: Callable[..., Frames], **constants: tuple[float, float, float]) -> Perturbation:
    """A clean frame and thirty noisy ones; of the constant, its value for each difficulty."""
    ((constant, values),) = constants.items()

    def make(images: Images, size: Size, stream: Stream, value: float) -> Frames:
        return kind(_centres(images, size), stream, **{constant: value})

    return Perturbation(frames=1 + NOISY_FRAMES, make=tuple(partial(make, value=value) for value in values))


def _drawless(frames: int, kind: Callable[[Images], Frames]) -> Perturbation:
    """Frames that follow from the centre of the picture."""
    return Perturbation(frames=frames, make=(lambda images, size, stream: kind(_centres(images, size)),))


def _layered(
    mean: float, std: float, frames: int, kind: Callable[[Images, NDArray[np.float64]], Frames]
) -> Perturbation:
    """Frames that follow from the centre of the picture and a layer of normal numbers."""

    def make(images: Images, size: Size, stream: Stream) -> Frames:
        layers = mean + std * ndtri(stream.uniforms(size[0] * size[1]))
        return kind(_centres(images, size), layers.reshape(-1, *size))

    return Perturbation(frames=frames, make=(make,))


def _snow(images: Images, layers: NDArray[np.float64], *, zoom: float, radius: float, sigma: float) -> Frames:
    flakes = falling_snow(
        layers, zoom=zoom, threshold=0.5, radius=radius, sigma=sigma, degrees=[4 * i - 150 for i in _FORWARD]
    )
    return with_snow(images, flakes, keep=0.85)


def _moving(frames: int, kind: Callable[[Images, Size], Frames]) -> Perturbation:
    """Frames that follow from the whole picture and the size of what is kept of each."""
    return Perturbation(frames=frames, make=(lambda images, size, stream: kind(images, size),), is_moving=True)


def _affine(**settings: Iterable[float]) -> Perturbation:
    """The whole picture turned, scaled or sheared: of the setting, its value for each frame."""
    ((setting, given),) = settings.items()
    values = tuple(given)

    def move(images: Images, size: Size) -> Frames:
        height, width = images.shape[1:3]
        matrices = [inverse_affine(height, width, **{setting: value}) for value in values]
        return resampled(images, size, matrices=matrices)

    return _moving(len(values), move)


def _centres(images: Images, size: Size) -> Images:
    height, width = images.shape[1:3]
    rows, columns = centre(height, width, size)
    return np.ascontiguousarray(images[:, rows, columns])


_FROM_LEFT = range(-15, 16)  # in steps to both sides of the clean picture
_FORWARD = range(31)

_ZOOMED: Final = tuple(1 + 0.004 * i for i in range(1, 31))

TABLE: Final[Mapping[str, Mapping[str, Perturbation]]] = {
    "cifar": {
        "gaussian_noise": _noise(gaussian_noise, std=(0.02, 0.04, 0.06)),
        "shot_noise": _noise(shot_noise, photons=(700, 400, 200)),
        "motion_blur": _drawless(
            21, partial(motion_blurred, radius=6, sigma=1.8, degrees=[9 * i for i in range(-20, 1)])
        ),
        "zoom_blur": _moving(31, partial(zoom_blurred, scales=_ZOOMED)),
        "spatter": _layered(
            0.6, 0.265, 31, partial(with_water, sigma=1.75, threshold=0.7, strength=0.6, flow=(0.2, 0.8), frames=31)
        ),
        "brightness": _drawless(31, partial(brightened, added=[i * 1.5 / 100 for i in _FROM_LEFT])),
        "translate": _moving(16, partial(shifted, offsets=range(-7, 9))),
        "rotate": _affine(degrees=_FROM_LEFT),
        "tilt": _moving(31, partial(tilted, degrees=[0.75 * i for i in _FROM_LEFT])),
        "scale": _affine(scale=((i * 2 + 70) / 100 for i in _FORWARD)),
        "snow": _layered(0.05, 0.3, 31, partial(_snow, zoom=2, radius=10, sigma=2)),
        "speckle_noise": _noise(speckle_noise, std=(0.05, 0.07, 0.1)),
        "gaussian_blur": _drawless(
            31, partial(gaussian_blurred, sigmas=[0.3 + 0.015 * i for i in _FORWARD], truncate=7)
        ),
        "shear": _affine(shear=_FROM_LEFT),
    },
    "imagenet": {
        "gaussian_noise": _noise(gaussian_noise, std=(0.03, 0.05, 0.08)),
        "shot_noise": _noise(shot_noise, photons=(300, 120, 60)),
        "motion_blur": _drawless(
            31, partial(motion_blurred, radius=10, sigma=3, degrees=[4 * i for i in range(-30, 1)])
        ),
        "zoom_blur": _moving(31, partial(zoom_blurred, scales=_ZOOMED)),
        "snow": _layered(0.05, 0.3, 31, partial(_snow, zoom=3, radius=14, sigma=4)),
        "brightness": _drawless(31, partial(brightened, added=[i * 2 / 100 for i in _FROM_LEFT])),
        "translate": _moving(41, partial(shifted, offsets=range(-20, 21))),
        "rotate": _affine(degrees=_FROM_LEFT),
        "tilt": _moving(31, partial(tilted, degrees=_FROM_LEFT)),
        "scale": _affine(scale=((i * 2.5 + 40) / 100 for i in _FORWARD)),
        "spatter": _layered(
            0.65,
            0.27,
            31,
            partial(with_water, sigma=3.7, threshold=0.69, strength=0.6, flow=(0.05, 0.1, 0.15, 0.7), frames=31),
        ),
        "speckle_noise": _noise(speckle_noise, std=(0.05, 0.1, 0.15)),
        "gaussian_blur": _drawless(
            31, partial(gaussian_blurred, sigmas=[0.25 + 0.035 * i for i in _FORWARD], truncate=6)
        ),
        "shear": _affine(shear=_FROM_LEFT),
    },
}
"""Variant -> perturbation -> how it is made: the ten that are scored, in their order, and then the four extra ones."""
