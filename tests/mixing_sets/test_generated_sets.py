"""What all generators of Table 4 promise: sizes, repeatability, pictures that depend on their index alone."""

from importlib import import_module

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import Resize

from pixmix_ray.cache import read_manifest
from pixmix_ray.errors import DataError, RequestError
from pixmix_ray.mixing_sets import GeneratedSet, Pictures
from pixmix_ray.mixing_sets.base import entry_name
from pixmix_ray.mixing_sets.fractals.fractaldb import FractalDb
from pixmix_ray.mixing_sets.synthetic.dead_leaves import DeadLeaves
from pixmix_ray.mixing_sets.synthetic.spectrum_color_wmm import SpectrumColorWmm
from pixmix_ray.mixing_sets.synthetic.stylegan_oriented import StyleGanOriented

Images = NDArray[np.uint8]
NATIVE_SIDES: dict[type[GeneratedSet], int] = {
    DeadLeaves: 128,
    FractalDb: 362,
    SpectrumColorWmm: 128,
    StyleGanOriented: 256,
}
every_set = pytest.mark.parametrize("kind", NATIVE_SIDES)


def native(mixing_set: GeneratedSet, indices: list[int]) -> Images:
    """Pictures in the size in which they are drawn."""
    return mixing_set.draw(np.array(indices), 36)


def stacked(pictures: Pictures) -> Images:
    return np.stack([pictures[index] for index in range(len(pictures))])


def made(kind: type[GeneratedSet], **settings: object) -> GeneratedSet:
    return kind.read(settings, "mixing set")


@every_set
def test_pictures_have_the_size_that_was_asked_for_and_are_made_once(
    kind: type[GeneratedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    mixing_set = made(kind, count=3, seed=5)
    first = mixing_set.pictures(36)
    assert stacked(first).shape == (3, 36, 36, 3) and first.pixels.dtype == np.uint8
    assert first.version == mixing_set.version()
    monkeypatch.setattr(kind, "draw", None)  # the second call opens what the first one made
    assert np.array_equal(mixing_set.pictures(36).pixels, first.pixels)


@every_set
def test_a_manifest_says_what_made_them_and_a_stop_loses_no_shard(
    kind: type[GeneratedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: an interrupt while the second shard is drawn."""
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.SHARD", 4)
    mixing_set, whole, asked = made(kind, count=6, seed=9), kind.draw, list[list[int]]()

    def drawn(self: GeneratedSet, indices: NDArray[np.int64], side: int) -> Images:
        asked.append(indices.tolist())
        if asked == [[0, 1, 2, 3], [4, 5]]:
            raise KeyboardInterrupt
        return whole(self, indices, side)

    monkeypatch.setattr(kind, "draw", drawn)
    monkeypatch.setattr(kind, "chunk", 4)
    with pytest.raises(KeyboardInterrupt):
        mixing_set.pictures(20)
    pictures = mixing_set.pictures(20)
    assert asked == [[0, 1, 2, 3], [4, 5], [4, 5]] and len(pictures) == 6
    manifest = read_manifest(entry_name(pictures.version, 20))
    assert manifest is not None and manifest["settings"] == mixing_set.identity()
    assert pictures.version.startswith(f"{manifest['generator']}-{manifest['generator_version']}-")


@every_set
def test_they_are_reduced_as_picture_files_are(kind: type[GeneratedSet]) -> None:
    mixing_set = made(kind, count=2, seed=5)
    for side in (36, 256):
        pictures = stacked(mixing_set.pictures(side))
        for picture, full in zip(pictures, native(mixing_set, [0, 1]), strict=True):
            assert full.shape == (NATIVE_SIDES[kind], NATIVE_SIDES[kind], 3)
            # Second implementation: the reference code's transform of files.
            assert np.array_equal(picture, np.asarray(Resize(side)(Image.fromarray(full))))


@every_set
def test_a_picture_depends_on_seed_and_index_alone(kind: type[GeneratedSet]) -> None:
    few, more = (stacked(made(kind, count=count, seed=2).pictures(24)) for count in (3, 7))
    assert np.array_equal(few, more[:3])
    mixing_set = made(kind, count=7, seed=2)
    together, alone = native(mixing_set, [1, 5, 6]), [native(mixing_set, [index]) for index in (1, 5, 6)]
    assert np.array_equal(together, np.concatenate(alone))


@every_set
def test_other_seeds_and_other_indices_are_other_pictures(kind: type[GeneratedSet]) -> None:
    images = np.concatenate([stacked(made(kind, count=3, seed=seed).pictures(24)) for seed in (2, 5, -1)])
    assert len({image.tobytes() for image in images}) == 9


@every_set
def test_versions_tell_settings_apart_and_draw_nothing(
    kind: type[GeneratedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module(kind.__module__), "uniforms", None)
    versions = {made(kind, count=count, seed=seed).version() for count in (1, 2) for seed in (0, 1, -1)}
    name = kind.__module__.rsplit(".", 1)[1]
    assert len(versions) == 6 and all(version.startswith(f"{name}-1-") for version in versions)


@every_set
def test_every_class_says_what_it_is(kind: type[GeneratedSet]) -> None:
    assert kind.summary and "Table 4" in kind.source
    assert made(kind).identity()["count"] == 10_000


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [(kind, {"count": 0}, "count = 0: must be at least 1") for kind in NATIVE_SIDES]
    + [
        (DeadLeaves, {"shape": "stars"}, "shape = 'stars': must be 'squares', 'circles', 'oriented' or"),
        (DeadLeaves, {"resolution": 64}, "resolution = 64: must be 128 or 256"),
        (SpectrumColorWmm, {"resolution": 512}, "resolution = 512: must be 128 or 256"),
        (FractalDb, {"categories": 3}, "unknown key in mixing set: 'categories'"),
    ],
)
def test_settings_out_of_range_are_errors(kind: type[GeneratedSet], settings: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        made(kind, **settings)


@every_set
def test_a_side_below_one_is_an_error(kind: type[GeneratedSet]) -> None:
    with pytest.raises(DataError, match="shorter_side must be at least 1 pixel, got 0"):
        made(kind, count=1).pictures(0)
