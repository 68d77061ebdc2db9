"""Selection: conditions, cells and orders on a few rows, each with the rows that are meant."""

import json
from pathlib import Path

import pandas as pd
import pytest

import pixmix_ray
from pixmix_ray.analysis.selection import in_order_of, left_out, matching, of_cells, sorted_by
from pixmix_ray.analysis.variants import one_variant, ways
from pixmix_ray.cli.selection import Selection, trials_of
from pixmix_ray.errors import RequestError, ResultsError, UnknownNameError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.metrics import Measurement
from pixmix_ray.planning.status import read_status
from pixmix_ray.report.fronts import front_grid
from pixmix_ray.storage.store import Store, trial_file
from tests.stored_cells import CHECKPOINT, ERROR, put, put_of


def frame() -> pd.DataFrame:
    """Four entries, named by what they are: method, k, mixing set, learning rate, error."""
    rows = [
        ("pixmix", 3, "fractals", 0.1, 0.20),
        ("pixmix", 4, "dead leaves", 0.1, 0.10),
        ("pixmix", 10, "fractals", 0.05, 0.15),
        ("baseline", None, None, 0.1, 0.30),
    ]
    table = pd.DataFrame(rows, columns=["method", "k", "mixing_set", "lr", "value"])
    settings = [json.dumps({"training": {"lr": lr, "flip": True}, "method": {"lr_of": 1}}) for lr in table.pop("lr")]
    about = {"dataset": "digits", "benchmark": "clean", "metric": "error", "condition": "", "severity": None, "seed": 0}
    more = {"benchmark_settings": "{}", "data_version": "1", "beta": None, "model": "wrn"}
    ids = [f"trial-{number}" for number in range(4)]
    return table.assign(**about, **more, settings=settings, trial_id=ids, cell=[f"{name}/clean-1" for name in ids])


CONDITIONS = [
    ("method=pixmix and k>=3", [0, 1, 2]),
    ("method = pixmix AND k > 3", [1, 2]),
    ("method=baseline or k=3", [0, 3]),
    ("not method=pixmix", [3]),
    ("method=pixmix and not (k=3 or k=4)", [2]),
    ("k in (3, 10)", [0, 2]),
    ("k not in (3, 10)", [1, 3]),
    ("k=3.0", [0]),
    ("k!=3", [1, 2, 3]),
    ("k<5", [0, 1]),  # what has no k is neither above nor below
    ("k=none", [3]),
    ("mixing_set='dead leaves'", [1]),
    ('mixing_set="dead leaves" or mixing_set=none', [1, 3]),
    ("training.lr<=0.05", [2]),
    ("lr=0.1", [0, 1, 3]),  # the end of a path that one path has
    ("flip=true and method<>baseline", [0, 1, 2]),
    ("label='pixmix (dead leaves, k=4, lr=0.1)'", [1]),
    ("trial_id=trial-2", [2]),
]


@pytest.mark.parametrize(("where", "rows"), CONDITIONS)
def test_a_condition_chooses_rows(where: str, rows: list[int]) -> None:
    assert matching(frame(), where).index.tolist() == rows


WRONG = [
    ("", "a name is missing at its end"),
    ("method", "a sign such as = is missing after 'method'"),
    ("method=", "a value is missing at its end"),
    ("k>>3", "a value is missing before '>'"),
    ("k>=three", "compares numbers, and 'three' is not a number"),
    ("(k=3", r"'\)' is missing before 'its end'"),
    ("k=3 k=4", "'k' is not expected there"),
    ("k in 3", r"'\(' is missing before '3'"),
    ("k not 3", "'in' is missing before '3'"),
    ("k=3 and", "a name is missing at its end"),
    ("k=3 !", "'!' cannot be read"),
]


@pytest.mark.parametrize(("where", "message"), WRONG)
def test_what_is_no_condition_is_one_line_with_an_example(where: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        matching(frame(), where)
    assert "method=pixmix and k>=3" in str(caught.value) and "\n" not in str(caught.value)


def test_names_and_values_that_there_are_not_are_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown column or setting 'methd'.*did you mean 'method'"):
        matching(frame(), "methd=pixmix")
    with pytest.raises(ResultsError, match="no rows match --where 'method=pixmx': method is baseline, pixmix"):
        matching(frame(), "method=pixmx")
    twice = frame().assign(settings=json.dumps({"training": {"seed_of": 1}, "model": {"seed_of": 2}}))
    with pytest.raises(RequestError, match=r"'seed_of' may mean training\.seed_of or model\.seed_of"):
        matching(twice, "seed_of=1")


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["clean.error"], [1, 2, 0, 3]),
        (["-clean.error"], [3, 0, 2, 1]),
        (["k"], [0, 1, 2, 3]),  # 10 after 4: numbers, and what has none last
        (["-k"], [2, 1, 0, 3]),
        (["mixing_set", "-k"], [1, 2, 0, 3]),
        (["method", "training.lr"], [3, 2, 0, 1]),
    ],
)
def test_an_order_is_by_objectives_columns_and_settings(names: list[str], rows: list[int]) -> None:
    before = frame()
    assert sorted_by(before, names).index.tolist() == rows
    pd.testing.assert_frame_equal(before, frame())


def test_more_is_better_where_the_metric_says_so() -> None:
    assert sorted_by(frame().assign(metric="auroc"), ["clean.auroc"]).index.tolist() == [3, 0, 2, 1]
    with pytest.raises(UnknownNameError, match=r"clean\.eror.*did you mean 'clean\.error'"):
        sorted_by(frame(), ["clean.eror"])


def test_the_order_of_cells_and_of_trials_is_kept() -> None:
    assert of_cells(frame(), ["trial-3/clean-1", "trial-0/clean-1", "trial-9/clean-1"]).index.tolist() == [3, 0]
    assert in_order_of(frame(), ["trial-2", "trial-9"]).index.tolist() == [2, 0, 1, 3]
    with pytest.raises(ResultsError, match=r"contain none of the \d+ measured cells of the experiment file"):
        of_cells(frame(), ["trial-9/clean-1"])


def test_what_is_left_out_is_said_in_words() -> None:
    limited = frame().assign(benchmark_settings=json.dumps({"limit": 1000}), cell="other")
    both = pd.concat([frame().assign(benchmark_settings=json.dumps({"limit": None})), limited], ignore_index=True)
    assert [way.words for way in ways(both)] == ["clean with no limit", "clean with limit 1000"]
    assert left_out(both, both[:4], "--experiment") == (
        "left out: clean with limit 1000, 4 trials; show them without --experiment"
    )
    assert left_out(both, both[both["method"] == "pixmix"], "--where") == (
        "left out: 1 of 4 trials; show them without --where"
    )
    assert left_out(both, both, "--where") == ""
    kept, lines = one_variant(both.assign(finished_at=pd.Timestamp("2026-01-01", tz="UTC")))
    assert len(kept) == 4 and lines == ["left out: clean with limit 1000 on digits, measured on 4 trials"]


def fill(folder: Path) -> Store:
    """Two methods on each of two data sets, one with its file alone, and the plan of the last run."""
    store = Store(folder)
    for dataset in ("digits", "cifar10"):
        for number, method in enumerate(("baseline", "pixmix")):
            error = Measurement(metric="error", value=0.3 - 0.1 * number, n=100, standard_error=0.01)
            loss = Measurement(metric="negative_log_likelihood", value=0.5 + number, n=100, standard_error=0.01)
            about = {"dataset": dataset, "method": method, "k": 4 if number else None, "mixing_set": None}
            put(store, f"{method}-{dataset}/clean-1", error, loss, settings="{}", **about)
    store.write_json(trial_file("cutout-1", "trial.json"), {"method": {"name": "cutout", "length": 8}, "seed": 0})
    store.write_json("plan.json", {"labels": {"pixmix-digits": "pixmix seed 0"}, "cells": {"pixmix-digits": 1}})
    return store


def test_results_are_selected_alike_from_python(tmp_path: Path) -> None:
    fill(tmp_path)
    results = pixmix_ray.read(tmp_path)
    assert results.measurements["trial_id"].iloc[0] == "pixmix-digits"  # the order of the last run comes first
    chosen = results.select("method=pixmix and dataset=digits", sort="clean.error")
    assert [row[0].text for row in chosen.table(["clean.error"]).rows] == ["pixmix"]
    assert chosen.left_out == ("left out: 3 of 4 trials; show them without --where",)
    assert len(results.measurements) == 8 and results.left_out == ()


def test_the_rows_of_an_experiment_file_are_those_of_its_cells_in_its_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = tmp_path / "two.yaml", Store(tmp_path / "results")
    text = "{results: elsewhere, dataset: digits, methods: [mixup, baseline], benchmarks: [{name: clean, limit: 50}]}"
    file.write_text(text)
    experiment = read_experiment(file)
    whole = read_experiment(file, ["benchmarks=[clean]", "methods=[baseline, mixup, cutout]"])
    for run in (*experiment.benchmark_runs(), *whole.benchmark_runs()):
        for trial in whole.trials():
            store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": CHECKPOINT})
            about = {"trial_id": trial.id, "method": trial.method.own_name, "settings": "{}"}
            put_of(store, trial, run, ERROR, **about)
    found = Selection(experiment=file).open(store.uri)
    assert found.measurements["method"].tolist() == ["mixup", "baseline"]
    assert [part.label for part in found.parts] == [""]
    told = " ".join(capsys.readouterr().err.split())
    assert told == ("left out: 1 of 3 trials; clean with no limit, 2 trials; show them without --experiment")
    assert trials_of(file, store.uri) == [trial.id for trial in experiment.trials()]


def test_tables_and_fronts_have_a_section_for_each_data_set(tmp_path: Path) -> None:
    fill(tmp_path)
    results, names = pixmix_ray.read(tmp_path), ["clean.error", "clean.negative_log_likelihood"]
    grid = results.table(names)
    assert [column.key for column in grid.columns[:2]] == ["dataset", "method"]
    texts = [[cell.text for cell in row[:2]] for row in grid.rows]
    assert texts == [["digits", "pixmix"], ["", "baseline"], ["cifar10", "baseline"], ["", "pixmix"]]
    assert [row[0].value for row in grid.rows] == ["digits", "digits", "cifar10", "cifar10"]
    assert grid.breaks == {1}
    front = front_grid(results.judged(names))
    assert [row[0].text for row in front.rows] == ["digits", "", "cifar10", ""] and front.breaks == {1}


def test_the_status_is_selected_alike(tmp_path: Path) -> None:
    fill(tmp_path)
    status = read_status(tmp_path)
    assert Selection().of_status(status) is status
    chosen = Selection(where="method=cutout").of_status(status)
    assert [trial.trial_id for trial in chosen.trials] == ["cutout-1"]
    chosen = Selection(where="k=4", sort="-trial_id").of_status(status)
    assert [trial.trial_id for trial in chosen.trials] == ["pixmix-digits", "pixmix-cifar10"]
