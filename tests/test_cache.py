"""The cache: made once, read-only, whole or not there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.cache import cache_folder, cached_arrays
from pixmix_ray.errors import DataError

SLOW_MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from pixmix_ray.cache import cached_arrays

def make():
    with Path(sys.argv[1]).open("a") as log:
        log.write("made\\n")
    time.sleep(0.5)
    return {"numbers": np.arange(5)}

assert cached_arrays("slow", make)["numbers"].tolist() == [0, 1, 2, 3, 4]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(folder))
    return folder


def make_numbers() -> dict[str, NDArray[np.int64]]:
    return {"numbers": np.arange(3)}


def make_nothing() -> dict[str, NDArray[np.int64]]:
    raise AssertionError("the entry is there already")


def test_an_entry_is_made_once_and_then_read_from_its_files() -> None:
    first, second = cached_arrays("entry", make_numbers), cached_arrays("entry", make_nothing)
    assert first["numbers"].tolist() == second["numbers"].tolist() == [0, 1, 2]


def test_arrays_are_read_only_memory_maps() -> None:
    numbers = cached_arrays("entry", make_numbers)["numbers"]
    assert isinstance(numbers, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        numbers[0] = 1


def test_two_processes_that_ask_at_once_make_it_once(tmp_path: Path, cache: Path) -> None:
    package = Path(sys.modules["pixmix_ray"].__path__[0]).parent
    environment = {**os.environ, "PYTHONPATH": str(package), "PIXMIX_RAY_CACHE": str(cache)}
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLOW_MAKER, str(log)]
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert log.read_text() == "made\n"


def test_an_error_while_making_leaves_nothing_that_is_taken_for_whole(cache: Path) -> None:
    def make() -> dict[str, NDArray[np.int64]]:
        raise RuntimeError("no numbers today")

    with pytest.raises(RuntimeError, match="no numbers today"):
        cached_arrays("entry", make)
    assert [file for file in cache.iterdir() if file.suffix != ".lock"] == []
    assert cached_arrays("entry", make_numbers)["numbers"].tolist() == [0, 1, 2]


def test_an_error_while_writing_leaves_nothing_that_is_taken_for_whole() -> None:
    # A pickle is refused when `numbers` has been written already.
    with pytest.raises(ValueError, match="Object arrays"):
        cached_arrays("entry", lambda: {**make_numbers(), "objects": np.array([{}], dtype=object)})
    arrays = cached_arrays("entry", make_numbers)
    assert list(arrays) == ["numbers"]


def test_a_cache_that_cannot_be_written_is_an_error_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="Set PIXMIX_RAY_CACHE to a writable folder"):
        cached_arrays("entry", make_numbers)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"PIXMIX_RAY_CACHE": "/ours", "XDG_CACHE_HOME": "/theirs"}, "/ours"),
        ({"XDG_CACHE_HOME": "/theirs"}, "/theirs/pixmix_ray"),
        ({"HOME": "/home/somebody"}, "/home/somebody/.cache/pixmix_ray"),
    ],
)
def test_the_folder_follows_the_environment(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIXMIX_RAY_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)
