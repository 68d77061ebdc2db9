"""The frames of perturbations: against implementations that go picture by picture, and checksums of the published code.

The checksums are of frames that the steps of make_cifar_p.py and make_imagenet_p.py (hendrycks/robustness) give for
these pictures and layers with OpenCV 4.8.1, scikit-image 0.21, SciPy 1.9.3 and Pillow 9.5 and with the affine matrix of
torchvision 0.2.1; motion blur was computed by ImageMagick's formula, as ImageMagick was not at hand.
"""

import colorsys
import math
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats
from scipy.special import ndtri

from pixmix_ray.corruptions.corruption import Images, Stream
from pixmix_ray.corruptions.p import noise as noises
from pixmix_ray.corruptions.p.geometry import (
    gaussian_blurred,
    homography,
    inverse_affine,
    motion_blurred,
    resampled,
    shifted,
    tilted,
    zoom_blurred,
)
from pixmix_ray.corruptions.p.noise import Quantiles
from pixmix_ray.corruptions.p.sequences import perturb
from pixmix_ray.corruptions.p.weather import brightened, falling_snow, flowing, with_snow, with_water
from pixmix_ray.seeding import rng

FORWARD = range(31)


def pictures(height: int = 32, width: int = 32, count: int = 3) -> Images:
    """Pictures of whole-number arithmetic, the same on every machine: curved stripes, fine and coarse."""
    number, row, column, channel = np.ogrid[:count, :height, :width, :3]
    waves = (row * row * 7 + column * column * 11 + row * column * 3) // 16 + 50 * channel + 37 * number
    made: Images = np.abs(waves % 511 - 255).astype(np.uint8)
    return made


def layers(name: str, side: int, mean: float, std: float) -> NDArray[np.float64]:
    return rng(0, "layers", name, side).normal(mean, std, (3, side, side))


def torchvision_0_2_1(degrees: float, scale: float, shear: float, width: int, height: int) -> list[float]:
    """The inverse affine matrix by its formula: k [cos(a+s), sin(a+s); -sin a, cos a] / cos s about the centre."""
    x, y = width / 2 + 0.5, height / 2 + 0.5
    a, s = math.radians(degrees), math.radians(shear)
    k = 1.0 / scale / (math.cos(a + s) * math.cos(a) + math.sin(a + s) * math.sin(a))
    linear = k * math.cos(a + s), k * math.sin(a + s), k * -math.sin(a), k * math.cos(a)
    across = linear[0] * -x + linear[1] * -y + x
    along = linear[2] * -x + linear[3] * -y + y
    return [linear[0], linear[1], across, linear[2], linear[3], along]


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    left, top = round((image.width - side) / 2.0), round((image.height - side) / 2.0)
    return image.crop((left, top, left + side, top + side))


MOVES = [
    *({"degrees": degrees} for degrees in (-15, -7, 0, 1, 14, 15)),
    *({"scale": scale} for scale in (0.4, 0.7, 0.72, 0.8, 0.9, 1.0, 1.004, 1.1, 1.116, 1.3)),
    *({"shear": shear} for shear in (-15, -1, 0, 8)),
    {"degrees": 30, "scale": 1.2, "shear": -10},
]


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 32), (40, 33, 24), (64, 48, 48)])
@pytest.mark.parametrize("move", MOVES, ids=str)
def test_affine_frames_are_those_of_pillow(move: dict[str, float], height: int, width: int, side: int) -> None:
    images = pictures(height, width)
    full = {"degrees": 0.0, "scale": 1.0, "shear": 0.0} | move
    matrix = torchvision_0_2_1(full["degrees"], full["scale"], full["shear"], width, height)
    assert inverse_affine(height, width, **move) == pytest.approx(matrix, abs=1e-13)
    found = resampled(images, (side, side), matrices=[inverse_affine(height, width, **move)])
    for image, frames in zip(images, found, strict=True):
        opened = Image.fromarray(image)
        moved = opened.transform(opened.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(frames[0], np.asarray(centre_crop(moved, side)))


@pytest.mark.parametrize("offset", [-40, -7, -1, 0, 3, 8, 40])
def test_shifted_frames_are_those_of_pillow(offset: int) -> None:
    images = pictures(40, 37)
    matrix = (1, 0, -offset, 0, 1, 0)
    for size in (40, 37), (30, 30):
        frames = shifted(images, size, offsets=[0, offset])
        for image, frame in zip(images, frames[:, 1], strict=True):
            opened = Image.fromarray(image)
            moved = opened.transform(opened.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
            left, top = round((37 - size[1]) / 2), round((40 - size[0]) / 2)
            expected = np.asarray(moved)[top : top + size[0], left : left + size[1]]
            np.testing.assert_array_equal(frame, expected)


def test_no_turn_no_scale_and_no_shift_leave_the_picture() -> None:
    images = pictures(33, 40)
    still = [inverse_affine(33, 40)]
    for frames in (
        resampled(images, (33, 40), matrices=still),
        shifted(images, (33, 40), offsets=[0]),
    ):
        np.testing.assert_array_equal(frames[:, 0], images)


def test_a_shift_by_one_pixel_by_hand() -> None:
    image = np.arange(1, 10, dtype=np.uint8).repeat(3).reshape(1, 3, 3, 3)
    frames = shifted(image, (3, 3), offsets=[1, -1])
    np.testing.assert_array_equal(frames[0, 0, :, :, 0], [[0, 1, 2], [0, 4, 5], [0, 7, 8]])
    np.testing.assert_array_equal(frames[0, 1, :, :, 0], [[2, 3, 0], [5, 6, 0], [8, 9, 0]])


@pytest.mark.parametrize("degrees", [-11.25, -3, 0.75, 15])
def test_tilted_pixels_are_blended_in_fixed_point(degrees: float) -> None:
    # OpenCV's rule for one pixel at a time: position rounded to 1/32, weights in 1/1024, black beyond the edge
    image = pictures(20, 26, 1)[0]
    inverse = np.linalg.inv(homography(20, 26, degrees))
    frame = tilted(image[None], (20, 26), degrees=[degrees])[0, 0]
    for row in range(20):
        for column in range(26):
            x, y, depth = inverse @ [column, row, 1]
            left, right = divmod(round(x / depth * 32), 32)
            top, down = divmod(round(y / depth * 32), 32)
            total = np.zeros(3, np.int64)
            for r, c, weight in (
                (top, left, (32 - down) * (32 - right)),
                (top, left + 1, (32 - down) * right),
                (top + 1, left, down * (32 - right)),
                (top + 1, left + 1, down * right),
            ):
                if 0 <= r < 20 and 0 <= c < 26:
                    total += weight * image[r, c].astype(np.int64)
            np.testing.assert_array_equal(frame[row, column], (total + 512) >> 10)


def test_a_tilt_by_nothing_shrinks_a_little_as_the_picture_floats_one_pixel_behind() -> None:
    moved = homography(32, 32, 0) @ np.array([[16, 0, 32], [16, 0, 32], [1, 1, 1]])
    moved /= moved[2]
    distance = math.sqrt(2) * 32
    edge = 16 * distance / (distance + 1)
    np.testing.assert_allclose(moved[:2], [[16, 16 - edge, 16 + edge]] * 2, rtol=1e-14)


def test_a_tilt_brings_one_corner_nearer() -> None:
    moved = homography(32, 32, 10) @ np.array([[0, 32], [0, 32], [1, 1]])
    near, far = np.hypot(*(moved[:2] / moved[2] - 16))
    assert near > 1.2 * far or far > 1.2 * near


def test_motion_blurred_frames_are_imagemagick_s_formula() -> None:
    images = pictures()
    angles = [-180, -171, -90, -45, -9, 0]
    found = motion_blurred(images, radius=6, sigma=1.8, degrees=angles)
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 1.8**2))
    weights /= weights.sum()
    for image, frames in zip(images, found, strict=True):
        for degrees, frame in zip(angles, frames, strict=True):
            angle, total = math.radians(degrees), np.zeros(image.shape)
            for tap, weight in enumerate(weights):
                rows = np.clip(np.arange(32) + math.ceil(tap * math.sin(angle) - 0.5), 0, 31)
                columns = np.clip(np.arange(32) + math.ceil(tap * math.cos(angle) - 0.5), 0, 31)
                total += weight * image[rows][:, columns]
            np.testing.assert_array_equal(frame, (np.floor(total * 257 + 0.5) / 257).astype(np.uint8))


def test_zoom_blurred_frames_are_running_means() -> None:
    images, scales = pictures(40, 36), [1.004, 1.008, 1.012, 1.12]
    found = zoom_blurred(images, (32, 32), scales=scales)
    for image, frames in zip(images, found, strict=True):
        opened = Image.fromarray(image)
        seen = [np.asarray(centre_crop(opened, 32))]
        for scale in scales:
            matrix = torchvision_0_2_1(0, scale, 0, 36, 40)
            moved = opened.transform(opened.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
            seen.append(np.asarray(centre_crop(moved, 32)))
        np.testing.assert_array_equal(frames[0], seen[0])
        for number in range(1, 5):
            mean = np.mean(seen[: number + 1], axis=0)  # exact; the original's is float32
            certain = np.abs(mean - np.rint(mean)) > 1e-3
            np.testing.assert_array_equal(frames[number][certain], mean[certain].astype(np.uint8))
            assert np.abs(frames[number] - mean).max() <= 1.001


@pytest.mark.parametrize(("sigma", "truncate"), [(0.3, 7.0), (0.435, 7.0), (0.75, 7.0), (0.25, 6.0), (1.3, 6.0)])
def test_gaussian_blurred_frames_are_scipy_s(sigma: float, truncate: float) -> None:
    images = pictures()
    found = gaussian_blurred(images, sigmas=[0.5, sigma], truncate=truncate)[:, 1]
    for image, frame in zip(images, found, strict=True):
        smooth = ndimage.gaussian_filter(image / 255.0, (sigma, sigma, 0), mode="nearest", truncate=truncate)
        np.testing.assert_array_equal(frame, (255 * smooth).astype(np.uint8))


@pytest.mark.parametrize("added", [-0.3, -0.225, -0.015, 0.0, 0.12, 0.225])
def test_brightened_frames_add_to_v_as_colorsys_does(added: float) -> None:
    colours = rng(0, "colours").integers(0, 256, (1, 1, 1500, 3), dtype=np.uint8)
    expected = []
    for colour in colours[0, 0] / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected.append(colorsys.hsv_to_rgb(hue, saturation, min(max(value + added, 0), 1)))
    levels = (np.array(expected) * 255).astype(int)
    found = brightened(colours, added=[added])[0, 0, 0].astype(int)
    assert np.abs(found - levels).max() <= 1  # a whole level may be truncated to the one below
    assert added == 0 or (found != levels).mean() < 0.02


def test_running_water_is_numpy_s_convolution_of_each_column() -> None:
    drops = rng(0, "drops").random((2, 12, 5))
    for flow in ((0.2, 0.8), (0.05, 0.1, 0.15, 0.7)):
        frames = flowing(drops, 6, flow)
        np.testing.assert_array_equal(frames[:, 0], drops)
        for before, after in zip(frames[:, :-1].reshape(-1, 12, 5), frames[:, 1:].reshape(-1, 12, 5), strict=True):
            expected = np.apply_along_axis(np.convolve, 0, before, flow, mode="same")
            np.testing.assert_allclose(after, expected, rtol=1e-14)


def test_a_drop_runs_down_by_hand() -> None:
    drop = np.zeros((1, 4, 1))
    drop[0, 0] = 1
    expected = np.array([[1, 0, 0, 0], [0.2, 0.8, 0, 0], [0.04, 0.32, 0.64, 0]])
    np.testing.assert_allclose(flowing(drop, 3, (0.2, 0.8))[0, :, :, 0], expected)


def test_without_any_water_the_frame_is_black_as_in_the_published_files() -> None:
    images = np.full((2, 32, 32, 3), 200, np.uint8)
    layer = np.full((2, 32, 32), 0.6)
    layer[1, 26:31, 10:18] = 1.5  # a drop near the bottom that runs off
    frames = with_water(images, layer, sigma=1.75, threshold=0.7, strength=0.6, flow=(0.2, 0.8), frames=31)
    assert not frames[0].any()
    is_black = ~frames[1].any(axis=(1, 2, 3))
    assert not is_black[0]
    assert is_black[-1]
    assert (np.diff(is_black.astype(int)) >= 0).all()


def test_snow_brightens_and_falls_twice() -> None:
    flakes = np.zeros((1, 2, 32, 32), np.uint8)
    flakes[0, 1, 3, 5] = 51
    frames = with_snow(np.zeros((1, 32, 32, 3), np.uint8), flakes, keep=0.85).astype(int)
    np.testing.assert_array_equal(frames[0, 0], 19)  # .15 (1.5 * 0 + .5) = .075, times 255 = 19.1
    changed = frames[0, 1] - frames[0, 0]
    assert {tuple(place) for place in np.argwhere(changed[..., 0])} == {(3, 5), (28, 26)}
    assert changed[3, 5, 0] == 51


def snow(variant: str, images: Images) -> Images:
    zoom, radius, sigma, side = (2, 10, 2, 32) if variant == "cifar" else (3, 14, 4, 224)
    degrees = [4 * i - 150 for i in FORWARD]
    drawn = layers("snow", side, 0.05, 0.3)[: len(images)]
    flakes = falling_snow(drawn, zoom=zoom, threshold=0.5, radius=radius, sigma=sigma, degrees=degrees)
    return with_snow(perturb(images, "translate", variant="cifar", crop=side)[:, 7], flakes, keep=0.85)


def spatter(images: Images) -> Images:
    drawn = layers("spatter", 32, 0.6, 0.265)
    return with_water(images, drawn, sigma=1.75, threshold=0.7, strength=0.6, flow=(0.2, 0.8), frames=31)


CHECKSUMS = {
    ("cifar", "motion_blur"): 2460171276,
    ("cifar", "zoom_blur"): 1487833501,
    ("cifar", "spatter"): 4216294855,
    ("cifar", "brightness"): 4041826905,
    ("cifar", "translate"): 252186520,
    ("cifar", "rotate"): 4113598824,
    ("cifar", "tilt"): 837178753,
    ("cifar", "scale"): 2586820924,
    ("cifar", "snow"): 1121846816,
    ("cifar", "gaussian_blur"): 976818359,
    ("cifar", "shear"): 328816854,
    ("imagenet", "motion_blur"): 2152371740,
    ("imagenet", "zoom_blur"): 34936060,
    ("imagenet", "brightness"): 4195876521,
    ("imagenet", "translate"): 3991285473,
    ("imagenet", "rotate"): 708279356,
    ("imagenet", "tilt"): 3591176951,
    ("imagenet", "scale"): 1596420334,
    ("imagenet", "snow"): 3508184358,
    ("imagenet", "shear"): 2647772946,
}


@pytest.mark.parametrize(("variant", "name"), CHECKSUMS)
def test_frames_are_the_bytes_of_the_published_code(variant: str, name: str) -> None:
    images, side = (pictures(), 32) if variant == "cifar" else (pictures(256, 300, 1), 224)
    if name == "snow":
        frames = snow(variant, images)
    elif name == "spatter":
        frames = spatter(images)
    else:
        frames = perturb(images, name, variant="cifar" if variant == "cifar" else "imagenet", crop=side)
    assert zlib.crc32(frames.tobytes()) == CHECKSUMS[variant, name]


RAMP = np.repeat(np.arange(256, dtype=np.uint8), 12).reshape(1, 32, 32, 3)


def uniforms(name: str) -> NDArray[np.float64]:
    """The numbers behind the first noisy frame of RAMP, in the middle of the words' intervals: (32, 32, 3)."""
    stream = Stream(seed=0, name=name, difficulty=1, indices=np.array([0]))
    words = next(stream.words(noises.NOISY_FRAMES, RAMP.size))
    return ((words + 0.5) / 2**32).reshape(RAMP.shape[1:])


@pytest.mark.parametrize(("name", "constant"), [("gaussian_noise", 0.02), ("shot_noise", 700), ("speckle_noise", 0.05)])
def test_noise_is_its_formula_with_quantiles(name: str, constant: float) -> None:
    numbers, pixels = uniforms(name), RAMP[0] / 255
    if name == "gaussian_noise":
        noisy = pixels + constant * ndtri(numbers)
    elif name == "shot_noise":
        noisy = stats.poisson.ppf(numbers, pixels * constant) / constant
    else:
        noisy = pixels + pixels * constant * ndtri(numbers)
    expected = (np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    expected[(RAMP[0] == 0) & (name != "gaussian_noise")] = 0
    np.testing.assert_array_equal(perturb(RAMP, name)[0, 1], expected)


@pytest.mark.parametrize("bits", [3, 8, 12])
def test_a_guide_of_any_size_picks_the_same(bits: int) -> None:
    distributions = np.cumsum([[0.1, 0.2, 0.3, 0.4], [0.0, 1e-9, 0.5, 0.499999999], [0.25] * 4], axis=1)
    words = rng(0, "words").integers(0, 2**32, (3, 5000), dtype=np.uint32)
    words[:, :3] = 0, 2**32 - 1, 2**31
    rows = np.repeat(np.arange(3), 5000).reshape(3, 5000)
    expected = [(row[:-1, None] * 2**32 <= own).sum(0) for row, own in zip(distributions, words, strict=True)]
    np.testing.assert_array_equal(Quantiles.of(distributions, bits).pick(words, rows), expected)


def test_words_are_uniform_and_belong_to_their_picture() -> None:
    stream = Stream(seed=3, name="x", difficulty=1, indices=np.array([5, 2, 2, 6]))
    parts = np.stack(list(stream.words(3, 7001)))
    assert parts.shape == (3, 4, 7001)
    assert parts.dtype == np.uint32
    np.testing.assert_array_equal(parts[:, 1], parts[:, 2])
    others = Stream(seed=3, name="x", difficulty=1, indices=np.arange(7))
    np.testing.assert_array_equal(np.stack(list(others.words(3, 7001)))[:, [5, 2, 2, 6]], parts)
    distinct = parts[:, [0, 1, 3]].reshape(9, -1)
    assert len(np.unique(distinct)) > 0.99 * distinct.size
    counts = np.bincount(distinct.ravel() >> 26, minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-4
