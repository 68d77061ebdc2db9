"""The corruptions of C-bar through `corrupt`: on any batch and size, and beside the figures of the official code."""

import io
import itertools
import re
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.corruptions import BAR_NAMES, Variant, corrupt
from pixmix_ray.corruptions.cbar.table import BAR_CORRUPTIONS, BAR_SEVERITIES
from pixmix_ray.corruptions.dispatch import CHUNK_VALUES
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.seeding import rng

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"

EVERY = [(name, variant) for variant in ("cifar", "imagenet") for name in BAR_NAMES[variant]]
STILL = "circular_motion_blur"  # draws nothing
TOO_LARGE = ("lines", "pinch_and_twirl")  # for 8x8: int(0.8) lines at severity 2, whirls of a single pixel


def pictures(count: int, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    generator = rng(0, "bar test pictures", height, width)
    rows, columns = np.linspace(0, 3, height)[:, None, None], np.linspace(0, 3, width)[:, None]
    waves = np.sin(generator.uniform(0, 6, (count, 1, 1, 3)) + rows + 2 * columns)
    grain = generator.normal(0, 10, (count, height, width, 3))
    return np.clip(128 + 90 * waves + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("name", "variant"), EVERY)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 33), (64, 64)])
def test_each_corruption_changes_pictures_of_any_size_and_not_its_input(
    name: str, variant: Variant, height: int, width: int
) -> None:
    images = pictures(5, height, width)
    before = images.copy()
    for severity in range(1, 6):
        corrupted = corrupt(images, name, severity, variant=variant)
        assert corrupted.shape == images.shape
        assert corrupted.dtype == np.uint8
        assert (corrupted != images).any() or (height == 8 and name in TOO_LARGE)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(("name", "variant"), EVERY)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (1, 50)])
def test_pictures_of_a_few_pixels_can_be_corrupted(name: str, variant: Variant, height: int, width: int) -> None:
    for severity in range(1, 6):
        assert corrupt(pictures(2, height, width), name, severity, variant=variant).shape == (2, height, width, 3)
    assert corrupt(np.empty((0, 32, 32, 3), np.uint8), name, 3, variant=variant).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(("name", "variant"), EVERY)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (19, 24)])
def test_a_picture_comes_out_the_same_alone_in_any_batch_and_in_any_order(
    name: str, variant: Variant, height: int, width: int
) -> None:
    images = pictures(CHUNK_VALUES // (height * width * 3) + 3, height, width)  # more than one chunk
    whole = corrupt(images, name, 3, variant=variant)
    order = rng(0, "order").permutation(len(images))
    np.testing.assert_array_equal(corrupt(images[order], name, 3, indices=order, variant=variant), whole[order])
    for index in (0, 7, len(images) - 1):
        alone = corrupt(images[index : index + 1], name, 3, indices=[index], variant=variant)
        np.testing.assert_array_equal(alone[0], whole[index])


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_draws_are_named_by_seed_and_index(name: str, variant: Variant) -> None:
    images = np.repeat(pictures(1), 9, axis=0)
    once = corrupt(images, name, 3, seed=1, variant=variant)
    np.testing.assert_array_equal(once, corrupt(images, name, 3, seed=1, variant=variant))
    assert (once != once[0]).any() == (name != STILL)
    assert (once != corrupt(images, name, 3, seed=2, variant=variant)).any() == (name != STILL)


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_severities_differ_and_grow(name: str, variant: Variant) -> None:
    images = pictures(40)
    corrupted = [corrupt(images, name, severity, variant=variant).astype(float) for severity in range(1, 6)]
    assert all((one != other).any() for one, other in itertools.combinations(corrupted, 2))
    errors = [np.abs(values - images).mean() for values in corrupted]
    assert errors[0] < errors[2] < errors[4]


def test_each_set_has_ten_corruptions_of_five_severities_and_they_share_five() -> None:
    assert [len(names) for names in BAR_NAMES.values()] == [10, 10]
    assert {*BAR_NAMES["cifar"], *BAR_NAMES["imagenet"]} == set(BAR_CORRUPTIONS)
    assert len(set(BAR_NAMES["cifar"]) & set(BAR_NAMES["imagenet"])) == 5
    assert all(len(rows) == 5 for table in BAR_SEVERITIES.values() for rows in table.values())


def test_the_names_and_their_order_are_those_of_the_published_files() -> None:
    cifar = (
        "blue_noise_sample checkerboard_cutout inverse_sparkles pinch_and_twirl ripple brownish_noise "
        "circular_motion_blur lines sparkles transverse_chromatic_abberation"
    )
    imagenet = (
        "caustic_refraction inverse_sparkles sparkles perlin_noise blue_noise_sample plasma_noise "
        "checkerboard_cutout cocentric_sine_waves single_frequency_greyscale brownish_noise"
    )
    assert {variant: " ".join(names) for variant, names in BAR_NAMES.items()} == {"cifar": cifar, "imagenet": imagenet}


@pytest.mark.parametrize(
    ("name", "given", "right"), [("plasma_noise", "cifar", "imagenet"), ("ripple", "imagenet", "cifar")]
)
def test_a_corruption_of_the_other_set_is_refused_and_the_way_out_named(
    name: str, given: Variant, right: Variant
) -> None:
    message = f"variant must be '{right}' for {name}, got '{given}': give variant='{right}', or one of BAR_NAMES"
    with pytest.raises(RequestError, match=re.escape(message)):
        corrupt(pictures(1), name, 1, variant=given)


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'transverse_chromatic_abberation'"):
        corrupt(pictures(1), "transverse_chromatic_aberration", 1)


@cache
def cifar_pictures() -> NDArray[np.uint8]:
    """The first 2,500 pictures of CIFAR-10's test set."""
    with zipfile.ZipFile(DATA / "cifar10" / "cifar10_test_webp_sheets.zip") as archive:
        sheet = np.asarray(Image.open(io.BytesIO(archive.read("test_00000.webp"))).convert("RGB"))
    return np.ascontiguousarray(sheet.reshape(-1, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))


Figures = tuple[tuple[float, float, float], ...]

# What a transcription of the official code (facebookresearch/augmentation-corruption@c7d90e3, with numpy 1.23.5, scipy
# 1.9.3 and scikit-image 0.21) does to the first of these pictures, their number beside the name: mean absolute error,
# mean and standard deviation of the output minus the picture, in grey levels, at severities 1 to 5. Those of "imagenet"
# are on 32x32 pictures too, with the severities of ImageNet-C-bar.
FIGURES: dict[tuple[str, Variant], tuple[int, Figures]] = {
    ("blue_noise_sample", "cifar"): (
        2500,
        (
            (1.348, -1.348, 14.424),
            (2.282, -2.282, 18.694),
            (3.771, -3.771, 23.943),
            (8.984, -8.984, 36.286),
            (13.170, -13.170, 43.346),
        ),
    ),
    ("checkerboard_cutout", "cifar"): (
        2500,
        (
            (2.691, 0.295, 14.381),
            (5.399, 0.548, 20.375),
            (8.096, 0.895, 24.934),
            (10.824, 1.204, 28.802),
            (13.450, 1.531, 32.089),
        ),
    ),
    ("inverse_sparkles", "cifar"): (
        1000,
        (
            (23.701, 23.701, 20.607),
            (29.644, 29.644, 25.872),
            (40.038, 40.038, 34.916),
            (55.735, 55.735, 48.064),
            (58.657, 58.657, 50.386),
        ),
    ),
    ("pinch_and_twirl", "cifar"): (
        1000,
        (
            (3.717, -0.267, 9.174),
            (4.019, -0.263, 9.935),
            (4.331, -0.263, 10.724),
            (5.447, -0.257, 13.391),
            (6.233, -0.249, 15.176),
        ),
    ),
    ("ripple", "cifar"): (
        2000,
        (
            (8.344, -2.729, 15.266),
            (8.942, -2.799, 16.288),
            (9.744, -3.097, 17.770),
            (11.160, -3.495, 20.429),
            (11.925, -3.744, 21.843),
        ),
    ),
    ("brownish_noise", "cifar"): (
        1000,
        (
            (15.322, -0.282, 19.087),
            (23.979, -0.284, 29.901),
            (32.081, -0.227, 40.042),
            (37.265, 0.243, 46.480),
            (39.799, 0.067, 49.647),
        ),
    ),
    ("circular_motion_blur", "cifar"): (
        500,
        (
            (8.991, -7.901, 23.505),
            (9.704, -7.994, 23.726),
            (10.532, -8.180, 24.206),
            (11.387, -8.411, 24.713),
            (12.299, -8.704, 25.320),
        ),
    ),
    ("lines", "cifar"): (
        2500,
        (
            (1.591, 0.163, 9.028),
            (4.617, 0.467, 15.511),
            (6.065, 0.604, 17.876),
            (8.836, 0.885, 21.759),
            (11.451, 1.157, 24.978),
        ),
    ),
    ("sparkles", "cifar"): (
        500,
        (
            (9.956, 9.956, 22.597),
            (13.389, 13.389, 26.412),
            (25.744, 25.744, 36.903),
            (30.808, 30.808, 40.565),
            (35.330, 35.330, 42.983),
        ),
    ),
    ("transverse_chromatic_abberation", "cifar"): (
        2500,
        (
            (8.993, -0.246, 15.174),
            (10.536, -0.439, 18.443),
            (16.481, -1.079, 29.103),
            (21.765, -1.401, 37.493),
            (22.950, -1.649, 39.203),
        ),
    ),
    ("plasma_noise", "imagenet"): (
        500,
        (
            (21.508, -13.596, 22.688),
            (31.452, -19.771, 33.340),
            (37.810, -23.499, 40.356),
            (40.827, -25.246, 43.722),
            (44.055, -27.339, 47.132),
        ),
    ),
    ("cocentric_sine_waves", "imagenet"): (
        2500,
        (
            (9.431, -0.554, 10.951),
            (15.567, -0.585, 18.115),
            (24.521, -0.603, 28.620),
            (27.428, -0.596, 32.042),
            (30.272, -0.537, 35.405),
        ),
    ),
    ("single_frequency_greyscale", "imagenet"): (
        2500,
        (
            (12.220, -0.550, 13.671),
            (18.203, -0.638, 20.405),
            (24.046, -0.821, 26.999),
            (50.828, 0.081, 57.769),
            (55.472, -0.107, 63.226),
        ),
    ),
    ("perlin_noise", "imagenet"): (
        150,
        (
            (18.865, 15.357, 16.678),
            (21.233, 17.358, 18.556),
            (23.801, 19.565, 20.729),
            (31.182, 25.676, 27.126),
            (36.057, 29.766, 31.308),
        ),
    ),
}
CHOSEN = [pytest.param(severity, marks=() if severity == 3 else pytest.mark.drill) for severity in range(1, 6)]
"""One by default, all as drills: they take long and hold the same code."""


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the CIFAR-10 test pictures")
@pytest.mark.parametrize("severity", CHOSEN)
@pytest.mark.parametrize(("name", "variant"), FIGURES)
def test_errors_shifts_and_spreads_are_those_of_the_official_code(name: str, variant: Variant, severity: int) -> None:
    count, figures = FIGURES[name, variant]
    images = cifar_pictures()[:count]
    error, shift, spread = figures[severity - 1]
    # as many draws as the figures are from: the squares of a checkerboard are few and large, lines are few
    seeds = range(4) if name in ("checkerboard_cutout", "lines") else range(1)
    differences = np.concatenate(
        [corrupt(images, name, severity, seed, variant=variant).astype(np.float32) - images for seed in seeds]
    )
    assert np.abs(differences).mean() == pytest.approx(error, rel=0.03)
    assert differences.mean() == pytest.approx(shift, abs=0.03 * error)  # a small shift has a large relative error
    assert differences.std() == pytest.approx(spread, rel=0.03)
