"""Pictures that are kept: made once, within the bound, also by several processes and on a disk that is full."""

import errno
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pixmix_ray.benchmarks import (
    Anomalies,
    Benchmark,
    Consistency,
    Corruptions,
    CorruptionsBar,
    TestPictures,
    made_pictures,
)
from pixmix_ray.benchmarks.made_pictures import FOLDER, HEAD, KeyOfTest, PictureCache, Piece
from pixmix_ray.cache import cache_folder
from pixmix_ray.seeding import rng

SIZE = 1000  # bytes of an entry, without its head


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path))
    monkeypatch.setattr(made_pictures, "_warned", set())
    yield cache_folder() / FOLDER


def _array(value: int) -> NDArray[np.uint8]:
    return np.full(SIZE, value, np.uint8)


def _get(kept: PictureCache, value: int, made: list[int]) -> NDArray[np.generic]:
    def make() -> NDArray[np.uint8]:
        made.append(value)
        return _array(value)

    return kept.get(lambda: str(value), make)


def test_an_entry_is_made_once_and_then_read_as_a_map(folder: Path) -> None:
    kept, made = PictureCache(max_bytes=10**6), list[int]()
    for _ in range(3):
        np.testing.assert_array_equal(_get(kept, 7, made), _array(7))
    assert made == [7]
    assert isinstance(_get(kept, 7, made), np.memmap)


def test_nothing_is_kept_or_asked_for_its_name_without_room(folder: Path) -> None:
    def no_key() -> str:
        raise AssertionError("a name is of no use")

    np.testing.assert_array_equal(PictureCache(max_bytes=0).get(no_key, lambda: _array(1)), _array(1))
    assert not folder.exists()
    np.testing.assert_array_equal(_get(PictureCache(max_bytes=SIZE), 1, []), _array(1))  # with its head it is larger
    assert not list(folder.glob("*.npy"))


def test_what_was_used_longest_ago_goes_and_the_bound_holds(folder: Path) -> None:
    most = 4 * (SIZE + HEAD)
    kept, made = PictureCache(max_bytes=most), list[int]()
    for value in (1, 2, 3, 4):
        _get(kept, value, made)
    first = _get(kept, 1, made)  # used again: 2 is the oldest now
    second = _get(kept, 2, made)
    _get(kept, 1, made)
    _get(kept, 5, made)  # 3 goes, and 4 with it: a tenth is left free
    assert sum(file.stat().st_size for file in folder.glob("*.npy")) <= most
    assert made == [1, 2, 3, 4, 5]
    _get(kept, 1, made)
    assert made == [1, 2, 3, 4, 5]
    for value in range(10, 16):
        _get(kept, value, made)
        assert sum(file.stat().st_size for file in folder.glob("*.npy")) <= most
    # what was removed while it was in use is still whole there
    np.testing.assert_array_equal(first, _array(1))
    np.testing.assert_array_equal(second, _array(2))


def test_a_broken_entry_and_a_wrong_total_are_made_good(folder: Path) -> None:
    kept, made = PictureCache(max_bytes=10**6), list[int]()
    _get(kept, 1, made)
    (file,) = folder.glob("*.npy")
    file.write_bytes(file.read_bytes()[:300])  # as after a power failure
    (folder / "total").write_text("nonsense")
    np.testing.assert_array_equal(_get(kept, 1, made), _array(1))
    assert made == [1, 1]
    assert int((folder / "total").read_text()) >= SIZE


def test_bytes_that_changed_are_found_by_whoever_opens_them_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, made = PictureCache(max_bytes=10**6), list[int]()
    _get(kept, 1, made)
    (file,) = folder.glob("*.npy")
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(made_pictures, "_checked", set())  # another process
    np.testing.assert_array_equal(_get(kept, 1, made), _array(1))
    assert made == [1, 1]


def test_no_more_than_half_of_the_free_disk_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 5 * (SIZE + HEAD)

    def usage(place: Path) -> SimpleNamespace:
        return SimpleNamespace(free=free - sum(file.stat().st_size for file in place.glob("*.npy")))

    monkeypatch.setattr("shutil.disk_usage", usage)
    for value in range(6):
        _get(PictureCache(max_bytes=10**9), value, [])
        assert sum(file.stat().st_size for file in folder.glob("*.npy")) <= free / 2


def test_a_full_disk_is_said_once_and_pictures_are_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> Iterator[None]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(made_pictures, "written_whole", full)
    kept, made = PictureCache(max_bytes=10**6), list[int]()
    with pytest.warns(UserWarning, match="No space left on device.*made again for each checkpoint") as warned:
        for _ in range(3):
            np.testing.assert_array_equal(_get(kept, 1, made), _array(1))
    assert made == [1, 1, 1] and len(warned) == 1


def _make_many(order: list[int], counts: "multiprocessing.Queue[list[int]]") -> None:
    made: list[int] = []
    kept = PictureCache(max_bytes=10**6)
    for value in order:
        assert (_get(kept, value, made) == value).all()
    counts.put(made)


def test_processes_at_once_make_each_entry_once(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    counts: multiprocessing.Queue[list[int]] = context.Queue()
    orders = [list(range(6)), list(range(5, -1, -1))]
    processes = [context.Process(target=_make_many, args=(order, counts)) for order in orders]
    for process in processes:
        process.start()
    made = [value for _ in processes for value in counts.get(timeout=600)]
    for process in processes:
        process.join()
    assert sorted(made) == list(range(6))


def test_a_key_holds_pictures_places_and_what_is_made() -> None:
    images = rng(0, "keys").integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)

    def key(pictures: NDArray[np.uint8], first: int, about: str) -> str:
        test = TestPictures(images=pictures, labels=np.arange(4), indices=np.arange(first, first + 4))
        return KeyOfTest(test)(Piece("noise", 1, slice(0, 2)), about)

    others = [key(255 - images, 0, "a"), key(images, 1, "a"), key(images, 0, "b")]
    keys = {key(images, 0, "a"), *others}
    assert len(keys) == 4 and key(images.copy(), 0, "a") in keys


@pytest.mark.parametrize(
    ("plain", "keeping"),
    [
        (kind(**settings, keep_gb=0), kind(**settings))
        for kind, settings in (
            (Corruptions, {"names": ("gaussian_noise",)}),
            (CorruptionsBar, {"names": ("lines",)}),
            (Consistency, {"names": ("rotate",)}),
            (Anomalies, {"repeats": 2}),
        )
    ],
    ids=lambda benchmark: type(benchmark).__name__,
)
def test_keeping_pictures_changes_neither_numbers_nor_identity(
    plain: Benchmark, keeping: Benchmark, folder: Path
) -> None:
    images = rng(0, "kept").integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    test = TestPictures(images=images, labels=np.arange(6), indices=np.arange(6))
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval().requires_grad_(requires_grad=False)
    expected = plain.predict(network, test, torch.device("cpu"))
    assert not folder.exists()
    for _ in range(2):  # made, and then read
        found = keeping.predict(network, test, torch.device("cpu"))
        for name, column in expected.columns.items():
            np.testing.assert_array_equal(found.columns[name], column)
        assert list(folder.glob("*.npy"))
    assert keeping.identity() == plain.identity()
