"""Every operation against Pillow: equal in every pixel, for all kinds of pictures and parameters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.transforms import ALL, OPERATIONS, apply

NATURAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "natural_64.npz"
SIZES = [(32, 32), (8, 8), (5, 9), (2, 3), (1, 1), (48, 64), (130, 97), (512, 384)]

Pictures = NDArray[np.uint8]
Parameters = NDArray[np.float64] | NDArray[np.int64]


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, p: ImageOps.autocontrast(image),
    "equalize": lambda image, p: ImageOps.equalize(image),
    "posterize": lambda image, p: ImageOps.posterize(image, int(p)),
    "rotate": lambda image, p: image.rotate(p, resample=Image.Resampling.BILINEAR),
    "solarize": lambda image, p: ImageOps.solarize(image, int(p)),
    "shear_x": lambda image, p: _affine(image, 1, p, 0, 0, 1, 0),
    "shear_y": lambda image, p: _affine(image, 1, 0, 0, p, 1, 0),
    "translate_x": lambda image, p: _affine(image, 1, 0, p, 0, 1, 0),
    "translate_y": lambda image, p: _affine(image, 1, 0, 0, 0, 1, p),
    "color": lambda image, p: ImageEnhance.Color(image).enhance(p),
    "contrast": lambda image, p: ImageEnhance.Contrast(image).enhance(p),
    "brightness": lambda image, p: ImageEnhance.Brightness(image).enhance(p),
    "sharpness": lambda image, p: ImageEnhance.Sharpness(image).enhance(p),
}


def _pictures(rng: np.random.Generator, height: int, width: int, count: int) -> Pictures:
    """`count` of each kind: noise, grey, constant, two far levels, two near levels, little contrast, photographs."""
    shape = (count, height, width, 3)
    kinds: list[NDArray[np.generic]] = [
        rng.integers(0, 256, shape),
        np.broadcast_to(rng.integers(0, 256, (count, height, width, 1)), shape),
        np.broadcast_to(rng.integers(0, 256, (count, 1, 1, 3)), shape),
        rng.choice([0, 255], shape),
        rng.choice([10, 11], shape),
        np.clip(rng.normal(128, 3, shape), 0, 255),
    ]
    if NATURAL.exists() and height <= 64 and width <= 64:
        photographs = np.load(NATURAL, allow_pickle=False)["images"]
        kinds.append(photographs[rng.integers(0, len(photographs), count), :height, :width])
    return np.concatenate([kind.astype(np.uint8) for kind in kinds])


def _parameters(rng: np.random.Generator, name: str, count: int, size: int) -> Parameters:
    """Round numbers, where Pillow's blends hit whole values, extremes, and anything between."""
    if name == "posterize":
        return rng.integers(1, 9, count)
    if name == "solarize":
        return np.concatenate([[0, 256, 255, 1], rng.integers(0, 257, count)])[:count]
    if name == "rotate":
        angles = np.where(rng.random(count) < 0.5, rng.integers(-720, 720, count), rng.uniform(-400, 400, count))
        return np.concatenate([[0.0, 90.0, 180.0, 270.0, 45.0], angles])[:count]
    if name.startswith("shear"):
        return rng.choice([0, 0.1, 0.2, -0.3, 0.25, 0.5, 1, -2, 7.3, *rng.uniform(-1, 1, 20)], count)
    if name.startswith("translate"):
        return rng.choice([0, 0.5, 0.25, 0.1, -0.7, 1, -1, 3, -size, size, *rng.uniform(-9, 9, 20)], count)
    return rng.choice([0, 1, 1.9, -0.5, 3, 0.5, 0.1, *rng.uniform(0, 2, 20)], count)


def _by_pillow(name: str, images: Pictures, parameters: Parameters) -> Pictures:
    pairs = zip(images, parameters.tolist(), strict=True)
    return np.stack([np.asarray(PILLOW[name](Image.fromarray(image), parameter)) for image, parameter in pairs])


@pytest.mark.parametrize("name", ALL)
def test_every_pixel_is_pillows(name: str) -> None:
    rng = np.random.default_rng(ALL.index(name))
    for height, width in SIZES:
        images = _pictures(rng, height, width, max(1, min(30, 30_000 // (height * width))))
        parameters = _parameters(rng, name, len(images), width)
        before = images.copy()
        changed = apply(name, images, parameters)
        np.testing.assert_array_equal(changed, _by_pillow(name, images, parameters), err_msg=f"{height} x {width}")
        np.testing.assert_array_equal(images, before)
        assert changed.dtype == np.uint8


@pytest.mark.parametrize("name", ["rotate", "translate_x", "translate_y"])
def test_integers_take_their_shorter_way_to_the_same_pixels(name: str) -> None:
    rng = np.random.default_rng(1)
    images, whole = _pictures(rng, 12, 20, 40), rng.integers(-25, 25, 280)
    whole = whole[: len(images)]
    np.testing.assert_array_equal(apply(name, images, whole), _by_pillow(name, images, whole))


@pytest.mark.parametrize("name", ALL)
def test_one_number_stands_for_all_and_a_tensor_gives_a_tensor(name: str) -> None:
    images = _pictures(np.random.default_rng(2), 10, 8, 2)
    expected = _by_pillow(name, images, np.full(len(images), 2))
    np.testing.assert_array_equal(apply(name, images, 2), expected)
    tensor = apply(name, torch.from_numpy(images), torch.tensor(2))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    images.flags.writeable = False  # as a memory map is
    np.testing.assert_array_equal(
        apply(name, images[:, ::-1], 2), _by_pillow(name, images[:, ::-1].copy(), np.full(len(images), 2))
    )


def test_the_table_has_the_thirteen_operations() -> None:
    assert tuple(OPERATIONS) == ALL
    assert len(ALL) == 13


def test_a_wrong_request_is_refused_in_one_line() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(UnknownNameError, match="did you mean 'rotate'"):
        apply("rotat", images, 3)
    with pytest.raises(RequestError, match=r"float64 \(4, 8, 8, 3\): give uint8"):
        apply("rotate", images.astype(np.float64), 3)  # type: ignore[type-var]  # the mistake under test
    with pytest.raises(RequestError, match=r"uint8 \(4, 3, 8, 8\): give uint8 \(N, H, W, 3\)"):
        apply("rotate", images.reshape(4, 3, 8, 8), 3)
    with pytest.raises(RequestError, match=r"parameter of shape \(3,\): give one number or 4"):
        apply("rotate", images, [1, 2, 3])
    with pytest.raises(RequestError, match="1 to 8 bits"):
        apply("posterize", images, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ALL)
def test_every_pixel_is_pillows_on_a_gpu_too(name: str) -> None:
    rng = np.random.default_rng(ALL.index(name))
    for height, width in SIZES:
        images = _pictures(rng, height, width, max(1, min(30, 30_000 // (height * width))))
        parameters = _parameters(rng, name, len(images), width)
        changed = apply(name, torch.from_numpy(images).cuda(), torch.from_numpy(parameters)).cpu().numpy()
        np.testing.assert_array_equal(changed, _by_pillow(name, images, parameters), err_msg=f"{height} x {width}")
