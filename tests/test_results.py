"""A results folder as an object: tables, fronts, SQL, predictions, and what must be refused in one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pixmix_ray
import pixmix_ray.results
from pixmix_ray.analysis.comparison import Side, compare
from pixmix_ray.analysis.explanations import explain
from pixmix_ray.analysis.sql import query
from pixmix_ray.analysis.variants import apart
from pixmix_ray.benchmarks import Clean
from pixmix_ray.errors import RequestError, ResultsError, UnknownNameError
from pixmix_ray.metrics import DIRECTIONS, Measurement, Predictions
from pixmix_ray.report.changes import changes_grid, changes_notes
from pixmix_ray.report.fronts import front_grid, front_notes
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.store import Store
from tests.stored_cells import put

N = 400


def predictions(error: float) -> Predictions:
    """Of N pictures, the harder ones the same for every network."""
    hard = np.random.default_rng(7).permutation(N) / N
    zeros = np.zeros(N)
    return Predictions(
        condition=np.full(N, ""),
        severity=zeros.astype(np.int8),
        index=np.arange(N, dtype=np.int32),
        label=zeros.astype(np.int16),
        predicted=(hard >= 1 - error).astype(np.int16),
        confidence=(0.5 + hard / 2).astype(np.float32),
        extras={name: zeros.astype(np.float32) for name in Clean.extras},
    )


def fill(folder: Path, errors: dict[str, float], **about: object) -> Store:
    store, clean = Store(folder), Clean()
    for method, error in errors.items():
        found = predictions(error)
        rows = predictions_table(found, clean.extras)
        put(store, f"{method}-1/clean-1", *clean.measure(found), rows=rows, method=method, **about)
    return store


@pytest.fixture
def results(tmp_path: Path) -> pixmix_ray.results.Results:
    fill(tmp_path, {"baseline": 0.3, "pixmix": 0.1, "mixup": 0.295})
    return pixmix_ray.read(tmp_path)


def test_results_show_table_front_and_predictions(results: pixmix_ray.results.Results) -> None:
    table = results.table(["clean.error", "clean.error"])  # twice is once
    assert [row[0].text for row in table.rows] == ["baseline", "mixup", "pixmix"]
    assert [row[1].mark for row in table.rows] == ["", "", "best"]
    front = results.front(["clean.error", "clean.soft_f1"])
    assert front["on_front"].tolist() == (front["front_probability"] > 0.5).tolist()
    found = results.predictions(method="pixmix", benchmark="clean")
    assert len(found) == N and (found["predicted"] != found["label"]).mean() == pytest.approx(0.1)
    sure = results.certainty(["clean.error"])
    assert sure["label"].tolist() == ["baseline", "mixup", "pixmix"] and sure["seeds_share"].isna().all()
    pairs = results.certainty(["clean.error"], pairs=True).set_index(["better", "worse"])
    assert len(pairs) == 6 and pairs.loc[("pixmix", "baseline"), "clean.error"] == 1.0
    assert pairs.loc[("baseline", "pixmix"), "dominates"] == 0.0
    assert "3 trials, 3 cells" in repr(results) and "<table>" in results._repr_html_()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("select method, value from measurements where metric = 'error' order by value", ["pixmix", 0.1]),
        ("select method, avg((predicted <> label)::int) from predictions group by 1 order by 2", ["pixmix", 0.1]),
        ("select trial_id, cells from trials order by 1 desc", ["pixmix-1", 1]),
        ("select count(*), 0 from failures", [0, 0]),
        ("select method, value from published where \"table\" = 8 and metric = 'mce' order by value", ["pixmix", 9.5]),
    ],
)
def test_sql_has_five_tables(results: pixmix_ray.results.Results, text: str, values: list[object]) -> None:
    assert results.sql(text).iloc[0].tolist() == pytest.approx(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("selct 1", "SQL: Parser Error: syntax error"),
        ("", "SQL: '' returns no table: use select"),
        ("select * from measurments", "tables: measurements, predictions, trials, failures, published"),
        ("select nothing from measurements", "Referenced column"),
    ],
)
def test_a_mistake_in_sql_is_one_line(results: pixmix_ray.results.Results, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        results.sql(text)
    assert "\n" not in str(error.value)


def test_a_condition_is_no_objective_and_the_objectives_of_its_benchmark_are_named(tmp_path: Path) -> None:
    rows = [Measurement(metric=name, condition=of, value=0.5, n=9) for name, of in (("ce", "fog"), ("mce", ""))]
    put(Store(tmp_path), "baseline-1/corruptions-1", *rows, benchmark="corruptions")
    opened = pixmix_ray.read(tmp_path)
    with pytest.raises(RequestError, match=r"fog' is one condition of .*: choose among corruptions\.mce;"):
        opened.objectives(opened.part(), ["corruptions.fog"])


def test_failures_and_trials_without_cells_are_rows(tmp_path: Path) -> None:
    store = fill(tmp_path, {"baseline": 0.3})
    store.write_json("trials/mixup-2/trial.json", {"method": {"name": "mixup"}, "seed": 3})
    store.write_json("trials/mixup-2/failed.json", {"failed_at": "now", "error": "it diverged"})
    opened = pixmix_ray.read(tmp_path)
    trials = opened.sql("select method, seed, cells, is_done from trials order by method")
    assert trials.values.tolist() == [["baseline", 0, 1, False], ["mixup", 3, 0, False]]
    assert opened.sql("select trial_id from failures").values.tolist() == [["mixup-2"]]


def test_a_variant_of_what_was_measured_in_one_way_is_refused(results: pixmix_ray.results.Results) -> None:
    with pytest.raises(RequestError, match="variant 'limit': all results here have the same settings and data"):
        results.table(variant="limit")


def test_what_was_measured_in_two_ways_is_shown_apart_and_never_on_one_front(tmp_path: Path) -> None:
    fill(tmp_path, {"baseline": 0.3, "pixmix": 0.1, "mixup": 0.2}, benchmark_settings='{"limit": null}')
    fill(tmp_path, {"late": 0.05}, benchmark_settings='{"limit": 60}')
    fill(tmp_path / "near", {"a": 0.1}, benchmark_settings='{"limit": 60}')
    fill(tmp_path / "near", {"b": 0.1}, benchmark_settings='{"limit": 600}')
    assert pixmix_ray.read(tmp_path / "near").part("clean: limit 60").frame["method"].unique().tolist() == ["a"]
    opened = pixmix_ray.read(tmp_path)
    assert [part.label for part in opened.parts] == ["clean: no limit", "clean: limit 60"]
    assert [len(opened.table(["clean.error"], variant=part.label).rows) for part in opened.parts] == [3, 1]
    with pytest.raises(RequestError, match="measured with 2 different settings or data: choose a variant"):
        opened.front()
    with pytest.raises(RequestError, match="2 variants have the text 'limit'"):
        opened.front(variant="limit")
    with pytest.raises(ResultsError, match="are not averaged"):
        pixmix_ray.front(opened.measurements, ["clean.error"])
    assert opened._repr_html_().count("<table>") == 2


def test_a_trial_that_lacks_the_benchmark_of_several_ways_is_no_part_of_its_own() -> None:
    def row(trial: str, benchmark: str, settings: str) -> dict[str, object]:
        about = {"dataset": "digits", "data_version": "1", "benchmark_settings": settings}
        return {"trial_id": trial, "benchmark": benchmark, **about}

    frame = pd.DataFrame(
        [
            row("a", "clean", "{}"),
            row("a", "corruptions", '{"limit": 1}'),
            row("b", "clean", "{}"),
            row("b", "corruptions", '{"limit": 2}'),
            row("c", "clean", "{}"),
            row("c", "corruptions", '{"limit": 2}'),
        ]
    )
    parts = apart(frame)
    assert [(part.label, part.frame["trial_id"].unique().tolist()) for part in parts] == [
        ("corruptions: limit 2", ["b", "c"]),
        ("corruptions: limit 1", ["a"]),
    ]
    assert len(parts[0].frame) == 4


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (["clean.eror"], "unknown objective 'clean.eror', did you mean 'clean.error'"),
        (["corruptions.mce"], "unknown objective 'corruptions.mce'"),
    ],
)
def test_an_unknown_objective_names_the_nearest(
    results: pixmix_ray.results.Results, objectives: list[str], message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        results.table(objectives)


def test_an_empty_folder_and_one_of_an_older_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no results in"):
        pixmix_ray.read(tmp_path / "nothing")
    with pytest.raises(ResultsError, match="no results in"):
        query(Store(tmp_path / "nothing"), "select count(*) from measurements")
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "a.parquet").write_bytes(b"")
    with pytest.raises(ResultsError, match="older layout: run pixmix-ray migrate"):
        pixmix_ray.read(tmp_path)


def test_a_folder_that_grows_is_read_as_it_is_at_that_moment(tmp_path: Path) -> None:
    fill(tmp_path, {"baseline": 0.3})
    (tmp_path / "cells" / "pixmix-1").mkdir()
    (tmp_path / "cells" / "pixmix-1" / "clean-1.parquet.part").write_bytes(b"half of a fi")
    assert len(pixmix_ray.read(tmp_path).table(["clean.error"]).rows) == 1
    fill(tmp_path, {"mixup": 0.2})
    assert len(pixmix_ray.read(tmp_path).table(["clean.error"]).rows) == 2


def test_no_entry_with_every_objective_is_said_and_nothing_is_on_the_front(tmp_path: Path) -> None:
    store = fill(tmp_path, {"baseline": 0.3})
    put(
        store,
        "mixup-1/adversaries-1",
        Measurement(metric="error", value=0.9, n=10),
        benchmark="adversaries",
        method="mixup",
    )
    judged = pixmix_ray.read(tmp_path).judged(["clean.error", "adversaries.error"])
    assert front_grid(judged).rows == ()
    notes = front_notes(judged)
    assert "baseline is not compared, as it lacks adversaries.error" in notes
    assert "mixup is not compared, as it lacks clean.error" in notes


def test_who_improves_on_the_baseline_in_every_measure_is_said(results: pixmix_ray.results.Results) -> None:
    notes = front_notes(results.judged(["clean.error"]))
    assert "pixmix improves on baseline in every measure (all significant at 95 %), and in 100 % of the draws" in notes
    assert any(line.startswith("mixup improves on baseline in every measure (") for line in notes)
    assert "layers behind the front: 2: mixup; 3: baseline" in notes


def test_two_results_are_compared_picture_by_picture(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", {"baseline": 0.3, "pixmix": 0.20, "cutout": 0.5})
    two = fill(tmp_path / "two", {"baseline": 0.3, "pixmix": 0.15, "mixup": 0.2})
    before, after = (Side(store=store, frame=pixmix_ray.read(store.uri).measurements) for store in (one, two))
    found = compare(before, after, ["clean.error"])
    changes = found.changes.set_index("row")
    assert changes["difference"].tolist() == pytest.approx([0, -0.05])
    # by hand: 20 of 400 pictures change, so a standard error of about sqrt(.05 * .95 / 400) = .011
    half = (changes["high"] - changes["low"]).iloc[1] / 2
    assert half == pytest.approx(1.96 * 0.0109, rel=0.1)
    assert changes["is_real"].tolist() == [False, True] and changes["is_better"].tolist() == [False, True]
    assert [row[5].text for row in changes_grid(found).rows] == ["same", "better"]
    assert changes_notes(found) == ["only in A: cutout", "only in B: mixup"]


def test_what_seeds_add_is_drawn_for_each_side_unless_the_checkpoints_are_the_same(tmp_path: Path) -> None:
    """By hand: the standard error over two seeds .1 apart is .05, on either side, so the difference's is .0707."""
    for side in ("one", "two"):
        store = Store(tmp_path / side)
        for seed, value in ((0, 0.2), (1, 0.3)):
            error = Measurement(metric="error", value=value, n=400)
            put(store, f"a-{seed}/clean-1", error, seed=seed, checkpoint_id=f"{side}-{seed}")
    sides = [
        Side(store=Store(tmp_path / side), frame=pixmix_ray.read(tmp_path / side).measurements)
        for side in ("one", "two")
    ]
    widened = 12.706 / 1.96 * np.hypot(0.05, 0.05)  # Student's t of one degree of freedom
    trained_anew = compare(sides[0], sides[1], ["clean.error"]).changes.iloc[0]
    assert (trained_anew["high"] - trained_anew["low"]) / 2 == pytest.approx(1.96 * widened, rel=0.1)
    measured_again = compare(sides[0], sides[0], ["clean.error"]).changes.iloc[0]
    assert measured_again["high"] - measured_again["low"] == pytest.approx(0, abs=1e-6)


def test_trial_by_trial_a_seed_is_compared_with_the_same_seed(tmp_path: Path) -> None:
    sides: list[Side] = []
    for side, errors in (("one", (0.2, 0.3)), ("two", (0.3, 0.2))):
        store, epochs = Store(tmp_path / side), len(sides) + 1
        for seed, error in enumerate(errors):
            settings = f'{{"training": {{"epochs": {epochs}}}}}'
            put(store, f"a-{seed}/clean-1", Measurement(metric="error", value=error, n=9), seed=seed, settings=settings)
        sides.append(Side(store=store, frame=pixmix_ray.read(store.uri).measurements))
    one, two = sides
    together = compare(one, two, ["clean.error"]).changes
    assert together["difference"].tolist() == pytest.approx([0])
    apart = compare(one.by_trial(), two.by_trial(), ["clean.error"])
    assert apart.changes["difference"].tolist() == pytest.approx([0.1, -0.1])
    assert [row[0].text for row in changes_grid(apart).rows] == ["pixmix (seed=0)", "pixmix (seed=1)"]
    assert set(apart.changes["note"]) == {"training.epochs 1 -> 2"}


def test_other_settings_and_other_pictures_are_said_and_the_latter_not_compared(tmp_path: Path) -> None:
    one = fill(tmp_path / "one", {"pixmix": 0.2}, settings='{"training": {"epochs": 3}}')
    two = fill(tmp_path / "two", {"pixmix": 0.1}, settings='{"training": {"epochs": 5}}')
    other = fill(tmp_path / "three", {"pixmix": 0.1}, settings='{"training": {"epochs": 3}}', data_version="digits-2")
    frames = {store: pixmix_ray.read(store.uri).measurements for store in (one, two, other)}
    sides = {store: Side(store=store, frame=frame) for store, frame in frames.items()}
    changed = compare(sides[one], sides[two], ["clean.error"]).changes.iloc[0]
    assert changed["note"] == "training.epochs 3 -> 5" and changed["is_real"]
    refused = compare(sides[one], sides[other], ["clean.error"]).changes.iloc[0]
    assert refused["note"] == "not compared: other data" and refused["is_real"] is None
    strange = fill(tmp_path / "four", {"mixup": 0.1})
    with pytest.raises(ResultsError, match="have no configuration in common"):
        compare(sides[one], Side(store=strange, frame=pixmix_ray.read(strange.uri).measurements), ["clean.error"])


@pytest.mark.parametrize("metric", DIRECTIONS)
def test_every_metric_is_explained(metric: str) -> None:
    told = dict(explain(metric))
    assert {"definition", "formula", "divided by", "unit", "source"} <= set(told)
    assert DIRECTIONS[metric] in told["metric"]


def test_an_explanation_says_what_it_is_here_and_unknown_names_are_named(results: pixmix_ray.results.Results) -> None:
    told = dict(explain("clean.error", results.measurements))
    assert told["here"] == "clean: 3 values of n = 400 pictures, settings {}, data digits-1"
    with pytest.raises(UnknownNameError, match="unknown metric 'mcee', did you mean 'mce'"):
        explain("corruptions.mcee")
    with pytest.raises(UnknownNameError, match="unknown benchmark 'corruption', did you mean 'corruptions'"):
        explain("corruption.mce")
