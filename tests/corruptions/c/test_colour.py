"""Brightness and saturation against the standard library's colorsys, contrast against its formula and by hand."""

import colorsys

import numpy as np
import pytest

from pixmix_ray.corruptions import Variant, corrupt
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.seeding import rng

BOTH = [(variant, severity) for variant in ("cifar", "imagenet") for severity in range(1, 6)]


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_brightness_adds_to_the_value_of_hsv_as_colorsys_does(variant: Variant, severity: int) -> None:
    corners = np.stack(np.meshgrid([0, 1, 128, 255], [0, 1, 128, 255], [0, 1, 128, 255]), axis=-1).reshape(-1, 3)
    others = rng(0, "colours").integers(0, 256, (2000, 3))
    colours = np.concatenate([corners, others]).astype(np.uint8)
    (added,) = SEVERITIES[variant]["brightness"][severity - 1]
    expected = []
    for colour in colours / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected.append(colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1)))
    found = corrupt(colours[None, None], "brightness", severity, variant=variant)[0, 0].astype(int)
    levels = (np.array(expected) * 255).astype(int)
    assert np.abs(found - levels).max() <= 1  # ties may fall either way:
    assert (found != levels).mean() < 0.02  # colorsys takes other roundings on the way


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_saturate_changes_the_saturation_of_hsv_as_colorsys_does(variant: Variant, severity: int) -> None:
    colours = rng(0, "colours").integers(0, 256, (2000, 3), dtype=np.uint8)
    factor, offset = SEVERITIES[variant]["saturate"][severity - 1]
    expected = []
    for colour in colours / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected.append(colorsys.hsv_to_rgb(hue, min(max(saturation * factor + offset, 0), 1), value))
    found = corrupt(colours[None, None], "saturate", severity, variant=variant)[0, 0].astype(int)
    levels = (np.array(expected) * 255).astype(int)
    assert np.abs(found - levels).max() <= 1  # ties may fall either way
    assert (found != levels).mean() < 0.02


def test_saturate_by_hand() -> None:
    # (200, 100, 50): V = 200, S = .75; severity 2 makes S = .075, so blue is 200 * .925 = 185 and green a third of the
    # way up, 190; severity 4 makes S = 1.6, cut to 1: blue 0, green 200/3. A grey is red to HSV: S = .1 leaves 180
    image = np.array([[[[200, 100, 50], [200, 200, 200]]]], np.uint8)
    gentle, strong = (corrupt(image, "saturate", severity).astype(int) for severity in (2, 4))
    assert np.abs(gentle - [[[[200, 190, 185], [200, 200, 200]]]]).max() <= 1
    assert np.abs(strong - [[[[200, 66, 0], [200, 180, 180]]]]).max() <= 1


def test_brightness_of_grey_is_addition() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    expected = (np.clip(np.arange(256) / 255 + 0.15, 0, 1) * 255).astype(np.uint8)
    found = corrupt(greys, "brightness", 3).reshape(256, 3)
    np.testing.assert_array_equal(found, np.repeat(expected[:, None], 3, axis=1))


def test_brightness_by_hand() -> None:
    # (200, 100, 50): V = 200/255; V + .3 is clipped to 1, so all channels grow by 255/200: (255, 127.5, 63.75)
    image = np.array([[[[200, 100, 50]]]], np.uint8)
    np.testing.assert_array_equal(corrupt(image, "brightness", 5), [[[[255, 127, 63]]]])


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_contrast_is_the_formula_of_one_picture(variant: Variant, severity: int) -> None:
    images = rng(0, "contrast").integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    images[::7] //= 16  # some dark ones
    (factor,) = SEVERITIES[variant]["contrast"][severity - 1]
    found = corrupt(images, "contrast", severity, variant=variant)
    for image, corrupted in zip(images, found, strict=True):
        pixels = image / 255.0
        mean = np.mean(pixels, axis=(0, 1), keepdims=True)
        np.testing.assert_array_equal(
            corrupted, (np.clip((pixels - mean) * factor + mean, 0, 1) * 255).astype(np.uint8)
        )


def test_contrast_by_hand() -> None:
    # red 0 and 200: mean 100, half as far: 50, 150; green 10 and 30: 15, 25; blue 7 and 9: 7.5, 8.5, truncated
    image = np.array([[[[0, 10, 7], [200, 30, 9]]]], np.uint8)
    found = corrupt(image, "contrast", 2).astype(int)
    assert np.abs(found - [[[[50, 15, 7], [150, 25, 8]]]]).max() <= 1  # a whole level may be truncated to the one below
    np.testing.assert_array_equal(found[..., 2], [[[7, 8]]])
