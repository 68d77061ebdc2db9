"""Generated pictures, drawn shard by shard on all cores, so that a process that was killed loses little.

A shard is a run of pictures in a file of its own, written beside and renamed, in a folder beside the cache entry that
they are for; when all are there, the entry is put together and the folder removed. Whoever holds the entry's lock draws
what is missing. The first shard is drawn here; if the rest would take long, an executor draws it: one that the caller
has set for the time (`drawing_with`; `pixmix_ray.orchestration` has one that makes each shard a Ray task), or else
processes of this machine (`shard_processes`). What an executor leaves undone, whatever the reason, is drawn here, where
an error has its name.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from pixmix_ray.cache import Arrays, Streamed, cache_folder, private_folder, reported_writing
from pixmix_ray.mixing_sets.base import Pictures, cached_pictures, entry_name
from pixmix_ray.mixing_sets.drawing.shard_processes import draw_in_processes
from pixmix_ray.mixing_sets.drawing.shard_work import Draw, Executor, Progress, Report, ShardedWork

SHARD = 256  # pictures; part of the names of shards that may wait in a cache
WORTH_SHARING = 12.0  # seconds of work: a process takes some three to start


@dataclass(frozen=True, kw_only=True)
class Layout:
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


_EXECUTOR: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def drawing_with(executor: Executor) -> Iterator[None]:
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
    layout: Layout = Layout(),
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
        _draw_missing(work, Progress(work, tell), is_long=layout.is_long)
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


def _draw_missing(work: ShardedWork, progress: Progress, *, is_long: bool) -> None:
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
