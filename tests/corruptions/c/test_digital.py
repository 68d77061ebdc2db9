"""Pixelation against Pillow's BOX filter, bit for bit, and JPEG against files that Pillow writes."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.c.digital import compressed, steps, through_codec
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.seeding import rng

BOTH = [(variant, severity) for variant in ("cifar", "imagenet") for severity in range(1, 6)]
SIZES = [(32, 32), (224, 224), (64, 48), (97, 96), *((side, side + 7 * side % 41) for side in range(2, 61))]


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_pixelate_is_pillow_s_box_filter_there_and_back(variant: Variant, severity: int) -> None:
    (share,) = SEVERITIES[variant]["pixelate"][severity - 1]
    for height, width in SIZES:
        images = rng(0, "pixelate", height, width).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        found = corrupt(images, "pixelate", severity, variant=variant)
        small = (max(1, int(width * share)), max(1, int(height * share)))
        for image, corrupted in zip(images, found, strict=True):
            shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
            expected = np.asarray(shrunk.resize((width, height), Image.Resampling.BOX))
            np.testing.assert_array_equal(corrupted, expected, err_msg=f"{height}x{width}")


@pytest.mark.parametrize(
    ("variant", "side", "small_sides"),
    [("cifar", 32, (30, 28, 27, 24, 20)), ("imagenet", 224, (134, 112, 89, 67, 56))],
)
def test_pixelate_leaves_as_many_rows_and_columns_as_stated(
    variant: Variant, side: int, small_sides: tuple[int, ...]
) -> None:
    ramp = np.arange(side, dtype=np.uint8)
    images = np.broadcast_to(ramp[:, None, None], (1, side, side, 3))
    for severity, small_side in enumerate(small_sides, start=1):
        rows = corrupt(images, "pixelate", severity, variant=variant)[0, :, 0, 0]
        columns = corrupt(images.swapaxes(1, 2), "pixelate", severity, variant=variant)[0, 0, :, 0]
        assert len(np.unique(rows)) == len(np.unique(columns)) == small_side


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_jpeg_is_a_file_of_the_stated_quality(variant: Variant, severity: int, tmp_path: Path) -> None:
    images = rng(0, "jpeg").integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
    (quality,) = SEVERITIES[variant]["jpeg_compression"][severity - 1]
    found = corrupt(images, "jpeg_compression", severity, variant=variant)
    for image, corrupted in zip(images, found, strict=True):
        Image.fromarray(image).save(tmp_path / "picture.jpg", quality=int(quality), subsampling="4:2:0")
        with Image.open(tmp_path / "picture.jpg") as file:
            np.testing.assert_array_equal(corrupted, np.asarray(file))


def _through_files(images: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Pictures as they come back from files that Pillow writes."""
    decoded = []
    for image in images:
        file = BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return np.stack(decoded)


@pytest.mark.parametrize("quality", [100, 95, 80, 65, 58, 50, 40, 25, 18, 15, 10, 7, 1])
def test_what_jpeg_loses_is_computed_as_the_codec_does(quality: int) -> None:
    generator = rng(0, "blocks")
    shapes = [(1, 1), (1, 9), (9, 1), (3, 2), (4, 4), (5, 5), (6, 3), (8, 8), (15, 17), (32, 32), (33, 40), (100, 17)]
    for height, width in shapes:
        grain = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        checks = (generator.random((2, height, width, 3)) > 0.5).astype(np.uint8) * 255
        smooth = 128 + np.cumsum(generator.normal(0, 9, (2, height, width, 3)), axis=1)
        images = np.concatenate([grain, checks, np.clip(smooth, 0, 255).astype(np.uint8)])
        before = images.copy()
        expected = _through_files(images, quality)
        np.testing.assert_array_equal(compressed(images, quality), expected, err_msg=f"{height}x{width}")
        np.testing.assert_array_equal(through_codec(images, quality), expected, err_msg=f"{height}x{width}")
        np.testing.assert_array_equal(images, before)


def test_steps_are_scaled_by_the_quality_and_at_least_one() -> None:
    table = np.array([[16, 11], [99, 1]])
    np.testing.assert_array_equal(steps(table, 50), table)
    np.testing.assert_array_equal(steps(table, 25), 2 * table)
    np.testing.assert_array_equal(steps(table, 75), [[8, 6], [50, 1]])  # halves up
    np.testing.assert_array_equal(steps(table, 100), [[1, 1], [1, 1]])
    np.testing.assert_array_equal(steps(table, 1), [[255, 255], [255, 50]])  # a byte in the file


def test_large_pictures_are_compressed_by_the_codec() -> None:
    images = rng(0, "large").integers(0, 256, (1, 70, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(corrupt(images, "jpeg_compression", 3, variant="cifar"), compressed(images, 58))
