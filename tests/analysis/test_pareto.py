"""Pareto fronts: a brute-force second implementation, hand-worked frames, and what must be refused."""

import json
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from pixmix_ray.analysis.pareto import (
    SAFETY_OBJECTIVES,
    by_configuration,
    default_objectives,
    dominance,
    pareto_front,
    peers,
)
from pixmix_ray.analysis.variants import one_variant
from pixmix_ray.errors import ResultsError, UnknownNameError

ERROR, AUROC = "clean.error", "anomalies.auroc"
BOTH = [ERROR, AUROC]


def random_wide(rows: int, objectives: int, seed: int, levels: int) -> tuple[pd.DataFrame, list[str]]:
    """Points on a coarse grid, so that there are ties and duplicates, 5 % of them missing."""
    generator = np.random.default_rng(seed)
    names = list(SAFETY_OBJECTIVES[-objectives:])  # the last one is better when higher
    values = generator.integers(0, levels, (rows, objectives)) / levels
    values[generator.uniform(size=values.shape) < 0.05] = math.nan
    labels = generator.permutation(10 * rows)[:rows]
    return pd.DataFrame(values, columns=names, index=labels), names


def brute_force(wide: pd.DataFrame, names: list[str]) -> dict[int, list[int]]:
    """Who dominates whom by the definition, pair by pair."""
    signs = [-1 if name.endswith("auroc") else 1 for name in names]
    rows = wide[names].to_numpy().tolist()
    points = {
        label: [sign * value for sign, value in zip(signs, row, strict=True)]
        for label, row in zip(wide.index.tolist(), rows, strict=True)
    }
    return {
        b: [
            a
            for a, p in points.items()
            if not any(math.isnan(x) for x in p + q)
            and all(x <= y for x, y in zip(p, q, strict=True))
            and any(x < y for x, y in zip(p, q, strict=True))
        ]
        for b, q in points.items()
    }


def long_frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Measurements with the columns that matter here; each row overrides a default."""
    default: dict[str, object] = {
        "dataset": "cifar10",
        "model": "wrn_40_4",
        "method": "pixmix",
        "mixing_set": None,
        "k": None,
        "beta": None,
        "seed": 0,
        "settings": "{}",
        "benchmark": "clean",
        "benchmark_settings": "{}",
        "data_version": "v1",
        "metric": "error",
        "condition": "",
        "severity": None,
        "value": 0.1,
        "standard_error": None,
    }
    return pd.DataFrame([{**default, **row} for row in rows])


def anomalies(**row: object) -> dict[str, object]:
    return {"benchmark": "anomalies", "metric": "auroc", **row}


@pytest.mark.parametrize(("rows", "objectives"), [(0, 2), (1, 3), (60, 1), (60, 2), (300, 3), (300, 6)])
@pytest.mark.parametrize("levels", [3, 1000])
def test_dominance_agrees_with_brute_force(rows: int, objectives: int, levels: int) -> None:
    wide, names = random_wide(rows, objectives, seed=rows + objectives, levels=levels)
    judged = dominance(wide, names)
    expected = brute_force(wide, names)
    assert dict(zip(judged.index.tolist(), judged["dominated_by"], strict=True)) == expected
    complete = wide[names].notna().all(axis=1)
    assert judged["on_front"].tolist() == [bool(complete[row]) and not expected[row] for row in judged.index]
    assert pareto_front(wide, names).equals(wide[judged["on_front"].to_numpy(dtype=bool)])


def test_higher_is_better_for_auroc_and_lower_for_error_by_hand() -> None:
    wide = pd.DataFrame({ERROR: [0.1, 0.1, 0.2], AUROC: [0.9, 0.8, 0.95]}, index=[7, 8, 9])
    judged = dominance(wide, BOTH)
    assert judged["on_front"].tolist() == [True, False, True]
    assert judged["dominated_by"].tolist() == [[], [7], []]


def test_duplicates_stay_on_the_front_together() -> None:
    wide = pd.DataFrame({ERROR: [0.1, 0.1, 0.2], AUROC: [0.9, 0.9, 0.9]})
    assert pareto_front(wide, BOTH).index.tolist() == [0, 1]
    assert dominance(wide, BOTH)["dominated_by"].tolist() == [[], [], [0, 1]]


def test_one_objective_leaves_its_best_rows() -> None:
    wide = pd.DataFrame({AUROC: [0.7, 0.9, 0.8, 0.9]})
    assert pareto_front(wide, [AUROC]).index.tolist() == [1, 3]


def test_a_row_that_lacks_an_objective_is_reported_and_compared_with_none() -> None:
    wide = pd.DataFrame({ERROR: [0.0, 0.2, math.nan], AUROC: [math.nan, 0.8, math.nan]})
    judged = dominance(wide, BOTH)
    assert judged["missing"].tolist() == [[AUROC], [], BOTH]
    assert judged["on_front"].tolist() == [False, True, False]
    assert judged["dominated_by"].tolist() == [[], [], []]
    assert pareto_front(wide, BOTH).index.tolist() == [1]


def test_an_empty_frame_has_an_empty_front() -> None:
    wide = pd.DataFrame({ERROR: pd.Series(dtype=float)})
    assert len(pareto_front(wide, [ERROR])) == 0
    assert dominance(wide, [ERROR]).columns.tolist() == [ERROR, "on_front", "dominated_by", "missing"]


def test_data_sets_are_never_compared() -> None:
    wide = pd.DataFrame({"dataset": ["cifar10", "cifar100", "cifar10"], ERROR: [0.05, 0.2, 0.06]})
    assert pareto_front(wide, [ERROR]).index.tolist() == [0, 1]
    assert peers(wide).tolist() == [0, 1, 0]


def test_ten_thousand_rows_of_six_objectives_are_within_reach() -> None:
    values = np.random.default_rng(0).uniform(size=(10_000, 6))
    wide = pd.DataFrame(values, columns=list(SAFETY_OBJECTIVES))
    front = pareto_front(wide, SAFETY_OBJECTIVES).to_numpy() * [1, 1, 1, 1, 1, -1]
    costs = values * [1, 1, 1, 1, 1, -1]
    # no member is dominated by any row; a sample of the others is dominated by a member
    assert not any(((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any() for row in front[:200])
    members = {tuple(row) for row in front.tolist()}
    for row in costs[:300]:
        assert (tuple(row.tolist()) in members) != bool((front < row).all(axis=1).any())


def test_seeds_are_averaged_with_their_standard_error_by_hand() -> None:
    frame = long_frame(
        [
            {"seed": 0, "value": 0.1, "standard_error": 0.5},
            {"seed": 1, "value": 0.3, "standard_error": 0.5},
            {"method": "cutout", "value": 0.4, "standard_error": 0.02},
            {"method": "mixup", "value": 0.5},
            anomalies(seed=1, value=0.9),
        ]
    )
    wide = by_configuration(frame, BOTH)
    assert wide["method"].tolist() == ["pixmix", "cutout", "mixup"]
    assert wide["seeds"].tolist() == [2, 1, 1]
    assert wide[ERROR].tolist() == pytest.approx([0.2, 0.4, 0.5])
    # deviation of .1 and .3: sqrt(.02), over sqrt(2): .1
    assert wide[f"{ERROR}.standard_error"].tolist() == pytest.approx([0.1, 0.02, math.nan], nan_ok=True)
    assert wide[AUROC].tolist() == pytest.approx([0.9, math.nan, math.nan], nan_ok=True)
    assert wide.columns.tolist() == [
        *["dataset", "model", "method", "mixing_set", "k", "beta", "settings", "seeds"],
        *[f"{name}{suffix}" for suffix in ("", ".standard_error", ".seeds") for name in (ERROR, AUROC)],
    ]


def test_everything_but_the_seed_tells_configurations_apart() -> None:
    grid: list[dict[str, object]] = [
        {"k": k, "beta": beta, "mixing_set": mixing_set, "settings": settings, "seed": seed}
        for k, beta, mixing_set, settings, seed in product(
            [3, None], [3.0, 4.0], ["fractals", None], ["{}", '{"lr": 1}'], [0, 1]
        )
    ]
    wide = by_configuration(long_frame(grid), [ERROR])
    assert len(wide) == len(grid) // 2
    assert wide["seeds"].tolist() == [2] * len(wide)


def test_only_aggregates_count() -> None:
    frame = long_frame(
        [
            {"benchmark": "corruptions", "metric": "mce", "value": 0.2},
            {"benchmark": "corruptions", "metric": "mce", "value": 0.3, "condition": "fog"},
            {"benchmark": "corruptions", "metric": "mce", "value": 0.4, "severity": 5},
            {"benchmark": "corruptions", "metric": "ce", "value": 0.3, "condition": "fog"},
        ]
    )
    assert by_configuration(frame, ["corruptions.mce"])["corruptions.mce"].tolist() == [0.2]
    with pytest.raises(UnknownNameError, match=r"unknown objective 'corruptions.ce'.*Known: corruptions.mce"):
        by_configuration(frame, ["corruptions.ce"])


def test_a_long_frame_is_widened_before_it_is_judged() -> None:
    frame = long_frame(
        [
            {"method": "pixmix", "value": 0.1},
            anomalies(method="pixmix", value=0.9),
            {"method": "cutout", "value": 0.2},
            anomalies(method="cutout", value=0.8),
            {"method": "mixup", "value": 0.05},
        ]
    )
    judged = dominance(frame, BOTH)
    assert judged["method"].tolist() == ["pixmix", "cutout", "mixup"]
    assert judged["dominated_by"].tolist() == [[], [0], []]
    assert judged["missing"].tolist() == [[], [], [AUROC]]
    assert pareto_front(frame, BOTH)["method"].tolist() == ["pixmix"]


def test_a_nan_measurement_counts_as_missing() -> None:
    frame = long_frame([{"value": math.nan}, {"method": "cutout", "value": 0.3}])
    assert dominance(frame, [ERROR])["missing"].tolist() == [[ERROR], []]


@pytest.mark.parametrize("column", ["benchmark_settings", "data_version"])
def test_variants_of_a_benchmark_are_never_averaged(column: str) -> None:
    other = json.dumps({"limit": 100})
    frame = long_frame([{"seed": 0}, {"seed": 1, column: other}])
    with pytest.raises(ResultsError, match="clean on cifar10 was measured with 2 different settings") as caught:
        by_configuration(frame, [ERROR])
    message = str(caught.value)
    assert ("clean with limit 100" in message) if column == "benchmark_settings" else (f"data {other}" in message)
    assert "one_variant" in message
    assert "\n" not in message
    assert len(by_configuration(frame[frame[column] == other], [ERROR])) == 1


def test_data_versions_may_differ_between_data_sets_and_benchmarks_not_asked_for() -> None:
    frame = long_frame(
        [
            {"data_version": "a"},
            {"data_version": "b", "dataset": "cifar100"},
            anomalies(data_version="c"),
            anomalies(data_version="d", seed=1),
        ]
    )
    assert len(by_configuration(frame, [ERROR])) == 2


def test_one_variant_keeps_what_most_trials_have_and_tells_the_rest() -> None:
    frame = long_frame(
        [
            {"seed": 0, "data_version": "old"},
            {"seed": 1, "data_version": "new"},
            {"seed": 2, "data_version": "new"},
            anomalies(data_version="only"),
        ]
    ).assign(trial_id=["a", "b", "c", "a"], finished_at=pd.Timestamp("2024-01-01", tz="UTC"))
    kept, lines = one_variant(frame)
    assert kept.index.tolist() == [1, 2, 3]
    assert lines == ["left out: clean with data old on cifar10, measured on 1 trial"]
    assert by_configuration(kept, BOTH)["seeds"].tolist() == [3]


def test_one_variant_keeps_the_latest_of_equals() -> None:
    days = pd.to_datetime(["2024-01-02", "2024-01-01"], utc=True)
    frame = long_frame([{"data_version": "new"}, {"data_version": "old"}]).assign(trial_id="a", finished_at=days)
    assert one_variant(frame)[0]["data_version"].tolist() == ["new"]


def test_one_trial_measured_twice_is_refused() -> None:
    with pytest.raises(ResultsError, match=r"clean\.error of pixmix, seed 0, occurs more than once"):
        by_configuration(long_frame([{"value": 0.1}, {"value": 0.2}]), [ERROR])


def test_wrong_requests_are_named() -> None:
    wide = pd.DataFrame({ERROR: [0.1]})
    with pytest.raises(UnknownNameError, match=r"unknown objective 'renditions\.error'"):
        pareto_front(wide, ["renditions.error"])
    with pytest.raises(UnknownNameError, match="unknown metric 'accuracy'"):
        pareto_front(wide, ["clean.accuracy"])
    with pytest.raises(ResultsError, match="at least one, got none"):
        pareto_front(wide, [])
    with pytest.raises(ResultsError, match=r"benchmark, metric, value are needed, got clean\.error"):
        by_configuration(wide, [ERROR])
    with pytest.raises(ResultsError, match=r"row label .* stands twice"):
        dominance(pd.concat([wide, wide]), [ERROR])
    with pytest.raises(ResultsError, match="no column of dataset, model"):
        by_configuration(pd.DataFrame({"benchmark": ["clean"], "metric": ["error"], "value": [0.1]}), [ERROR])


def test_default_objectives_are_the_papers_in_its_order() -> None:
    pairs = [tuple(name.split(".")) for name in reversed(SAFETY_OBJECTIVES)]
    frame = long_frame([{"benchmark": benchmark, "metric": metric} for benchmark, metric in pairs])
    assert default_objectives(frame) == list(SAFETY_OBJECTIVES)
    assert default_objectives(frame.iloc[1:4]) == list(SAFETY_OBJECTIVES[2:5])
    assert default_objectives(long_frame([anomalies(condition="svhn")])) == []


def test_inputs_are_not_changed() -> None:
    wide, names = random_wide(50, 3, seed=1, levels=5)
    long = long_frame([{"seed": 0}, {"seed": 1}])
    before = wide.copy(deep=True), long.copy(deep=True)
    pareto_front(wide, names)
    dominance(wide, names)
    dominance(long, [ERROR])
    by_configuration(long, [ERROR])
    one_variant(long.assign(trial_id="a", finished_at=pd.Timestamp("2024-01-01", tz="UTC")))
    default_objectives(long)
    pd.testing.assert_frame_equal(wide, before[0])
    pd.testing.assert_frame_equal(long, before[1])


def _long(values: dict[str, dict[str, dict[int, float]]]) -> pd.DataFrame:
    """Measurements of {method: {objective: {seed: value}}}."""
    rows = [
        {"method": method, "seed": seed, "value": value, "benchmark": name.split(".")[0], "metric": name.split(".")[1]}
        for method, objectives in values.items()
        for name, by_seed in objectives.items()
        for seed, value in by_seed.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_equal_totals_do_not_dominate_each_other(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    for _ in range(20):
        counts = generator.integers(0, 3000, seeds)
        other = counts.copy()
        other[0], other[-1] = other[0] + 7, other[-1] - 7  # the same total by other values, in another order
        values = {
            name: {ERROR: dict(enumerate((generator.permutation(found) / 10_000).tolist()))}
            for name, found in (("a", counts), ("b", other))
        }
        assert dominance(_long(values), [ERROR])["dominated_by"].tolist() == [[], []]


def test_a_column_counts_its_own_seeds() -> None:
    wide = by_configuration(
        _long({"a": {ERROR: {0: 0.1, 1: 0.2, 2: 0.3}, AUROC: {0: 0.9}}, "b": {ERROR: {0: 0.1}}}), BOTH
    )
    assert wide["seeds"].tolist() == [3, 1]
    assert wide[f"{ERROR}.seeds"].tolist() == [3, 1]
    assert wide[f"{AUROC}.seeds"].tolist() == [1, 0]


def test_where_a_seed_is_missing_what_is_better_in_one_objective_and_worse_in_another_dominates_nothing() -> None:
    a = {ERROR: {0: 0.1, 1: 0.2}, AUROC: {0: 0.8, 1: 0.8}}
    b = {ERROR: {0: 0.2, 1: 0.3}, AUROC: {0: 0.9, 1: 0.9}}
    c = {ERROR: {0: 0.3}, AUROC: {0: 0.9, 1: 0.8}}
    judged = dominance(_long({"a": a, "b": b, "c": c}), BOTH)
    assert judged["dominated_by"].tolist() == [[], [], [1]]


def test_two_are_compared_on_the_seeds_that_both_have() -> None:
    # on seed 0, the one that both have, they are equal in error; by the means over what is there b would be better
    a = {ERROR: {0: 0.2, 1: 0.3, 2: 0.4}, AUROC: {0: 0.9, 1: 0.9, 2: 0.9}}
    b = {ERROR: {0: 0.2}, AUROC: {0: 0.9, 1: 0.9, 2: 0.9}}
    assert dominance(_long({"a": a, "b": b}), BOTH)["dominated_by"].tolist() == [[], []]
    worse = {ERROR: {0: 0.25}, AUROC: {0: 0.9, 1: 0.9, 2: 0.9}}
    assert dominance(_long({"a": a, "b": worse}), BOTH)["dominated_by"].tolist() == [[], [0]]


def test_without_a_common_seed_the_means_of_each_are_compared() -> None:
    values = {"a": {ERROR: {0: 0.1}}, "b": {ERROR: {1: 0.2}}, "c": {ERROR: {0: 0.3, 1: 0.1}}}
    judged = dominance(_long(values), [ERROR])
    # a and c share seed 0, b and c seed 1, a and b none
    assert judged["dominated_by"].tolist() == [[], [0, 2], [0]]


@pytest.mark.parametrize("value", ["10%", "0.1", True, 1 + 0j], ids=repr)
def test_objectives_that_are_no_numbers_are_refused_in_one_line(value: object) -> None:
    wide = pd.DataFrame({"method": ["a", "b"], ERROR: [value, value]})
    with pytest.raises(ResultsError, match=r"the column clean\.error holds .*: give numbers"):
        pareto_front(wide, [ERROR])


def test_integers_and_nothing_are_numbers() -> None:
    wide = pd.DataFrame({"method": ["a", "b", "c"], ERROR: pd.array([1, 2, None], dtype="Int64")})
    assert pareto_front(wide, [ERROR])["method"].tolist() == ["a"]
