"""Every operation against Pillow: equal in every pixel, for all kinds of pictures and parameters."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageEnhance, ImageOps

from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.transforms import ALL, OPERATIONS, apply, geometry

NATURAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "natural_64.npz"
SIZES = [(32, 32), (8, 8), (5, 9), (2, 3), (2, 2), (1, 6), (6, 1), (1, 1), (48, 64), (130, 97)]
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Pictures = NDArray[np.uint8]
Parameters = NDArray[np.float64] | NDArray[np.int64]


def _affine(image: Image.Image, *matrix: float, fill: int = 0) -> Image.Image:
    bilinear, colour = Image.Resampling.BILINEAR, (fill, fill, fill)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=bilinear, fillcolor=colour)


def _geometric(name: str, image: Image.Image, p: float, fill: int = 0) -> Image.Image:
    if name == "rotate":
        return image.rotate(p, resample=Image.Resampling.BILINEAR, fillcolor=(fill, fill, fill))
    matrices = {
        "shear_x": (1, p, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, p, 1, 0),
        "translate_x": (1, 0, p, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, p),
    }
    return _affine(image, *matrices[name], fill=fill)


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, p: ImageOps.autocontrast(image),
    "equalize": lambda image, p: ImageOps.equalize(image),
    "posterize": lambda image, p: ImageOps.posterize(image, int(p)),
    "solarize": lambda image, p: ImageOps.solarize(image, p),  # type: ignore[arg-type]  # it takes any number
    "color": lambda image, p: ImageEnhance.Color(image).enhance(p),
    "contrast": lambda image, p: ImageEnhance.Contrast(image).enhance(p),
    "brightness": lambda image, p: ImageEnhance.Brightness(image).enhance(p),
    "sharpness": lambda image, p: ImageEnhance.Sharpness(image).enhance(p),
    "invert": lambda image, p: ImageOps.invert(image),
    **{name: partial(_geometric, name) for name in GEOMETRIC},
}

# All values that a parameter may have, or a dense choice of them with the ends and what lies beyond
EVERY: dict[str, NDArray[np.float64]] = {
    "autocontrast": np.zeros(40),
    "equalize": np.zeros(40),
    "posterize": np.arange(1.0, 9),
    "rotate": np.concatenate(
        [np.arange(-360.0, 361), np.linspace(-361, 361, 300), [1e-9, -1e-9, 89.999999, 1e6, 1e-300]]
    ),
    "solarize": np.concatenate([np.arange(257.0), np.arange(-2, 258, 6.5)]),
    "shear_x": np.concatenate([np.arange(-130, 131) / 100, np.linspace(-1, 1, 101), [-40, 7.5, 1e6, -1e300, 1e-300]]),
    "translate_x": np.concatenate([np.arange(-30, 30.125, 0.125), np.linspace(-13, 13, 200), [1e6, -1e300, 1e-300]]),
    "color": np.concatenate([np.arange(301) / 100, np.linspace(0, 3, 200), [-1, 40, 1e-9, 1e9, -1e9]]),
    "invert": np.zeros(40),
}
EVERY |= {"shear_y": EVERY["shear_x"], "translate_y": EVERY["translate_x"]}
EVERY |= {name: EVERY["color"] for name in ("contrast", "brightness", "sharpness")}


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


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_pixel_is_pillows(name: str) -> None:
    rng = np.random.default_rng(list(OPERATIONS).index(name))
    for height, width in SIZES:
        images = _pictures(rng, height, width, max(1, min(30, 30_000 // (height * width))))
        parameters = _parameters(rng, name, len(images), width)
        before = images.copy()
        changed = apply(name, images, parameters)
        np.testing.assert_array_equal(changed, _by_pillow(name, images, parameters), err_msg=f"{height} x {width}")
        np.testing.assert_array_equal(images, before)
        assert changed.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(11, 14), (9, 9)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_parameter_gives_pillows_pixels(name: str, height: int, width: int) -> None:
    parameters = EVERY[name]
    images = _pictures(np.random.default_rng(3), height, width, len(parameters) // 6 + 1)[: len(parameters)]
    images = np.random.default_rng(4).permutation(images)
    np.testing.assert_array_equal(apply(name, images, parameters), _by_pillow(name, images, parameters))


@pytest.mark.parametrize("count", [0, 1, 3, 700])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_batch_may_have_any_number_of_pictures(name: str, count: int) -> None:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 10, 8, 3), np.uint8)
    parameters = rng.choice(EVERY[name], count)
    changed = apply(name, images, parameters)
    assert changed.shape == images.shape
    if count:
        np.testing.assert_array_equal(changed, _by_pillow(name, images, parameters))


@pytest.mark.parametrize("value", [0, 1, 127, 255])
@pytest.mark.parametrize("name", OPERATIONS)
def test_flat_pictures_are_pillows(name: str, value: int) -> None:
    images = np.full((len(EVERY[name]), 6, 6, 3), value, np.uint8)
    np.testing.assert_array_equal(apply(name, images, EVERY[name]), _by_pillow(name, images, EVERY[name]))


@pytest.mark.parametrize("name", ["rotate", "translate_x", "translate_y"])
def test_integers_take_their_shorter_way_to_the_same_pixels(name: str) -> None:
    rng = np.random.default_rng(1)
    images, whole = _pictures(rng, 12, 20, 40), rng.integers(-25, 25, 280)
    whole = whole[: len(images)]
    np.testing.assert_array_equal(apply(name, images, whole), _by_pillow(name, images, whole))


@pytest.mark.parametrize("fill", [0, 1, 128, 255])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_what_comes_in_from_outside_has_the_fill_colour(name: str, whole: bool, fill: int) -> None:
    rng = np.random.default_rng(fill)
    images = rng.integers(0, 256, (60, 9, 12, 3), np.uint8)
    parameters = rng.integers(-12, 13, 60) if whole else rng.uniform(-2, 2, 60)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    changed = getattr(geometry, name)(planes, torch.from_numpy(parameters), fill=fill)
    pairs = zip(images, parameters.tolist(), strict=True)
    expected = np.stack([np.asarray(_geometric(name, Image.fromarray(image), p, fill)) for image, p in pairs])
    np.testing.assert_array_equal(changed.permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_number_stands_for_all_and_a_tensor_gives_a_tensor(name: str) -> None:
    images = _pictures(np.random.default_rng(2), 10, 8, 2)
    expected = _by_pillow(name, images, np.full(len(images), 2))
    for number in (2, 2.0, np.int64(2), np.float32(2), np.uint8(2), [2], torch.tensor(2.0), torch.tensor([2]).byte()):
        np.testing.assert_array_equal(apply(name, images, number), expected)
    tensor = apply(name, torch.from_numpy(images), torch.full((len(images),), 2))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_memory_maps_and_views_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(5).integers(0, 256, (6, 10, 8, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r", allow_pickle=False)
    expected = _by_pillow(name, images, np.full(6, 3))
    np.testing.assert_array_equal(apply(name, mapped, 3), expected)
    views = (mapped[::-1, ::2], mapped[:, ::-1, 1:], mapped.transpose(0, 2, 1, 3), mapped[..., ::-1])
    for view in views:
        expected = _by_pillow(name, view.copy(), np.full(len(view), 3))
        np.testing.assert_array_equal(apply(name, view, 3), expected)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)  # not contiguous, as a slice of stored pictures is
    changed = OPERATIONS[name](planes, torch.full((6,), 3)).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(changed.numpy(), _by_pillow(name, images, np.full(6, 3)))


def test_the_table_has_the_thirteen_operations_and_invert() -> None:
    assert tuple(OPERATIONS) == (*ALL, "invert")
    assert len(ALL) == 13


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        ("rotat", 3, "did you mean 'rotate'"),
        ("rotate", [1, 2, 3], r"^rotate: parameter of shape \(3,\): give one number or 4 of them$"),
        ("rotate", np.ones((4, 1)), r"parameter of shape \(4, 1\)"),
        ("rotate", [], r"parameter of shape \(0,\)"),
        ("rotate", "left", "^rotate: the parameter is of type <U4: give one number or 4 of them$"),
        ("shear_x", [0, np.nan, 1, 2], "^shear_x: the parameter nan is not finite: give finite numbers$"),
        ("shear_x", torch.tensor(torch.inf), "the parameter inf is not finite"),
        ("posterize", 0, "^posterize keeps 1 to 8 bits, got 0: give whole numbers$"),
        ("posterize", [1, 9, 0, 4], "got 9"),
        ("posterize", 2.5, "got 2.5"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(name: str, parameter: ArrayLike, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refusal:
        apply(name, np.zeros((4, 8, 8, 3), np.uint8), parameter)
    assert "\n" not in str(refusal.value)
    assert isinstance(refusal.value, UnknownNameError) == (name not in OPERATIONS)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 8, 8, 3)), r"float64 \(4, 8, 8, 3\): give uint8"),
        (np.zeros((4, 3, 8, 8), np.uint8), r"uint8 \(4, 3, 8, 8\): give uint8 \(N, H, W, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), "N = 1 for one picture"),
        (torch.zeros(4, 8, 8, 3), "torch.float32"),
        (np.zeros((4, 0, 8, 3), np.uint8), r"\(4, 0, 8, 3\)"),
        ([[1, 2]], "pictures are list: give a NumPy array or a tensor"),
    ],
)
def test_wrong_pictures_are_refused_in_one_line(images: Pictures, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refusal:
        apply("rotate", images, 3)
    assert "\n" not in str(refusal.value)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_gpu_gives_the_same_pixels(name: str) -> None:
    rng = np.random.default_rng(list(OPERATIONS).index(name))
    for height, width in SIZES:
        images = _pictures(rng, height, width, max(1, min(30, 30_000 // (height * width))))
        parameters = _parameters(rng, name, len(images), width)
        on_gpu = apply(name, torch.from_numpy(images).cuda(), torch.from_numpy(parameters)).cpu().numpy()
        np.testing.assert_array_equal(on_gpu, apply(name, images, parameters), err_msg=f"{height} x {width}")
    images = rng.integers(0, 256, (len(EVERY[name]), 11, 14, 3), np.uint8)
    on_gpu = apply(name, torch.from_numpy(images).cuda(), EVERY[name]).cpu().numpy()
    np.testing.assert_array_equal(on_gpu, apply(name, images, EVERY[name]))


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("fill", [0, 128])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_gpu_gives_the_same_fill(name: str, fill: int) -> None:
    generator = torch.Generator().manual_seed(fill)
    images = torch.randint(0, 256, (40, 3, 9, 12), dtype=torch.uint8, generator=generator)
    parameters = torch.rand(40, dtype=torch.float64, generator=generator) * 4 - 2
    on_cpu = getattr(geometry, name)(images, parameters, fill=fill)
    assert torch.equal(getattr(geometry, name)(images.cuda(), parameters.cuda(), fill=fill).cpu(), on_cpu)
