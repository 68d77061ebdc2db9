"""LayerMix: each operation, each blend and the whole of it against torchvision's functions, picture by picture."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from pixmix_ray.methods.layermix import BLENDS, KINDS, LayerMix, Layers, blend
from pixmix_ray.seeding import torch_generator

BILINEAR = InterpolationMode.BILINEAR


def _affine(image: Tensor, *, move: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)) -> Tensor:
    degrees = [math.degrees(math.atan(slope)) for slope in shear]
    moved: Tensor = V.affine(image, angle=0, translate=list(move), scale=1, shear=degrees, interpolation=BILINEAR)
    return moved


# second implementation: the functions that the official code calls; it draws the direction, so either sign is its own
REFERENCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "equalize": lambda x, p: V.equalize(x),
    "posterize": lambda x, p: V.posterize(x, int(p)),
    "posterize_increasing": lambda x, p: V.posterize(x, int(p)),
    "solarize": lambda x, p: V.solarize(x, p),
    "solarize_increasing": lambda x, p: V.solarize(x, p),
    "autocontrast": lambda x, p: V.autocontrast(x),
    "grey": lambda x, p: V.rgb_to_grayscale(x, num_output_channels=3),
    "rotate": lambda x, p: V.rotate(x, -p, interpolation=BILINEAR),
    "shear_x": lambda x, p: _affine(x, shear=(p, 0)),
    "shear_y": lambda x, p: _affine(x, shear=(0, p)),
    "translate_x": lambda x, p: _affine(x, move=(-p, 0)),
    "translate_y": lambda x, p: _affine(x, move=(0, -p)),
}


def _images(count: int, height: int = 12, width: int = 16, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=torch_generator(seed)).float() / 255


@pytest.mark.parametrize("name", KINDS)
def test_an_operation_is_that_of_torchvision(name: str) -> None:
    images, kind = _images(30), KINDS[name]
    images[0] = 0.5
    uniforms = torch.rand(30, 2, dtype=torch.float64, generator=torch_generator(2))
    strengths = kind.strengths(images, 3.0, uniforms).float()
    changed = kind.apply(images, strengths)
    expected = torch.stack([REFERENCES[name](x, float(p)) for x, p in zip(images, strengths, strict=True)])
    torch.testing.assert_close(changed, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [  # by hand, of pictures of 12 x 16: 0.1 and 3/10 of the maximum, which is 3 and 5 pixels for the translations
        ("posterize", 0, 1),
        ("posterize_increasing", 3, 4),
        ("solarize", 0.1, 0.3),
        ("solarize_increasing", -0.2, 0.1),
        ("rotate", -9, 9),
        ("shear_x", -0.1, 0.1),
        ("translate_x", -1.5, 1.5),
        ("translate_y", -0.9, 0.9),
    ],
)
def test_strengths_have_the_ends_of_the_code(name: str, low: float, high: float) -> None:
    uniforms = torch.rand(20_000, 2, dtype=torch.float64, generator=torch_generator(3))
    strengths = KINDS[name].strengths(_images(1), 3.0, uniforms)
    assert float(strengths.min()) == pytest.approx(low, abs=2e-3)
    assert float(strengths.max()) == pytest.approx(high, abs=2e-3)
    if name == "posterize":  # U(0.1, 1.2) is below 1 in 9 of 11 draws
        assert float((strengths == 0).double().mean()) == pytest.approx(9 / 11, abs=0.012)
    if name == "shear_x":
        assert float(strengths.abs().min()) >= 0.09


def _layers(count: int, method: LayerMix, **changed: Tensor) -> Layers:
    drawn = method.draw(count, torch_generator(4))
    return Layers(**{**vars(drawn), **changed})


@pytest.mark.parametrize("kind", ["add", "multiply"])
def test_a_blend_is_the_formula(kind: str) -> None:
    x, y = _images(50), _images(50, seed=2)
    chosen = torch.full((2, 50), BLENDS.index(kind))
    layers = _layers(50, LayerMix(), blend=chosen, steps=torch.full((50,), 2))
    for number in (0, 1):
        a, b = layers.a[number].double().view(-1, 1, 1, 1), layers.b[number].double().view(-1, 1, 1, 1)
        x64, y64 = x.double() * 2, (y.double() * 2).clamp_min(1e-37)
        expected = (a * (x64 - 1) + b * (y.double() * 2 - 1) + 1) / 2 if kind == "add" else x64**a * y64**b / 2
        mixed = blend(x, y, layers, number, torch_generator(5)).double()
        torch.testing.assert_close(mixed, expected.clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["pixels", "elements"])
def test_pixels_and_elements_come_from_one_picture_or_the_other(kind: str) -> None:
    x, y = torch.zeros(200, 3, 20, 20), torch.ones(200, 3, 20, 20)
    layers = _layers(200, LayerMix(), blend=torch.full((2, 200), BLENDS.index(kind)), steps=torch.full((200,), 1))
    mixed = blend(x, y, layers, 0, torch_generator(6))
    assert bool(((mixed == 0) | (mixed == 1)).all())
    kept = 1 - mixed.mean((1, 2, 3))
    assert float((kept - layers.kept[0]).abs().max()) < 5 * 0.5 / math.sqrt(400)
    assert bool((mixed == mixed[:, :1]).all()) is (kind == "pixels")


def test_the_steps_are_the_algorithm() -> None:
    """Against the algorithm picture by picture, with blends that need no noise."""
    method, images, pictures = LayerMix(), _images(120), _images(120, seed=2)
    layers = _layers(120, method, blend=torch.randint(4, (2, 120), generator=torch_generator(7)))
    mixed = method.mix(images, pictures, layers, torch_generator(8))
    kinds = list(KINDS)
    strengths = [
        torch.stack(
            [
                KINDS[kinds[int(of)]].strengths(images, 3.0, u[None])[0]
                for of, u in zip(layers.operation, us, strict=True)
            ]
        )
        for us in layers.uniforms
    ]

    def formula(x: Tensor, y: Tensor, number: int, row: int) -> Tensor:
        a, b = float(layers.a[number, row]), float(layers.b[number, row])
        if BLENDS[int(layers.blend[number, row])] == "add":
            return ((a * (2 * x - 1) + b * (2 * y - 1) + 1) / 2).clamp(0, 1)
        return ((2 * x) ** a * (2 * y).clamp(min=1e-37) ** b / 2).clamp(0, 1)

    for row in range(120):

        def change(x: Tensor, number: int, row: int = row) -> Tensor:
            return REFERENCES[kinds[int(layers.operation[row])]](x, float(strengths[number][row]))

        expected = change(images[row], 0)
        if layers.steps[row] >= 1:
            expected = formula(expected, change(images[row], 1), 0, row)
        if layers.steps[row] == 2:
            expected = change(formula(expected, pictures[row], 1, row), 2)
        if kinds[int(layers.operation[row])].startswith(("posterize", "equalize", "solarize")):
            # a last bit before a threshold may fall on the other side of it
            assert float((mixed[row] - expected).abs().gt(1e-3).float().mean()) < 0.05
        else:
            torch.testing.assert_close(mixed[row], expected, rtol=0, atol=1e-4)


def test_draws_are_uniform() -> None:
    layers = LayerMix().draw(30_000, torch_generator(9))
    for numbers, count in ((layers.steps, 3), (layers.operation, 12), (layers.blend, 6)):
        shares = torch.bincount(numbers.flatten(), minlength=count).double() / numbers.numel()
        torch.testing.assert_close(shares, torch.full((count,), 1 / count, dtype=torch.float64), rtol=0, atol=0.012)


def test_with_jsd_there_are_three_views_the_clean_one_first() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch_generator(1))
    made = LayerMix(jsd=True).augment(images, images.flip(0), torch_generator(2))
    assert made.shape == (6, 3, 3, 8, 8)
    assert torch.equal(made[:, 0], images.float() / 255) and not torch.equal(made[:, 1], made[:, 2])
