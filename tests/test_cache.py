"""The cache: made once, read-only, whole or not there."""

import errno
import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.cache import Streamed, cache_folder, cached_arrays, private_folder, read_manifest, written_whole
from pixmix_ray.errors import DataError
from pixmix_ray.version import __version__

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
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
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
        ({"HOME": "/home/somebody", "XDG_CACHE_HOME": "relative"}, "/home/somebody/.cache/pixmix_ray"),
        ({"HOME": "/home/somebody", "PIXMIX_RAY_CACHE": "$HOME/ours"}, "/home/somebody/ours"),
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


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond `size` bytes, as a full disk does, in the middle of a write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def streamed(count: int = 3) -> Streamed:
    pieces = (np.full((2, 5), number, dtype=np.uint8) for number in range(count))
    return Streamed(shape=(2 * count, 5), dtype=np.uint8, pieces=pieces)


@pytest.mark.parametrize("kind", ["whole", "streamed"])
def test_a_disk_that_fills_up_is_one_line_and_leaves_no_entry(cache: Path, kind: str) -> None:
    large = np.zeros((1000, 100), np.uint8)
    array = large if kind == "whole" else Streamed(shape=large.shape, dtype=np.uint8, pieces=np.split(large, 10))
    with full_disk(50_000), pytest.raises(DataError, match=r"cannot write the cache .*entry: .*enough space") as caught:
        cached_arrays("entry", lambda: {**make_numbers(), "large": array})
    assert "\n" not in str(caught.value)
    assert [file.name for file in cache.iterdir()] == ["entry.lock"]  # neither the entry nor half of it
    assert cached_arrays("entry", make_numbers)["numbers"].tolist() == [0, 1, 2]


def test_a_disk_that_is_full_when_the_manifest_is_written_leaves_no_entry(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: ENOSPC on the last file."""

    def full(stream: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def facts() -> dict[str, object]:
        monkeypatch.setattr("os.fsync", full)
        return {}

    with pytest.raises(DataError, match="No space left on device"):
        cached_arrays("entry", make_numbers, facts)
    assert [file.name for file in cache.iterdir()] == ["entry.lock"]


def test_a_streamed_array_is_the_pieces_one_after_the_other() -> None:
    found = cached_arrays("entry", lambda: {"stream": streamed()})["stream"]
    assert found.tolist() == [[number] * 5 for number in (0, 0, 1, 1, 2, 2)] and found.dtype == np.uint8


def test_pieces_that_do_not_add_up_leave_no_entry(cache: Path) -> None:
    wrong = Streamed(shape=(7, 5), dtype=np.uint8, pieces=streamed().pieces)
    with pytest.raises(AssertionError, match="6 rows of 7"):
        cached_arrays("entry", lambda: {"stream": wrong})
    assert not (cache / "entry").exists()


def test_a_manifest_says_what_it_was_told_and_what_the_files_hold(cache: Path) -> None:
    asked = []
    arrays = cached_arrays("entry", make_numbers, lambda: asked.append(1) or {"seed": 3})  # type: ignore[func-returns-value]  # counts
    manifest = read_manifest("entry")
    assert manifest is not None and asked == [1] and list(arrays) == ["numbers"]
    assert (manifest["entry"], manifest["seed"], manifest["code_version"]) == ("entry", 3, __version__)
    assert manifest["made_at"].startswith("20") and manifest["made_at"].endswith("+00:00")
    # second implementation of the digest, over the file as a user would do it
    digest = hashlib.sha256((cache / "entry" / "numbers.npy").read_bytes()).hexdigest()
    assert manifest["files"] == {"numbers.npy": {"shape": [3], "dtype": "int64", "sha256": digest}}
    assert json.loads((cache / "entry" / "manifest.json").read_text()) == manifest


def test_an_entry_without_a_manifest_and_a_missing_entry_have_none() -> None:
    cached_arrays("entry", make_numbers)
    assert read_manifest("entry") is None and read_manifest("nothing") is None


def test_a_file_that_is_not_written_to_its_end_is_not_there(tmp_path: Path) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"), written_whole(tmp_path / "file") as stream:
        write(stream)
    assert list(tmp_path.iterdir()) == []
    with written_whole(tmp_path / "file") as stream:
        stream.write(b"all")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"all")]


def test_folders_are_their_owners_alone(cache: Path) -> None:
    cached_arrays("entry", make_numbers)
    private_folder(cache / "one" / "two")
    assert [stat.S_IMODE(place.stat().st_mode) for place in (cache, cache / "entry", cache / "one" / "two")] == [
        0o700
    ] * 3


@pytest.mark.parametrize("use", [make_numbers, make_nothing])
def test_a_cache_of_another_user_is_refused(
    cache: Path, use: Callable[[], dict[str, NDArray[np.int64]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if use is make_nothing:
        cached_arrays("entry", make_numbers)
    cache.mkdir(exist_ok=True)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(DataError, match=f"belongs to another user .number {owner}. and is not used: set PIXMIX_RAY"):
        cached_arrays("entry", use)
    assert use is make_nothing or list(cache.iterdir()) == []


def test_a_relative_cache_folder_is_the_same_one_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIXMIX_RAY_CACHE", "here/cache")
    assert cache_folder() == tmp_path / "here" / "cache"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cache_folder() == tmp_path / "here" / "cache"
    assert os.environ["PIXMIX_RAY_CACHE"] == str(tmp_path / "here" / "cache")  # for processes that start elsewhere


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PIXMIX_RAY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match=r"no folder for the cache .*: set PIXMIX_RAY_CACHE to one"):
        cache_folder()


@pytest.mark.parametrize("text", ["s3://bucket/cache", "s3:/bucket/cache", "$PIXMIX_NOT_SET/cache", "C:\\cache"])
def test_what_is_no_local_path_is_no_place_for_the_cache(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", text)
    with pytest.raises(DataError, match=r"no folder for the cache .*: set PIXMIX_RAY_CACHE to one"):
        cache_folder()


def _remove(name: str) -> Callable[[Path], object]:
    return lambda entry: (entry / name).unlink()


def _empty(entry: Path) -> None:
    for file in entry.iterdir():
        file.unlink()


def _made_a_folder(entry: Path) -> None:
    (entry / "numbers.npy").unlink()
    (entry / "numbers.npy").mkdir()


def _cut(name: str) -> Callable[[Path], object]:
    return lambda entry: os.truncate(entry / name, 100)


SPOILT: dict[str, Callable[[Path], object]] = {
    "every file removed": _empty,
    "an array removed": _remove("numbers.npy"),
    "an optional array removed": _remove("flags.npy"),
    "an array cut off": _cut("numbers.npy"),
    "an array emptied": lambda entry: (entry / "numbers.npy").write_bytes(b""),
    "an array that is a folder": _made_a_folder,
    "the list of contents removed": _remove("contents.json"),
    "the list of contents cut off": lambda entry: (entry / "contents.json").write_text('{"numbers.npy":'),
    "the list of contents another thing": lambda entry: (entry / "contents.json").write_text("[1]"),
    "the manifest removed": _remove("manifest.json"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_entry_that_is_not_whole_is_made_again(case: str, cache: Path) -> None:
    made = []

    def make() -> dict[str, NDArray[np.generic]]:
        made.append(1)
        return {"numbers": np.arange(100), "flags": np.ones(3, dtype=np.bool_)}

    cached_arrays("entry", make, lambda: {"seed": 3})
    SPOILT[case](cache / "entry")
    for _ in range(2):
        found = cached_arrays("entry", make, lambda: {"seed": 3})
        assert set(found) == {"numbers", "flags"}
        assert found["numbers"].tolist() == list(range(100))
    assert len(made) == 2
    assert read_manifest("entry") is not None
