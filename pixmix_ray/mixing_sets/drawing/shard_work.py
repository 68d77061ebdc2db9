"""What is drawn shard by shard, how far it is, and what draws it: see `shards`."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import reported_writing, written_whole

Draw = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]
Report = Callable[[str], None]

REPORT_EVERY = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class ShardedWork:
    """What is to be drawn, and where its shards lie.

    Attributes:
        name: for messages.
        folder: of the shards.
        side: of the pictures, in pixels.
        draw: returns the pictures of some indices for a side; see `shards.sharded_pictures`.
        ends: the index after the last picture of each shard, ascending.
        uses_network: whether a network draws them; see `shards.Layout`.
    """

    name: str
    folder: Path
    side: int
    draw: Draw
    ends: tuple[int, ...]
    uses_network: bool

    @property
    def count(self) -> int:
        """How many pictures there are in the end."""
        return self.ends[-1]

    def missing(self) -> list[int]:
        """The numbers of the shards that are not drawn."""
        there = set(os.listdir(self.folder))
        return [number for number in range(len(self.ends)) if self._file(number).name not in there]

    def num_done(self) -> int:
        """How many pictures are drawn."""
        return self.count - sum(len(self._indices(number)) for number in self.missing())

    def drawn(self, number: int) -> NDArray[np.uint8]:
        """The pictures of a shard, (n, side, side, 3) uint8, drawn now and not written."""
        indices = self._indices(number)
        images = self.draw(indices, self.side)
        expected = (len(indices), self.side, self.side, 3)
        assert images.shape == expected and images.dtype == np.uint8, f"{images.dtype} {images.shape}, not {expected}"
        return images

    def write(self, number: int, images: NDArray[np.uint8]) -> None:
        """Write the pictures of a shard: it is there whole, or not at all.

        Raises:
            DataError: the cache cannot be written, or is full.
        """
        with reported_writing(self.folder), written_whole(self._file(number)) as stream:
            np.save(stream, images, allow_pickle=False)

    def make(self, number: int) -> None:
        """Draw a shard and write it."""
        self.write(number, self.drawn(number))

    def read(self, number: int) -> NDArray[np.uint8]:
        """The pictures of a shard that was written."""
        return cast(NDArray[np.uint8], np.load(self._file(number), mmap_mode="r", allow_pickle=False))

    def _indices(self, number: int) -> NDArray[np.int64]:
        return np.arange(self.ends[number - 1] if number else 0, self.ends[number])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"


class Progress:
    """Says now and then how many pictures are drawn, how fast, and how long it will take."""

    def __init__(self, work: ShardedWork, report: Report) -> None:
        self.report, self._work = report, work
        self._started = self._told = time.monotonic()
        self._before = self._last = work.num_done()
        if self._before:
            report(f"drawing {work.name}: {self._before:,} of {work.count:,} pictures were drawn before")

    def tell(self) -> None:
        """Look how far it is, and say it if it was not said for a while."""
        now = time.monotonic()
        if now - self._told <= REPORT_EVERY:
            return
        num_done, count = self._work.num_done(), self._work.count
        if self._last < num_done < count:
            self._told, self._last = now, num_done
            rate = (num_done - self._before) / (now - self._started)
            left = (count - num_done) / rate
            self.report(
                f"drawing {self._work.name}: {num_done:,} of {count:,} pictures, {rate:.1f} a second, {left:.0f} s left"
            )


class Executor(Protocol):
    """Draws shards somewhere."""

    def __call__(self, work: ShardedWork, numbers: Sequence[int], progress: Progress) -> None:
        """Draw the shards `numbers` and write them, as many as it can, and tell `progress` now and then."""
