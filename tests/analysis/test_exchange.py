"""Results for other programs and other machines: read back by those programs' own code where it is there."""

import csv
import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

import pixmix_ray
from pixmix_ray.analysis.archive import MANIFEST, read_archive, write_archive
from pixmix_ray.analysis.histories import labelled_trials
from pixmix_ray.analysis.leaderboards import CORRUPTIONS, FORMS, OPENOOD, TIMM, openood_metrics
from pixmix_ray.analysis.means import by_severity
from pixmix_ray.benchmarks import Anomalies
from pixmix_ray.errors import DamagedError, RequestError, ResultsError
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.report.exports import write_forms, write_table
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store
from tests.stored_cells import ERROR, put

ATTACK = json.dumps({"attack": "autoattack", "norm": "linf", "eps": 8 / 255})


def anomalies() -> Predictions:
    generator = np.random.default_rng(0)
    inside, outside = generator.beta(5, 1, 100), generator.beta(2, 2, 20)
    confidence = np.concatenate([inside, outside]).astype(np.float32)
    zeros = np.zeros(120)
    return Predictions(
        condition=np.array(["in_distribution"] * 100 + ["blobs"] * 20),
        severity=zeros.astype(np.int8),
        index=np.arange(120, dtype=np.int32),
        label=zeros.astype(np.int16),
        predicted=zeros.astype(np.int16),
        confidence=confidence,
        extras={"max_logit": confidence, "energy": -confidence, "draw": zeros.astype(np.uint8)},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two seeds of pixmix on three benchmarks."""
    made = Store(tmp_path / "results")
    for seed in (0, 1):
        trial = f"pixmix-{seed}"
        about = {"seed": seed, "trial_id": trial, "dataset": "cifar10", "model": "wrn_40_4"}
        error = Measurement(metric="error", value=0.04 + 0.02 * seed, n=100)
        put(made, f"{trial}/clean-1", error, **about)
        cells = [
            Measurement(metric="error", value=0.1 * severity, n=9, condition=name, severity=severity)
            for name in CORRUPTIONS[:-1]
            for severity in (1, 2, 3, 4, 5)
        ]
        put(
            made,
            f"{trial}/corruptions-1",
            Measurement(metric="error", value=0.3, n=9),
            *cells,
            benchmark="corruptions",
            **about,
        )
        robust = Measurement(metric="error", value=0.5, n=9)
        put(made, f"{trial}/adversaries-1", robust, benchmark="adversaries", benchmark_settings=ATTACK, **about)
        benchmark = Anomalies(generated=("blobs",))
        rows = predictions_table(anomalies(), benchmark.extras)
        put(made, f"{trial}/anomalies-1", *benchmark.measure(anomalies()), rows=rows, benchmark="anomalies", **about)
        made.write_json(f"trials/{trial}/trial.json", {"seed": seed})
    return made


def forms(store: Store, name: str) -> dict[str, str]:
    return dict(FORMS[name](store, read(store.uri)).files)


def test_robustbench_takes_accuracies_in_percent_by_threat_model(store: Store) -> None:
    files = forms(store, "robustbench")
    corrupted = json.loads(files["model_info/cifar10/corruptions/pixmix.json"])
    # the keys of the files there, Hendrycks2020AugMixWRN.json among them
    assert list(corrupted) == [
        *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture"),
        *("clean_acc", "reported", "eps", "corruptions_acc"),
    ]
    assert (corrupted["clean_acc"], corrupted["corruptions_acc"], corrupted["eps"]) == ("95.00", "70.00", None)
    robust = json.loads(files["model_info/cifar10/Linf/pixmix.json"])
    assert (robust["autoattack_acc"], robust["eps"]) == ("50.00", "8/255")


def test_robustbench_s_table_of_corruptions_is_read_as_they_read_it(store: Store) -> None:
    found = FORMS["robustbench"](store, read(store.uri))
    text = found.files["model_info/cifar10/corruptions/unaggregated_results.csv"]
    table = pd.read_csv(io.StringIO(text), header=[0, 1], index_col=0)
    assert table.shape == (1, 75) and table.loc["pixmix", ("shot_noise", "2")] == 0.8
    assert found.notes == ("pixmix: not measured on elastic_transform: these cells are empty",)


@pytest.mark.parametrize("name", FORMS)
def test_names_of_somebody_hostile_stay_in_the_folder_and_are_no_formulas(name: str, tmp_path: Path) -> None:
    made, benchmark = Store(tmp_path), Anomalies(generated=("blobs",))
    for number, method in enumerate(("=cmd|' /C calc'!A0", "<b>\u65e5", "<b>\u672c")):
        about = {"dataset": "../../x", "model": "=1+1", "method": method, "trial_id": f"a-{number}"}
        put(made, f"a-{number}/clean-1", ERROR, **about)
        put(made, f"a-{number}/corruptions-1", ERROR, benchmark="corruptions", **about)
        rows = predictions_table(anomalies(), benchmark.extras)
        put(made, f"a-{number}/anomalies-1", *benchmark.measure(anomalies()), rows=rows, benchmark="anomalies", **about)
    files = forms(made, name)
    write_forms(FORMS[name](made, read(tmp_path)), tmp_path / "out" / "deep")
    assert not any(".." in path or path.startswith("/") for path in files)
    assert not any(line.startswith(("=", "+", "-1", "@")) for text in files.values() for line in text.splitlines())
    assert not any("<b>" in text for text in files.values())
    assert name == "timm" or len([path for path in files if path.endswith((".json", "ood.csv", "README.md"))]) == 3


def test_pgd_is_nothing_for_robustbench_and_it_is_said(tmp_path: Path) -> None:
    made = Store(tmp_path)
    put(made, "a/clean-1", ERROR)
    put(made, "a/corruptions-1", ERROR, benchmark="corruptions")
    put(made, "a/adversaries-1", ERROR, benchmark="adversaries", benchmark_settings='{"attack": "pgd"}')
    found = FORMS["robustbench"](made, read(tmp_path))
    assert found.notes == ("pixmix: RobustBench accepts only AutoAttack, and adversaries used pgd",)


def test_openood_s_table_has_its_columns_and_its_definitions(store: Store) -> None:
    files = forms(store, "openood")
    assert sorted(files) == ["cifar10/pixmix-s0/ood.csv", "cifar10/pixmix-s1/ood.csv"]
    rows = list(csv.DictReader(io.StringIO(files["cifar10/pixmix-s0/ood.csv"])))
    assert tuple(rows[0]) == OPENOOD and [row["dataset"] for row in rows] == ["blobs", "farood"]
    drawn = anomalies()
    inside = drawn.condition == "in_distribution"
    assert float(rows[0]["AUROC"]) == pytest.approx(100 * roc_auc_score(inside, drawn.confidence), abs=0.01)
    # their loop: the confidence that 95 of the 100 ordinary ones reach, and how many strange ones are above it
    threshold = sorted(drawn.confidence[inside], reverse=True)[94]
    assert float(rows[0]["FPR@95"]) == pytest.approx(100 * np.mean(drawn.confidence[~inside] > threshold))
    assert rows[0]["ACC"] == "96.00"


def test_openood_s_metrics_of_a_perfect_detector() -> None:
    assert openood_metrics(np.array([0.9, 0.8, 0.7]), np.array([0.1, 0.2])).tolist() == [0, 1, 1, 1]


def test_timm_s_table_has_its_columns(store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(forms(store, "timm")["results-cifar10.csv"])))
    assert tuple(rows[0]) == TIMM
    assert (rows[0]["model"], rows[0]["top1"], rows[0]["top1_err"]) == ("wrn_40_4.pixmix", "95.000", "5.000")


@pytest.mark.skipif(find_spec("huggingface_hub") is None, reason="needs huggingface_hub")
def test_the_hub_s_own_code_reads_the_model_card(store: Store) -> None:
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard_data import model_index_to_eval_results

    text = forms(store, "hf")["pixmix/README.md"]
    card = yaml.safe_load(text.split("---\n")[1])
    name, results = model_index_to_eval_results(card["model-index"])
    accuracy = [one for one in results if one.metric_type == "accuracy" and "clean" in one.dataset_name]
    assert name == "pixmix" and [one.metric_value for one in accuracy] == [0.95]
    again = ModelCardData(model_name=name, eval_results=results)
    assert "model-index" in str(again)


def test_names_of_somebody_hostile_leave_no_folder_and_no_formula(tmp_path: Path) -> None:
    made = Store(tmp_path / "results")
    put(made, "a/clean-1", ERROR, method="../../=cmd|' /C calc'!A0", dataset="cifar10")
    write_forms(FORMS["hf"](made, read(made.uri)), tmp_path / "out")
    assert all(path.is_relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cmd_C_calc_A0"]
    put(made, "a/clean-1", ERROR, method="=1+1", dataset="cifar10")
    write_table(read(made.uri), tmp_path / "m.csv", "csv")
    assert next(csv.DictReader((tmp_path / "m.csv").open()))["method"] == "'=1+1"
    write_table(read(made.uri), tmp_path / "m.parquet", "parquet")
    assert pd.read_parquet(tmp_path / "m.parquet")["method"].tolist() == ["=1+1"]


def test_a_form_without_its_benchmark_is_one_line(tmp_path: Path) -> None:
    made = Store(tmp_path)
    put(made, "a/clean-1", ERROR)
    with pytest.raises(ResultsError, match="measure the benchmark anomalies first"):
        FORMS["openood"](made, read(tmp_path))
    with pytest.raises(RequestError, match="cannot write"):
        write_table(read(tmp_path), tmp_path / "nowhere" / "m.csv", "csv")


def test_an_archive_comes_out_as_it_went_in_and_twice_is_once(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    assert write_archive(store, file) == 10  # eight cells and two trials
    first = file.read_bytes()
    write_archive(store, file)
    assert file.read_bytes() == first
    other = Store(tmp_path / "other")
    assert len(read_archive(other, file).added) == 10
    again = read_archive(other, file)
    assert (len(again.added), len(again.same), again.conflicts) == (0, 10, ())
    pd.testing.assert_frame_equal(read(other.uri), read(store.uri))
    assert pixmix_ray.read(other.uri).predictions(benchmark="anomalies").shape[0] == 240


def test_weights_come_along_when_they_are_asked_for(store: Store, tmp_path: Path) -> None:
    store.write("trials/pixmix-0/model.safetensors", b"weights")
    assert write_archive(store, tmp_path / "a.zip") == 10
    assert write_archive(store, tmp_path / "b.zip", has_weights=True) == 11


def test_a_conflict_is_told_and_nothing_is_overwritten(store: Store, tmp_path: Path) -> None:
    write_archive(store, tmp_path / "a.zip")
    put(store, "pixmix-0/clean-1", Measurement(metric="error", value=0.9, n=100), seed=0)
    before = (tmp_path / "results" / "cells" / "pixmix-0" / "clean-1.parquet").read_bytes()
    found = read_archive(store, tmp_path / "a.zip")
    assert found.conflicts == ("cells/pixmix-0/clean-1.parquet",) and len(found.same) == 9
    assert (tmp_path / "results" / "cells" / "pixmix-0" / "clean-1.parquet").read_bytes() == before


def changed(file: Path, path: str, content: bytes | None, manifest: dict[str, object] | None = None) -> Path:
    """The archive with another file, or another manifest."""
    out = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name == MANIFEST and manifest is not None:
                new.writestr(name, json.dumps(manifest))
            elif name != path:
                new.writestr(name, old.read(name))
        if content is not None:
            new.writestr(path, content)
    return out


def test_what_is_not_what_was_packed_is_refused_before_anything_is_written(store: Store, tmp_path: Path) -> None:
    write_archive(store, tmp_path / "a.zip")
    other = Store(tmp_path / "other")
    cell = "cells/pixmix-0/clean-1.parquet"
    size = len(zipfile.ZipFile(tmp_path / "a.zip").read(cell))
    entry = {"sha256": "0", "bytes": 1}
    cases: list[tuple[Path, type[Exception], str]] = [
        (changed(tmp_path / "a.zip", cell, b"x" * size), DamagedError, "is not what was packed: nothing was taken"),
        (tmp_path / "nowhere.zip", ResultsError, "cannot read"),
    ]
    for path in ("../../etc/passwd", "cells/../../x/y", "runs/a/b", "cells/a"):
        manifest = {"version": 1, "files": {path: entry}}
        cases.append(
            (changed(tmp_path / "a.zip", path, b"x", manifest), ResultsError, "only files cells/CHECKPOINT/FILE")
        )
        with pytest.raises(cases[-1][1], match=cases[-1][2]):
            read_archive(other, cases[-1][0])
    (tmp_path / "b.zip").write_bytes(b"no zip")
    cases = [(changed(tmp_path / "a.zip", cell, b"x" * size), *cases[0][1:]), cases[1]]
    cases += [(tmp_path / "b.zip", ResultsError, "is not an archive written by pixmix-ray export")]
    for file, kind, words in cases:
        with pytest.raises(kind, match=words):
            read_archive(other, file)
    later = changed(tmp_path / "a.zip", cell, None, {"version": 2, "files": {}})
    with pytest.raises(ResultsError, match="version 2, and this program reads 1: export it again"):
        read_archive(other, later)
    assert not (tmp_path / "other").exists() and not (tmp_path / "etc").exists()


def test_an_empty_folder_has_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no results in"):
        write_archive(Store(tmp_path), tmp_path / "a.zip")


def test_a_configuration_has_one_name_whatever_is_looked_at(tmp_path: Path) -> None:
    made = Store(tmp_path)
    put(made, "a/clean-1", ERROR, k=3)
    put(made, "b/clean-1", ERROR, k=4)
    severe = Measurement(metric="error", value=0.2, n=4, severity=1)
    put(made, "b/corruptions-1", severe, benchmark="corruptions", k=4)
    frame = read(tmp_path)
    assert by_severity(frame, "error")["label"].tolist() == ["pixmix (k=4)"]
    assert labelled_trials(frame)["label"].tolist() == ["pixmix (k=3)", "pixmix (k=4)"]
