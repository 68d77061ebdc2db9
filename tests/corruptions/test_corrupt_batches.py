"""`corrupt` and its table: every corruption at every severity, on any batch, and what it says to a wrong request."""

import json
import re
import tracemalloc
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.corruptions import EXTRA, NAMES, OFFICIAL, Variant, corrupt, through_jpeg
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.corruptions.cbar.table import BAR_SEVERITIES
from pixmix_ray.corruptions.dispatch import CHUNK_VALUES, default_variant
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.identity import short_hash
from pixmix_ray.seeding import rng

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
DRAWING = (*NOISES, "glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter")
UNEVEN = ("glass_blur", "motion_blur", "frost", "elastic_transform", "spatter", "saturate")
"""Corruptions whose pixel error does not rise with every severity: so it is in the original's figures."""

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def pictures(count: int = 6, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Smooth pictures with some grain, so that every corruption has something to change."""
    generator = rng(0, "test pictures", height, width)
    rows, columns = np.linspace(0, 3, height)[:, None, None], np.linspace(0, 3, width)[:, None]
    waves = np.sin(generator.uniform(0, 6, (count, 1, 1, 3)) + rows + 2 * columns)
    grain = generator.normal(0, 10, (count, height, width, 3))
    return np.clip(128 + 90 * waves + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", NAMES)
def test_each_corruption_changes_every_picture_and_keeps_shape_and_bytes(
    name: str, variant: Variant, severity: int
) -> None:
    images = pictures(3, 40, 34)
    before = images.copy()
    corrupted = corrupt(images, name, severity, variant=variant)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    assert (corrupted != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(images, before)  # the input is not changed


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNEVEN])
def test_a_higher_severity_is_further_from_the_picture(name: str) -> None:
    images = pictures(8)
    errors = [np.abs(corrupt(images, name, s).astype(float) - images).mean() for s in range(1, 6)]
    assert errors == sorted(errors)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_comes_out_the_same_alone_in_any_batch_and_in_any_order(name: str) -> None:
    images = pictures(CHUNK_VALUES // 3072 + 5)  # more than one chunk
    whole = corrupt(images, name, 3)
    order = rng(0, "order").permutation(len(images))
    np.testing.assert_array_equal(corrupt(images[order], name, 3, indices=order), whole[order])
    last = len(images) - 1
    np.testing.assert_array_equal(corrupt(images[last:], name, 3, indices=[last]), whole[last:])
    every_third = np.arange(0, len(images), 3)
    np.testing.assert_array_equal(corrupt(images[::3], name, 3, indices=every_third), whole[::3])


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_in_memory_does_not_matter(name: str) -> None:
    images = pictures(5)
    channels_first_in_memory = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    channels_first_in_memory.setflags(write=False)
    np.testing.assert_array_equal(corrupt(channels_first_in_memory, name, 3), corrupt(images, name, 3))


@pytest.mark.parametrize("name", DRAWING)
def test_chance_is_named_by_seed_index_and_severity(name: str) -> None:
    images = np.repeat(pictures(1), 2, axis=0)
    once = corrupt(images, name, 3, seed=1)
    np.testing.assert_array_equal(once, corrupt(images, name, 3, seed=1))
    assert (once[0] != once[1]).any()
    assert (once != corrupt(images, name, 3, seed=2)).any()
    np.testing.assert_array_equal(corrupt(images, name, 3, seed=1, indices=[1, 1])[0], once[1])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DRAWING])
def test_the_others_draw_nothing(name: str) -> None:
    np.testing.assert_array_equal(corrupt(pictures(), name, 3, seed=1), corrupt(pictures(), name, 3, seed=2))


@pytest.mark.parametrize("name", NAMES)
def test_no_pictures_give_no_pictures(name: str) -> None:
    assert corrupt(np.empty((0, 32, 32, 3), np.uint8), name, 1).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 3), (8, 8), (28, 28), (40, 33)])
@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_small_pictures_can_be_corrupted(name: str, height: int, width: int, variant: Variant) -> None:
    for severity in range(1, 6):
        corrupted = corrupt(pictures(2, height, width), name, severity, variant=variant)
        assert corrupted.shape == (2, height, width, 3)


@pytest.mark.parametrize(
    ("height", "width", "variant"),
    [
        (32, 32, "cifar"),
        (63, 300, "cifar"),
        (64, 64, "tiny_imagenet"),
        (127, 300, "tiny_imagenet"),
        (128, 128, "imagenet"),
        (224, 224, "imagenet"),
    ],
)
def test_the_variant_follows_the_shorter_side(height: int, width: int, variant: Variant) -> None:
    images = pictures(1, height, width)
    assert default_variant(images) == variant
    np.testing.assert_array_equal(corrupt(images, "contrast", 2), corrupt(images, "contrast", 2, variant=variant))


def test_the_official_fifteen_come_first_in_their_order_and_then_the_extra_four() -> None:
    assert len(OFFICIAL) == 15
    assert len(EXTRA) == 4
    assert NAMES == OFFICIAL + EXTRA


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_every_corruption_has_five_severities(variant: str) -> None:
    assert {name: len(rows) for name, rows in SEVERITIES[variant].items()} == dict.fromkeys(NAMES, 5)


def test_memory_stays_small_beside_the_pictures() -> None:
    images = np.zeros((4000, 32, 32, 3), np.uint8)
    tracemalloc.start()
    corrupt(images, "gaussian_noise", 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes + 60e6


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3)), "images must be uint8, got float64: give pixels from 0 to 255, as they lie in files"),
        (np.zeros((8, 8, 3), np.uint8), "images must be (N, H, W, 3), got (8, 8, 3): put the channels last"),
        (np.zeros((2, 3, 8, 8), np.uint8), "images must be (N, H, W, 3), got (2, 3, 8, 8): put the channels last"),
        (np.zeros((2, 0, 8, 3), np.uint8), "images must be (N, H, W, 3), got (2, 0, 8, 3): put the channels last"),
    ],
)
def test_images_of_another_kind_are_refused(images: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        corrupt(images, "contrast", 1)


@pytest.mark.parametrize("severity", [0, 6, -1, 2.5])
def test_a_severity_outside_one_to_five_is_refused(severity: int) -> None:
    with pytest.raises(RequestError, match=f"severity must be 1, 2, 3, 4 or 5, got {severity}: 1 is the mildest"):
        corrupt(pictures(), "contrast", severity)


def test_an_unknown_corruption_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError,
        match=r"unknown corruption 'pixelat', did you mean 'pixelate'\? Known: blue_noise_sample, bright",
    ):
        corrupt(pictures(), "pixelat", 1)


def test_an_unknown_variant_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown variant of the severities 'mnist'\. Known: cifar, imagenet"):
        corrupt(pictures(), "contrast", 1, variant="mnist")  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1], r"indices must be \(3,\), one a picture, got shape \(2,\)"),
        ([0, 1, -1], "indices must be whole numbers from 0, got int64 from -1"),
        ([0.0, 1.0, 2.0], "indices must be whole numbers from 0, got float64 from 0.0"),
    ],
)
def test_indices_that_name_no_pictures_are_refused(indices: list[int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        corrupt(pictures(3), "contrast", 1, indices=indices)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the repository")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNEVEN])
def test_real_pictures_get_worse_with_severity_and_stay_recognisable(name: str) -> None:
    images = np.load(SHARED / "scenes_32.npz")["images"][:100]
    errors = [np.abs(corrupt(images, name, s).astype(float) - images).mean() for s in range(1, 6)]
    assert errors == sorted(errors)
    assert 0.5 < errors[0] < errors[-1] < 80


def test_pictures_of_64_pixels_have_constants_of_their_own() -> None:
    images = np.random.Generator(np.random.Philox(key=2)).integers(0, 256, (2, 64, 64, 3), np.uint8)
    for name in ("gaussian_noise", "contrast", "glass_blur", "elastic_transform", "spatter", "snow", "fog"):
        own = corrupt(images, name, 3)
        assert np.array_equal(own, corrupt(images, name, 3, variant="tiny_imagenet"))
        assert not np.array_equal(own, corrupt(images, name, 3, variant="cifar"))
    assert SEVERITIES["tiny_imagenet"].keys() == SEVERITIES["cifar"].keys() == SEVERITIES["imagenet"].keys()
    # C-bar has none for this size
    assert np.array_equal(corrupt(images, "lines", 3), corrupt(images, "lines", 3, variant="cifar"))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (SEVERITIES["cifar"], "9be578516f39"),
        (SEVERITIES["tiny_imagenet"], "72b797072a76"),
        (SEVERITIES["imagenet"], "db1117082c16"),
        (BAR_SEVERITIES["cifar"], "c66dceaf5f9b"),
        (BAR_SEVERITIES["imagenet"], "10f69f359ee1"),
    ],
)
def test_the_constants_are_those_that_were_compared_with_the_published_code(
    table: Mapping[str, object], expected: str
) -> None:
    assert short_hash(json.dumps(table, sort_keys=True).encode()) == expected


@pytest.mark.parametrize("side", [32, 224])
def test_pictures_through_jpeg_are_those_that_pillow_reads_back(side: int) -> None:
    images = np.random.Generator(np.random.Philox(key=3)).integers(0, 256, (2, side, side, 3), np.uint8)
    for image, found in zip(images, through_jpeg(images, 85), strict=True):
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=85, optimize=True)
        assert np.array_equal(found, np.asarray(Image.open(file)))
