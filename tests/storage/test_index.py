"""The index of all measurements: each row once, whatever was written, rewritten, removed or damaged since."""

import math
import multiprocessing
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixmix_ray.errors import ResultsError, StorageError
from pixmix_ray.metrics import Measurement
from pixmix_ray.storage import cell, index
from pixmix_ray.storage.cell import read_columns
from pixmix_ray.storage.index import FILE, REPEATED, list_cells, read, read_cells, read_rows, update
from pixmix_ray.storage.schema import INDEX, MEASUREMENTS
from pixmix_ray.storage.store import Store, cell_file
from tests.stored_cells import ERROR, put

COLUMNS = [*MEASUREMENTS.names, "cell"]
RMS = Measurement(metric="rms_calibration_error", value=0.125, n=4)


def triples(frame: pd.DataFrame) -> list[list[object]]:
    found: list[list[object]] = frame[["trial_id", "metric", "value"]].to_numpy().tolist()
    return found


def error(value: float) -> Measurement:
    return Measurement(metric="error", value=value, n=4)


@pytest.mark.parametrize("name", ["note", "cell_size", "value"])
def test_an_index_that_lacks_a_column_of_today_is_made_again(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    put(store, "pixmix-1/clean-1", ERROR)
    whole = read_rows(store)
    store.write_table(FILE, whole.drop_columns([name]), {index.VERSION_KEY: index.VERSION})
    assert read_rows(store).equals(whole)


def test_all_measurements_of_all_cells_come_back_sorted_by_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "pixmix-2/clean-1", error(0.5))
    put(store, "pixmix-1/clean-1", ERROR, RMS)
    store.write_json("cells/pixmix-1/adversaries-1.failed.json", {"reason": "no matter"})
    for uri in (tmp_path, str(tmp_path), tmp_path.as_uri()):
        frame = read(uri)
        assert list(frame.columns) == COLUMNS
        assert triples(frame) == [
            ["pixmix-1", "error", 0.25],
            ["pixmix-1", "rms_calibration_error", 0.125],
            ["pixmix-2", "error", 0.5],
        ]
        assert frame["cell"].tolist() == ["pixmix-1/clean-1", "pixmix-1/clean-1", "pixmix-2/clean-1"]


def test_every_number_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.inf, math.nan]
    rows = [Measurement(metric="error", value=v, n=4, condition=str(i)) for i, v in enumerate(values)]
    put(Store(tmp_path), "a/clean-1", *rows, beta=math.nextafter(3.0, 4.0))
    for _ in range(2):  # from the footer, then from the index
        frame = read(tmp_path)
        assert [value.hex() for value in frame["value"]] == [value.hex() for value in values]
        assert set(frame["beta"]) == {math.nextafter(3.0, 4.0)}


def test_what_is_missing_is_null_and_long_texts_are_categories(tmp_path: Path) -> None:
    fog = Measurement(metric="error", value=0.5, n=4, condition="fog", severity=3, standard_error=0.25)
    put(Store(tmp_path), "baseline-1/clean-1", ERROR, fog, k=None, beta=None, mixing_set=None)
    frame = read(tmp_path)
    assert frame[["k", "beta", "mixing_set"]].isna().to_numpy().all()
    assert frame["severity"].isna().tolist() == [True, False] and frame["severity"].tolist()[1] == 3
    assert frame["standard_error"].isna().tolist() == [True, False]
    for field in MEASUREMENTS:
        if field.type == pa.string():
            assert isinstance(frame[field.name].dtype, pd.CategoricalDtype) == (field.name in REPEATED)
    assert (frame["benchmark"] + "." + frame["metric"]).tolist() == ["clean.error"] * 2


def test_the_file_is_complete_and_any_reader_of_parquet_sees_each_row_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1", ERROR, RMS)
    put(store, "b/clean-1", ERROR)
    update(store)
    put(store, "b/clean-1", error(0.75))  # measured again
    table = read_rows(store)
    assert table.schema.equals(INDEX)
    frame = pd.read_parquet(tmp_path / FILE)
    assert frame["value"].tolist() == [0.25, 0.125, 0.75]
    assert frame["cell"].tolist() == ["a/clean-1", "a/clean-1", "b/clean-1"]
    assert pq.read_schema(tmp_path / FILE).field("value").metadata[b"meaning"]


def test_polars_sees_each_row_once(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    put(Store(tmp_path), "a/clean-1", ERROR, RMS)
    update(Store(tmp_path))
    assert polars.read_parquet(tmp_path / FILE)["value"].to_list() == [0.25, 0.125]


def test_duckdb_sees_each_row_once(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    put(Store(tmp_path), "a/clean-1", ERROR, RMS)
    update(Store(tmp_path))
    assert duckdb.sql(f"select value from '{tmp_path / FILE}'").fetchall() == [(0.25,), (0.125,)]


@pytest.mark.parametrize("seed", range(5))
def test_an_index_of_many_pieces_is_the_one_that_is_made_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Cells are added, written anew and removed at random, three at a time being held."""
    monkeypatch.setattr(index, "BATCH", 3)
    store, drawn = Store(tmp_path), random.Random(seed)
    for step in range(8):
        for number in drawn.sample(range(30), drawn.randint(1, 9)):
            put(store, f"t{number:02}/clean-1", error(step / 8), *[RMS] * drawn.randint(0, 2))
        there = sorted(list_cells(store))
        for name in drawn.sample(there, drawn.randint(0, min(3, len(there) - 1))):
            store.delete(cell_file(name))
        kept = read_rows(store)
        assert kept["cell"].to_pylist() == sorted(kept["cell"].to_pylist())
        pieces = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).unlink()
        assert read_rows(store).to_pylist() == kept.to_pylist()
        (tmp_path / FILE).write_bytes(pieces)


def test_only_what_is_new_or_was_rewritten_is_read_and_nothing_is_written_without_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    for name in ("a", "b", "c"):
        put(store, f"{name}/clean-1", ERROR)
    update(store)
    seen: list[str] = []

    def counted(store: Store, name: str) -> object:
        seen.append(name)
        return read_columns(store, name)

    monkeypatch.setattr(index, "read_columns", counted)
    written = (tmp_path / FILE).stat().st_mtime_ns
    update(store)
    assert (seen, (tmp_path / FILE).stat().st_mtime_ns) == ([], written)
    put(store, "b/clean-1", error(0.5), RMS)
    put(store, "d/clean-1", error(1.0))
    store.delete(cell_file("a/clean-1"))
    frame = read(tmp_path)
    assert sorted(seen) == ["b/clean-1", "d/clean-1"]
    assert triples(frame) == [
        ["b", "error", 0.5],
        ["b", "rms_calibration_error", 0.125],
        ["c", "error", 0.25],
        ["d", "error", 1.0],
    ]


def test_a_cell_that_was_removed_is_gone_from_the_file_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1", ERROR)
    put(store, "b/clean-1", ERROR)
    update(store)
    store.delete(cell_file("a/clean-1"))
    update(store)
    assert pd.read_parquet(tmp_path / FILE)["trial_id"].tolist() == ["b"]


@pytest.mark.parametrize("damage", ["flipped", "cut", "no parquet", "deleted", "another version"])
def test_an_index_that_is_damaged_or_missing_is_made_again(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1", ERROR, RMS)
    before = read(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    middle = len(content) // 2
    if damage == "deleted":
        store.delete(FILE)
    elif damage == "another version":
        store.write_table(FILE, read_rows(store).slice(0, 1), {"pixmix_ray.index": "0"})
    else:
        spoilt = {"flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]}
        store.write(FILE, {**spoilt, "cut": content[:-9], "no parquet": b"{}"}[damage])
    pd.testing.assert_frame_equal(read(tmp_path), before)
    assert len(pd.read_parquet(tmp_path / FILE)) == 2


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"PAR1",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: flip(content, content.index(b'"value"') + 3),
        lambda content: flip(content, content.index(b"0.25")),
        lambda content: flip(content, len(content) - 6),
    ],
)
def test_a_cell_that_is_damaged_is_set_aside_with_a_warning_and_the_others_are_read(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    store = Store(tmp_path)
    put(store, "pixmix-1/clean-1", ERROR)
    put(store, "pixmix-2/clean-1", ERROR)
    path = cell_file("pixmix-2/clean-1")
    content = store.read(path)
    assert content is not None
    store.write(path, spoil(content))
    with pytest.warns(UserWarning, match=rf"{path} in .* is damaged: .*; set aside as {path}\.damaged: run the same"):
        frame = read(tmp_path)
    assert triples(frame) == [["pixmix-1", "error", 0.25]]
    assert store.files("cells") == {cell_file("pixmix-1/clean-1"), f"{path}.damaged"}


def test_measurements_are_found_without_a_reader_of_parquet_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = Store(tmp_path), "pixmix-1/clean-1"
    put(store, name, ERROR)
    with monkeypatch.context() as patched:
        patched.setattr(cell, "_found", lambda footer: None)
        by_reader = read_columns(store, name)
    monkeypatch.delattr(pq, "read_metadata")
    assert read_columns(store, name) == by_reader


@pytest.mark.parametrize("common", [{"k": "four"}, {"seed": 2**70}, {"settings": 3}, {"seed": None}])
def test_a_cell_with_a_value_of_another_kind_does_not_spoil_the_table(
    tmp_path: Path, common: dict[str, object]
) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1", ERROR)
    put(store, "b/clean-1", ERROR, **common)
    with pytest.warns(UserWarning, match="b/clean-1.parquet .* its measurements cannot be read"):
        assert triples(read(tmp_path)) == [["a", "error", 0.25]]


def test_a_folder_that_may_not_be_written_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Store(tmp_path), "a/clean-1", ERROR)

    def refuses(*_: object) -> None:
        raise StorageError("read-only")

    monkeypatch.setattr(Store, "write", refuses)
    assert triples(read(tmp_path)) == [["a", "error", 0.25]]
    assert not (tmp_path / FILE).exists()


def _fill(folder: Path, writer: int) -> None:
    store = Store(folder)
    for number in range(10):
        put(store, f"t{writer}/clean-{number}", error(number / 16))
        assert sum(cell.startswith(f"t{writer}/") for cell in read_rows(store)["cell"].to_pylist()) == number + 1


def test_processes_that_update_at_once_each_end_with_a_complete_table(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_fill, args=(tmp_path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(read_rows(Store(tmp_path))) == 30
    assert len(pd.read_parquet(tmp_path / FILE)) == 30
    assert not list(tmp_path.rglob("*.part"))


def test_cells_are_read_in_the_order_given_and_missing_ones_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("a", "b"):
        put(store, f"{name}/clean-1", ERROR)
    assert read_cells(store, ["b/clean-1", "missing/clean-1", "a/clean-1"])["trial_id"].tolist() == ["b", "a"]
    assert set(list_cells(store)) == {"a/clean-1", "b/clean-1"}


def test_no_cells_are_an_empty_frame_with_all_columns_and_no_results_an_error(tmp_path: Path) -> None:
    frame = read_cells(Store(tmp_path), ["a/clean"])
    assert list(frame.columns) == COLUMNS
    assert frame.empty
    with pytest.raises(ResultsError, match=f"no results in {tmp_path}"):
        read(tmp_path)


def test_a_cell_without_measurements_counts_as_a_cell_and_has_no_row(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1")
    put(store, "b/clean-1", ERROR)
    assert len(read_rows(store)) == 1
    assert len(list_cells(store)) == 2


def test_reading_results_imports_nothing_heavy(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = [Measurement(metric="error", value=i / 64, n=4, condition=str(i)) for i in range(30)]
    for trial in range(9):
        for benchmark in range(4):
            put(store, f"t{trial}/b{benchmark}-1", *rows, benchmark=f"b{benchmark}")
    code = (
        "import sys, pixmix_ray; assert len(pixmix_ray.read(sys.argv[1]).measurements) == 1080; "
        "heavy = {'torch', 'ray', 'sklearn', 'scipy', 'torchvision', 'pydantic', 'rich', 'duckdb'} & set(sys.modules); "
        "ours = {n for n in sys.modules if n.startswith(('pixmix_ray.experiment', 'pixmix_ray.benchmarks'))}; "
        "assert not heavy | ours, heavy | ours"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.parametrize("folder", ["predictions/a", "compacted"])
def test_a_folder_of_an_older_layout_is_refused_with_the_way_out(tmp_path: Path, folder: str) -> None:
    Store(tmp_path).write(f"{folder}/clean-1.parquet", b"old")
    with pytest.raises(ResultsError, match=f"older layout: run pixmix-ray migrate {tmp_path} once"):
        read(tmp_path)


def test_a_cell_of_an_older_layout_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table(cell_file("a/clean-1"), pa.table({"trial_id": ["a"], "value": [0.5]}))
    with pytest.raises(ResultsError, match="older layout: run pixmix-ray migrate"):
        read(tmp_path)


def test_copies_that_other_programs_leave_are_passed_over_and_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1", ERROR)
    content = store.read("cells/a/clean-1.parquet")
    assert content is not None
    copies = ("a/clean-1 (1)", "a/clean-1.sync-conflict-20260101", "a (copy)/clean-1", "clean-1", "a/b/clean-1")
    for name in copies:
        store.write(f"cells/{name}.parquet", content)
    with pytest.warns(UserWarning, match=r"^passed over 5 Parquet files in .* that no run wrote.*\.\.\.$"):
        assert list(list_cells(store)) == ["a/clean-1"]
    with pytest.warns(UserWarning, match="passed over 5"):
        assert len(read_rows(store)) == 1


def test_a_copy_under_a_name_that_looks_like_another_is_passed_over_and_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a/clean-1", ERROR)
    content = store.read("cells/a/clean-1.parquet")
    assert content is not None
    for name in ("a-copy/clean-1", "a/clean-1-host-2", "b-copy/clean-1"):
        store.write(f"cells/{name}.parquet", content)
    for _ in range(2):  # also where there is an index
        with pytest.warns(UserWarning, match=r"^passed over 3 Parquet files in .* that no run wrote.*\.parquet$"):
            assert len(read_rows(store)) == 1
