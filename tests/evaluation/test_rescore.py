"""Measuring stored predictions anew: the same numbers to the last bit, differences told, nothing skipped silently."""

import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pixmix_ray.benchmarks import BENCHMARKS, Benchmark, Clean, Consistency, Corruptions
from pixmix_ray.benchmarks.extras import TOP_FIVE
from pixmix_ray.cli import main
from pixmix_ray.corruptions.p.sequences import PERTURBATIONS, frames
from pixmix_ray.errors import RequestError, ResultsError, UnknownNameError
from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import trained
from pixmix_ray.evaluation.rescore import RescoredCell, rescore
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.metrics import Measurement, Predictions, direction, zipf_distances
from pixmix_ray.storage.cell import StoredCell, predictions_of, predictions_table, read_cell, write_cell
from pixmix_ray.storage.index import update
from pixmix_ray.storage.provenance import code_version
from pixmix_ray.storage.schema import PREDICTIONS, predictions_schema
from pixmix_ray.storage.sealed import seal
from pixmix_ray.storage.store import Store, cell_file
from pixmix_ray.training.trial import train_trial

CPU = torch.device("cpu")

# benchmarks that need other settings to be quick, or that are tried with some beside the defaults
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "adversaries": [
        {"limit": 20, "steps": 2},
        {"limit": 20, "norm": "l2", "eps": 0.5, "step_size": 0.2, "steps": 2, "restarts": 2},
    ],
    "anomalies": [{"limit": 120}, {"limit": 60, "generated": ["gaussian"], "repeats": 3}],
    "clean": [{"limit": 150}],
}


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A results folder with one trained trial."""

    trial: Trial
    store: Store

    def evaluated(self, spec: Mapping[str, Any]) -> BenchmarkRun:
        part = BENCHMARKS.read(spec)
        run = BenchmarkRun(benchmark=part, version=part.settings.version())
        evaluate_cell(trained(self.trial, self.store), run, self.store, CPU, "0.0.1+first")
        return run

    def name(self, run: BenchmarkRun) -> str:
        return trained(self.trial, self.store).cell(run)

    def cell(self, run: BenchmarkRun) -> StoredCell:
        found = read_cell(self.store, self.name(run))
        assert found is not None
        return found

    def rows(self, run: BenchmarkRun) -> list[Measurement]:
        return list(self.cell(run).footer.measurements)

    def put(self, run: BenchmarkRun, rows: list[Measurement], **common: object) -> None:
        cell = self.cell(run)
        footer = replace(
            cell.footer,
            common={**cell.footer.common, **common},
            measurements=tuple(rows),
            directions={row.metric: direction(row.metric) for row in rows},
        )
        write_cell(self.store, self.name(run), replace(cell, footer=footer))

    def put_rows(self, run: BenchmarkRun, rows: pa.Table) -> None:
        write_cell(self.store, self.name(run), replace(self.cell(run), rows=rows))

    def rescored(self, **options: Any) -> list[RescoredCell]:
        return list(rescore(self.store.uri, **options))


@pytest.fixture(scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    where = tmp_path_factory.mktemp("rescore") / "results"
    sweep = Experiment.read(
        {
            "results": str(where),
            "dataset": {"name": "digits", "train_limit": 200},
            "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
            "methods": ["baseline"],
            "training": {"epochs": 1, "flip": False},
        },
        "experiment",
    )
    (trial,) = sweep.trials()
    store = Store(where)
    list(train_trial(trial, store, CPU))
    return Folder(trial=trial, store=store)


@pytest.fixture
def folder(_trained: Folder, tmp_path: Path) -> Folder:
    """A copy of the trained trial's folder, without cells."""
    shutil.copytree(_trained.store.uri, tmp_path / "results")
    return Folder(trial=_trained.trial, store=Store(tmp_path / "results"))


def _specs() -> list[dict[str, Any]]:
    return [{"name": name, **settings} for name in BENCHMARKS.ours for settings in VARIANTS.get(name, [{"limit": 20}])]


@pytest.mark.parametrize("spec", _specs(), ids=str)
def test_every_stored_value_comes_out_again_to_the_last_bit(folder: Folder, spec: dict[str, Any]) -> None:
    try:
        run = folder.evaluated(spec)
    except RequestError as error:
        pytest.skip(f"{spec['name']} needs files: {error}")
    before = folder.cell(run)
    assert len(before.footer.measurements) > 0
    benchmark = run.benchmark.settings
    measured = benchmark.measure(predictions_of(before.rows, benchmark.extras))
    assert list(before.footer.measurements) == measured  # without `rescore`: from the stored columns alone
    name = folder.name(run)
    shutil.rmtree(Path(folder.store.uri) / "trials")  # no network is needed
    assert [(cell.state, cell.reason) for cell in folder.rescored()] == [("same", "")]
    assert folder.rescored(write=True)[0].state == "same"
    after = read_cell(folder.store, name)
    assert after is not None and after.footer == before.footer


def test_folders_of_outliers_need_not_be_there_any_more(folder: Folder, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (40 * number, 10, 90)).save(pictures / f"{number}.png")
    folder.evaluated({"name": "anomalies", "limit": 60, "folders": {"textures": str(pictures)}})
    run = folder.evaluated({"name": "anomalies", "limit": 60, "generated": [], "folders": {"x": str(pictures)}})
    shutil.rmtree(pictures)
    assert [cell.state for cell in folder.rescored()] == ["same", "same"]
    assert json.loads(folder.cell(run).footer.common["benchmark_settings"])["others"] == ["x"]


def test_one_bit_more_is_a_difference_and_is_put_right_with_write(folder: Folder) -> None:
    run = folder.evaluated({"name": "clean", "limit": 150})
    before, right = folder.cell(run), folder.rows(run)
    wrong = [replace(right[0], value=float(np.nextafter(right[0].value, 1))), *right[1:]]
    folder.put(run, wrong)
    (cell,) = folder.rescored()
    assert cell.state == "different"
    assert cell.path == cell_file(folder.name(run))
    expected = f"error: value {wrong[0].value!r} is stored, {right[0].value!r} measured"
    assert cell.reason == expected
    assert folder.rows(run) == wrong  # only told
    (cell,) = folder.rescored(write=True)
    assert (cell.state, cell.reason) == ("rewritten", expected)
    assert folder.rows(run) == right
    assert folder.cell(run).footer.common == {**before.footer.common, "code_version": code_version()}
    assert folder.cell(run).rows.equals(before.rows)
    assert folder.rescored()[0].state == "same"


def test_a_cell_that_was_rescored_can_be_measured_again_and_the_new_numbers_count(folder: Folder) -> None:
    run = folder.evaluated({"name": "clean", "limit": 150})
    right = folder.rows(run)
    folder.put(run, [replace(right[0], value=0.125), *right[1:]])
    assert [cell.state for cell in folder.rescored(write=True)] == ["rewritten"]
    folder.put(run, [replace(right[0], value=0.75), *right[1:]])  # spoilt once more, then measured by the network
    evaluate_cell(trained(folder.trial, folder.store), run, folder.store, CPU, "0.0.1+first")
    update(folder.store)
    assert folder.rows(run) == right
    frame = pd.read_parquet(Path(folder.store.uri) / "measurements.parquet")
    assert frame["value"].tolist() == [row.value for row in right]
    assert [cell.state for cell in folder.rescored()] == ["same"]


def test_after_a_rescore_whoever_opens_the_index_sees_each_row_once(folder: Folder) -> None:
    run = folder.evaluated({"name": "clean", "limit": 150})
    right = folder.rows(run)
    folder.put(run, [replace(right[0], value=0.125), *right[1:]])
    update(folder.store)
    folder.rescored(write=True)
    frame = pd.read_parquet(Path(folder.store.uri) / "measurements.parquet")
    assert frame["value"].tolist() == [row.value for row in right]


def test_metrics_invented_since_are_told_and_added(folder: Folder) -> None:
    run = folder.evaluated({"name": "clean", "limit": 150})
    whole = folder.rows(run)
    folder.put(run, [row for row in whole if row.metric == "error"])
    (cell,) = folder.rescored()
    assert cell.state == "different"
    assert cell.reason.startswith("rms_calibration_error is not stored; ")
    assert cell.reason.endswith(f"; and {len(whole) - 4} more")
    folder.rescored(write=True)
    assert folder.rows(run) == whole


def test_metrics_measured_no_more_are_told_and_removed(folder: Folder) -> None:
    run = folder.evaluated({"name": "clean", "limit": 150})
    rows = folder.rows(run)
    folder.put(run, [*rows, replace(rows[0], metric="mce", severity=3, condition="fog")])
    (cell,) = folder.rescored()
    assert (cell.state, cell.reason) == ("different", "mce fog severity 3 is stored but no longer measured")
    folder.rescored(write=True)
    assert len(folder.rows(run)) == len(rows)


Spoil = Callable[[Folder, BenchmarkRun], None]


def _without_extras(folder: Folder, run: BenchmarkRun) -> None:
    folder.put_rows(run, folder.cell(run).rows.select(PREDICTIONS.names))


def _of_an_older_version(folder: Folder, run: BenchmarkRun) -> None:
    path = cell_file(folder.name(run))
    content = folder.store.read(path)
    assert content is not None
    folder.store.write(cell_file(f"{folder.trial.id}/clean-0123456789ab"), content)
    folder.store.delete(path)


def _settings(**changes: object) -> Spoil:
    def spoil(folder: Folder, run: BenchmarkRun) -> None:
        settings = {**json.loads(folder.cell(run).footer.common["benchmark_settings"]), **changes}
        folder.put(run, folder.rows(run), benchmark_settings=json.dumps(settings))

    return spoil


def _columns(**changes: object) -> Spoil:
    return lambda folder, run: folder.put(run, folder.rows(run), **changes)


def _with_words_for_labels(folder: Folder, run: BenchmarkRun) -> None:
    rows = folder.cell(run).rows
    place = rows.schema.get_field_index("label")
    folder.put_rows(run, rows.set_column(place, "label", pa.array(["cat"] * len(rows))))


SPOILT: dict[str, tuple[Spoil, str]] = {
    "predictions without extras": (
        _without_extras,
        "the predictions lack label_log_probability, squared_error, as an older version wrote them",
    ),
    "another version's key": (_of_an_older_version, "made by an older version of the benchmark clean"),
    "a setting that is no more": (_settings(temperature=2), "unknown key in benchmark: 'temperature'"),
    "a benchmark that is no more": (_settings(name="claen"), "unknown benchmark 'claen'"),
    "somebody else's benchmark": (
        _settings(name="no_such_module:Theirs"),
        "it asks to import 'no_such_module:Theirs': if you trust it, add --trust",
    ),
    "code within its settings": (_settings(inner=[{"name": "theirs:Part"}]), "it asks to import 'theirs:Part'"),
    "settings that are no JSON": (
        _columns(benchmark_settings="{'name'"),
        "cannot be read (JSONDecodeError",
    ),
    "settings without a name": (_columns(benchmark_settings="{}"), "cannot be read (KeyError"),
    "settings that are a list": (_columns(benchmark_settings="[1]"), "cannot be read (TypeError"),
    "predictions of another kind": (_with_words_for_labels, "cannot be measured (ArrowInvalid"),
    "no predictions": (
        lambda folder, run: folder.put_rows(run, PREDICTIONS.empty_table()),
        "it has no predictions",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("write", [False, True])
def test_a_cell_that_cannot_be_measured_anew_is_named_with_its_reason_and_left_alone(
    folder: Folder, name: str, write: bool
) -> None:
    spoil, said = SPOILT[name]
    spoil(folder, folder.evaluated({"name": "clean", "limit": 30}))
    whole = folder.evaluated({"name": "clean", "limit": 40})
    before = {path: folder.store.read(path) for path in folder.store.files("cells")}
    cells = {cell.path: cell for cell in folder.rescored(write=write)}
    assert cells.pop(cell_file(folder.name(whole))).state == "same"  # the others go on
    (cell,) = cells.values()
    assert cell.state == "skipped"
    assert said in cell.reason
    assert "\n" not in cell.reason
    assert {path: folder.store.read(path) for path in folder.store.files("cells")} == before


def test_a_file_that_was_cut_is_named_and_set_aside_and_the_others_go_on(folder: Folder) -> None:
    run = folder.evaluated({"name": "clean", "limit": 30})
    whole = folder.evaluated({"name": "clean", "limit": 40})
    path = cell_file(folder.name(run))
    folder.store.write(path, b"PAR1 and no more")
    with pytest.warns(UserWarning, match=f"{path} .* is damaged.*; set aside as {path}.damaged"):
        states = {cell.path: cell.state for cell in folder.rescored()}
    assert states == {
        cell_file(folder.name(run)): "skipped",
        cell_file(folder.name(whole)): "same",
    }
    assert folder.store.read(f"{path}.damaged") == b"PAR1 and no more"
    assert folder.store.read(path) is None


def test_only_the_benchmarks_asked_for_are_taken(folder: Folder) -> None:
    folder.evaluated({"name": "clean", "limit": 30})
    folder.evaluated({"name": "anomalies", "limit": 30})
    assert len(folder.rescored()) == 2
    (cell,) = folder.rescored(benchmarks=["anomalies"])
    assert "/anomalies-" in cell.path
    with pytest.raises(UnknownNameError, match="'anomalie', did you mean 'anomalies'"):
        folder.rescored(benchmarks=["anomalie"])


def test_no_results_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no results in"):
        list(rescore(tmp_path))


# predictions as tables


def _predictions(count: int) -> Predictions:
    draws = np.random.default_rng(5)
    return Predictions(
        condition=np.array(["", "fog", "gaussian_noise"])[draws.integers(0, 3, count)],
        severity=draws.integers(0, 6, count).astype(np.int8),
        index=draws.permutation(count).astype(np.int32),
        label=draws.integers(-1, 10, count).astype(np.int16),
        predicted=draws.integers(0, 10, count).astype(np.int16),
        confidence=np.where(draws.random(count) < 0.5, np.nan, draws.random(count)).astype(np.float32),
        extras={
            "squared_error": draws.random(count).astype(np.float32),
            "label_log_probability": -draws.random(count).astype(np.float32),
        },
    )


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_predictions_come_back_from_a_file_with_every_bit(tmp_path: Path, count: int) -> None:
    predictions = _predictions(count)
    store = Store(tmp_path)
    store.write_table("p.parquet", predictions_table(predictions, Clean.extras))
    table = store.read_table("p.parquet")
    assert table is not None
    assert table.schema.equals(predictions_schema(Clean.extras))
    back = predictions_of(table, Clean.extras)
    assert back.columns.keys() == predictions.columns.keys()
    for name, column in predictions.columns.items():
        assert back.columns[name].tobytes() == column.tobytes() or name == "condition"
        assert back.columns[name].dtype == column.dtype or name == "condition"
    assert back.condition.tolist() == predictions.condition.tolist()


def test_every_further_column_documents_itself() -> None:
    for name in BENCHMARKS.ours:
        extras = BENCHMARKS.ours[name].extras
        schema = predictions_schema(extras)
        assert schema.names == [*PREDICTIONS.names, *extras]
        for extra in extras:
            meaning = schema.field(extra).metadata[b"meaning"].decode()
            assert meaning
            assert "\n" not in meaning
            assert schema.field(extra).metadata[b"range"]


def _size(predictions: Predictions, benchmark: type[Benchmark], rows: int) -> float:
    """The bytes of `rows` predictions of a benchmark in its file, from those of fewer."""
    table = predictions_table(predictions, benchmark.extras)
    return len(seal([table])) * rows / len(predictions)


def test_the_suite_of_a_cifar_checkpoint_takes_at_most_40_megabytes() -> None:
    # parts of CIFAR-10-P, -C and -C-bar, made up as a network's logits are: every column, and floats of all bits
    draws, pictures, num_frames = np.random.default_rng(0), 1000, 31
    labels = draws.integers(0, 10, pictures)
    sure = draws.normal(0, 1.5, (pictures, 1, 10)) + 5 * np.eye(10)[labels][:, None]
    logits = sure + draws.normal(0, 0.35, (pictures, num_frames, 10)).cumsum(axis=1)
    ranked = np.argsort(-logits, axis=2).astype(np.int16)
    zipf = np.zeros((pictures, num_frames), np.float32)
    pairs = (ranked[:, :-1].reshape(-1, 10), ranked[:, 1:].reshape(-1, 10))
    zipf[:, 1:] = zipf_distances(*pairs).reshape(pictures, -1)
    count = pictures * num_frames
    side = np.full(count, 32, np.int16)
    sequences = Predictions(
        condition=np.full(count, "translate"),
        severity=np.zeros(count, np.int8),
        index=np.repeat(np.arange(pictures), num_frames).astype(np.int32),
        label=np.repeat(labels, num_frames).astype(np.int16),
        predicted=ranked[..., 0].ravel(),
        confidence=np.full(count, np.nan, np.float32),
        extras={
            **{name: ranked[..., place].ravel() for place, name in enumerate(TOP_FIVE)},
            "frame": np.tile(np.arange(num_frames, dtype=np.int16), pictures),
            "zipf_distance": zipf.ravel(),
            "side": side,
        },
    )
    corrupted = replace(
        sequences,
        condition=np.full(count, "fog"),
        confidence=draws.random(count).astype(np.float32),
        extras={
            "label_log_probability": -draws.random(count).astype(np.float32),
            "squared_error": draws.random(count).astype(np.float32),
            "side": side,
        },
    )
    frames_of_p = 10_000 * sum(frames(name, "cifar") for name in PERTURBATIONS["cifar"])
    pictures_of_c = 10_000 * (15 + 10) * 5
    assert frames_of_p > 2_500_000
    whole = _size(sequences, Consistency, frames_of_p) + _size(corrupted, Corruptions, pictures_of_c)
    assert whole + 60_000 * 40 < 40e6  # beside them clean, adversaries and anomalies: fewer than 60,000 rows


# the command


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["pixmix-ray", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.usefixtures("_as_before")
def test_the_command_tells_counts_and_exits_1_where_something_differs(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder.evaluated({"name": "clean", "limit": 30})
    other = folder.evaluated({"name": "clean", "limit": 40})
    _without_extras(folder, other)
    assert _call(monkeypatch, "rescore", folder.store.uri) == 0
    text = capsys.readouterr().out
    assert "cells: 1 same, 1 skipped" in text or "cells: 1 skipped, 1 same" in text
    assert re.search(r"skipped cells/\S+: the predictions lack label_log_probability", text)
    folder.put(run, [replace(row, n=31) for row in folder.rows(run)])
    assert _call(monkeypatch, "rescore", folder.store.uri, "--benchmarks", "clean") == 1
    assert "error: n 31 is stored, 30 measured" in capsys.readouterr().out
    assert _call(monkeypatch, "rescore", folder.store.uri, "--write") == 0
    assert "1 rewritten" in capsys.readouterr().out
    assert _call(monkeypatch, "rescore", folder.store.uri, "--benchmarks", "claen") == 2
    assert "did you mean 'clean'" in capsys.readouterr().err


@pytest.mark.usefixtures("_as_before")
def test_the_plan_names_the_sets_that_are_missing(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(experiment.read_text().replace("name: clean", "name: anomalies"))
    assert _call(monkeypatch, "plan", experiment) == 0
    text = capsys.readouterr().out
    assert "anomalies: averaged over 3 sets, 3 of the 7 wanted; missing: textures, svhn, lsun, places69" in text
