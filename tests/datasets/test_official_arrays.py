"""Published .npy files: rows where the layout says they lie, and one line for each way in which a file can be wrong."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.datasets import DataVersionWarning
from pixmix_ray.datasets.official_arrays import CorruptedArrays, SequenceArrays, picture_array
from pixmix_ray.errors import DataError

COUNT, SIDE = 6, 8
INDICES = np.arange(COUNT)
LABELS = INDICES % 3


def _pictures(key: int = 0) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.Philox(key=key)).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def corrupted(tmp_path: Path) -> CorruptedArrays:
    """Fog and snow in the layout of CIFAR-10-C: test picture i at severity s is row (s - 1) N + i, plus 1."""
    for name in ("fog", "snow"):
        rows = np.arange(1, 5 * COUNT + 1, dtype=np.uint8) + (100 if name == "snow" else 0)
        np.save(tmp_path / f"{name}.npy", np.broadcast_to(rows[:, None, None, None], (5 * COUNT, SIDE, SIDE, 3)))
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    return CorruptedArrays(folder=tmp_path, names=("fog", "snow"), severities=(1, 2, 3, 4, 5))


@pytest.fixture
def sequences(tmp_path: Path) -> SequenceArrays:
    """Gaussian noise, of difficulty 2, and tilt, in the layout of CIFAR-10-P."""
    clean = _pictures()
    for name, count, first in (("gaussian_noise_2", 4, clean), ("tilt", 3, 255 - clean)):
        np.save(tmp_path / f"{name}.npy", np.stack([first, *[first // (k + 2) for k in range(count - 1)]], axis=1))
    frames = {"gaussian_noise": 4, "tilt": 3}
    return SequenceArrays(folder=tmp_path, frames=frames, is_noise=frozenset({"gaussian_noise"}), difficulty=2)


@pytest.mark.parametrize(("name", "severity", "place"), [("fog", 1, 0), ("fog", 5, 5), ("snow", 3, 2)])
def test_a_picture_lies_where_the_layout_says(corrupted: CorruptedArrays, name: str, severity: int, place: int) -> None:
    corrupted.check(_pictures(), LABELS, INDICES)
    found = corrupted.images(name, severity, np.array([place, 0]), SIDE)
    assert found.shape == (2, SIDE, SIDE, 3)
    first = 1 + (severity - 1) * COUNT + (100 if name == "snow" else 0)
    assert set(found[0].ravel().tolist()) == {first + place}
    assert set(found[1].ravel().tolist()) == {first}


def test_a_subset_of_the_test_set_is_checked_and_read_by_its_places(corrupted: CorruptedArrays) -> None:
    some = np.array([1, 5])
    corrupted.check(_pictures()[some], LABELS[some], some)
    assert corrupted.images("fog", 2, some, SIDE)[:, 0, 0, 0].tolist() == [8, 12]


def test_files_are_mapped_and_not_read(corrupted: CorruptedArrays) -> None:
    array = picture_array(corrupted.folder / "fog.npy", (-1, SIDE, SIDE, 3), "pictures")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_one_file_under_two_names_is_said(corrupted: CorruptedArrays) -> None:
    shutil.copy(corrupted.folder / "fog.npy", corrupted.folder / "snow.npy")
    with pytest.warns(DataVersionWarning, match=r"snow\.npy is the same file as fog\.npy, so one of them is"):
        corrupted.version()
    assert len(replace(corrupted, names=("snow",)).version()) == 12


def test_the_version_is_the_content_of_the_wanted_files(corrupted: CorruptedArrays) -> None:
    version = corrupted.version()
    assert len(version) == 12
    only_fog = replace(corrupted, names=("fog",))
    assert only_fog.version() != version
    array = np.load(corrupted.folder / "snow.npy")
    array[3, 0, 0, 0] += 1
    np.save(corrupted.folder / "snow.npy", array)
    assert corrupted.version() != version
    assert only_fog.version() == replace(corrupted, names=("fog",)).version()


def _save(file: Path, array: NDArray[np.generic] | list[object]) -> None:
    np.save(file, np.array(array, dtype=object) if isinstance(array, list) else array, allow_pickle=True)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


WHOLE = (5 * COUNT, SIDE, SIDE, 3)
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: (folder / "fog.npy").unlink(), r"fog\.npy is missing: .*five severities"),
    "no labels": (lambda folder: (folder / "labels.npy").unlink(), r"labels\.npy is missing"),
    "cut off": (lambda folder: _cut(folder / "fog.npy"), r"fog\.npy is not a whole \.npy file"),
    "empty": (lambda folder: (folder / "fog.npy").write_bytes(b""), r"fog\.npy is not a whole \.npy file"),
    "no array": (lambda folder: (folder / "fog.npy").write_bytes(b"PNG" * 99), r"fog\.npy is not a whole \.npy file"),
    "pickled": (lambda folder: _save(folder / "fog.npy", [1, "a"]), r"fog\.npy is not a whole \.npy file"),
    "floats": (
        lambda folder: np.save(folder / "fog.npy", np.zeros(WHOLE, np.float32)),
        r"fog\.npy is float32 \(30, 8, 8, 3\): it must be uint8 \(30, 8, 8, 3\)",
    ),
    "one severity": (
        lambda folder: np.save(folder / "fog.npy", np.zeros((COUNT, SIDE, SIDE, 3), np.uint8)),
        r"fog\.npy is uint8 \(6, 8, 8, 3\): it must be uint8 \(30, 8, 8, 3\)",
    ),
    "channels first": (
        lambda folder: np.save(folder / "fog.npy", np.zeros((5 * COUNT, 3, SIDE, SIDE), np.uint8)),
        r"must be uint8 \(30, 8, 8, 3\)",
    ),
    "labels of one severity": (
        lambda folder: np.save(folder / "labels.npy", LABELS),
        r"labels\.npy is int64 \(6,\): it must be integers \(5 N,\)",
    ),
    "labels as floats": (
        lambda folder: np.save(folder / "labels.npy", np.zeros(5 * COUNT)),
        r"labels\.npy is float64 \(30,\)",
    ),
    "fewer labels": (
        lambda folder: np.save(folder / "labels.npy", np.tile(LABELS[:4], 5)),
        r"labels\.npy is of 4 test pictures, the data set has 6 or more",
    ),
    "other labels": (
        lambda folder: np.save(folder / "labels.npy", np.tile(LABELS[::-1], 5)),
        r"labels\.npy has label 2 for test picture 0, the data set has 0",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_broken_file_is_named_in_one_line(corrupted: CorruptedArrays, case: str) -> None:
    spoil, message = BROKEN[case]
    spoil(corrupted.folder)
    with pytest.raises(DataError, match=message) as caught:
        corrupted.check(_pictures(), LABELS, INDICES)
    assert "\n" not in str(caught.value)


def test_sequences_lie_by_test_picture_and_stronger_noise_in_a_file_of_its_own(sequences: SequenceArrays) -> None:
    clean = _pictures()
    sequences.check(clean, LABELS, INDICES)
    noise = sequences.sequences("gaussian_noise", np.array([4, 1]), SIDE)
    assert noise.shape == (2, 4, SIDE, SIDE, 3)
    assert np.array_equal(noise[:, 0], clean[[4, 1]])
    tilt = sequences.sequences("tilt", np.array([2]), SIDE)
    assert np.array_equal(tilt[0, 1], (255 - clean[2]) // 2)
    assert len(sequences.version()) == 12


BROKEN_SEQUENCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: (folder / "gaussian_noise_2.npy").unlink(), r"gaussian_noise_2\.npy is missing"),
    "cut off": (lambda folder: _cut(folder / "tilt.npy"), r"tilt\.npy is not a whole"),
    "frames": (
        lambda folder: np.save(folder / "tilt.npy", np.zeros((COUNT, 4, SIDE, SIDE, 3), np.uint8)),
        r"tilt\.npy is uint8 \(6, 4, 8, 8, 3\): it must be uint8 \(N, 3, 8, 8, 3\): 3 frames of each test picture",
    ),
    "too few": (
        lambda folder: np.save(folder / "tilt.npy", np.zeros((2, 3, SIDE, SIDE, 3), np.uint8)),
        r"tilt\.npy is of 2 test pictures, the data set has 6",
    ),
    "other pictures": (
        lambda folder: np.save(folder / "gaussian_noise_2.npy", np.repeat(_pictures(key=5)[:, None], 4, axis=1)),
        "starts its sequences with other pictures",
    ),
}


@pytest.mark.parametrize("case", BROKEN_SEQUENCES)
def test_every_broken_file_of_sequences_is_named_in_one_line(sequences: SequenceArrays, case: str) -> None:
    spoil, message = BROKEN_SEQUENCES[case]
    spoil(sequences.folder)
    with pytest.raises(DataError, match=message) as caught:
        sequences.check(_pictures(), LABELS, INDICES)
    assert "\n" not in str(caught.value)
