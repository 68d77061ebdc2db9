"""Snow, frost and fog, picture by picture: SciPy's zoom, plain loops for motion and plasma, and crops by hand."""

import importlib
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pixmix_ray.corruptions import Variant, corrupt, frost_pictures
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.corruptions.c.weather import crops, flakes, plasma, with_fog, with_frost, with_snow
from pixmix_ray.errors import DataError
from pixmix_ray.seeding import rng, uniforms

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

BOTH: list[tuple[Variant, int]] = [(variant, severity) for variant in ("cifar", "imagenet") for severity in range(1, 6)]


def truncated(fractions: Floats) -> Bytes:
    return (np.clip(fractions, 0, 1) * 255).astype(np.uint8)


def one_plasma(side: int, decay: float, numbers: list[float]) -> Floats:
    """The diamond-square algorithm for one cloud, number by number, with indices that wrap around."""
    cloud, step, amplitude = np.zeros((side, side)), side, 100.0
    drawn = iter(numbers)

    def deviation() -> float:
        return amplitude * (-amplitude + 2 * amplitude * next(drawn))

    while step >= 2:
        half = step // 2
        for row in range(0, side, step):
            for column in range(0, side, step):
                down, right = (row + step) % side, (column + step) % side
                corners = cloud[row, column] + cloud[down, column] + (cloud[row, right] + cloud[down, right])
                cloud[row + half, column + half] = corners / 4 + deviation()
        for row in range(0, side, step):
            for column in range(half, side, step):
                centres = cloud[row + half, column] + cloud[row - half, column]
                ends = cloud[row, column - half] + cloud[row, (column + half) % side]
                cloud[row, column] = (centres + ends) / 4 + deviation()
        for row in range(half, side, step):
            for column in range(0, side, step):
                centres = cloud[row, column + half] + cloud[row, column - half]
                ends = cloud[row - half, column] + cloud[(row + half) % side, column]
                cloud[row, column] = (centres + ends) / 4 + deviation()
        step, amplitude = half, amplitude / decay
    cloud -= cloud.min()
    scaled: Floats = cloud / cloud.max()
    return scaled


@pytest.mark.parametrize(("side", "decay"), [(2, 3), (8, 1.4), (32, 2.5), (64, 2)])
def test_plasma_is_the_diamond_square_algorithm_cloud_by_cloud(side: int, decay: float) -> None:
    numbers = rng(0, "plasma", side).random((3, side * side - 1))
    clouds = plasma(numbers, decay)
    for cloud, drawn in zip(clouds, numbers, strict=True):
        np.testing.assert_array_equal(cloud, one_plasma(side, decay, drawn.tolist()))


def test_plasma_by_hand() -> None:
    # side 2: the centre, then the upper edge, then the left edge; amplitude 100 * 100 about the mean of the neighbours
    # centre 0/4 + 10000 * (2 * .75 - 1) = 5000; edge (5000 + 5000 + 0 + 0)/4 + 0 = 2500; left 2500 - 10000 * .5 = -2500
    expected = (np.array([[0, 2500], [-2500, 5000]]) + 2500) / 7500
    np.testing.assert_allclose(plasma(np.array([[0.75, 0.5, 0.25]]), 2)[0], expected, rtol=1e-15)


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_fog_is_the_formula_with_the_cloud_of_each_picture(variant: Variant, severity: int) -> None:
    images = rng(0, "fog").integers(0, 200, (3, 24, 30, 3), dtype=np.uint8)
    images[1] //= 3
    strength, decay = SEVERITIES[variant]["fog"][severity - 1]
    numbers = uniforms(0, "corruptions", "fog", severity, indices=range(3), count=1023)
    found = corrupt(images, "fog", severity, variant=variant)
    for image, drawn, corrupted in zip(images, numbers, found, strict=True):
        pixels = image / 255.0
        brightest = pixels.max()
        foggy = pixels + strength * one_plasma(32, decay, drawn.tolist())[:24, :30, None]
        np.testing.assert_array_equal(corrupted, truncated(foggy * brightest / (brightest + strength)))


def test_fog_leaves_black_black_and_the_picture_unchanged() -> None:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    clouds = np.ones((1, 4, 4))
    assert not with_fog(images, clouds, 1.5).any()
    white = np.full((1, 4, 4, 3), 255, np.uint8)
    before = white.copy()
    np.testing.assert_array_equal(with_fog(white, 0 * clouds, 1.0), np.full_like(white, 127))  # (1 + 0) * 1 / (1 + 1)
    np.testing.assert_array_equal(white, before)


def one_motion(layer: Bytes, radius: float, sigma: float, angle: float) -> Bytes:
    """A layer (H, W) shaken along `angle`, pixel by pixel."""
    taps = 2 * math.ceil(radius) + 1
    weights = [math.exp(-(tap**2) / (2 * sigma**2)) for tap in range(taps)]
    height, width = layer.shape
    result = np.zeros_like(layer)
    for row, column in np.ndindex(height, width):
        total = 0.0
        for tap, weight in enumerate(weights):
            down = math.ceil(tap * math.sin(math.radians(angle)) - 0.5)
            right = math.ceil(tap * math.cos(math.radians(angle)) - 0.5)
            total += layer[min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)] * (
                weight / math.fsum(weights)
            )
        result[row, column] = int(total * 257 + 0.5) // 257
    return result


@pytest.mark.parametrize(
    ("variant", "severity"), [("cifar", 1), ("cifar", 3), ("cifar", 5), ("imagenet", 2), ("imagenet", 4)]
)
def test_snow_is_a_zoomed_cut_and_shaken_layer_laid_on_twice(variant: Variant, severity: int) -> None:
    images = rng(0, "snow").integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    mean, std, zoom, threshold, radius, sigma, keep = SEVERITIES[variant]["snow"][severity - 1]
    layers = rng(0, "layer").normal(mean, std, (2, 32, 32))
    angles = np.array([-130.0, -71.5])
    drawn = flakes(layers, angles, zoom, threshold, radius, sigma)
    snowy = with_snow(images, drawn, keep)
    for picture, (image, layer, angle) in enumerate(zip(images, layers, angles, strict=True)):
        kept = math.ceil(32 / zoom)
        top = (32 - kept) // 2
        enlarged = ndimage.zoom(layer[top : top + kept, top : top + kept], zoom, order=1)
        start = (len(enlarged) - 32) // 2
        enlarged = enlarged[start : start + 32, start : start + 32].copy()
        enlarged[enlarged < threshold] = 0
        flake = one_motion(truncated(enlarged), radius, sigma, angle)
        np.testing.assert_array_equal(drawn[picture, :, :, 0], flake)
        pixels = image / 255
        white = np.maximum(pixels, 1.5 * (pixels @ [0.299, 0.587, 0.114])[..., None] + 0.5)
        expected = keep * pixels + (1 - keep) * white + (flake / 255.0 + np.rot90(flake, 2) / 255.0)[..., None]
        assert np.abs(snowy[picture].astype(int) - truncated(expected)).max() <= 1  # float32 there, float64 here
        assert (snowy[picture] != truncated(expected)).mean() < 0.01


def test_snow_without_flakes_by_hand() -> None:
    # grey 102: .4 * .8 + .2 * (1.5 * .4 + .5) = .54 -> 137.7; white stays white
    images = np.array([[[[102, 102, 102], [255, 255, 255]]]], np.uint8)
    found = with_snow(images, np.zeros((1, 1, 2, 1), np.uint8), 0.8)
    np.testing.assert_array_equal(found, [[[[137, 137, 137], [255, 255, 255]]]])


@pytest.mark.parametrize(("variant", "severity"), BOTH)
def test_frost_is_a_weighted_sum_with_a_crop_of_a_photograph(variant: Variant, severity: int, ice_folder: Path) -> None:
    images = rng(0, "frost").integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    own_weight, ice_weight, share = SEVERITIES[variant]["frost"][severity - 1]
    numbers = uniforms(0, "corruptions", "frost", severity, indices=range(40), count=3)
    files = ["frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"]
    photographs = [np.asarray(Image.open(ice_folder / name)) for name in files]
    if share == 0.2:  # bilinear at one fifth hits the centre of every fifth pixel: sizes as stated for the originals
        photographs = [photograph[2::5, 2::5] for photograph in photographs]
        assert [p.shape[:2] for p in photographs] == [(120, 180), (63, 112), (63, 112), (70, 105), (99, 132)]
    found = corrupt(images, "frost", severity, variant=variant)
    for image, (which, down, right), corrupted in zip(images, numbers, found, strict=True):
        photograph = photographs[int(5 * which)]
        height, width, _ = photograph.shape
        row, column = int(down * (height - 32)), int(right * (width - 32))
        ice = photograph[row : row + 32, column : column + 32]
        expected = np.clip(own_weight * image + ice_weight * ice.astype(float), 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(corrupted, expected)


def test_the_sixth_photograph_is_never_drawn(ice_folder: Path) -> None:
    pictures = frost_pictures()
    assert [picture.shape[:2] for picture in pictures] == [(600, 900), (315, 560), (315, 560), (350, 527), (495, 660)]
    assert frost_pictures() is pictures  # read once
    assert frost_pictures(ice_folder) is pictures
    assert "imagecorruptions" not in sys.modules


def test_crops_start_where_they_are_told() -> None:
    photographs = [np.arange(60, dtype=np.uint8).reshape(4, 5, 3), np.full((9, 9, 3), 7, np.uint8)]
    pieces = crops(photographs, np.array([0, 1]), np.array([[1, 2], [0, 0]]), (2, 3))
    np.testing.assert_array_equal(pieces[0], photographs[0][1:3, 2:5])
    assert (pieces[1] == 7).all()
    np.testing.assert_array_equal(
        with_frost(pieces[1:], pieces[1:], 0.5, 20.0), np.full((1, 2, 3, 3), 143)
    )  # 3.5 + 140


@pytest.mark.parametrize(
    ("height", "width", "variant"), [(63, 63, "cifar"), (8, 150, "cifar"), (40, 700, "imagenet"), (330, 20, "imagenet")]
)
def test_frost_is_enlarged_for_pictures_that_do_not_fit(height: int, width: int, variant: Variant) -> None:
    images = np.zeros((12, height, width, 3), np.uint8)
    found = corrupt(images, "frost", 5, variant=variant)
    assert found.shape == images.shape
    assert (found.reshape(12, -1).std(axis=1) > 0).all()


def test_photographs_may_lie_in_a_folder_of_one_s_own(tmp_path: Path) -> None:
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        Image.new("RGBA" if name.endswith("png") else "RGB", (400, 400), (200, 200, 200)).save(tmp_path / name)
    images = np.full((2, 32, 32, 3), 100, np.uint8)
    np.testing.assert_array_equal(corrupt(images, "frost", 2, frost_folder=tmp_path), np.full_like(images, 160))


def test_missing_photographs_are_answered_with_the_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(DataError, match=re.escape(f"cannot read the photograph of ice {tmp_path}/frost1.png: ")):
        corrupt(images, "frost", 1, frost_folder=tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not (Path(entry) / "imagecorruptions").is_dir()])
    importlib.invalidate_caches()
    with pytest.raises(DataError, match=r"not installed: pip install 'pixmix_ray\[frost\]', or give a folder with fro"):
        corrupt(images, "frost", 1)
