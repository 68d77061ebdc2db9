"""FractalDB: the path of the plain loop, the stamps of the plain loop, categories that fill enough, grey and black."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.mixing_sets.fractals import fractaldb
from pixmix_ray.mixing_sets.fractals.fractaldb import (
    FEWEST_LIT,
    GREY,
    PADDING,
    SEARCH_POINTS,
    SEARCH_SIDE,
    SIDE,
    AffineSystems,
    FractalDb,
    find_categories,
    paths,
    pixels_of,
    stamped,
    weight_rows,
)
from pixmix_ray.seeding import rng

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def categories() -> AffineSystems:
    return find_categories(seed=1, count=4)


def plain_path(systems: AffineSystems, number: int, numbers: Floats) -> Floats:
    """The chaos game one point after the other, (2, P): the second implementation."""
    x, y, path = 0.0, 0.0, [(0.0, 0.0)]
    for value in numbers:
        chosen = min(int(np.searchsorted(systems.thresholds[number], value, side="right")), 6)
        a, b, c, d, e, f = systems.maps[number, chosen]
        x, y = a * x + b * y + e, c * x + d * y + f
        path.append((x, y))
    return np.array(path).T


def test_paths_are_those_of_the_plain_loop(categories: AffineSystems) -> None:
    numbers = np.random.default_rng(0).random(4999)
    together = paths(categories, numbers)
    assert together.shape == (2, 4, 5000)
    for number in range(2):
        assert np.abs(together[:, number] - plain_path(categories, number, numbers)).max() < 1e-9


def test_categories_fill_a_fifth_of_their_picture(categories: AffineSystems) -> None:
    numbers = rng(1, "fractaldb", "search walk").random(SEARCH_POINTS - 1)
    path = plain_path(categories, 0, numbers)
    low, high = path.min(axis=1, keepdims=True), path.max(axis=1, keepdims=True)
    column, row = ((path - low) / (high - low) * (SEARCH_SIDE - 2 * PADDING) + PADDING).astype(int)
    assert len(set(zip(column.tolist(), row.tolist(), strict=True))) >= FEWEST_LIT * SEARCH_SIDE**2


def test_categories_are_random_maps_with_probabilities_as_their_determinants(categories: AffineSystems) -> None:
    is_used = (categories.maps != 0).any(axis=2)
    assert ((is_used.sum(axis=1) >= 2) & (is_used.sum(axis=1) <= 7)).all() and np.abs(categories.maps).max() < 1
    a, b, c, d = np.moveaxis(categories.maps[..., :4], -1, 0)
    determinants = np.abs(a * d - b * c)
    expected = determinants / determinants.sum(axis=1, keepdims=True)
    assert np.diff(categories.thresholds, axis=1, prepend=0) == pytest.approx(expected, abs=1e-12)


def test_candidates_have_2_to_7_maps_equally_often_and_uniform_numbers() -> None:
    maps = fractaldb._candidates(0, 0, np.arange(6000)).maps
    num_maps = (maps != 0).any(axis=2).sum(axis=1)
    assert np.bincount(num_maps, minlength=8)[2:] / 6000 == pytest.approx(np.full(6, 1 / 6), abs=0.02)
    numbers = maps[maps != 0]
    assert numbers.mean() == pytest.approx(0, abs=0.01) and numbers.std() == pytest.approx(3**-0.5, abs=0.01)


def test_the_first_categories_do_not_depend_on_how_many_there_are(categories: AffineSystems) -> None:
    assert np.array_equal(find_categories(seed=1, count=2).maps, categories.maps[:2])


def test_a_preview_gives_up_no_category(categories: AffineSystems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fractaldb, "PREVIEW_LIT", 0)
    assert np.array_equal(find_categories(seed=1, count=1).maps, categories.maps[:1])


def test_a_search_that_runs_out_of_attempts_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fractaldb, "FEWEST_LIT", 1.1)
    monkeypatch.setattr(fractaldb, "MAX_ATTEMPTS", 20)
    with pytest.raises(RuntimeError, match="no fractal"):
        find_categories(seed=1, count=2)


def test_stamps_are_those_of_pasting_one_after_the_other() -> None:
    generator = np.random.default_rng(3)
    pixels = generator.integers(6, 60, (2, 2, 4000))  # dense, so that stamps cover each other
    flat = pixels[0] * SIDE + pixels[1]
    patterns = generator.integers(1, 512, (2, SIDE * SIDE)).astype(np.int32)
    result = stamped(flat, patterns)
    for number in range(2):
        image = Image.new("L", (SIDE, SIDE))  # second implementation: Pillow's paste, point by point
        for row, column in pixels[:, number].T:
            bits = [int(bit) for bit in f"{patterns[number, row * SIDE + column]:09b}"]
            cell = np.array(bits, dtype=np.uint8).reshape(3, 3)
            image.paste(Image.fromarray(cell), (int(column) + 1, int(row) + 1))
        assert np.array_equal(result[number], np.asarray(image))


def test_points_are_stretched_to_the_padded_picture() -> None:
    # By hand: x from -1 to 3 and y from 0 to 1, in 350 of 362 pixels after 6.
    points = np.array([[[0, -1, 3, 1]], [[0, 1, 0.5, 0]]])
    assert pixels_of(points, 362).tolist() == [[6 * 362 + 93, 356 * 362 + 6, 181 * 362 + 356, 6 * 362 + 181]]


def test_a_path_that_leaves_all_bounds_is_cut_there() -> None:
    points = np.array([[[0, 1, 2, np.inf, np.nan]], [[0, 1, 1, 3, 5]]])
    assert pixels_of(points, 362)[0].tolist() == [6 * 362 + 6, 356 * 362 + 181, 356 * 362 + 356, *[6 * 362 + 6] * 2]


def test_weight_rows_are_those_of_the_reference_by_number() -> None:
    rows = weight_rows()
    assert rows.shape == (25, 6) and len(np.unique(rows, axis=0)) == 25
    assert ((rows != 1).sum(axis=1) <= 1).all() and set(rows.ravel()) == {0.2, 0.6, 1, 1.4, 1.8}


def test_pictures_are_black_and_one_grey_within_the_padding() -> None:
    images = FractalDb(count=6, seed=1).draw(np.arange(6), 36)
    assert images.shape == (6, SIDE, SIDE, 3) and set(np.unique(images)) == {0, GREY}
    assert (images == images[..., :1]).all()
    lit = images[..., 0] > 0
    assert np.median(lit.mean(axis=(1, 2))) > 0.05 and lit.mean() < 0.45
    # Stamps begin one pixel after the point, and end three after it: at most 3 pixels from the border, before a flip.
    border = np.ones((SIDE, SIDE), np.bool_)
    border[2:-2, 2:-2] = False
    assert not lit[:, border].any()


def test_a_category_comes_again_after_a_thousand_pictures_as_another_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fractaldb, "NUM_CATEGORIES", 2)
    mixing_set = FractalDb(count=6, seed=1)
    images = mixing_set.draw(np.array([0, 2, 4]), 36)
    monkeypatch.setattr(fractaldb, "weight_rows", lambda: np.ones((1, 6)))
    plain = mixing_set.draw(np.array([0, 2, 4]), 36)[..., 0] > 0
    assert len({image.tobytes() for image in images}) == 3 and len({image.tobytes() for image in plain}) == 3
    # Without factors instances differ by flips and stamps alone: each fills about the same share.
    shares = plain.mean(axis=(1, 2))
    assert shares == pytest.approx(np.full(3, shares[0]), rel=0.03)


def test_the_search_is_kept_for_other_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path))
    mixing_set = FractalDb(count=1, seed=1)
    first = mixing_set.pictures(20)
    monkeypatch.setattr(fractaldb, "find_categories", None)
    assert len(mixing_set.pictures(24)) == len(first) == 1
