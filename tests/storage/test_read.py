"""Reading the measurements back: all columns of the schema, older files too, and damaged ones by name."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.read import REPEATED, read, read_cells
from pixmix_ray.storage.schema import MEASUREMENTS
from pixmix_ray.storage.store import Store, cell_file

NAMES = [field.name for field in MEASUREMENTS]


def row(**changes: object) -> dict[str, Any]:
    """A measurement with every column filled by hand."""
    values: dict[str, Any] = {
        "trial_id": "pixmix-1",
        "checkpoint_id": "c1",
        "dataset": "digits",
        "model": "wrn_10_1",
        "method": "pixmix",
        "mixing_set": "fractals",
        "k": 4,
        "beta": 3.0,
        "seed": 0,
        "settings": "{}",
        "benchmark": "clean",
        "benchmark_settings": "{}",
        "data_version": "digits-1",
        "metric": "error",
        "condition": "",
        "severity": None,
        "value": 0.25,
        "direction": "lower",
        "n": 4,
        "standard_error": None,
        "seconds": 1.5,
        "device": "a CPU",
        "code_version": "0.1.0",
        "training_code_version": "0.1.0",
        "versions": "{}",
        "finished_at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    assert list(values) == NAMES
    return values | changes


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=MEASUREMENTS)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(ResultsError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_measurements_of_all_cells_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table(cell_file("pixmix-2", "clean-1"), table(row(trial_id="pixmix-2", value=0.5)))
    store.write_table(cell_file("pixmix-1", "clean-1"), table(row(), row(metric="rms_calibration_error", value=0.125)))
    store.write_json("cells/pixmix-1/adversaries-1.failed.json", {"reason": "no matter"})
    for uri in (tmp_path, str(tmp_path), tmp_path.as_uri()):
        frame = read(uri)
        assert list(frame.columns) == NAMES
        assert frame[["trial_id", "metric", "value"]].to_numpy().tolist() == [
            ["pixmix-1", "error", 0.25],
            ["pixmix-1", "rms_calibration_error", 0.125],
            ["pixmix-2", "error", 0.5],
        ]


def test_what_a_method_does_not_have_is_missing_and_not_zero(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_table(cell_file("baseline-1", "clean-1"), table(row(k=None, beta=None, mixing_set=None)))
    frame = read(tmp_path)
    for name in ("k", "beta", "mixing_set", "severity", "standard_error"):
        assert frame[name].isna().all()


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "other_files"])
def test_a_folder_without_results_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "results"
    if kind == "file":
        folder.write_text("no folder")
    elif kind != "missing":
        folder.mkdir()
    if kind == "other_files":
        (folder / "notes.txt").write_text("nothing here")
    assert str(folder) in refusal(lambda: read(folder))


WHOLE = pa.BufferOutputStream()
pq.write_table(table(*[row(n=n) for n in range(500)]), WHOLE, compression="zstd")
BYTES: bytes = WHOLE.getvalue().to_pybytes()


def rewritten(change: Callable[[pa.Table], pa.Table]) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(change(table(row())), stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content


def with_text_as_value(values: pa.Table) -> pa.Table:
    return values.set_column(NAMES.index("value"), "value", pa.array(["a quarter"]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no Parquet at all",
        BYTES[: len(BYTES) // 2],
        BYTES[:-5],
        BYTES[:4] + bytes(len(BYTES) // 2) + BYTES[4 + len(BYTES) // 2 :],
        rewritten(with_text_as_value),
    ],
    ids=["empty", "text", "half", "cut_end", "zeros_inside", "text_as_value"],
)
def test_a_cell_that_cannot_be_read_is_set_aside_and_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.write_table(cell_file("pixmix-1", "clean-1"), table(row()))
    path = cell_file("pixmix-2", "clean-1")
    store.write(path, content)
    with pytest.warns(UserWarning, match=f"{path} .* is damaged.*; set aside as {path}.damaged") as told:
        assert read(tmp_path)["trial_id"].tolist() == ["pixmix-1"]
    assert "\n" not in str(told[0].message)
    assert store.files("cells") == {cell_file("pixmix-1", "clean-1"), f"{path}.damaged"}
    assert len(read(tmp_path)) == 1  # without another word


def test_in_a_folder_that_cannot_be_written_a_damaged_cell_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.write_table(cell_file("pixmix-1", "clean-1"), table(row()))
    store.write(cell_file("pixmix-2", "clean-1"), b"PAR1")

    def read_only(self: Store, path: str) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Store, "set_aside", read_only)
    with pytest.warns(UserWarning, match="left out, and it cannot be set aside: .*Read-only file system"):
        assert read(tmp_path)["trial_id"].tolist() == ["pixmix-1"]


def test_long_texts_are_categories_and_names_are_strings(tmp_path: Path) -> None:
    Store(tmp_path).write_table(cell_file("pixmix-1", "clean-1"), table(row(), row(condition="fog")))
    frame = read(tmp_path)
    for name in (field.name for field in MEASUREMENTS if field.type == pa.string()):
        assert isinstance(frame[name].dtype, pd.CategoricalDtype) == (name in REPEATED)
    assert (frame["benchmark"] + "." + frame["metric"]).tolist() == ["clean.error"] * 2


def test_a_cell_from_before_a_column_was_added_is_still_read(tmp_path: Path) -> None:
    # the schema's promise: a column is added, never redefined
    store = Store(tmp_path)
    store.write(cell_file("pixmix-1", "clean-1"), rewritten(lambda values: values.drop_columns(["standard_error"])))
    frame = read(tmp_path)
    assert list(frame.columns) == NAMES
    assert frame["value"].tolist() == [0.25]
    assert frame["standard_error"].isna().all()


def test_a_cell_with_a_column_of_a_later_version_is_still_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    later = rewritten(lambda values: values.append_column("later", pa.array([1])))
    store.write(cell_file("pixmix-1", "clean-1"), later)
    assert list(read(tmp_path).columns) == NAMES


def test_cells_are_read_in_the_order_given_and_missing_ones_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("a", "b"):
        store.write_table(cell_file(name, "clean-1"), table(row(trial_id=name)))
    frame = read_cells(store, [f"{name}/clean-1" for name in ("b", "missing", "a")])
    assert frame["trial_id"].tolist() == ["b", "a"]


def test_no_cells_are_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    frame = read_cells(Store(tmp_path), ["a/clean"])
    assert list(frame.columns) == NAMES
    assert frame.empty
