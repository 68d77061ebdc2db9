"""The results folder: files whole or absent, local paths and URIs alike, and refusals in one line."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from pixmix_ray.errors import RequestError, ResultsError, StorageError
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, run_file, trial_file


@pytest.fixture(params=["path", "text", "relative", "trailing_slash", "uri", "uri_trailing_slash"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same folder, which does not exist yet, in every way to write it."""
    folder = tmp_path / "my results #1 50%20" / "sweep"
    monkeypatch.chdir(tmp_path)
    ways: dict[str, str | Path] = {
        "path": folder,
        "text": str(folder),
        "relative": "my results #1 50%20/sweep",
        "trailing_slash": f"{folder}/",
        "uri": folder.as_uri(),
        "uri_trailing_slash": f"{folder.as_uri()}/",
    }
    return Store(ways[request.param])


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """A store that is no local folder: fsspec's memory, where folders need not be made, as on object stores."""
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem()
    remote = fs.PyFileSystem(fs.FSSpecHandler(memory))
    opener = SimpleNamespace(from_uri=lambda uri: (remote, uri.removeprefix("memory:/")))
    monkeypatch.setattr("pixmix_ray.storage.store.fs", SimpleNamespace(**{**vars(fs), "FileSystem": opener}))
    return Store(f"memory://bucket/{tmp_path.name}")


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(ResultsError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def everything_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def check_round_trip(store: Store) -> None:
    assert store.files("trials") == set()
    assert store.read("trials/a/done.json") is None
    store.write("trials/a/model.bin", b"\x00\xff" * 1000)
    store.write_json("trials/a/done.json", {"epochs": [1, 2.5], "name": "β × k"})
    store.write_json("trials/b/done.json", {})
    store.write("cells/a/clean-1.failed.json", b"{}")
    assert store.read("trials/a/model.bin") == b"\x00\xff" * 1000
    assert store.read_json("trials/a/done.json") == {"epochs": [1, 2.5], "name": "β × k"}
    assert store.files("trials") == {"trials/a/model.bin", "trials/a/done.json", "trials/b/done.json"}
    assert store.files("trials/a") == {"trials/a/model.bin", "trials/a/done.json"}
    assert store.files("trials/a/done.json") == {"trials/a/done.json"}
    assert store.files("cells") == {"cells/a/clean-1.failed.json"}
    store.write("trials/a/model.bin", b"new")
    assert store.read("trials/a/model.bin") == b"new"
    store.delete("trials/a/model.bin")
    store.delete("trials/a/model.bin")  # nothing to do
    assert store.read("trials/a/model.bin") is None
    assert store.files("trials/a") == {"trials/a/done.json"}


def test_what_is_written_is_read_back_and_listed(store: Store) -> None:
    check_round_trip(store)


def test_a_store_that_is_no_local_folder_works_alike(bucket: Store) -> None:
    check_round_trip(bucket)
    bucket.check_writable()


def test_all_ways_to_write_a_folder_lead_to_the_same_files(store: Store, tmp_path: Path) -> None:
    store.write("trials/a/done.json", b"{}")
    assert everything_below(tmp_path) == {"my results #1 50%20/sweep/trials/a/done.json"}


def test_what_does_not_exist_is_none_or_empty(store: Store) -> None:
    assert store.read("trials/a/done.json") is None
    assert store.read_json("trials/a/done.json") is None
    assert store.read_table("cells/a/clean.parquet") is None
    assert store.files("trials") == set()
    store.delete("trials/a/done.json")


def test_a_name_that_only_starts_alike_is_not_below_a_prefix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("trials/a/done.json", b"{}")
    store.write("trials/ab/done.json", b"{}")
    assert store.files("trials/a") == {"trials/a/done.json"}


def test_a_table_comes_back_with_its_schema(tmp_path: Path) -> None:
    table = pa.table({"value": [0.25, None], "name": ["a", "b"]})
    store = Store(tmp_path)
    store.write_table("cells/a/clean.parquet", table)
    found = store.read_table("cells/a/clean.parquet")
    assert found is not None
    assert found.equals(table)
    assert pq.read_table(tmp_path / "cells/a/clean.parquet").equals(table)  # any reader of Parquet opens it


def test_json_is_plain_json_for_others(tmp_path: Path) -> None:
    Store(tmp_path).write_json("trials/a/done.json", {"epochs": 3})
    assert json.loads((tmp_path / "trials/a/done.json").read_text()) == {"epochs": 3}


@pytest.mark.parametrize("old", [None, b"the old content"])
def test_a_write_that_breaks_off_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    store = Store(tmp_path)
    if old is not None:
        store.write("trials/a/done.json", old)
    before = everything_below(tmp_path)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match=r"cannot write to results .*: No space left on device\. What is done is"):
        store.write("trials/a/done.json", b"the new content, half of it")
    assert store.read("trials/a/done.json") == old
    assert store.files("trials") == before
    assert everything_below(tmp_path) == before  # nothing is left lying beside it either


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that a store slept between two tries."""
    return []


def refusing(store: Store, monkeypatch: pytest.MonkeyPatch, count: int, error: OSError) -> None:
    """Have the file system of a store refuse so many requests to open a file."""
    left, real = [count], store._files

    class Refusing:
        def __getattr__(self, name: str) -> object:
            if name in ("open_output_stream", "open_input_file") and left[0]:
                left[0] -= 1
                raise error
            return getattr(real, name)

    monkeypatch.setattr(store, "_files", Refusing())


SLOW_DOWN = OSError("AWS Error SLOW_DOWN: Please reduce your request rate")


def test_a_request_to_object_storage_that_fails_now_and_then_is_made_again(
    bucket: Store, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(bucket, "_sleep", pauses.append)
    refusing(bucket, monkeypatch, 4, SLOW_DOWN)
    bucket.write("a", b"kept")
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    refusing(bucket, monkeypatch, 2, SLOW_DOWN)
    assert bucket.read("a") == b"kept"
    assert pauses[4:] == [0.5, 1.0]


def test_object_storage_that_goes_on_refusing_is_an_error_of_the_storage_and_not_of_the_request(
    bucket: Store, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(bucket, "_sleep", pauses.append)
    refusing(bucket, monkeypatch, 5, SLOW_DOWN)
    with pytest.raises(StorageError, match=r"cannot write to results .*SLOW_DOWN") as caught:
        bucket.write("a", b"lost")
    assert not isinstance(caught.value, RequestError)
    assert len(pauses) == 4


def test_a_refusal_that_comes_again_on_every_try_is_told_at_once(
    bucket: Store, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(bucket, "_sleep", pauses.append)
    refusing(bucket, monkeypatch, 1, OSError("AWS Error ACCESS_DENIED during PutObject"))
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        bucket.write("a", b"lost")
    assert bucket.read("a") is None
    assert pauses == []


def test_a_file_is_made_only_where_there_is_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.write_new("a/b.json", b"first")
    assert not store.write_new("a/b.json", b"second")
    assert store.read("a/b.json") == b"first"
    assert everything_below(tmp_path) == {"a/b.json"}


def check_parts(store: Store) -> None:
    store.write("a/b", b"0123456789")
    assert (store.read_start("a/b", 3), store.read_start("a/b", 30)) == (b"012", b"0123456789")
    assert (store.read_end("a/b", 3), store.read_end("a/b", 30)) == (b"789", b"0123456789")
    assert store.read_start("a/c", 3) is store.read_end("a/c", 3) is None
    assert (store.exists("a/b"), store.exists("a/c"), store.exists("a")) == (True, False, False)
    assert {path: stamp.size for path, stamp in store.stamps("a").items()} == {"a/b": 10}
    assert store.stamps("b") == {}


def test_parts_of_a_file_on_object_storage_are_read_and_its_stamp_is_listed(bucket: Store) -> None:
    check_parts(bucket)


def test_parts_of_a_local_file_are_read_and_its_stamp_is_listed(tmp_path: Path) -> None:
    check_parts(Store(tmp_path))
    before = Store(tmp_path).stamps("a")["a/b"]
    os.utime(tmp_path / "a/b", ns=(before.modified + 1000,) * 2)
    assert Store(tmp_path).stamps("a")["a/b"] != before


def test_half_a_file_of_a_killed_process_is_not_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("trials/a/done.json", b"{}")
    (tmp_path / "trials/a/model.safetensors.0123abcd.part").write_bytes(b"half")
    assert store.files("trials") == {"trials/a/done.json"}


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there_at_sync: list[bool] = []
    target = tmp_path / "trials/a/done.json"
    real = os.fsync

    def look(descriptor: int) -> None:
        there_at_sync.append(target.exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    Store(tmp_path).write("trials/a/done.json", b"{}")
    assert there_at_sync == [False]
    assert target.read_bytes() == b"{}"


def test_a_check_leaves_no_trace_and_makes_the_folder(store: Store, tmp_path: Path) -> None:
    store.check_writable()
    assert everything_below(tmp_path) == set()


def test_a_folder_that_cannot_be_made_is_refused_with_the_reason_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "results"):
        text = refusal(Store(folder).check_writable)
        assert str(folder) in text
        assert "--set results=" in text


def test_below_a_regular_file_there_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file")
    assert store.files("trials") == set()
    assert store.read("trials/a/done.json") is None


@pytest.mark.parametrize("uri", ["foo://bucket/folder", "http://example.org/results", "::://", "file:///a b"])
def test_a_uri_of_an_unknown_kind_is_refused_by_name(uri: str) -> None:
    text = refusal(lambda: Store(uri))
    assert uri in text
    assert "s3://bucket/folder" in text


def test_a_long_reason_of_the_file_system_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_uri(uri: str) -> None:
        raise OSError("Unable to load libjvm\ndlopen failed: a\ndlopen failed: b")  # what Arrow says without Java

    opener = SimpleNamespace(from_uri=from_uri)
    monkeypatch.setattr("pixmix_ray.storage.store.fs", SimpleNamespace(**{**vars(fs), "FileSystem": opener}))
    assert "Unable to load libjvm" in refusal(lambda: Store("hdfs://host/folder"))


def test_a_table_that_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("cells/a/clean.parquet", b"PAR1 no Parquet")
    assert "cells/a/clean.parquet" in refusal(lambda: store.read_table("cells/a/clean.parquet"))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_json_that_is_damaged_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.write("trials/a/done.json", content)
    assert "trials/a/done.json" in refusal(lambda: store.read_json("trials/a/done.json"))


def test_every_file_has_the_place_that_the_documentation_names() -> None:
    assert trial_file("pixmix-1", "done.json") == "trials/pixmix-1/done.json"
    assert cell_file("pixmix-1/clean-2") == "cells/pixmix-1/clean-2.parquet"
    assert cell_failure_file("pixmix-1", "clean-2") == "cells/pixmix-1/clean-2.failed.json"
    assert run_file("2026") == "runs/2026.json"
