"""The paired bootstrap: beside drawing pictures and measuring anew, and by hand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pixmix_ray.analysis.cell_effects import _share_kept
from pixmix_ray.analysis.certainty import Certainty, Spread, bootstrap, improvers, pairs, summary
from pixmix_ray.analysis.spread import judge
from pixmix_ray.benchmarks import Anomalies, Clean, Consistency, Corruptions
from pixmix_ray.benchmarks.base import Benchmark
from pixmix_ray.errors import ResultsError
from pixmix_ray.metrics import Predictions
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store
from tests.stored_cells import put

N = 300
OBJECTIVES = ("clean.error", "anomalies.auroc")


def spread(values: list[list[float]], se: float = 0.01, seeds: list[NDArray[np.float64]] | None = None) -> Spread:
    """Independent pictures with the same standard error in each value."""
    array = np.array(values)
    n, m = array.shape
    effects = np.random.default_rng(0).choice([-1.0, 1.0], (400, n, m)) * se / 20
    return Spread(
        values=array,
        strata={"test": [(slice(None), (effects - effects.mean(axis=0)).astype(np.float32))]},
        seeds=seeds or [array[row : row + 1] for row in range(n)],
        others=np.full((n, m), math.nan),
        groups=np.zeros(n, dtype=np.int64),
    )


def predictions(
    condition: str, severity: int, error: float, seed: int, extras: Mapping[str, NDArray[Any]]
) -> Predictions:
    """Of N test pictures, the harder ones the same for every network."""
    hard, own = np.random.default_rng(7).uniform(size=N), np.random.default_rng([seed, severity, len(condition)])
    wrong = 0.7 * hard + 0.3 * own.uniform(size=N) > 1 - error
    confidence = np.clip(1 - 0.5 * hard + 0.1 * own.normal(size=N), 0.1, 1).astype(np.float32)
    label = np.arange(N) % 10
    return Predictions(
        condition=np.full(N, condition),
        severity=np.full(N, severity, dtype=np.int8),
        index=np.arange(N, dtype=np.int32),
        label=label.astype(np.int16),
        predicted=np.where(wrong, (label + 1) % 10, label).astype(np.int16),
        confidence=confidence,
        extras={
            name: column.astype(kind.dtype)
            for (name, column), kind in zip(extras.items(), extras.values(), strict=True)
        },
    )


def scores(seed: int) -> dict[str, NDArray[Any]]:
    own = np.random.default_rng(seed)
    proper = {"label_log_probability": -own.exponential(size=N), "squared_error": own.uniform(0, 2, N)}
    return {name: column.astype(np.float32) for name, column in proper.items()}


def sampled(benchmark: Benchmark, seed: int) -> Predictions:
    """Predictions of every benchmark in the form that its own code makes them."""
    side = {"side": np.full(N, 32, dtype=np.int16)}
    if isinstance(benchmark, Clean):
        return predictions("", 0, 0.3, seed, scores(seed))
    if isinstance(benchmark, Corruptions):
        cells = [("fog", 1), ("fog", 2), ("snow", 1), ("snow", 2)]
        return Predictions.join([predictions(*cell, 0.2 * cell[1], seed, {**scores(seed), **side}) for cell in cells])
    if isinstance(benchmark, Anomalies):
        own = np.random.default_rng(seed)
        parts = []
        for shift, name in enumerate(("in_distribution", "blobs", "gaussian")):
            logit = own.normal(-shift, 1, N).astype(np.float32)
            extra: dict[str, NDArray[Any]] = {"max_logit": logit, "energy": -logit, "draw": np.zeros(N, dtype=np.uint8)}
            part = predictions(name, 0, 0.3 + 0.2 * shift, seed, extra)
            parts.append(part if not shift else part.select(part.index < N // 5))
        return Predictions.join(parts)
    parts = []
    for name in ("gaussian_noise", "tilt"):
        for frame in range(4):
            own = np.random.default_rng([seed, frame, len(name)])
            ranks = {f"top{rank}": own.integers(0, 10, N).astype(np.int16) for rank in range(1, 6)}
            zipf = own.uniform(size=N).astype(np.float32) * (frame > 0)
            more: dict[str, NDArray[Any]] = {
                **ranks,
                "frame": np.full(N, frame, dtype=np.int16),
                "zipf_distance": zipf,
                **side,
            }
            parts.append(predictions(name, 0, 0.3, seed + frame, more))
    return Predictions.join(parts)


BENCHMARKS: tuple[Benchmark, ...] = (
    Clean(),
    Corruptions(names=("fog", "snow"), severities=(1, 2)),
    Consistency(names=("gaussian_noise", "tilt")),
    Anomalies(generated=("blobs", "gaussian")),
)


def name_of(benchmark: Benchmark) -> str:
    return type(benchmark).__name__.lower()


def stored(tmp_path: Path, benchmarks: tuple[Benchmark, ...], seeds: tuple[int, ...] = (0,)) -> Store:
    """Cells of a network for each seed, with the measurements that the benchmarks themselves make."""
    store = Store(tmp_path)
    for seed in seeds:
        for benchmark in benchmarks:
            found, name = sampled(benchmark, seed), name_of(benchmark)
            table = predictions_table(found, benchmark.extras)
            about = {"seed": seed, "benchmark": name, "trial_id": f"pixmix-{seed}"}
            put(store, f"pixmix-{seed}/{name}-1", *benchmark.measure(found), rows=table, **about)
    return store


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=name_of)
def test_every_aggregate_has_an_interval_and_its_standard_error_is_that_of_the_benchmark(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    store = stored(tmp_path, (benchmark,))
    frame = read(tmp_path)
    whole = frame[(frame["condition"] == "") & frame["severity"].isna()]
    # where every ordinary picture is flagged, no picture moves that
    moving = whole[~(whole["metric"].astype(str).str.startswith("fpr95") & whole["value"].eq(1))]
    objectives = [f"{name_of(benchmark)}.{metric}" for metric in moving["metric"]]
    found = judge(store, frame, objectives, draws=200).certainty
    known = dict(zip(whole["metric"], whole["standard_error"], strict=True))
    assert len(objectives) >= 3
    for column, name in enumerate(objectives):
        se = float(found.by_pictures[0, column])
        assert se > 0, name
        if (expected := known[name.partition(".")[2]]) is not None and not math.isnan(expected):
            assert se == pytest.approx(expected, rel=0.01), name
        assert found.costs[column, 0].std() == pytest.approx(se, rel=0.25), name


@pytest.mark.parametrize("metric", ["rms_calibration_error", "auroc", "aupr"])
def test_the_spread_is_that_of_drawing_pictures_and_measuring_anew(metric: str, tmp_path: Path) -> None:
    benchmark = (
        BENCHMARKS[0] if metric.startswith("rms") else Anomalies(generated=("blobs", "gaussian"), scores=("msp",))
    )
    store, drawn = stored(tmp_path, (benchmark,)), sampled(benchmark, 0)
    found = judge(store, read(tmp_path), [f"{name_of(benchmark)}.{metric}"]).certainty
    generator, values = np.random.default_rng(3), []
    for _ in range(150):
        rows = [
            generator.choice(np.flatnonzero(drawn.condition == name), int((drawn.condition == name).sum()))
            for name in np.unique(drawn.condition)
        ]
        again = Predictions.of_columns({name: column[np.concatenate(rows)] for name, column in drawn.columns.items()})
        values += [row.value for row in benchmark.measure(again) if row.metric == metric and not row.condition]
    # binning anew adds a spread of its own to the calibration error, which the effects leave out
    assert found.by_pictures[0, 0] == pytest.approx(np.std(values), rel=0.3 if metric.startswith("rms") else 0.15)


def test_networks_that_see_the_same_pictures_are_told_apart_by_less_than_their_intervals(tmp_path: Path) -> None:
    store = Store(tmp_path)
    clean = Clean()
    for name, error in (("baseline", 0.30), ("pixmix", 0.24)):
        found = predictions("", 0, error, 0, scores(0))
        put(store, f"{name}-1/clean-1", *clean.measure(found), rows=predictions_table(found, clean.extras), method=name)
    certainty = judge(store, read(tmp_path), ["clean.error"]).certainty
    (low, _), (_, high) = certainty.intervals[:, 0]
    assert low < high  # the intervals overlap
    everyone = slice(None)
    assert [certainty.real(0, row, everyone).tolist() for row in (0, 1)] == [[False, False], [True, False]]
    assert certainty.dominates(1)[0] > 0.95 > certainty.dominates(0)[1]
    assert certainty.comparisons == 1


def test_the_share_of_seeds_is_theirs_and_one_seed_has_none() -> None:
    seeds = [np.array([[0.1, 0.9], [0.2, 0.9], [0.3, 0.9]]), np.array([[0.2, 0.9]])]
    found = bootstrap(spread([[0.2, 0.9], [0.2, 0.9]], seeds=seeds), OBJECTIVES)
    assert found.by_seeds[0] == pytest.approx([0.1 / math.sqrt(3), 0]) and np.isnan(found.by_seeds[1]).all()
    # Student's t of two degrees of freedom: 4.303 standard errors
    low, high = found.intervals[0, 0]
    assert (high - low) / 2 == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=0.1) or low == 0
    table = summary(found, ["a", "b"])
    assert table["seeds"].tolist() == [3, 3, 1, 1]
    assert table["seeds_share"].iloc[0] > 0.9 and table["seeds_share"].iloc[1] == 0 and table["seeds_share"].isna()[2]


def test_one_table_of_twenty_at_most_holds_a_wrong_mark() -> None:
    """Thirty networks alike: whether any of 435 differences is called real, in 60 tables."""
    generator, wrong = np.random.default_rng(5), 0
    for table in range(60):
        values = 0.2 + 0.01 * generator.normal(size=(30, 1))
        found = bootstrap(spread(values.tolist()), ["clean.error"], draws=300, seed=table)
        wrong += any(found.real(0, row, slice(None)).any() for row in range(30))
    assert wrong <= 9  # of 60 at 5 % more than 9 come in one of 1,000 runs


def test_rows_in_blocks_have_the_draws_of_all_together() -> None:
    made = spread([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    ((_, effects),) = made.strata["test"]
    parts = [(slice(0, 1), effects[:, :1]), (slice(1, 3), effects[:, 1:])]
    found = bootstrap(replace(made, strata={"test": parts}), OBJECTIVES)
    np.testing.assert_allclose(found.costs, bootstrap(made, OBJECTIVES).costs, rtol=1e-5)


def test_of_many_configurations_bonferroni_s_bound_takes_the_place_of_drawing_all_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pixmix_ray.analysis.certainty.MAX_T", 2)
    found = bootstrap(spread([[0.2], [0.23], [0.24]]), ["clean.error"])
    # by hand: standard errors of .0141; for three differences the bound is 2.39 of them, .0338
    assert found.comparisons == 3
    assert [found.real(0, row, slice(None)).tolist() for row in range(3)] == [[False, False, True], *[[False] * 3] * 2]


def test_the_errors_of_all_pairs_at_once_are_those_of_each_pair() -> None:
    found = bootstrap(spread([[0.2, 0.9], [0.23, 0.8], [0.24, 0.7]], se=0.5), OBJECTIVES)
    for objective in range(len(OBJECTIVES)):
        by_pair = np.stack([found._errors(objective, row, slice(None)) for row in range(3)])
        np.testing.assert_allclose(found._all_errors(objective), by_pair, rtol=1e-3)
        assert (np.diag(by_pair) == 0).all() and (by_pair[~np.eye(3, dtype=np.bool_)] > 0.3).all()


def test_a_table_of_too_many_pairs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmix_ray.analysis.certainty.PAIR_ROWS", 5)
    with pytest.raises(ResultsError, match=r"3 configurations have 6 pairs, more than 5: choose with --where"):
        pairs(bootstrap(spread([[0.1], [0.2], [0.3]]), ["clean.error"]), ["a", "b", "c"])


def test_what_lacks_an_objective_or_is_of_another_data_set_is_not_compared() -> None:
    made = spread([[0.1, 0.9], [0.2, math.nan], [0.3, 0.5], [0.4, 0.4]])
    found: Certainty = bootstrap(
        Spread(
            values=made.values,
            strata=made.strata,
            seeds=made.seeds,
            others=made.others,
            groups=np.array([0, 0, 0, 1]),
        ),
        OBJECTIVES,
    )
    assert np.isnan(found.on_front[1]) and found.on_front[[0, 2, 3]].tolist() == [1, 0, 1]
    assert found.dominates(0)[2] == 1 and np.isnan(found.dominates(0, np.array([1, 3]))).all()
    claims = improvers(found, 2)
    assert claims["really_in_every"].tolist() == [True, False, False, False]
    assert claims["probability"].iloc[0] == 1 and claims["probability"].isna().tolist() == [False, True, True, True]


def test_the_same_draws_give_the_same_numbers_and_change_no_input() -> None:
    made = spread([[0.1, 0.9], [0.2, 0.8]])
    before = made.values.copy()
    first, second = (bootstrap(made, OBJECTIVES, seed=1).intervals for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(made.values, before)


def test_a_metric_that_does_not_come_out_as_stored_has_no_interval(tmp_path: Path) -> None:
    store = stored(tmp_path, (Clean(),))
    frame = read(tmp_path).assign(standard_error=None)
    strange = frame.assign(value=frame["value"] + 0.1)
    judged = judge(store, strange, ["clean.error"])
    assert not judged.certainty.is_known.any()
    assert judged.notes == ("clean.error has no interval in 1 of 1 rows",)
    assert isinstance(frame, pd.DataFrame) and judge(store, frame, ["clean.error"]).notes == ()


def test_effects_of_large_cells_are_kept_in_the_cache_and_do_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmix_ray.analysis.cell_effects.LARGE", 1)
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "cache"))
    store = stored(tmp_path / "results", BENCHMARKS[1:2])
    frame, objectives = read(store.uri), ["corruptions.mce", "corruptions.rms_calibration_error"]
    first = judge(store, frame, objectives).certainty.by_pictures
    assert len(list((tmp_path / "cache").glob("effects-*/none.npy"))) == 2
    (tmp_path / "results" / "cells" / "pixmix-0" / "corruptions-1.parquet").unlink()  # it is not read again
    np.testing.assert_array_equal(judge(store, frame, objectives).certainty.by_pictures, first)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path / "file" / "cache"))
    assert not judge(store, frame, objectives).certainty.is_known.all()  # the cell is gone, and so is the cache


@pytest.mark.parametrize(("strange", "expected"), [(1000, 5000), (1999, 9995), (2000, 10_000), (4000, 10_000)])
def test_beside_a_small_set_of_outliers_five_times_as_many_ordinary_pictures_stand(strange: int, expected: int) -> None:
    kept = _share_kept(10_000, strange)
    assert len(np.unique(kept)) == len(kept) == expected and kept.min() == 0 and kept.max() >= 9998
