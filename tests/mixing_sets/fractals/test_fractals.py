"""Generated fractals: repeatable, independent of each other, colourful, and neither flat nor noise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from pixmix_ray.cache import read_manifest
from pixmix_ray.mixing_sets import Fractals, Pictures
from pixmix_ray.mixing_sets.base import entry_name
from pixmix_ray.mixing_sets.fractals.escape_time import render_escapes
from pixmix_ray.mixing_sets.fractals.flame import CLASSICS, MAX_MAPS, VARIATIONS, Systems, draw_systems, render
from pixmix_ray.mixing_sets.fractals.fractals import choose_escapes, choose_systems, complexity


@pytest.fixture(scope="module")
def systems() -> Systems:
    return choose_systems(0, np.arange(64))


def images_of(pictures: Pictures) -> NDArray[np.uint8]:
    return np.stack([pictures[index] for index in range(len(pictures))])


def test_pictures_have_the_size_that_was_asked_for_and_repeat_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    mixing_set = Fractals(count=5, seed=11)
    first = mixing_set.pictures(36)
    assert images_of(first).shape == (5, 36, 36, 3) and first.pixels.dtype == np.uint8
    assert first.version == mixing_set.version()
    again = mixing_set.draw(np.arange(5), 36)
    assert np.array_equal(again, images_of(first))
    monkeypatch.setattr(Fractals, "draw", None)  # the second call opens what the first one made
    assert np.array_equal(mixing_set.pictures(36).pixels, first.pixels)


def test_the_first_pictures_do_not_depend_on_the_count() -> None:
    few, more = (images_of(Fractals(count=count, seed=2).pictures(16)) for count in (3, 9))
    assert np.array_equal(few, more[:3])


def test_a_picture_does_not_depend_on_the_order_and_on_what_else_is_drawn() -> None:
    mixing_set = Fractals(seed=5)
    some, reordered = mixing_set.draw(np.arange(12), 32), mixing_set.draw(np.array([7, 3, 11]), 32)
    # sums of floats may differ by the shape of the arrays that they are in
    assert np.abs(some[[7, 3, 11]].astype(int) - reordered).max() <= 1


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 64), (0.5, 32)])
def test_the_share_of_escape_time_fractals_is_the_setting(
    share: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def choose(seed: int, indices: NDArray[np.int64]) -> Systems:
        asked.append(len(indices))
        return draw_systems(seed, [0], indices)

    monkeypatch.setattr("pixmix_ray.mixing_sets.fractals.fractals.choose_systems", choose)
    monkeypatch.setattr("pixmix_ray.mixing_sets.fractals.fractals.choose_escapes", choose)
    monkeypatch.setattr("pixmix_ray.mixing_sets.fractals.fractals.render_escapes", render)
    Fractals(escape_time=share).draw(np.arange(64), 8)
    assert asked[0] + asked[1] == 64 and abs(asked[1] - expected) <= (8 if expected == 32 else 0)


def test_the_manifest_holds_generator_seed_and_count() -> None:
    mixing_set = Fractals(count=2, seed=77)
    mixing_set.pictures(16)
    manifest = read_manifest(entry_name(mixing_set.version(), 16))
    assert manifest is not None and manifest["generator_version"] == Fractals.generator_version
    assert manifest["settings"] == {"count": 2, "seed": 77, "escape_time": 0.5}
    assert manifest["files"]["heights.npy"]["shape"] == [2]


def test_a_picture_does_not_depend_on_which_others_are_rendered_with_it(systems: Systems) -> None:
    together = render(systems[np.arange(12)], 32)
    alone = np.concatenate([render(systems[np.array([index])], 32) for index in range(12)])
    assert np.abs(together - alone).max() < 1e-5


def test_another_size_shows_the_same_picture(systems: Systems) -> None:
    some = systems[np.arange(16)]
    small, large = render(some, 32), render(some, 64).reshape(16, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, large, strict=True)]
    strange = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, np.roll(large, 1, axis=0), strict=True)]
    assert np.median(alike) > 0.8 > 0.5 > np.median(strange)


def test_versions_tell_settings_apart_and_draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmix_ray.mixing_sets.fractals.fractals.draw_systems", None)
    versions = {Fractals(count=count, seed=seed).version() for count in (1, 2) for seed in (0, 1, -1)}
    versions.add(Fractals(count=1, escape_time=0).version())
    assert len(versions) == 7 and all(
        version.startswith(f"fractals-{Fractals.generator_version}-") for version in versions
    )


@pytest.mark.parametrize("count", [0, -5])
def test_there_must_be_a_picture(count: int) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Fractals(count=count)


def test_other_seeds_and_other_indices_are_other_pictures() -> None:
    images = np.concatenate([images_of(Fractals(count=6, seed=seed).pictures(16)) for seed in (3, 4)])
    assert len({image.tobytes() for image in images}) == 12


def test_complexity_of_known_pictures() -> None:
    noise = np.random.default_rng(0).random((1, 64, 64, 1)).repeat(3, axis=-1)
    flat = np.full((1, 64, 64, 3), 0.5)
    columns = np.broadcast_to((np.arange(64) // 8 % 2.0)[None, None, :, None], (1, 64, 64, 3))
    contrast, detail, coherence = complexity(np.concatenate([noise, flat, columns])).T
    # By hand: uniform noise has the standard deviation 1/sqrt(12), and a mean of four a quarter of the variance.
    assert contrast == pytest.approx([12**-0.5, 0, 0.5], abs=0.01)
    assert coherence == pytest.approx([0.25, 0, 1], abs=0.02)
    # By hand: stripes of 8 change at 7 of the 63 borders between columns. Noise: a border is small with
    # probability 1 - 0.95**2 = 0.0975, and both of a pixel's borders with about its square, 0.0096.
    assert detail == pytest.approx([1 - 0.0096, 0, 7 / 63], abs=0.005)


def test_every_chosen_picture_has_structure(systems: Systems) -> None:
    images = np.concatenate([render(systems, 32), render_escapes(choose_escapes(0, np.arange(24)), 32)])
    contrast, detail, coherence = complexity(images).T
    assert contrast.min() > 0.1 and detail.min() > 0.45 and coherence.min() > 0.5


def test_the_pictures_are_colourful_and_different(systems: Systems) -> None:
    images = render(systems, 32)
    saturation = (images.max(axis=-1) - images.min(axis=-1)).mean(axis=(1, 2))
    assert np.median(saturation) > 0.15
    middle = images.mean(axis=(1, 2))
    assert middle.std(axis=0).min() > 0.08  # every channel varies over the pictures
    assert 0.25 < images.mean() < 0.5
    flat = images.reshape(len(images), -1)
    flat = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    correlations = flat @ flat.T / flat.shape[1] - np.eye(len(flat))
    assert correlations.max() < 0.95  # no two are nearly the same


def test_random_maps_have_the_prescribed_singular_values() -> None:
    candidates = draw_systems(0, [0], np.arange(300))
    values = np.linalg.svd(candidates.affine[..., :4].reshape(300, MAX_MAPS, 2, 2), compute_uv=False)
    num_maps = (values[..., 0] > 0).sum(axis=1)
    # Anderson and Farrell: the sum of s1 + 2 s2 over n maps lies between (5 + n) / 2 and (6 + n) / 2.
    sums = (values[..., 0] + 2 * values[..., 1]).sum(axis=1)
    is_random = num_maps < MAX_MAPS  # the classic ones have six maps, some of weight 0, all shaken
    assert is_random.mean() == pytest.approx(0.8, abs=0.1)
    inside = ((5 + num_maps) / 2 - 1e-3 < sums) & (sums < (6 + num_maps) / 2 + 1e-3)
    assert inside[is_random].mean() > 0.8  # the others were cut at 0.95, below the sum
    assert (sums < (6 + num_maps) / 2 + 1e-3)[is_random].all() and values[is_random].max() < 0.9501


def test_the_first_good_candidate_is_taken_however_many_are_tried_at_once() -> None:
    together, alone = choose_systems(0, np.arange(20)), choose_systems(0, np.array([17]))
    assert np.array_equal(together.affine[17], alone.affine[0])
    escapes, alone_too = choose_escapes(0, np.arange(12)), choose_escapes(0, np.array([9]))
    assert np.array_equal(escapes.middle[9], alone_too.middle[0])
    assert np.array_equal(escapes.constant[9], alone_too.constant[0])


def sierpinski() -> Systems:
    """One exact Sierpinski triangle, plain."""
    affine, weights = np.zeros((1, MAX_MAPS, 6), np.float32), np.zeros(MAX_MAPS)
    affine[0, :3], weights[:3] = np.array(CLASSICS[0])[:, :6], 1
    single = np.zeros(1, np.float32)
    return Systems(
        affine=affine,
        thresholds=(np.cumsum(weights) / 3)[None].astype(np.float32),
        colours=np.zeros((1, MAX_MAPS), np.float32),
        variation=np.zeros(1, np.int64),
        curved=single,
        rotations=np.ones(1, np.int64),
        palette=np.zeros((1, 3, 3), np.float32),
        tone=np.zeros((1, 3), np.float32),
        zoom=single,
    )


def test_the_sierpinski_triangle_has_its_holes() -> None:
    # Known: the middle of the triangle is empty, and the corners are full. The window leaves out 3 % of the points on
    # each side, so it starts near the corners; rows count from the base upwards.
    light = render(sierpinski(), 64)[0].mean(axis=-1)
    hole, corners = light[12:26, 30:34], [light[:8, :8], light[:8, -8:], light[-8:, 28:36]]
    assert hole.max() < 0.5 * min(corner.mean() for corner in corners)


def test_every_variation_is_finite_and_bounded_where_it_must_be() -> None:
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(-3, 3, 61, dtype=np.float32)] * 2))
    for variation in VARIATIONS:
        new_x, new_y = variation(x, y)
        assert np.isfinite(new_x).all() and np.isfinite(new_y).all()
        assert np.hypot(new_x, new_y).max() < 6


def test_systems_are_not_changed_by_rendering(systems: Systems) -> None:
    some = systems[np.arange(3)]
    before = some.affine.copy(), some.thresholds.copy(), some.palette.copy()
    render(some, 16)
    after = some.affine, some.thresholds, some.palette
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
