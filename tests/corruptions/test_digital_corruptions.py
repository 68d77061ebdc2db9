"""Pixelation against Pillow's BOX filter, bit for bit, and JPEG against a file that Pillow writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.severities import SEVERITIES
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
