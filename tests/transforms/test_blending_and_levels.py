"""PixMix's mixes and coefficients, and the table from levels to parameters."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from pixmix_ray.transforms import ALL, OPERATIONS, UNCHANGED, blending, operation_parameter


def _row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # x = 0, .25, .5, 1 with y = 255, 0, 51, 0 (y = 1, 0, .2, 0): a x + b y + (1 - a - b) / 2, clipped
        (0.5, 0.5, [0.5, 0.125, 0.35, 0.5]),
        (1.25, -0.25, [0.0, 0.3125, 0.575, 1.0]),
    ],
)
def test_an_additive_mix_by_hand(a: float, b: float, expected: list[float]) -> None:
    mixed, partner = _row(0, 0.25, 0.5, 1), _row(255, 0, 51, 0).to(torch.uint8)
    blending.add_(mixed, partner, torch.tensor([a]), torch.tensor([b]))
    torch.testing.assert_close(mixed, _row(*expected))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        # (2x)^a (2y)^b / 2: x = 0 stays 0; y = 0 counts as 5e-38, so b < 0 gives white and b > 0 black
        (1.0, 1.0, [0.0, 0.0, 0.2, 1.0]),
        (2.0, 1.0, [0.0, 0.0, 0.2, 1.0]),
        (1.0, -0.5, [0.0, 1.0, 0.5 * 0.4**-0.5, 2**-0.5]),
    ],
)
def test_a_multiplicative_mix_by_hand(a: float, b: float, expected: list[float]) -> None:
    mixed, partner = _row(0, 0.25, 0.5, 1), _row(0, 0, 51, 255).to(torch.uint8)
    blending.multiply_(mixed, partner, torch.tensor([a]), torch.tensor([b]))
    torch.testing.assert_close(mixed, _row(*expected))


def test_both_mixes_equal_the_formula_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(200, 3, 9, 7, generator=generator), torch.randint(0, 256, (200, 3, 9, 7), generator=generator)
    x[x < 0.1], y[y < 20] = 0, 0
    uniforms = torch.rand(3, 200, dtype=torch.float64, generator=generator)
    a, b = blending.coefficients(uniforms[0], uniforms[1], uniforms[2] < 0.5, 0.7)
    a64, b64, x64, y64 = a.double().view(-1, 1, 1, 1), b.double().view(-1, 1, 1, 1), x.double(), y.double() / 255
    partner, sums = y.to(torch.uint8), (a64 * (2 * x64 - 1) + b64 * (2 * y64 - 1) + 1) / 2
    products = (2 * x64) ** a64 * (2 * y64).clamp_min(1e-37) ** b64 / 2
    before = partner.clone()
    for blend_, expected in ((blending.add_, sums), (blending.multiply_, products)):
        mixed = x.clone()
        blend_(mixed, partner, a, b)
        torch.testing.assert_close(mixed.double(), expected.clamp(0, 1), rtol=0, atol=1e-5)
    assert torch.equal(partner, before)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0, 5.0])
def test_the_coefficients_follow_their_beta_distributions(beta: float) -> None:
    uniforms = torch.rand(2, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for is_beyond in (False, True):
        a, b = blending.coefficients(uniforms[0], uniforms[1], torch.full((5000,), is_beyond), beta)
        assert a.dtype == b.dtype == torch.float32
        towards_one, towards_zero = stats.beta(beta, 1).cdf, stats.beta(1, beta).cdf
        if is_beyond:
            assert stats.kstest(a.double().numpy() - 1, towards_zero).pvalue > 1e-3
            assert stats.kstest(-b.double().numpy(), towards_zero).pvalue > 1e-3
        else:
            assert stats.kstest(a.double().numpy(), towards_one).pvalue > 1e-3
            assert stats.kstest(b.double().numpy(), towards_zero).pvalue > 1e-3


def test_a_draw_of_zero_gives_no_undefined_pixel() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    a, b = blending.coefficients(zero, zero, zero > 0, 3.0)
    mixed = _row(0, 0, 0.5)
    blending.multiply_(mixed, _row(0, 255, 0).to(torch.uint8), a, b)
    assert bool(mixed.isfinite().all())


# Smallest and largest parameter and the share of zeros, for levels from U(0.1, 3) and from U(0.1, 1), at 32 and 224
# pixels: the official code's table, rounded
LEVELS = {
    "posterize": ((3, 4, 0.0), (4, 4, 0.0)),
    "rotate": ((-8, 8, 0.080), (-2, 2, 0.26)),
    "solarize": ((180, 254, 0.0), (231, 254, 0.0)),
    "shear_x": ((-0.09, 0.09, 0.0), (-0.03, 0.03, 0.0)),
    "shear_y": ((-0.09, 0.09, 0.0), (-0.03, 0.03, 0.0)),
    "translate_x": ((-3, 3, 0.289), (-7, 7, 0.037)),
    "translate_y": ((-3, 3, 0.289), (-7, 7, 0.037)),
    "color": ((0.118, 0.64, 0.0), (0.118, 0.28, 0.0)),
    "contrast": ((0.118, 0.64, 0.0), (0.118, 0.28, 0.0)),
    "brightness": ((0.118, 0.64, 0.0), (0.118, 0.28, 0.0)),
    "sharpness": ((0.118, 0.64, 0.0), (0.118, 0.28, 0.0)),
}


@pytest.mark.parametrize(("severity", "size", "column"), [(3.0, 32, 0), (1.0, 224, 1)])
@pytest.mark.parametrize("name", LEVELS)
def test_levels_give_the_parameters_of_the_table(name: str, severity: float, size: int, column: int) -> None:
    rng = np.random.default_rng(3)
    level = torch.from_numpy(rng.uniform(0.1, severity, 40_000))
    parameter = operation_parameter(name, level, torch.from_numpy(rng.random(40_000) < 0.5), size)
    low, high, zeros = LEVELS[name][column]
    assert float(parameter.min()) == pytest.approx(low, abs=2e-3)
    assert float(parameter.max()) == pytest.approx(high, abs=2e-3)
    assert float((parameter == 0).double().mean()) == pytest.approx(zeros, abs=4 * np.sqrt(0.2 / 40_000))
    assert parameter.is_floating_point() == (
        name not in ("posterize", "rotate", "solarize", "translate_x", "translate_y")
    )


def test_four_bits_become_three_above_level_two_and_a_half() -> None:
    level = torch.tensor([0.1, 2.49, 2.5, 3.0, 9.99], dtype=torch.float64)
    assert operation_parameter("posterize", level, level < 0, 32).tolist() == [4, 4, 3, 3, 1]


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_parameter_that_changes_nothing(name: str) -> None:
    images = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(OPERATIONS[name](images, torch.tensor([UNCHANGED[name], UNCHANGED[name]])), images)
    assert not torch.equal(OPERATIONS[name](images, torch.tensor([2, 2])), images)


def test_every_operation_has_a_parameter() -> None:
    level = torch.tensor([1.0], dtype=torch.float64)
    assert all(operation_parameter(name, level, level < 0, 32).shape == (1,) for name in ALL)


def test_a_power_is_the_same_wherever_it_stands() -> None:
    values = torch.rand(10_007, generator=torch.Generator().manual_seed(1)) * 40 - 30
    expected, parts = values.clone(), [part.clone() for part in torch.split(values, 37)]
    blending._exp2_(expected)
    for part in parts:
        blending._exp2_(part)
    assert torch.equal(torch.cat(parts), expected)
    torch.testing.assert_close(expected, torch.from_numpy(np.exp2(values.numpy())), rtol=1e-6, atol=0)
