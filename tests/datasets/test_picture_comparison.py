"""Published pictures that are not what they are said to be: every way that users met, and none of the genuine ones."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.corruptions import BAR_NAMES, NAMES, PERTURBATIONS, corrupt, perturb
from pixmix_ray.datasets.picture_comparison import check_corrupted, check_same_pictures, sample_places, share_nearer
from pixmix_ray.errors import DataError

Images = NDArray[np.uint8]
COUNT = 24


def _scenes(side: int = 32, count: int = COUNT) -> Images:
    """Pictures with a spectrum like that of photographs, each in colours of its own."""
    draws = np.random.Generator(np.random.Philox(key=5))
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]
    falls = 1 / np.maximum(np.hypot(rows, columns), 1 / side)
    spectrum = np.fft.fft2(draws.normal(size=(count, 3, side, side))) * falls
    values = np.fft.ifft2(spectrum).real
    values = values / values.std(axis=(2, 3), keepdims=True) * 45 + draws.uniform(80, 170, (count, 3, 1, 1))
    images: Images = values.clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return images


SCENES = _scenes()
INDICES = np.arange(COUNT)


def _shown(name: str) -> dict[int, Images]:
    return {severity: corrupt(SCENES, name, severity, 0, indices=INDICES) for severity in (1, 2, 3, 4, 5)}


@pytest.mark.parametrize("name", [name for name in (*NAMES, *BAR_NAMES["cifar"]) if name != "frost"])
def test_genuine_pictures_of_every_corruption_pass(name: str) -> None:
    check_corrupted("here", name, _shown(name), SCENES)


@pytest.mark.parametrize("name", PERTURBATIONS["cifar"])
def test_the_middle_of_every_genuine_sequence_passes(name: str) -> None:
    sequences = perturb(SCENES, name, 0, indices=INDICES)
    check_same_pictures("here", sequences[:, sequences.shape[1] // 2], SCENES)


def _replaced(severity: int, change: Callable[[Images], Images]) -> Callable[[dict[int, Images]], Mapping[int, Images]]:
    return lambda shown: {**shown, severity: change(shown[severity])}


def _half_black(images: Images) -> Images:
    return np.concatenate([images[: COUNT // 2], np.zeros_like(images[COUNT // 2 :])])


SPOILT: dict[str, tuple[Callable[[dict[int, Images]], Mapping[int, Images]], str]] = {
    "pictures shuffled": (lambda s: {k: v[np.roll(INDICES, 7)] for k, v in s.items()}, "other pictures than the test"),
    "one severity shuffled": (_replaced(4, lambda v: v[::-1]), "here at severity 4 shows other pictures"),
    "a severity of zeros": (_replaced(3, np.zeros_like), "at severity 3 is black all over in 24 of 24"),
    "half of a severity zeros": (_replaced(5, _half_black), "at severity 5 is black all over in 12 of 24"),
    "the clean set": (lambda s: dict.fromkeys(s, SCENES), "at severity 1 is the test set unchanged"),
    "one severity clean": (_replaced(2, lambda _: SCENES), "at severity 2 is the test set unchanged"),
    "severities reversed": (lambda s: {6 - k: v for k, v in s.items()}, "its severities are in another order"),
    "severities equal": (lambda s: {**s, 3: s[2]}, "is the same at severity 2 and 3"),
    "colours reversed": (
        lambda s: {k: v[..., ::-1] for k, v in s.items()},
        "colour channels in another order, such as BGR",
    ),
}


@pytest.mark.parametrize("name", ["contrast", "gaussian_blur", "pixelate"])
@pytest.mark.parametrize("case", SPOILT)
def test_every_spoilt_set_is_named_in_one_line(case: str, name: str) -> None:
    spoil, message = SPOILT[case]
    with pytest.raises(DataError, match=message) as caught:
        check_corrupted("here", name, spoil(_shown(name)), SCENES)
    assert "\n" not in str(caught.value)


def test_dark_pictures_may_become_black() -> None:
    some_dark = np.concatenate([SCENES[:4] // 6, SCENES[4:]])
    shown = {
        severity: np.clip(some_dark.astype(int) - 20 * severity, 0, 255).astype(np.uint8) for severity in (1, 2, 3)
    }
    assert (~shown[3].any(axis=(1, 2, 3))).sum() == 4
    check_corrupted("here", "brightness", shown, some_dark)


def test_elastic_transform_may_change_less_at_higher_severities() -> None:
    shown = _shown("elastic_transform")
    check_corrupted("here", "elastic_transform", {6 - severity: images for severity, images in shown.items()}, SCENES)


def test_a_sample_holds_both_ends_and_each_place_once() -> None:
    assert sample_places(5).tolist() == [0, 1, 2, 3, 4]
    places = sample_places(10_000)
    assert (places[0], places[-1], len(places)) == (0, 9_999, 64)


@pytest.mark.parametrize("side", [1, 3, 8, 10, 17, 40])
def test_pictures_of_any_size_are_nearest_to_themselves(side: int) -> None:
    images = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (12, side, side + 1, 3), np.uint8)
    assert share_nearer(images, images) == 0


def test_of_few_pictures_and_of_pictures_all_alike_nothing_is_said() -> None:
    check_same_pictures("here", SCENES[:7][::-1], SCENES[:7])
    alike = np.repeat(SCENES[:1], COUNT, axis=0)
    check_same_pictures("here", 255 - alike, alike)
