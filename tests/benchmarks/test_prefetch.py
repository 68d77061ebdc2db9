"""Items made ahead in a thread: the same items, no thread left over, no more of them alive than was said."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from pixmix_ray.benchmarks.base import TestPictures, batches
from pixmix_ray.benchmarks.made_pictures import depth_for, prefetched
from pixmix_ray.corruptions import corrupt
from pixmix_ray.errors import RequestError

PATIENCE = 120  # seconds until a test that waits for a thread fails


def makers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert not makers()
    yield
    assert not makers()


class Item:
    """Something that a weak reference can follow."""

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.mark.parametrize("depth", [0, 1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_items_come_in_order(depth: int, count: int) -> None:
    assert list(prefetched(range(count), depth)) == list(range(count))
    assert list(prefetched((number for number in range(count)), depth)) == list(range(count))


def test_items_that_are_none_or_false_are_items() -> None:
    assert list(prefetched([None, False, 0, StopIteration])) == [None, False, 0, StopIteration]


def test_the_next_item_is_made_while_one_is_in_use_and_no_further_one() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    ahead = prefetched(items())
    assert not made[0].is_set() and not makers()  # nothing happens before the first is asked for
    assert next(ahead) == 0
    assert made[1].wait(PATIENCE)
    assert not made[2].wait(0.05)
    assert next(ahead) == 1 and made[2].wait(PATIENCE)
    assert not made[3].wait(0.05)
    assert list(ahead) == [2, 3]


def test_items_are_made_in_one_other_thread_and_without_depth_in_this_one() -> None:
    def where() -> Iterator[int]:
        for _ in range(5):
            yield threading.get_ident()

    elsewhere = set(prefetched(where(), depth=3))
    assert len(elsewhere) == 1 and threading.get_ident() not in elsewhere
    assert set(prefetched(where(), depth=0)) == {threading.get_ident()}


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_exception_comes_at_its_place_with_what_it_says(depth: int) -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("the disk is gone")

    ahead = prefetched(items(), depth)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(ahead)
    assert any(entry.name == "items" for entry in caught.traceback)  # where it happened is not lost
    with pytest.raises(StopIteration):
        next(ahead)


def close(ahead: Iterator[int]) -> None:
    ahead.close()  # type: ignore[attr-defined]  # a generator


def fail(ahead: Iterator[int]) -> None:
    with pytest.raises(ZeroDivisionError):
        for number in ahead:
            _ = 1 // (number - number)
    close(ahead)


def drop(ahead: Iterator[int]) -> None:
    del ahead


@pytest.mark.parametrize("stop", [close, fail, drop])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_consumer_that_stops_early_leaves_no_thread_and_closes_the_source(
    stop: Callable[[Iterator[int]], None], depth: int
) -> None:
    made, is_closed = [], threading.Event()

    def items() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            is_closed.set()

    def consume() -> None:
        ahead = prefetched(items(), depth)
        assert next(ahead) == 0
        stop(ahead)

    consume()
    gc.collect()
    assert is_closed.is_set() and not makers()
    assert len(made) <= 2 + depth + 1  # two in use at most, and what was made ahead


def test_no_more_items_are_alive_than_the_one_in_use_and_those_ahead() -> None:
    """With depth 2: an item in use, one or two ready or being made; used ones are gone."""
    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def items() -> Iterator[Item]:
        nonlocal most
        for number in range(50):
            item = Item(number)
            alive.add(item)
            most = max(most, len(alive))
            yield item
            del item

    seen = []
    for item in prefetched(items(), depth=2):
        seen.append(item.number)
        del item
    assert seen == list(range(50)) and most <= 3


def test_a_negative_depth_is_a_mistake() -> None:
    with pytest.raises(RequestError, match="depth must be 0 or more, got -1"):
        prefetched([1], -1)


def test_a_processor_makes_its_own_pictures_in_turn_and_others_have_them_made_ahead() -> None:
    assert depth_for(torch.device("cpu")) == 0
    assert depth_for(torch.device("cuda")) == depth_for(torch.device("cuda", 3)) == 1


def test_pictures_made_ahead_are_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrupted in another thread, batch by batch, beside torch at work in this one: the same bytes."""
    monkeypatch.setattr("pixmix_ray.benchmarks.base.BATCH", 8)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    test = TestPictures(images=images, labels=np.zeros(20, np.int64), indices=np.arange(20))
    before = images.copy()

    def made() -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        for name in ("glass_blur", "elastic_transform", "jpeg_compression"):
            for rows in batches(20):
                yield corrupt(test.images[rows], name, 3, indices=test.indices[rows])

    ahead = []
    for few in prefetched(made()):
        torch.randn(64, 64).matmul(torch.ones(64, 64))
        ahead.append(few)
    np.testing.assert_array_equal(np.concatenate(ahead), np.concatenate(list(made())))
    np.testing.assert_array_equal(images, before)
