"""Pictures drawn in shards: the same whatever was drawn before, by whom and by how many; what was drawn is kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.cache import read_manifest
from pixmix_ray.errors import DataError
from pixmix_ray.mixing_sets import Pictures
from pixmix_ray.mixing_sets.generated import (
    SHARD,
    DrawingProgress,
    ShardedWork,
    ShardLayout,
    drawing_with,
    sharded_pictures,
)

COUNT = 5 * SHARD // 2  # two shards and a half
SIDE = 2
# a module that draws pictures whose pixels are their index, slowly, and notes each call
DRAWING = """
import os, sys, time
from pathlib import Path
import numpy as np

HERE = Path(__file__).parent

def draw(indices, side):
    time.sleep(float(os.environ.get("SECONDS_A_SHARD", "0")))
    with (HERE / "log").open("a") as log:
        log.write(f"{indices[0]} {os.getpid()}\\n")
    return np.broadcast_to((indices % 256).astype(np.uint8)[:, None, None, None], (len(indices), side, side, 3))

def draw_badly(indices, side):
    if os.getpid() != int(os.environ["PARENT"]):
        os._exit(3)
    return draw(indices, side)
"""
PROGRAM = """
from drawing import draw
from pixmix_ray.mixing_sets import generated
generated.WORTH_SHARING = {sharing}
generated.sharded_pictures('toy', 2, {count}, draw)
"""

Draw = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "drawing.py").write_text(DRAWING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "drawing", raising=False)
    return tmp_path


def expected(count: int = COUNT) -> NDArray[np.uint8]:
    return np.broadcast_to(np.arange(count).astype(np.uint8)[:, None, None, None], (count, SIDE, SIDE, 3))


def images_of(pictures: Pictures) -> NDArray[np.uint8]:
    return np.stack([pictures[index] for index in range(len(pictures))])


def drawn(indices: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    return np.broadcast_to((indices % 256).astype(np.uint8)[:, None, None, None], (len(indices), side, side, 3))


def log_of(drawing: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in (drawing / "log").read_text().splitlines()]


def run_until(drawing: Path, cache: Path, num_shards: int, *, sharing: float, count: int, killed: bool = True) -> None:
    """Run a program that draws, and kill it when so many shards lie there."""
    package = Path(sys.modules["pixmix_ray"].__path__[0]).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package), str(drawing)]),
        "SECONDS_A_SHARD": "0.3",
    }
    code = PROGRAM.format(sharing=sharing, count=count)
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    if killed:
        while len(list(cache.glob("*.shards/*.npy"))) < num_shards and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=600) == (-signal.SIGKILL if killed else 0)


def test_the_pictures_are_those_that_were_drawn_and_no_shard_is_left(cache: Path) -> None:
    pictures = sharded_pictures("toy", SIDE, COUNT, drawn, {"seed": 3, "count": COUNT})
    assert np.array_equal(images_of(pictures), expected()) and pictures.version == "toy"
    assert sorted(file.name for file in cache.iterdir()) == ["pictures-toy-2", "pictures-toy-2.lock"]
    manifest = read_manifest("pictures-toy-2")
    assert manifest is not None and (manifest["seed"], manifest["count"]) == (3, COUNT)
    assert manifest["files"]["pixels.npy"]["shape"] == [COUNT * SIDE * SIDE, 3]


def test_a_second_call_draws_nothing() -> None:
    def refuse(indices: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
        raise AssertionError("drawn before")

    first = sharded_pictures("toy", SIDE, COUNT, drawn)
    assert np.array_equal(sharded_pictures("toy", SIDE, COUNT, refuse).pixels, first.pixels)


def test_an_error_keeps_the_shards_before_it_and_they_are_not_drawn_again(cache: Path) -> None:
    asked: list[int] = []

    def draw(indices: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
        asked.append(int(indices[0]))
        if len(asked) == 2:
            raise RuntimeError("no more today")
        return drawn(indices, side)

    lines: list[str] = []
    with pytest.raises(RuntimeError, match="no more today"):
        sharded_pictures("toy", SIDE, COUNT, draw, report=lines.append)
    assert not (cache / "pictures-toy-2").exists() and lines == []
    pictures = sharded_pictures("toy", SIDE, COUNT, draw, report=lines.append)
    assert asked == [0, SHARD, SHARD, 2 * SHARD] and np.array_equal(images_of(pictures), expected())
    assert lines == [f"drawing toy: {SHARD} of {COUNT} pictures were drawn before"]


def test_a_shard_that_is_half_written_is_not_taken_for_whole(cache: Path) -> None:
    folder = cache / "pictures-toy-2.shards"
    folder.mkdir(parents=True)
    (folder / "000000.npy.123.part").write_bytes(b"\x93NUMPY half")
    assert np.array_equal(images_of(sharded_pictures("toy", SIDE, COUNT, drawn)), expected())
    assert not folder.exists()


def test_a_disk_that_is_full_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match=r"cannot write the cache .*No space left .*PIXMIX_RAY_CACHE") as caught:
        sharded_pictures("toy", SIDE, COUNT, drawn)
    assert "\n" not in str(caught.value)


@pytest.mark.drill
def test_a_process_that_was_killed_goes_on_where_it_was(drawing: Path, cache: Path) -> None:
    """The fault: SIGKILL after two of five shards."""
    run_until(drawing, cache, 2, sharing=1e9, count=5 * SHARD)
    kept = {file.name: file.stat().st_mtime_ns for file in cache.glob("*.shards/*.npy")}
    assert len(kept) >= 2 and not (cache / "pictures-toy-2").exists()
    run_until(drawing, cache, 0, sharing=1e9, count=5 * SHARD, killed=False)
    firsts = [first for first, _ in log_of(drawing)]
    assert all(firsts.count(SHARD * int(name.removesuffix(".npy"))) == 1 for name in kept)  # not drawn again
    assert np.array_equal(images_of(sharded_pictures("toy", 2, 5 * SHARD, drawn)), expected(5 * SHARD))


def test_other_processes_draw_the_same(drawing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drawing import draw  # type: ignore[import-not-found]  # written by the fixture

    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.WORTH_SHARING", -1.0)
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.usable_cores", lambda: 2)
    pictures = sharded_pictures("toy", SIDE, COUNT, draw)
    assert np.array_equal(images_of(pictures), expected())
    log = log_of(drawing)
    assert sorted(first for first, _ in log) == [0, SHARD, 2 * SHARD]
    assert len({process for _, process in log}) == 3  # this one, and one for each of the other two shards


@pytest.mark.drill
def test_what_other_processes_leave_undone_is_drawn_here(drawing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: the other processes end at once."""
    from drawing import draw_badly

    monkeypatch.setenv("PARENT", str(os.getpid()))
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.WORTH_SHARING", -1.0)
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.usable_cores", lambda: 2)
    lines: list[str] = []
    pictures = sharded_pictures("toy", SIDE, COUNT, draw_badly, report=lines.append)
    assert np.array_equal(images_of(pictures), expected())
    assert "drawing toy: 2 of 2 processes ended with code 3" in lines
    assert {process for _, process in log_of(drawing)} == {os.getpid()}


@pytest.mark.drill
def test_other_processes_end_with_the_one_that_was_killed(drawing: Path, cache: Path) -> None:
    """The fault: SIGKILL of the process that the others draw for."""
    run_until(drawing, cache, 2, sharing=-1.0, count=60 * SHARD)
    time.sleep(3)  # a shard takes 0.3 s
    left = len(list(cache.glob("*.shards/*.npy")))
    time.sleep(2)
    assert len(list(cache.glob("*.shards/*.npy"))) == left < 60


def test_what_cannot_be_sent_is_drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.WORTH_SHARING", -1.0)
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.usable_cores", lambda: 2)
    monkeypatch.setattr("pixmix_ray.child_processes._started", None)
    assert len(sharded_pictures("toy", SIDE, COUNT, lambda indices, side: drawn(indices, side))) == COUNT


def test_shards_end_where_the_layout_says_and_long_work_is_not_tried_here_first() -> None:
    asked: list[list[int]] = []
    lines: list[str] = []

    def executor(work: ShardedWork, numbers: Sequence[int], progress: DrawingProgress) -> None:
        asked.append([*numbers])
        work.make(numbers[1])  # and leaves the rest undone

    def draw(indices: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
        asked.append(indices.tolist())
        return drawn(indices, side)

    layout = ShardLayout(ends=(1, 4, 6), is_long=True, note="slowly")
    with drawing_with(executor):
        pictures = sharded_pictures("toy", SIDE, 6, draw, report=lines.append, layout=layout)
    assert asked == [[0, 1, 2], [1, 2, 3], [0], [4, 5]] and lines == ["drawing toy: slowly"]
    assert np.array_equal(images_of(pictures), expected(6))


def test_an_executor_is_asked_for_what_would_take_long_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    with drawing_with(lambda work, numbers, progress: asked.append([*numbers])):
        sharded_pictures("quick", SIDE, COUNT, drawn)
        monkeypatch.setattr("pixmix_ray.mixing_sets.generated.WORTH_SHARING", -1.0)
        sharded_pictures("slow", SIDE, COUNT, drawn)
    assert asked == [[1, 2]]


def test_a_side_below_one_is_an_error() -> None:
    with pytest.raises(DataError, match="shorter_side must be at least 1"):
        sharded_pictures("toy", 0, COUNT, drawn)
