"""Compaction: no row is lost or doubled, whatever is killed, runs twice, is rewritten or read meanwhile."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import fs

from pixmix_ray.errors import ResultsError
from pixmix_ray.storage import compaction, segments
from pixmix_ray.storage.cells import list_cells, read_rows, replacing_file
from pixmix_ray.storage.compaction import BackgroundCompaction, compact
from pixmix_ray.storage.read import read
from pixmix_ray.storage.schema import MEASUREMENTS
from pixmix_ray.storage.store import Store, cell_file

TEXTS = {field.name: "" for field in MEASUREMENTS if field.type == pa.string() and not field.nullable}


def rows_of(trial: str, key: str, value: float, count: int = 2) -> pa.Table:
    common = TEXTS | {"trial_id": trial, "benchmark": key.partition("-")[0], "seed": 0, "n": 10, "seconds": 1.0}
    common |= {"finished_at": datetime(2026, 1, 2, tzinfo=UTC)}
    rows = [{**common, "value": value + i, "metric": f"m{i}"} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=MEASUREMENTS)


def measure(store: Store, trials: Iterable[str], keys: Iterable[str] = ("clean-1", "adversaries-1")) -> None:
    for number, trial in enumerate(trials):
        for key in keys:
            store.write_table(cell_file(trial, key), rows_of(trial, key, 10.0 * number))


def content(store: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_rows(store).to_pylist()
    return found


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of four cells, so that a few make several."""
    monkeypatch.setattr(compaction, "SEGMENT_CELLS", 4)


@pytest.fixture(params=["local", "object_store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A local folder, and fsspec's memory, where there are no folders, as on object stores."""
    if request.param == "local":
        return Store(tmp_path / "results")
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem()
    remote = fs.PyFileSystem(fs.FSSpecHandler(memory))
    opener = SimpleNamespace(from_uri=lambda uri: (remote, uri.removeprefix("memory:/")))
    monkeypatch.setattr("pixmix_ray.storage.store.fs", SimpleNamespace(**{**vars(fs), "FileSystem": opener}))
    return Store(f"memory://bucket/{tmp_path.name}")


@pytest.mark.usefixtures("small_segments")
def test_the_rows_are_the_same_before_and_after_and_in_the_same_order(store: Store) -> None:
    measure(store, ["c", "a", "b"])
    store.write_table(cell_file("a", "empty-1"), MEASUREMENTS.empty_table())
    before, cells = content(store), set(list_cells(store).places)
    assert (compact(store).cells, len(store.files("compacted"))) == (7, 2)
    assert store.files("cells") == set()
    assert content(store) == before
    assert set(list_cells(store).places) == cells  # a benchmark without a row is done too
    assert compact(store).segments == 0  # nothing left to do


@pytest.mark.parametrize("fold", [1, 2, 3, 7, 8])
def test_how_many_small_tables_are_joined_at_a_time_changes_no_row(
    store: Store, fold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "FOLD", fold)
    measure(store, ["c", "a", "d", "b"])
    before = content(store)
    compact(store)
    assert content(store) == before


@pytest.mark.usefixtures("small_segments")
def test_cells_measured_later_join_and_small_segments_are_merged(store: Store) -> None:
    for trial in ("a", "b", "c", "d"):
        measure(store, [trial], ["clean-1"])
        compact(store)
    assert len(list_cells(store).places) == 4
    sizes = [len(segment.entries) for segment in list_cells(store).segments]
    assert sum(sizes) == 4
    assert len(sizes) <= 2


def test_a_rewritten_cell_wins_over_its_compacted_copy_and_stays_the_winner(store: Store) -> None:
    measure(store, ["a", "b"])
    compact(store)
    store.write_table(cell_file("a", "clean-1"), rows_of("a", "clean-1", 100.0, count=3))  # evaluated again
    store.write_table(replacing_file("b/clean-1"), rows_of("b", "clean-1", 200.0, count=1))  # rescored
    for _ in range(3):
        values = [(row["trial_id"], row["benchmark"], row["value"]) for row in content(store)]
        assert values == [
            ("a", "adversaries", 0.0),
            ("a", "adversaries", 1.0),
            ("a", "clean", 100.0),
            ("a", "clean", 101.0),
            ("a", "clean", 102.0),
            ("b", "adversaries", 10.0),
            ("b", "adversaries", 11.0),
            ("b", "clean", 200.0),
        ]
        compact(store)
    assert len(store.files("compacted")) == 1
    measure(store, ["b"], ["clean-1"])  # an older version does not come back
    assert content(store)[-1]["value"] == 200.0
    compact(store)
    assert content(store)[-1]["value"] == 200.0


def test_two_rewritings_leave_the_later(store: Store) -> None:
    for value in (1.0, 2.0, 3.0):
        store.write_table(replacing_file("a/clean-1"), rows_of("a", "clean-1", value, count=1))
    assert [row["value"] for row in content(store)] == [3.0]
    compact(store)
    assert [row["value"] for row in content(store)] == [3.0]
    assert store.files("cells") == set()


def test_a_damaged_cell_is_set_aside_and_the_others_are_compacted(store: Store) -> None:
    measure(store, ["a", "b"])
    path = cell_file("a", "clean-1")
    whole = store.read(path)
    assert whole is not None
    store.write(path, whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.warns(UserWarning, match=f"{path} .* is damaged"):
        compact(store)
    assert set(list_cells(store).places) == {"a/adversaries-1", "b/adversaries-1", "b/clean-1"}
    assert store.files("cells") == {f"{path}.damaged"}


def test_a_damaged_segment_is_set_aside_and_its_cells_are_missing(store: Store) -> None:
    measure(store, ["a"])
    compact(store)
    measure(store, ["b"])
    (path,) = store.files("compacted")
    whole = store.read(path)
    assert whole is not None
    store.write(path, whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.warns(UserWarning, match=f"{path} .* is damaged"):
        assert set(list_cells(store).places) == {"b/adversaries-1", "b/clean-1"}
    assert store.files("compacted") == {f"{path}.damaged"}


KILLS = """
import os, shutil, signal, sys
from pathlib import Path
from pixmix_ray.storage import compaction, segments
from pixmix_ray.storage.cells import list_cells, read_rows
from pixmix_ray.storage.store import Store

compaction.SEGMENT_CELLS = 4
shown, real = Path(sys.argv[1]), {name: getattr(os, name) for name in ("fsync", "rename", "unlink")}

def dying(name, step, count):
    def wrapped(*arguments):
        for moment in ("before", "after"):
            count[0] += 1
            if count[0] == step:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == "before":
                real[name](*arguments)
    return wrapped

def compact(uri, step):
    '''In a process of its own, killed at the step; step 0 returns the number of steps as the exit code.'''
    if (child := os.fork()) == 0:
        count = [0]
        for name in real:  # all by which a file comes or goes
            setattr(os, name, dying(name, step, count))
        compaction.compact(Store(uri))
        os._exit(count[0])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

expected = read_rows(Store(shown / "before")).to_pylist()
shutil.copytree(shown / "before", shown / "undisturbed")
steps = compact(str(shown / "undisturbed"), 0)
for step in range(1, steps + 1):
    store = Store(shutil.copytree(shown / "before", shown / str(step)))
    assert compact(store.uri, step) == -signal.SIGKILL, step
    assert read_rows(store).to_pylist() == expected, step
    compact(store.uri, step // 2 + 1)  # and again, at another step if there are so many left
    assert read_rows(store).to_pylist() == expected, step
    compaction.compact(store)
    assert read_rows(store).to_pylist() == expected, step
    assert not store.files("cells"), step
    assert len(list_cells(store).places) == 5, step
print(steps)
"""


@pytest.mark.drill
def test_a_kill_at_any_step_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The fault: SIGKILL before and after every system call by which compaction makes or removes a file."""
    store = Store(tmp_path / "before")
    measure(store, ["a"])
    compact(store)
    measure(store, ["b"])
    store.write_table(replacing_file("a/clean-1"), rows_of("a", "clean-1", 100.0))
    store.write_table(replacing_file("c/clean-1"), rows_of("c", "clean-1", 1.0))
    store.write_table(replacing_file("c/clean-1"), rows_of("c", "clean-1", 2.0))
    ended = subprocess.run([sys.executable, "-c", KILLS, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) >= 20


@pytest.mark.usefixtures("small_segments")
def test_a_kill_between_writing_and_removing_leaves_both_and_counts_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: the process ends after each number of removals, on object stores too."""
    measure(store, ["a", "b", "c"])
    expected = content(store)
    real = Store.delete
    for kept in range(8):
        left = [kept]

        def delete(self: Store, path: str, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(self, path)

        monkeypatch.setattr(Store, "delete", delete)
        with contextlib.suppress(KeyboardInterrupt):
            compact(store)
        assert content(store) == expected
    monkeypatch.setattr(Store, "delete", real)
    compact(store)
    assert content(store) == expected
    assert len({cell for segment in list_cells(store).segments for cell in segment.entries}) == 6


@pytest.mark.usefixtures("small_segments")
def test_two_compactors_a_writer_a_rescorer_and_a_reader_at_once(tmp_path: Path) -> None:
    """All at work on the same folder: every reading holds every cell once, and never an older version again."""
    store = Store(tmp_path)
    trials = [f"t{number:02d}" for number in range(12)]
    measure(store, trials[:6])
    stop, problems = threading.Event(), []
    written = set(trials[:6])

    def repeat(action: Any) -> None:
        try:
            while not stop.is_set():
                action()
        except BaseException as error:
            problems.append(error)
            raise

    newest = 0.0

    def look() -> None:
        nonlocal newest
        expected = {f"{trial}/{key}" for trial in list(written) for key in ("clean-1", "adversaries-1")}
        frame = read(tmp_path)
        found = frame["trial_id"] + "/" + frame["benchmark"] + "-1"
        assert expected <= set(found)
        assert not frame.duplicated(["trial_id", "benchmark", "metric"]).any()
        value = frame.loc[found == "t00/clean-1", "value"].max()
        assert value >= newest, "an older version came back"
        newest = value

    threads = [threading.Thread(target=repeat, args=(action,)) for action in (*[lambda: compact(store)] * 2, look)]
    for thread in threads:
        thread.start()
    for number, trial in enumerate(trials[6:]):
        measure(store, [trial])
        written.add(trial)
        store.write_table(replacing_file("t00/clean-1"), rows_of("t00", "clean-1", 100.0 * (number + 1)))
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    compact(store)
    frame: pd.DataFrame = read(tmp_path)
    assert len(frame) == len(trials) * 2 * 2
    assert frame["value"].max() == 601.0


def test_in_the_background_it_starts_when_there_is_enough_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "LOOK_SECONDS", 0.01)
    store = Store(tmp_path)
    with BackgroundCompaction(store, few=3):
        measure(store, ["a"])
        measure(store, ["b", "c"])
        while not store.files("compacted"):
            time.sleep(0.01)
        measure(store, ["d", "e"])
    assert len(read(tmp_path)) == 5 * 2 * 2
    assert len(store.files("cells")) <= 3


def test_few_cells_are_left_as_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with BackgroundCompaction(store, few=4):
        measure(store, ["a", "b"])
    assert store.files("compacted") == set()


def test_a_folder_that_cannot_be_written_is_an_error_by_hand_and_a_warning_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    measure(store, ["a"])

    def write(self: Store, path: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(ResultsError, match=r"cannot compact .*No space left on device"):
        compact(store)
    with pytest.warns(UserWarning, match="No space left on device"), BackgroundCompaction(store, few=0):
        pass
    assert len(read(tmp_path)) == 4
