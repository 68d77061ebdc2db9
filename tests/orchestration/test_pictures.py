"""Pictures drawn as Ray tasks: the same pictures, and no finished shard is drawn again, whoever is killed."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.mixing_sets import Fractals, Pictures
from pixmix_ray.mixing_sets.base import entry_name
from pixmix_ray.mixing_sets.generated import DrawingProgress, ShardedWork, drawing_with, sharded_pictures
from pixmix_ray.orchestration import picture_tasks
from pixmix_ray.orchestration.picture_tasks import prepare

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

Draw = Callable[[NDArray[np.int64], int], NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def four_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of two pictures, all of which but the first are worth a task, in a cache of their own."""
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.SHARD", 2)
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.WORTH_SHARING", -1.0)


def noting(folder: Path, killed: int | None, *, always: bool) -> Draw:
    """Draws pictures whose pixels are their index, notes each call, and kills its process at one of them.

    A function within a function, so that Ray carries it by value: no worker can import this file.
    """
    driver = os.getpid()

    def draw(indices: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
        first, is_first_time = int(indices[0]), not (folder / "killed").exists()
        with (folder / "log").open("a") as log:
            log.write(f"{first} {os.getpid()}\n")
        if first == killed and os.getpid() != driver and (always or is_first_time):
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), side, side, 3))

    return draw


def log_of(folder: Path) -> list[tuple[int, int]]:
    lines = (folder / "log").read_text().splitlines()
    return [(int(first), int(process)) for first, process in map(str.split, lines)]


def values(found: Pictures) -> list[int]:
    return [int(found[index].max()) for index in range(len(found))]


@pytest.mark.drill
def test_a_task_that_is_killed_is_drawn_again_and_the_finished_ones_are_not(tmp_path: Path) -> None:
    """The fault: SIGKILL of the worker that draws the third of four shards, the first time."""
    with drawing_with(picture_tasks.draw_as_tasks):
        found = sharded_pictures("toy", 3, 8, noting(tmp_path, 4, always=False))
    assert values(found) == list(range(8))
    firsts = [first for first, _ in log_of(tmp_path)]
    assert sorted(firsts) == [0, 2, 4, 4, 6]
    assert [first for first, process in log_of(tmp_path) if process == os.getpid()] == [0]


@pytest.mark.drill
def test_a_shard_whose_workers_all_die_is_drawn_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: SIGKILL of every worker that draws the third shard."""
    monkeypatch.setattr(picture_tasks, "RETRIES", 1)
    lines: list[str] = []
    with drawing_with(picture_tasks.draw_as_tasks):
        found = sharded_pictures("toy", 3, 8, noting(tmp_path, 4, always=True), report=lines.append)
    assert values(found) == list(range(8)) and "1 of 3 Ray tasks failed" in lines[-1]
    log = log_of(tmp_path)
    assert sorted(first for first, _ in log) == [0, 2, 4, 4, 4, 6]
    assert [first for first, process in log if process == os.getpid()] == [0, 4]


def test_after_an_interrupt_only_what_is_missing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: an interrupt of the driver after the first shard that a task has drawn."""
    write, written = ShardedWork.write, list[int]()

    def interrupted(work: ShardedWork, number: int, images: NDArray[np.uint8]) -> None:
        write(work, number, images)
        written.append(number)
        if len(written) == 2:
            raise KeyboardInterrupt

    draw = noting(tmp_path, None, always=False)
    with drawing_with(picture_tasks.draw_as_tasks):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ShardedWork, "write", interrupted)
            sharded_pictures("toy", 3, 8, draw)
        (tmp_path / "log").unlink(missing_ok=True)  # what was cancelled may have begun
        asked = list[list[int]]()
        with monkeypatch.context() as patch:
            patch.setattr(picture_tasks, "draw_as_tasks", lambda work, numbers, progress: asked.append([*numbers]))
            with drawing_with(picture_tasks.draw_as_tasks):
                found = sharded_pictures("toy", 3, 8, draw)
    assert values(found) == list(range(8))
    left = sorted(set(range(4)) - set(written))
    assert asked == [left[1:]]  # the first of them is drawn by the driver


def test_a_sweep_is_prepared_with_the_same_pictures_as_without_ray(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, connected = list[list[int]](), list[bool]()
    draw = picture_tasks.draw_as_tasks

    def noted(work: ShardedWork, numbers: Sequence[int], progress: DrawingProgress) -> None:
        asked.append([*numbers])
        draw(work, numbers, progress)

    monkeypatch.setattr(picture_tasks, "draw_as_tasks", noted)
    sweep = read_experiment(experiment, ["methods=[pixmix]", "mixing_set={name: fractals, count: 6}"])
    for _ in range(2):
        prepare(sweep, lambda: connected.append(True))
        assert asked == [[1, 2]] and connected == [True]  # nothing to draw, no cluster
    made = Fractals(count=6).pictures(36)  # for digits of 32 pixels
    assert [file.name for file in (tmp_path / "cache").glob("pictures-*[0-9]")] == [entry_name(made.version, 36)]
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr("pixmix_ray.mixing_sets.generated.WORTH_SHARING", 1e9)
    assert np.array_equal(Fractals(count=6).pictures(36).pixels, made.pixels)
