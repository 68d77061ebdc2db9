"""What a generated mixing set is: a class with `draw`; drawing on all cores, reducing, caching and naming are here.

PixMix (Hendrycks et al., CVPR 2022), Table 4, compares its mixing set with generated ones (Kataoka et al., ACCV 2020;
Baradad et al., NeurIPS 2021). Those were files, so that they were resized as every picture file is; so are these.

They are drawn shard by shard on all cores, so that a process that was killed loses little. A shard is a run of pictures
in a file of its own, written beside and renamed, in a folder beside the cache entry that they are for; when all are
there, the entry is put together and the folder removed. Whoever holds the entry's lock draws what is missing. The first
shard is drawn here; if the rest would take long, an executor draws it: one that the caller has set for the time
(`drawing_with`; `pixmix_ray.orchestration` has one that makes each shard a Ray task), or else processes of this
machine. What an executor leaves undone, whatever the reason, is drawn here, where an error has its name.
"""

import json
import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from pixmix_ray.cache import Arrays, Streamed, cache_folder, private_folder, reported_writing, written_whole
from pixmix_ray.child_processes import end_children, start_children
from pixmix_ray.datasets.picture_files import resized
from pixmix_ray.hardware import usable_cores
from pixmix_ray.identity import short_hash
from pixmix_ray.mixing_sets.base import MixingSet, Pictures, cached_pictures, entry_name

Draw = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]
Report = Callable[[str], None]

SHARD = 256  # pictures; part of the names of shards that may wait in a cache
WORTH_SHARING = 12.0  # seconds of work: a process takes some three to start
MOST_PROCESSES = 32
REPORT_EVERY = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class ShardedWork:
    """What is to be drawn, and where its shards lie.

    Attributes:
        name: for messages.
        folder: of the shards.
        side: of the pictures, in pixels.
        draw: returns the pictures of some indices for a side; see `sharded_pictures`.
        ends: the index after the last picture of each shard, ascending.
        uses_network: whether a network draws them; see `ShardLayout`.
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


class DrawingProgress:
    """Says now and then how many pictures are drawn, how fast, and how long it will take."""

    def __init__(self, work: ShardedWork, report: Report) -> None:
        self.report, self._work = report, work
        self._started = self._reported_at = time.monotonic()
        self._before = self._last = work.num_done()
        if self._before:
            report(f"drawing {work.name}: {self._before:,} of {work.count:,} pictures were drawn before")

    def tell(self) -> None:
        """Look how far it is, and say it if it was not said for a while."""
        now = time.monotonic()
        if now - self._reported_at <= REPORT_EVERY:
            return
        num_done, count = self._work.num_done(), self._work.count
        if self._last < num_done < count:
            self._reported_at, self._last = now, num_done
            rate = (num_done - self._before) / (now - self._started)
            left = (count - num_done) / rate
            self.report(
                f"drawing {self._work.name}: {num_done:,} of {count:,} pictures, {rate:.1f} a second, {left:.0f} s left"
            )


class ShardExecutor(Protocol):
    """Draws shards somewhere."""

    def __call__(self, work: ShardedWork, numbers: Sequence[int], progress: DrawingProgress) -> None:
        """Draw the shards `numbers` and write them, as many as it can, and tell `progress` now and then."""


@dataclass(frozen=True, kw_only=True)
class ShardLayout:
    """How the pictures of a set are divided and drawn.

    Attributes:
        ends: the index after the last picture of each shard, ascending; None: a shard is SHARD pictures.
        uses_network: a network draws them, on a GPU where there is one.
        is_long: known to take long, so that the first shard is not tried here to find it out.
        note: what a person should know before they are drawn, in one line.
    """

    ends: tuple[int, ...] | None = None
    uses_network: bool = False
    is_long: bool = False
    note: str | None = None


_EXECUTOR: ContextVar[ShardExecutor | None] = ContextVar("executor", default=None)


@contextmanager
def drawing_with(executor: ShardExecutor) -> Iterator[None]:
    """Have an executor draw what is missing, for the time of a `with` block and in this thread."""
    token = _EXECUTOR.set(executor)
    try:
        yield
    finally:
        _EXECUTOR.reset(token)


def sharded_pictures(
    version: str,
    side: int,
    count: int,
    draw: Draw,
    manifest: Mapping[str, object] | None = None,
    report: Report | None = None,
    layout: ShardLayout = ShardLayout(),
) -> Pictures:
    """`count` square pictures with sides of `side` pixels, drawn once a machine; what was drawn before a stop is kept.

    Args:
        version: of the mixing set.
        side: in pixels, at least 1.
        count: how many.
        draw: returns the pictures of some consecutive indices for a side, (n, side, side, 3) uint8, each a function of
            its index alone. It is sent to other processes, so it should be a function of a module, or a method of
            settings that are a class of a module; others are called in this process alone.
        manifest: what to say of the pictures beside them, such as generator, settings, seed and count; JSON values.
        report: told how far it is, in lines for a person; by default they are printed to stderr.
        layout: how they are divided; it must follow from `version` and `side`.

    Raises:
        DataError: `side` is below 1, or the cache cannot be written.
    """
    folder = cache_folder() / f"{entry_name(version, side)}.shards"
    ends = layout.ends or (*range(SHARD, count, SHARD), count)
    work = ShardedWork(name=version, folder=folder, side=side, draw=draw, ends=ends, uses_network=layout.uses_network)

    def make() -> Arrays:
        with reported_writing(folder):
            private_folder(folder)
        tell = report or _to_stderr
        if layout.note:
            tell(f"drawing {version}: {layout.note}")
        _draw_missing(work, DrawingProgress(work, tell), is_long=layout.is_long)
        sides = np.full(count, side, dtype=np.int64)
        pieces = (work.read(number).reshape(-1, 3) for number in range(len(ends)))
        pixels = Streamed(shape=(count * side * side, 3), dtype=np.uint8, pieces=pieces)
        return {"pixels": pixels, "heights": sides, "widths": sides}

    pictures = cached_pictures(version, side, make, lambda: manifest or {})
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)  # another process may be at it too
    return pictures


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _draw_missing(work: ShardedWork, progress: DrawingProgress, *, is_long: bool) -> None:
    for leftover in work.folder.glob("*.part"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    if missing := work.missing():
        began = time.monotonic()
        if not is_long:
            work.make(missing.pop(0))
        if missing and (is_long or (time.monotonic() - began) * len(missing) > WORTH_SHARING):
            (_EXECUTOR.get() or draw_in_processes)(work, missing, progress)
    for number in work.missing():
        work.make(number)
        progress.tell()


def draw_in_processes(work: ShardedWork, numbers: Sequence[int], progress: DrawingProgress) -> None:
    """Have other processes draw shards, but where one GPU draws, or one core, or what draws them cannot be sent."""
    processes = min(len(numbers), usable_cores(), MOST_PROCESSES)
    if processes < 2 or (work.uses_network and torch.cuda.is_available()):
        return
    children = start_children(work.make, numbers, processes)
    try:
        while any(child.poll() is None for child in children):
            time.sleep(0.1)
            progress.tell()
    finally:
        end_children(children)
    failed = [child.returncode for child in children if child.returncode != 0]
    if failed:
        progress.report(f"drawing {work.name}: {len(failed)} of {processes} processes ended with code {failed[0]}")


Images = NDArray[np.uint8]
Indices = NDArray[np.int64]


class GeneratedSet(MixingSet, ABC):
    """Square pictures that a program draws, each a function of the settings and its index alone.

    Attributes:
        generator: what draws them; the set's version begins with it.
        generator_version: raised with any change of the pictures.
        chunk: how many pictures are drawn at once.
        count: how many; the first ones do not depend on it.
        seed: picks the pictures.
    """

    generator: ClassVar[str]
    generator_version: ClassVar[int] = 1
    chunk: ClassVar[int]

    count: int = Field(default=10_000, ge=1)
    seed: int = 0

    @abstractmethod
    def draw(self, indices: Indices, side: int) -> Images:
        """The pictures of some consecutive indices, (N, S, S, 3) uint8.

        Args:
            indices: at most `chunk` of them.
            side: in pixels, of what is asked for; pictures of another size S are reduced to it, as files are.
        """

    def content(self) -> Mapping[str, Any]:
        """All that the pictures depend on, as JSON values."""
        return self.identity()

    def layout(self) -> ShardLayout:
        """How the pictures are divided and drawn."""
        return ShardLayout()

    def version(self) -> str:
        """The generator, its version, and a hash of the settings."""
        return generated_version(self.generator, self.generator_version, self.content())

    def pictures(self, shorter_side: int) -> Pictures:
        """Square pictures; drawn once a machine, on all its cores, and a stopped process goes on where it was.

        Raises:
            DataError: `shorter_side` is below 1, or the cache cannot be written.
        """
        manifest = {
            "generator": self.generator,
            "generator_version": self.generator_version,
            "settings": self.content(),
            "count": self.count,
        }
        version, layout = self.version(), self.layout()
        return sharded_pictures(version, shorter_side, self.count, self.draw_reduced, manifest, layout=layout)

    def draw_reduced(self, indices: Indices, side: int) -> Images:
        """The pictures of some consecutive indices with sides of `side` pixels, (N, side, side, 3) uint8."""
        parts = (self.draw(indices[start : start + self.chunk], side) for start in range(0, len(indices), self.chunk))
        return np.concatenate([part if part.shape[1] == side else _reduced(part, side) for part in parts])


def generated_version(name: str, version: int, identity: Mapping[str, Any]) -> str:
    """The version of what is generated: its name, the version of the generator and a hash of the settings.

    >>> generated_version("dead_leaves", 1, {"count": 10})
    'dead_leaves-1-0ab664d50592'
    """
    return f"{name}-{version}-{short_hash(json.dumps(identity, sort_keys=True))}"


def _reduced(pictures: Images, side: int) -> Images:
    return np.stack([np.asarray(resized(Image.fromarray(picture), side)) for picture in pictures])
