"""Weather: frost, fog and snow.

Frost: a piece of a photograph of ice, laid over the picture.

Source: hendrycks/robustness@8190fe3, frost. It comes with six photographs and draws among the first five only. They
are other people's work and not part of this package: they are read from a folder, or from the package imagecorruptions
if it is installed (its code is not run). For a given photograph and crop the same bytes come out.

At 32x32 the photographs are shrunk to a fifth, at 224x224 they are used as they are. Shrinking by OpenCV's bilinear
resize without smoothing, as there, picks every fifth pixel; so does this. Where a picture does not fit into the
smallest of them (from 63 rows or 112 columns on for "cifar", 315 or 560 for "imagenet") they are shrunk less, or
enlarged, so that it does, also by picking pixels.

Fog: a cloud drawn by the diamond-square algorithm, laid over the picture.

Source: hendrycks/robustness@8190fe3, fog and plasma_fractal. For given draws the cloud and the picture are the same to
the last bit. The cloud's side is the power of two that covers the picture: 32 for CIFAR and 256 for 224x224, as there.

Snow: a whitened picture with flakes that are driven by the wind.

Source: hendrycks/robustness@8190fe3, snow. The flakes are a layer of normal numbers, enlarged, cut off below a
threshold, blurred by motion and laid on twice, the second time turned by 180 degrees. For a given layer and angle the
same bytes come out; the order of float32 and float64 steps is the original's, as is OpenCV's way to grey.
"""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import ndtri

from pixmix_ray.corruptions.c.blur import blurred_along, zoomed
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8
from pixmix_ray.errors import DataError

FILES: Final = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The photographs that are drawn, in their order; the sixth of the original, frost6.jpg, never is."""

PACKAGE: Final = "imagecorruptions"

Photographs = tuple[NDArray[np.uint8], ...]
"""Photographs of any size, each (H, W, 3) uint8."""


def frost(images: Images, constants: Constants, draws: Uniforms, folder: Path | None = None) -> Images:
    """Pictures behind frost.

    Args:
        images: (N, H, W, 3) uint8; not changed.
        constants: the weights of the picture and of the ice, and by what share the photographs are resized.
        draws: the random numbers.
        folder: of the photographs; default: those of the installed package.

    Raises:
        DataError: there are no photographs.
    """
    own_weight, ice_weight, share = constants
    height, width = images.shape[1:3]
    photographs = _resized(folder, share, height, width)
    numbers = draws(3)
    chosen = (numbers[:, 0] * len(photographs)).astype(np.intp)
    room = np.array([photograph.shape[:2] for photograph in photographs])[chosen] - (height, width)
    corners = (numbers[:, 1:] * room).astype(np.intp)
    return with_frost(images, crops(photographs, chosen, corners, (height, width)), own_weight, ice_weight)


def with_frost(images: Images, frost: Images, own_weight: float, frost_weight: float) -> Images:
    """Pictures (N, H, W, 3) uint8 behind given pieces of ice of the same kind: the weighted sum, truncated."""
    mixed = images * float(own_weight)
    mixed += frost * float(frost_weight)
    return np.clip(mixed, 0, 255, out=mixed).astype(np.uint8)


def crops(
    photographs: Sequence[NDArray[np.uint8]], chosen: NDArray[np.intp], corners: NDArray[np.intp], size: tuple[int, int]
) -> Images:
    """Pieces of photographs, (N, H, W, 3) uint8.

    Args:
        photographs: each (H', W', 3) uint8.
        chosen: (N,) which of them.
        corners: (N, 2) the first row and column of each piece.
        size: H and W of the pieces.
    """
    pieces = np.empty((len(chosen), *size, 3), np.uint8)
    rows, columns = (corners[:, axis, None] + np.arange(size[axis]) for axis in (0, 1))
    for number, photograph in enumerate(photographs):
        wanted = chosen == number
        pieces[wanted] = photograph[rows[wanted][:, :, None], columns[wanted][:, None, :]]
    return pieces


def frost_pictures(folder: Path | None = None) -> Photographs:
    """The five photographs of ice, each (H, W, 3) uint8, read once in a process.

    Args:
        folder: holds the files named in `FILES`; default: the folder of the installed package imagecorruptions.

    Raises:
        DataError: there is no such folder or package, or a file is missing or no picture.
    """
    return _read(_source(folder))


def has_installed_photographs() -> bool:
    """Whether the package that brings photographs of ice is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def _resized(folder: Path | None, share: float, height: int, width: int) -> Photographs:
    """The photographs at `share` of their sides, or as much more as leaves room around a picture of this size."""
    sides = [photograph.shape[:2] for photograph in frost_pictures(folder)]
    needed = max(max((height + 1) / rows, (width + 1) / columns) for rows, columns in sides)
    return _picked(_source(folder), max(share, needed))


@lru_cache(maxsize=4)
def _picked(folder: Path, share: float) -> Photographs:
    """The photographs of `folder` resized to `share` of their sides: the pixel under each centre."""
    resized = []
    for photograph in _read(folder):
        rows, columns = (
            np.minimum(((np.arange(round(side * share)) + 0.5) / share).astype(np.intp), side - 1)
            for side in photograph.shape[:2]
        )
        resized.append(photograph[rows[:, None], columns])
    return tuple(resized)


def _source(folder: Path | None) -> Path:
    return _installed() if folder is None else folder.resolve()


def _installed() -> Path:
    """The folder of the photographs in the installed package, found without running its code."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"frost needs photographs of ice, and the package {PACKAGE} is not installed: "
            f"pip install 'pixmix_ray[frost]', or give a folder with {', '.join(FILES)}, or leave frost out"
        )
    return Path(spec.submodule_search_locations[0]) / "frost"


@lru_cache(maxsize=2)
def _read(folder: Path) -> Photographs:
    return tuple(_read_one(folder / name) for name in FILES)


def _read_one(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))  # transparency is dropped, not applied, as OpenCV does
    except OSError as error:
        raise DataError(
            f"cannot read the photograph of ice {file}: {error}. A folder for frost holds {', '.join(FILES)}; "
            "without one, leave frost out"
        ) from error
    pixels.setflags(write=False)  # it is shared by all callers
    return pixels


Floats = NDArray[np.float64]

FIRST_AMPLITUDE = 100.0


def fog(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Foggy pictures: `constants` are the strength, and the decay of the cloud's detail (lower is rougher)."""
    strength, decay = constants
    height, width = images.shape[1:3]
    side = 2 ** max(1, (max(height, width) - 1).bit_length())
    return with_fog(images, plasma(draws(side * side - 1), decay)[:, :height, :width], strength)


def with_fog(images: Images, clouds: Floats, strength: float) -> Images:
    """Pictures (N, H, W, 3) uint8 under given clouds (N, H, W) in [0, 1]; none gets brighter than it was."""
    pixels = images / 255.0
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    pixels += strength * clouds[..., None]
    pixels *= brightest
    pixels /= brightest + strength
    return floor8(pixels)


def plasma(numbers: Floats, decay: float) -> Floats:
    """Clouds (N, S, S) in [0, 1] that repeat at their edges, from 0 to 1 each.

    Args:
        numbers: (N, S * S - 1) uniform in [0, 1], S a power of two from 2 up: for each step, from coarse to fine, the
            centres of the squares, then the middles of their upper edges, then those of their left edges.
        decay: by what the amplitude is divided from step to step.
    """
    count, step, amplitude, used = len(numbers), round((numbers.shape[1] + 1) ** 0.5), FIRST_AMPLITUDE, 0
    clouds = np.zeros((count, step, step))
    while step >= 2:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        size = corners[0].size
        steps = amplitude * (-amplitude + 2 * amplitude * numbers[:, used : used + 3 * size])  # amplitude squared: sic
        first, second, third = steps.reshape(count, 3, *corners.shape[1:]).swapaxes(0, 1)
        used += 3 * size
        below = corners + np.roll(corners, -1, axis=1)
        squares = clouds[:, half::step, half::step] = (below + np.roll(below, -1, axis=2)) / 4 + first
        beside = corners + np.roll(corners, -1, axis=2)
        clouds[:, ::step, half::step] = (squares + np.roll(squares, 1, axis=1) + beside) / 4 + second
        clouds[:, half::step, ::step] = (squares + np.roll(squares, 1, axis=2) + below) / 4 + third
        step, amplitude = half, amplitude / decay
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    clouds /= clouds.max(axis=(1, 2), keepdims=True)
    return clouds


def snow(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures in snow.

    `constants` are mean and standard deviation of the layer, its zoom, the threshold, radius and sigma of the motion
    blur (in pixels), and the share of the picture that is not whitened.
    """
    mean, std, *rest = constants
    height, width = images.shape[1:3]
    numbers = draws(height * width + 1)
    layers = mean + std * ndtri(numbers[:, :-1]).reshape(-1, height, width)
    return with_snow(images, flakes(layers, -135 + 90 * numbers[:, -1], *rest[:4]), rest[4])


def flakes(
    layers: Floats, angles: Floats, zoom: float, threshold: float, radius: float, sigma: float
) -> NDArray[np.uint8]:
    """Flakes (N, H, W, 1) uint8 made of layers (N, H, W) float64 and the angles of the wind (N,) in degrees."""
    enlarged = zoomed(layers, zoom)
    enlarged[enlarged < threshold] = 0
    return blurred_along(floor8(enlarged)[..., None], radius, sigma, angles)


def with_snow(images: Images, layers: NDArray[np.uint8], keep: float) -> Images:
    """Pictures (N, H, W, 3) uint8 with given flakes (N, H, W, 1) uint8, `keep` of each picture not whitened."""
    pixels = images.astype(np.float32) / np.float32(255)
    whitened = np.maximum(pixels, (grey_of(pixels) * np.float32(1.5) + np.float32(0.5))[..., None])
    pixels = np.float32(keep) * pixels + np.float32(1 - keep) * whitened
    fractions = layers / 255.0
    return floor8(pixels + fractions + fractions[:, ::-1, ::-1])


def grey_of(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grey of each pixel, (N, H, W) float32: green first, then red and blue added with one rounding each."""
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.float64)
    weights = np.array([0.299, 0.587, 0.114], np.float32).astype(np.float64)
    grey: NDArray[np.float32] = (green * weights[1]).astype(np.float32)
    for channel, weight in ((red, weights[0]), (blue, weights[2])):
        grey = (channel * weight + grey).astype(np.float32)
    return grey
