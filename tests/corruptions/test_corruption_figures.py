"""What the original code makes, in figures: check sums for given draws, and statistics over real pictures.

Both were measured on the functions of hendrycks/robustness@8190fe3 with NumPy 1.23, SciPy 1.9, scikit-image 0.21,
OpenCV 4.8 and Pillow 9.5; motion blur there needs ImageMagick and was computed by its published formula instead. Check
sums need nothing but the same draws; statistics are those of the first 1,000 test pictures of CIFAR-10, each corrupted
once.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.corruptions import NAMES, corrupt
from pixmix_ray.corruptions.c.blur import blurred_along, displaced, smoothed
from pixmix_ray.corruptions.c.elastic import deformed
from pixmix_ray.corruptions.c.severities import SEVERITIES
from pixmix_ray.corruptions.c.spatter import with_mud, with_water
from pixmix_ray.corruptions.c.weather import flakes, plasma, with_fog, with_snow
from pixmix_ray.corruptions.corruption import Constants, Images, floor8

Floats = NDArray[np.float64]

SHEETS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cifar10" / "cifar10_test_webp_sheets.zip"


def numbers(*shape: int) -> Floats:
    """Uniform numbers that every version of NumPy draws alike."""
    return np.random.Generator(np.random.Philox(key=7)).random(shape)


def pictures() -> Images:
    """Ramps with flat areas, grain, and both."""
    rows, columns = np.mgrid[:32, :32]
    ramps = np.stack([8 * rows // 3, 255 - columns // 4 * 32, np.full((32, 32), 128)], -1)
    grain = numbers(32, 32, 3)
    return np.stack([ramps, 255 * grain, ramps[::-1, :, ::-1] // 2 + 60 * grain]).astype(np.uint8)


def _glass(images: Images, constants: Constants, drawn: Floats) -> Images:
    sigma, times = constants[0], int(constants[2])
    offsets = np.floor(2 * drawn[:, : times * 1800]).astype(np.intp).reshape(3, times, 30, 30, 2) - 1
    moved = displaced((smoothed(images / 255.0, sigma) * 255).astype(np.uint8), offsets)
    return floor8(smoothed(moved / 255.0, sigma))


def _snow(images: Images, constants: Constants, drawn: Floats) -> Images:
    mean, std, *rest = constants
    layers = mean + std * (4 * drawn[:, :1024].reshape(3, 32, 32) - 2)
    return with_snow(images, flakes(layers, -135 + 90 * drawn[:, 1024], *rest[:4]), rest[4])


def _elastic(images: Images, constants: Constants, drawn: Floats) -> Images:
    alpha, sigma, jitter = constants
    corners = -jitter + 2 * jitter * drawn[:, :6].reshape(3, 3, 2)
    return deformed(images, corners, 2 * drawn[:, 6:2054].reshape(3, 2, 32, 32) - 1, alpha, sigma)


def _spatter(images: Images, constants: Constants, drawn: Floats) -> Images:
    mean, std, sigma, threshold, strength, is_mud = constants
    layers = smoothed(mean + std * (4 * drawn[:, :1024].reshape(3, 32, 32) - 2), sigma)
    if is_mud:
        return with_mud(images, layers > threshold, strength)
    return with_water(images, np.where(layers < threshold, 0.0, layers), strength)


GIVEN_DRAWS: dict[str, Callable[[Images, Constants, Floats], Images]] = {
    "glass_blur": _glass,
    "motion_blur": lambda images, c, drawn: blurred_along(images, c[0], c[1], -45 + 90 * drawn[:, 0]),
    "snow": _snow,
    "fog": lambda images, c, drawn: with_fog(images, plasma(drawn[:, :1023], c[1]), c[0]),
    "elastic_transform": _elastic,
    "spatter": _spatter,
}

CHECK_SUMS = {
    "glass_blur": (1751927267, 3462498692, 2373349572, 3195385927, 677714485),
    "motion_blur": (477754262, 1308290722, 1535264808, 1535264808, 2680691348),
    "zoom_blur": (3255603812, 3614482355, 3866650257, 38151021, 1369348754),
    "snow": (3493585609, 2279582238, 3872171223, 3421198014, 2762597752),
    "fog": (3152217110, 615285374, 3412047151, 822971290, 3457459120),
    "elastic_transform": (3091729449, 508006592, 3608579, 3056764286, 1950814057),
    "spatter": (247775195, 263068782, 2455542856, 2814222598, 2281272557),
    "saturate": (996546320, 3858116068, 1017793032, 3520173615, 4136900518),
    "brightness": (699734512, 2620526051, 1645278595, 2613346071, 620714599),
    "defocus_blur": (2135362427, 1646927490, 2248064321, 1245002119, 2264088314),
}
"""zlib.crc32 of the original's output for `pictures()` with the draws above, at severities 1 to 5.

Gaussian blur is not here: the last bit of its taps depends on the version of NumPy (see test_moving_blurs.py).
"""


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("name", CHECK_SUMS)
def test_the_bytes_are_those_of_the_original(name: str, severity: int) -> None:
    images, drawn = pictures(), numbers(3, 4096)
    constants = SEVERITIES["cifar"][name][severity - 1]
    given = GIVEN_DRAWS.get(name)
    found = given(images, constants, drawn) if given else corrupt(images, name, severity)
    assert zlib.crc32(found.tobytes()) == CHECK_SUMS[name][severity - 1]


FIGURES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "gaussian_noise": (
        (8.002, -0.536, 10.067),
        (11.905, -0.552, 14.993),
        (15.766, -0.554, 19.862),
        (17.65, -0.574, 22.241),
        (19.51, -0.566, 24.594),
    ),
    "shot_noise": (
        (5.927, -0.599, 7.746),
        (8.332, -0.69, 10.885),
        (13.058, -0.908, 17.032),
        (15.017, -0.95, 19.571),
        (18.26, -1.239, 23.748),
    ),
    "impulse_noise": (
        (1.272, 0.06, 14.267),
        (2.553, 0.108, 20.208),
        (3.822, 0.166, 24.724),
        (6.391, 0.287, 31.962),
        (8.934, 0.379, 37.823),
    ),
    "defocus_blur": (
        (1.378, -0.504, 1.992),
        (3.315, -0.516, 5.032),
        (4.996, -0.528, 7.63),
        (6.514, -0.53, 9.979),
        (9.276, -0.507, 14.162),
    ),
    "glass_blur": (
        (11.152, 0.299, 22.29),
        (11.302, -0.702, 22.041),
        (11.045, -0.691, 20.145),
        (18.062, -0.356, 31.835),
        (17.393, -0.403, 29.8),
    ),
    "motion_blur": (
        (6.975, -0.558, 11.487),
        (10.358, -0.541, 16.648),
        (13.042, -0.597, 20.595),
        (13.096, -0.631, 20.646),
        (15.303, -0.512, 23.738),
    ),
    "zoom_blur": (
        (8.753, -0.506, 14.422),
        (10.305, -0.826, 16.919),
        (12.302, -0.98, 19.952),
        (14.357, -1.226, 22.925),
        (16.33, -1.418, 25.637),
    ),
    "snow": (
        (10.669, 10.669, 8.164),
        (23.587, 23.587, 12.515),
        (25.145, 25.145, 17.122),
        (36.8, 36.8, 19.893),
        (51.341, 51.341, 23.27),
    ),
    "frost": (
        (30.673, 30.673, 10.963),
        (44.723, 44.723, 16.935),
        (48.854, 48.802, 22.777),
        (44.892, 44.486, 23.383),
        (43.409, 41.526, 27.901),
    ),
    "fog": (
        (10.975, -1.06, 13.384),
        (21.389, -1.463, 26.136),
        (27.298, -2.139, 33.444),
        (32.262, -1.301, 39.642),
        (39.047, -1.587, 47.863),
    ),
    "brightness": (
        (10.03, 10.029, 2.838),
        (20.295, 20.295, 6.188),
        (30.1, 30.1, 9.816),
        (39.35, 39.35, 13.658),
        (55.869, 55.868, 21.733),
    ),
    "contrast": (
        (10.68, -0.5, 13.413),
        (21.351, -0.5, 26.821),
        (25.621, -0.499, 32.184),
        (29.89, -0.499, 37.548),
        (36.295, -0.5, 45.594),
    ),
    "elastic_transform": (
        (21.968, -0.605, 35.84),
        (20.007, -0.598, 32.998),
        (17.818, -0.776, 29.511),
        (16.375, -0.664, 27.102),
        (13.478, -0.576, 22.566),
    ),
    "pixelate": (
        (1.779, 0.062, 6.014),
        (3.397, 0.123, 8.485),
        (4.13, 0.154, 9.399),
        (6.216, 0.246, 11.773),
        (8.631, 0.369, 14.403),
    ),
    "jpeg_compression": (
        (5.322, -0.021, 7.487),
        (6.589, -0.014, 9.18),
        (7.021, -0.015, 9.758),
        (7.478, -0.016, 10.36),
        (8.09, -0.001, 11.169),
    ),
    "speckle_noise": (
        (5.684, -0.671, 7.985),
        (9.341, -0.885, 13.11),
        (11.142, -1.039, 15.617),
        (14.692, -1.366, 20.538),
        (18.153, -1.784, 25.312),
    ),
    "gaussian_blur": (
        (1.334, -0.5, 1.912),
        (4.902, -0.499, 7.457),
        (6.269, -0.499, 9.522),
        (7.431, -0.496, 11.247),
        (9.446, -0.488, 14.161),
    ),
    "spatter": (
        (0.991, 0.991, 7.641),
        (2.767, 2.767, 12.598),
        (6.745, 6.745, 17.663),
        (3.047, -2.898, 18.158),
        (5.081, -4.813, 23.068),
    ),
    "saturate": (
        (11.525, 11.525, 17.732),
        (14.888, 14.888, 22.836),
        (8.043, -8.043, 11.243),
        (20.295, -20.295, 23.441),
        (29.527, -29.527, 32.736),
    ),
}
"""Of output minus picture, in grey levels: mean absolute value, mean and standard deviation, at severities 1 to 5."""

CHOSEN = [pytest.param(severity, marks=() if severity == 3 else pytest.mark.drill) for severity in range(1, 6)]
"""One by default, all as drills: they take long and hold the same code."""


@pytest.fixture(scope="module")
def real_pictures() -> Images:
    with zipfile.ZipFile(SHEETS) as archive:
        first = min(name for name in archive.namelist() if name.endswith(".webp"))
        sheet = np.asarray(Image.open(io.BytesIO(archive.read(first))).convert("RGB"))
    return sheet.reshape(-1, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)[:1000]


@pytest.mark.skipif(not SHEETS.is_file(), reason="needs the CIFAR-10 test pictures")
@pytest.mark.parametrize("severity", CHOSEN)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "frost"])  # whose figures are those of its pictures
def test_statistics_are_within_three_percent_of_the_original(name: str, severity: int, real_pictures: Images) -> None:
    change = (corrupt(real_pictures, name, severity).astype(float) - real_pictures).reshape(len(real_pictures), -1)
    error, mean, deviation = FIGURES[name][severity - 1]

    def bound(per_picture: Floats) -> float:  # or four standard errors of the difference of two such samples
        return max(0.03 * error, 4 * float(per_picture.std()) * math.sqrt(2 / len(per_picture)))

    errors, means = np.abs(change).mean(axis=1), change.mean(axis=1)
    assert errors.mean() == pytest.approx(error, abs=bound(errors))
    assert means.mean() == pytest.approx(mean, abs=bound(means))
    assert change.std() == pytest.approx(deviation, rel=0.03)
