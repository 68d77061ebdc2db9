"""Each corruption of C-bar beside its definition, written out pixel by pixel, on given draws."""

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pixmix_ray.corruptions.cbar.overlays import through_star, with_checkerboard, with_lines, with_stars
from pixmix_ray.corruptions.cbar.patterns import blackened, spectral_noise, with_brownish_noise
from pixmix_ray.corruptions.cbar.warps import caustics, circular_motion_blur, enlarged, refracted, rippled, twirled
from pixmix_ray.seeding import rng

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]
PixelAt = Callable[..., object]

SIZES = [(16, 16), (13, 18), (9, 7)]


def pictures(height: int, width: int) -> Picture:
    """Two pictures: grain on a slope, and two flat halves, where a blend should be a whole grey level."""
    generator = rng(0, "bar reference pictures", height, width)
    slope = np.linspace(20, 200, height)[:, None, None] + generator.normal(0, 30, (height, width, 3))
    halves = np.full((height, width, 3), 128.0)
    halves[:, width // 2 :] = (255, 0, 77)
    return as_bytes(np.stack((slope, halves)))


def draw(*shape: int, name: str = "bar reference draws") -> Floats:
    return rng(1, name, *shape).random(shape)


def as_bytes(values: Floats) -> Picture:
    truncated: Picture = np.clip(values, 0, 255).astype(np.uint8)
    return truncated


def by_pixel(height: int, width: int, at: PixelAt, *arguments: object) -> Floats:
    """What `at(row, column, *arguments)` gives for every pixel."""
    return np.array([[at(row, column, *arguments) for column in range(width)] for row in range(height)], np.float64)


def read(picture: NDArray[np.generic], row: float, column: float) -> Floats:
    """The four pixels around a position, blended; black outside."""
    top, left = math.floor(row), math.floor(column)
    blend = np.zeros(3)
    for r, row_weight in ((top, 1 - (row - top)), (top + 1, row - top)):
        for c, column_weight in ((left, 1 - (column - left)), (left + 1, column - left)):
            if 0 <= r < picture.shape[0] and 0 <= c < picture.shape[1]:
                blend += row_weight * column_weight * picture[r, c].astype(np.float64)
    return blend


def assert_equal_but_for(share: float, corrupted: Picture, reference: list[Picture]) -> None:
    """Bytes are equal, but for a share of them that differs by one: other orders of adding, then truncation."""
    differences = np.abs(corrupted.astype(int) - np.stack(reference))
    assert differences.max() <= 1
    assert (differences > 0).mean() <= share


def phases_by_column(height: int, width: int, numbers: Floats) -> Floats:
    """All phases from those of one half: the same at both ends of every line through the middle."""
    flat = np.zeros(height * width)
    for index, number in enumerate(numbers):
        flat[index] = flat[-1 - index] = number
    return flat.reshape(width, height).T


def noise_by_definition(height: int, width: int, power: Callable[[float], float], numbers: Floats) -> Floats:
    phases = phases_by_column(height, width, numbers)
    waves = []
    for row in range(height):
        for column in range(width):
            amplitude = power(math.dist((row, column), (height / 2, width / 2)))
            waves.append((row + height // 2, column + width // 2, amplitude * cmath.exp(1j * phases[row, column])))

    def at(row: int, column: int) -> float:
        angles = ((u * row / height + v * column / width, wave) for u, v, wave in waves)
        return sum((wave * cmath.exp(2j * math.pi * angle)).real for angle, wave in angles)

    noise = by_pixel(height, width, at)
    normed: Floats = noise / noise.std()
    return normed


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 6), (6, 7), (7, 5)])
def test_spectral_noise_is_the_sum_of_its_waves(height: int, width: int) -> None:
    phases = math.tau * draw(height * width // 2)
    blue = np.hypot(np.arange(height)[:, None] - height / 2, np.arange(width) - width / 2)
    np.testing.assert_allclose(
        spectral_noise(phases, blue), noise_by_definition(height, width, lambda r: r, phases), atol=1e-12
    )
    np.testing.assert_allclose(
        spectral_noise(phases, 1 / (blue**2 + 1)),
        noise_by_definition(height, width, lambda r: 1 / (r**2 + 1), phases),
        atol=1e-12,
    )


def test_blue_noise_blacks_out_whole_pixels_and_brownish_noise_is_one_a_channel() -> None:
    images = pictures(8, 8)
    phases = math.tau * draw(2, 3, 32)
    blue = [noise_by_definition(8, 8, lambda r: r, row) for row in phases[:, 0]]
    expected = [np.where((noise > -1.1)[..., None], image, 0) for image, noise in zip(images, blue, strict=True)]
    np.testing.assert_array_equal(blackened(images, phases[:, 0], -1.1), expected)
    brown = [[noise_by_definition(8, 8, lambda r: 1 / (r * r + 1), row) for row in rows] for rows in phases]
    added = [as_bytes(image + 30 * np.stack(noise, axis=2)) for image, noise in zip(images, brown, strict=True)]
    assert_equal_but_for(0, with_brownish_noise(images, phases, 30), added)


@dataclass(frozen=True, kw_only=True)
class Star:
    centre: Floats
    lengths: Floats
    num_rays: int

    def light(self, row: int, column: int, sharpness: float) -> float:
        down, across = row - self.centre[0], column - self.centre[1]
        turn = (math.atan2(across, down) + math.pi) / (2 * math.pi) * self.num_rays
        ray = int(turn)
        share = turn - ray
        one, next_one = (self.lengths[index % self.num_rays] for index in (ray, ray + 1))
        length = one + share * (next_one - one)
        fall = (length**2 / (math.hypot(down, across) ** 2 + 1e-4)) ** sharpness
        return float(min(max((1 - (share - 0.5) ** 2) * fall, 0), 1))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sparkles_light_each_pixel_by_its_distance_from_the_stars(height: int, width: int) -> None:
    images = pictures(height, width)
    centres, lengths = draw(2, 5, 2) * (height, width), 1 + 2 * draw(2, 5, 60)
    num_rays = (50 + 10 * draw(2, 5)).astype(np.intp)
    expected = []
    for index, image in enumerate(images):
        values = image.astype(np.float64)
        for k in range(5):
            star = Star(centre=centres[index, k], lengths=lengths[index, k], num_rays=int(num_rays[index, k]))
            light = by_pixel(height, width, star.light, 1)
            values = values + light[..., None] * (255 - values)
        expected.append(as_bytes(values))
    assert_equal_but_for(0.002, with_stars(images, centres, lengths, num_rays), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_inverse_sparkles_fade_to_white_around_the_star(height: int, width: int) -> None:
    images = pictures(height, width)
    centres, lengths = draw(2, 2) * (height, width), 3 + draw(2, 70)
    num_rays = np.array([70, 51])
    expected = []
    for index, image in enumerate(images):
        star = Star(centre=centres[index], lengths=lengths[index], num_rays=int(num_rays[index]))
        light = by_pixel(height, width, star.light, 0.325)
        expected.append(as_bytes(255 + light[..., None] * (image - 255.0)))
    assert_equal_but_for(0.002, through_star(images, centres, lengths, num_rays, 0.325), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_checkerboard_square_is_grey_when_it_is_dark_and_drawn(height: int, width: int) -> None:
    images = pictures(height, width)
    angles, cells, is_cut = np.array([0.7, 4.4]), np.array([2.3, 1.6]), draw(2, 40, 40) < 0.5

    def is_grey(index: int, row: int, column: int) -> bool:
        cos, sin = math.cos(angles[index]), math.sin(angles[index])
        along, across = (cos * row + sin * column) / cells[index], (-sin * row + cos * column) / cells[index]
        is_dark = int(along % 2) == int(across % 2)
        return is_dark and bool(is_cut[index][int(along), int(across)])  # negative: from the end, as in NumPy

    expected = [
        by_pixel(
            height, width, lambda row, column, k: [128] * 3 if is_grey(k, row, column) else images[k, row, column], k
        )
        for k in range(2)
    ]
    np.testing.assert_array_equal(with_checkerboard(images, angles, cells, is_cut), expected)


def line_by_stepping(start: tuple[int, int], end: tuple[int, int]) -> dict[tuple[int, int], float]:
    """The anti-aliased line that goes from pixel to pixel and carries its error along, after Bresenham and Zingl."""
    (row, column), (last_row, last_column) = start, end
    height, width = abs(last_row - row), abs(last_column - column)
    row_step, column_step = (1 if last_row > row else -1), (1 if last_column > column else -1)
    length = math.hypot(height, width) or 1
    error = width - height
    covered: dict[tuple[int, int], float] = {}
    while True:
        covered[row, column] = 1 - abs(error - width + height) / length
        before, column_before = error, column
        if 2 * before >= -width:
            if column == last_column:
                return covered
            if before + height < length:
                covered[row + row_step, column] = 1 - abs(before + height) / length
            error -= height
            column += column_step
        if 2 * before <= height:
            if row == last_row:
                return covered
            if width - before < length:
                covered[row, column_before + column_step] = 1 - abs(width - before) / length
            error += width
            row += row_step


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lines_are_those_that_step_from_pixel_to_pixel(height: int, width: int) -> None:
    images = pictures(height, width)
    ends = rng(2, "line ends", height, width).integers(-6, 22, (2, 40, 2, 2))
    ends[0, 0, 1] = ends[0, 0, 0] + (0, 9)  # level, upright, diagonal and of one pixel
    ends[0, 1, 1] = ends[0, 1, 0] - (9, 0)
    ends[0, 2] = ((0, 5), (5, 0))
    ends[0, 3] = 4
    for first in range(0, 40, 4):
        group = ends[:, first : first + 4]
        expected = images.copy()
        for image, lines in zip(expected, group, strict=True):
            for start, end in lines:
                for (row, column), share in line_by_stepping(tuple(start), tuple(end)).items():
                    if 0 <= row < height and 0 <= column < width:
                        image[row, column] = ((1 - share) * image[row, column] + share * 128).astype(np.uint8)
        np.testing.assert_array_equal(with_lines(images, group[:, :, 0], group[:, :, 1]), expected)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (32, 32)])
def test_whirls_move_pixels_within_their_circle_one_after_the_other(height: int, width: int) -> None:
    images = pictures(height, width)
    angles, amount = np.where(draw(2, 3, 3) < 0.5, 1.0, -1.0), 0.36
    cell = min(height, width) // 3
    expected = []
    for index, image in enumerate(images):
        values = image.astype(np.float64)
        for i in range(3):
            for j in range(3):  # i goes along the columns, j along the rows; each reads what is written so far
                middle = (j * cell + cell / 2, i * cell + cell / 2)
                before = values.copy()
                for row in range(j * cell, (j + 1) * cell):
                    for column in range(i * cell, (i + 1) * cell):
                        share = math.dist((row, column), middle) / (cell / 2)
                        if 0 < share <= 1:
                            pinch = math.sin(math.pi * share / 2) ** -amount
                            angle = angles[index, i, j] * (1 - share) ** 2
                            down, across = pinch * (row - middle[0]), pinch * (column - middle[1])
                            cos, sin = math.cos(angle), math.sin(angle)
                            values[row, column] = read(
                                before, middle[0] + down * cos - across * sin, middle[1] + down * sin + across * cos
                            )
        expected.append(as_bytes(values))
    corrupted = twirled(images, angles, amount)
    assert_equal_but_for(0.02, corrupted[:1], expected[:1])
    assert_equal_but_for(0.25, corrupted[1:], expected[1:])  # flat halves: single precision decides


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ripples_move_rows_and_columns_by_sines(height: int, width: int) -> None:
    images = pictures(height, width)
    wavelengths, phases = 3 + 5 * draw(2, 2), 6 * draw(2, 2, name="phases")

    def moved(position: int, index: int, axis: int) -> float:
        wave = math.sin(2 * math.pi * position / wavelengths[index, axis] + phases[index, axis])
        return float(position + 1.7 * wave)

    expected = [
        as_bytes(
            by_pixel(height, width, lambda row, column, k: read(images[k], moved(row, k, 0), moved(column, k, 1)), k)
        )
        for k in range(2)
    ]
    corrupted = rippled(images, 1.7, wavelengths, phases)
    assert_equal_but_for(0.005, corrupted[:1], expected[:1])
    assert_equal_but_for(0.25, corrupted[1:], expected[1:])  # flat halves: the order of adding decides


def caustic_by_pixel(row: int, column: int, time: float, scale: float) -> float:
    place = (np.array((row, column)) / scale % 1) * 6.28318530718 - 250
    moved, light = place.copy(), 1.0
    for step in range(1, 6):
        t = time * (1 - 3.5 / step)
        down, across = moved
        wave = (math.cos(t - down) + math.sin(t + across), math.sin(t - across) + math.cos(t + down))
        moved = place + wave
        light += 1 / math.hypot(place[0] * 0.005 / math.sin(moved[0] + t), place[1] * 0.005 / math.cos(moved[1] + t))
    return float(min(abs(1.17 - (light / 5) ** 1.4) ** 8, 1))


def bent(normal: Floats) -> Floats:
    """A ray from above at a surface: where it goes, in the plane of ray and normal, by Snell's law with index 4."""
    ray = np.array([0.0, 0.0, 1.0])
    if abs(ray @ normal) >= 1 - 1e-3:
        return ray
    angle = math.asin(math.sin(math.acos(ray @ normal)) / 4)
    aside = np.cross(ray, normal)
    across = np.cross(normal, aside / np.linalg.norm(aside))
    bent_ray: Floats = math.cos(angle) * normal + math.sin(angle) * across
    return bent_ray


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_caustic_refraction_bends_and_lights_by_the_slope_of_the_waves(height: int, width: int) -> None:
    images = pictures(height, width)
    time, scale = np.array([0.9, 1.6]), np.array([12.0, 17.5])
    expected = []
    for image, t, size in zip(images, time, scale, strict=True):
        light = ndimage.gaussian_filter(
            by_pixel(height, width, caustic_by_pixel, t, size),
            sigma=1,
        )
        framed = np.pad(light, 1)
        values = np.zeros(image.shape)
        for row in range(height):
            for column in range(width):
                steep = framed[row + 2, column + 1] - framed[row, column + 1]
                oblique = framed[row + 1, column + 2] - framed[row + 1, column]
                normal = np.array([steep, oblique, 1.0]) / math.hypot(steep, oblique, 1.0)
                down, across = np.round(bent(normal) * 4.5, 3)[:2]
                values[row, column] = read(image, row + down, column + across) / 255 + (steep - oblique) * 0.9
        expected.append(as_bytes(values * 255))
    corrupted = refracted(images, caustics(images.shape, time, scale), 4.5, 0.9)
    assert_equal_but_for(0.01, corrupted[:1], expected[:1])
    assert_equal_but_for(0.25, corrupted[1:], expected[1:])  # flat halves: single precision decides


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 40), (8, 8), (70, 66)])  # the last is over MOST_PIXELS
@pytest.mark.parametrize("severity_number", [2.8, 6.0])
def test_circular_motion_blur_is_the_sum_of_scipys_turned_pictures(
    height: int, width: int, severity_number: float
) -> None:
    images = pictures(height, width)
    expected = []
    for image in images:
        total = np.zeros(image.shape, np.float32)
        for turn in range(-10, 11):
            angle = turn / 10 * 1.5 * severity_number
            turned = ndimage.rotate(image.astype(np.float32) / 255, angle, reshape=False)
            total += np.float32(math.exp(-2 * (turn / 10) ** 2)) * turned
        total /= np.float32(sum(math.exp(-2 * (turn / 10) ** 2) for turn in range(-10, 11)))
        expected.append(np.clip(total * 255, 0, 255).astype(np.uint8))

    def no_draws(count: int) -> Floats:
        raise AssertionError("circular motion blur draws nothing")

    corrupted = circular_motion_blur(images, (severity_number,), no_draws)
    assert_equal_but_for(0.003, corrupted, expected)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 40), (8, 8), (1, 5)])
@pytest.mark.parametrize("scale", [0.05, 0.25, 0.5])
def test_chromatic_aberration_is_scipys_zoom_of_each_channel(height: int, width: int, scale: float) -> None:
    images = pictures(height, width)
    scales = np.array([[1, 1 + scale / 2, 1 + scale], [1 + scale, 1, 1 + scale / 2]])
    expected = images.copy()
    for image, row in zip(expected, scales, strict=True):
        for channel in range(3):
            zoomed = ndimage.zoom(image[:, :, channel], row[channel], prefilter=False)
            top, left = (zoomed.shape[0] - height) // 2, (zoomed.shape[1] - width) // 2
            image[:, :, channel] = zoomed[top : top + height, left : left + width]
    np.testing.assert_array_equal(enlarged(images, scales), expected)
