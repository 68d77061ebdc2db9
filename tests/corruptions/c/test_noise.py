"""The noises against the formulas they stand for, with quantiles from scipy.stats and scipy.special."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.seeding import rng, uniforms

RAMP = np.repeat(np.arange(256, dtype=np.uint8), 192).reshape(1, 128, 128, 3)  # each grey level 192 times
BOTH = [(variant, severity) for variant in ("cifar", "imagenet") for severity in range(1, 6)]


def numbers(name: str, severity: int) -> NDArray[np.float64]:
    """The uniform numbers that picture 0 of RAMP gets."""
    drawn = uniforms(0, "corruptions", name, severity, indices=[0], count=RAMP.size)
    return drawn.reshape(RAMP.shape)


def truncated(fractions: NDArray[np.float64]) -> NDArray[np.uint8]:
    return (np.clip(fractions, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_gaussian_noise_is_the_formula_with_a_normal_quantile(variant: Variant, severity: int) -> None:
    (std,) = SEVERITIES[variant]["gaussian_noise"][severity - 1]
    expected = truncated(RAMP / 255 + std * ndtri(numbers("gaussian_noise", severity)))
    np.testing.assert_array_equal(corrupt(RAMP, "gaussian_noise", severity, variant=variant), expected)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_shot_noise_is_the_formula_with_a_poisson_quantile(variant: Variant, severity: int) -> None:
    (photons,) = SEVERITIES[variant]["shot_noise"][severity - 1]
    counted = stats.poisson.ppf(numbers("shot_noise", severity), RAMP / 255 * photons)
    np.testing.assert_array_equal(corrupt(RAMP, "shot_noise", severity, variant=variant), truncated(counted / photons))


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_speckle_noise_is_the_formula_with_a_normal_quantile(variant: Variant, severity: int) -> None:
    (std,) = SEVERITIES[variant]["speckle_noise"][severity - 1]
    pixels = RAMP / 255
    expected = truncated(pixels + pixels * (std * ndtri(numbers("speckle_noise", severity))))
    np.testing.assert_array_equal(corrupt(RAMP, "speckle_noise", severity, variant=variant), expected)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_impulse_noise_blackens_the_lowest_numbers_and_whitens_the_highest(variant: Variant, severity: int) -> None:
    (amount,) = SEVERITIES[variant]["impulse_noise"][severity - 1]
    drawn = numbers("impulse_noise", severity)
    expected = np.where(drawn <= amount / 2, 0, np.where(drawn > 1 - amount / 2, 255, RAMP))
    np.testing.assert_array_equal(corrupt(RAMP, "impulse_noise", severity, variant=variant), expected)


@pytest.mark.parametrize("severity", range(1, 6))
def test_gaussian_noise_on_middle_grey_has_the_stated_spread(severity: int) -> None:
    images = np.full((40, 32, 32, 3), 128, np.uint8)
    (std,) = SEVERITIES["cifar"]["gaussian_noise"][severity - 1]
    noisy = corrupt(images, "gaussian_noise", severity)
    # 122,880 values: the standard error of the mean is std/350 and of the spread std/496; truncation costs half a level
    assert noisy.mean() / 255 == pytest.approx((128 - 0.5) / 255, abs=5 * std / 350)
    assert noisy.std() / 255 == pytest.approx(std, rel=0.01)


@pytest.mark.parametrize("grey", [0, 1, 20, 64, 100])
def test_shot_noise_has_the_mean_and_variance_of_poisson_counts(grey: int) -> None:
    images = np.full((40, 32, 32, 3), grey, np.uint8)
    counted = np.ceil(corrupt(images, "shot_noise", 4) * (75 / 255))  # truncation undone: a count lies 3.4 levels apart
    poisson = stats.poisson(75 * grey / 255)
    assert counted.mean() == pytest.approx(poisson.mean(), abs=5 * poisson.std() / np.sqrt(images.size))
    assert counted.var() == pytest.approx(poisson.var(), rel=0.03)


@pytest.mark.parametrize("severity", range(1, 6))
def test_impulse_noise_replaces_its_share_half_by_white_half_by_black(severity: int) -> None:
    images = np.full((40, 32, 32, 3), 77, np.uint8)
    (amount,) = SEVERITIES["cifar"]["impulse_noise"][severity - 1]
    noisy = corrupt(images, "impulse_noise", severity)
    error = 5 * np.sqrt(amount / 2 / images.size)
    assert (noisy == 0).mean() == pytest.approx(amount / 2, abs=error)
    assert (noisy == 255).mean() == pytest.approx(amount / 2, abs=error)
    assert set(np.unique(noisy)) == {0, 77, 255}


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_channels_pixels_and_pictures_are_independent(name: str) -> None:
    images = np.full((60, 16, 16, 3), 128, np.uint8)
    noise = corrupt(images, name, 5).astype(float).reshape(60, -1)
    pairs = [(noise[:, :-1], noise[:, 1:]), (noise[:, :-48], noise[:, 48:]), (noise[:-1], noise[1:])]
    for one, other in pairs:  # neighbouring channels, neighbouring rows, neighbouring pictures
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


@pytest.mark.parametrize("name", ["shot_noise", "speckle_noise"])
def test_shot_and_speckle_noise_keep_black_black(name: str) -> None:
    assert not corrupt(np.zeros((3, 32, 32, 3), np.uint8), name, 5).any()


def test_noises_of_one_picture_do_not_repeat_each_other() -> None:
    images = rng(0, "grain").integers(60, 200, (1, 32, 32, 3), dtype=np.uint8)
    one, other = (corrupt(images, "gaussian_noise", severity).astype(float) - images for severity in (4, 5))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
