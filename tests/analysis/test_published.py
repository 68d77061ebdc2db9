"""The published figures: all there, named as ours, and beside ours with nothing dropped; numbers are the paper's."""

import json
from typing import Any

import pandas as pd
import pytest

from pixmix_ray.analysis.published import (
    PARTNERS,
    SCALES,
    beside_published,
    departures,
    parse_across,
    parse_tables,
    published_figures,
)
from pixmix_ray.benchmarks import Clean
from pixmix_ray.corruptions import BAR_NAMES, OFFICIAL
from pixmix_ray.corruptions.p.sequences import PERTURBATIONS
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.experiment.plugins import BENCHMARKS, DATASETS, METHODS, MIXING_SETS
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.metrics import DIRECTIONS
from pixmix_ray.report.beside import published_markdown, published_table


def measurement(value: float, **changed: Any) -> dict[str, Any]:
    """A row of PixMix with both sets on CIFAR-100, its clean error, but for what is changed."""
    partner = changed.pop("partner", "both")
    settings = {
        "dataset": {"name": "cifar100"},
        "method": {"name": "pixmix", "partner": partner},
        "training": Recipe(**changed.pop("training", {})).identity(),
    }
    row = {
        "dataset": "cifar100",
        "model": "wrn_40_4",
        "method": "pixmix",
        "mixing_set": "fractals+fvis",
        "k": 4,
        "beta": 3.0,
        "seed": 0,
        "settings": json.dumps(settings),
        "benchmark": "clean",
        "benchmark_settings": json.dumps(BENCHMARKS.read("clean").settings.identity()),
        "metric": "error",
        "condition": "",
        "severity": None,
        "value": value,
        "standard_error": 0.004,
    }
    return {**row, **changed}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows)).astype({"severity": "Int8", "k": "Int32"})


def test_every_figure_of_the_fifteen_tables_is_there() -> None:
    figures = published_figures()
    assert len(figures) == 1044 and sorted(set(figures["table"])) == list(range(1, 16))
    # one of the first and one of the last table, as printed in the paper
    table1 = figures[(figures["table"] == 1) & (figures["method"] == "pixmix") & (figures["metric"] == "mce")]
    assert table1["value"].tolist() == [30.5]
    table15 = figures[(figures["table"] == 15) & (figures["method"] == "sin")]
    assert table15[table15["condition"] == "caustic_refraction"]["value"].tolist() == [47]
    assert set(figures["unit"]) == set(SCALES)


def test_their_names_are_ours() -> None:
    figures = published_figures()
    assert set(figures["benchmark"]) <= set(BENCHMARKS.ours) and set(figures["metric"]) <= set(DIRECTIONS)
    assert set(figures["method"]) - set(PARTNERS.values()) <= set(METHODS.ours)
    assert set(figures["dataset"]) - set(DATASETS.ours) == {"places365"}  # which no loader of its own reads
    ours = {name: MIXING_SETS.read(name).settings.label(name) for name in ("dead_leaves", "fractaldb", "fractals")}
    assert set(ours.values()) <= set(figures["mixing_set"].dropna())
    of_imagenet = figures[figures["dataset"] == "imagenet"]
    for benchmark, names in (
        ("corruptions", OFFICIAL),
        ("corruptions_bar", BAR_NAMES["imagenet"]),
        ("consistency", PERTURBATIONS["imagenet"]),
    ):
        rows = of_imagenet[(of_imagenet["benchmark"] == benchmark) & (of_imagenet["condition"] != "")]
        assert set(rows["condition"]) == set(names)


def test_ours_stand_beside_the_published_ones_in_their_unit() -> None:
    pairs = beside_published(frame(measurement(0.213), measurement(0.223, seed=1)), [4])
    assert len(pairs) == 48
    (row,) = pairs[pairs["ours"].notna()].to_dict("records")
    assert (row["mixing_set"], row["published"], row["seeds"]) == ("fractals+fvis", 20.3, 2)
    assert row["ours"] == pytest.approx(21.8)  # by hand: the mean of 21.3 and 22.3
    assert row["difference"] == pytest.approx(1.5)
    assert row["standard_error"] == pytest.approx(0.5)  # by hand: their standard deviation .707 over the root of 2
    distance = frame(measurement(1.7, benchmark="consistency", metric="mt5d"))
    found = beside_published(distance, [7])
    assert found[found["ours"].notna()][["published", "ours"]].values.tolist() == [[1.6, 1.7]]


def test_a_figure_without_counterpart_is_a_row_on_either_side() -> None:
    strange = measurement(0.5, mixing_set="dust")
    unpublished = measurement(0.5, metric="brier_score")  # a metric that the paper does not have
    pairs = beside_published(frame(measurement(0.2), strange, unpublished), [4])
    assert len(pairs) == 48 + 1
    assert pairs[pairs["published"].isna()]["mixing_set"].tolist() == ["dust"]
    assert pairs["ours"].isna().sum() == 47
    shown = published_markdown(pairs)
    assert "48 published, 1 of them beside ours; 1 of ours without a published one" in shown
    assert "| dust | clean.error | – | 50.0 ± 0.4 | – |" in shown
    assert "| fractals+fvis | clean.error | 20.3 | 20.0 ± 0.4 | -0.3 |" in shown
    assert shown.startswith("Table 4; dataset cifar100, model wrn_40_4, method pixmix, k 4, β 3; percent\n")


def test_the_strategies_of_table_5_are_settings_of_pixmix() -> None:
    rows = [
        measurement(0.2),
        measurement(0.199, partner="augmented", mixing_set=None),
        measurement(0.206, partner="pictures"),
        measurement(0.211, partner="iterative", mixing_set=None),
    ]
    pairs = beside_published(frame(*rows), [5])
    found = pairs[pairs["ours"].notna()]
    assert found["method"].tolist() == ["pixmix", "pixmix_mix_input", "pixmix_mix_aug", "pixmix_iterative"]
    assert found["difference"].round(6).tolist() == [-0.3, 0, 0, 0]  # ours above are the paper's but for the first


def test_other_data_stand_beside_the_paper_s_only_when_asked() -> None:
    small = frame(measurement(0.4, dataset="cifar10", model="wrn_10_1"))
    assert beside_published(small, [4])["ours"].notna().sum() == 1
    assert beside_published(small, [4])["difference"].notna().sum() == 0
    pairs = beside_published(small, [4], ["dataset", "model"])
    (row,) = pairs[pairs["difference"].notna()].to_dict("records")
    assert (row["dataset"], row["model"], row["published"]) == ("cifar10", "wrn_10_1", 20.3)


def test_a_figure_that_tables_give_twice_is_one_row_unless_the_values_differ() -> None:
    both = beside_published(frame(measurement(0.2)), [1, 2, 7])
    is_baseline = (both["method"] == "baseline") & (both["dataset"] == "cifar100")
    baseline = both[is_baseline & (both["benchmark"] == "adversaries")]
    # the paper prints 96.5 in Table 1, 96.8 in Tables 2 and 7
    assert baseline[["table", "published"]].values.tolist() == [["1", 96.5], ["2, 7", 96.8]]


def test_what_differs_from_the_paper_is_told() -> None:
    settings = BENCHMARKS.read({"name": "clean", "limit": 50}).settings.identity()
    rows = frame(
        measurement(0.2, training={"epochs": 3}, benchmark_settings=json.dumps(settings)),
        measurement(0.2, training={"weight_decay": 5e-4}),
    )
    assert departures(rows, Recipe().identity(), {"clean": Clean().identity()}) == [
        "training.epochs = 3, not 100",
        "clean.limit = 50",
    ]


def test_mistakes_name_what_is_allowed() -> None:
    assert parse_tables("4,5") == [4, 5] and parse_tables("all") is None and parse_across("model") == ["model"]
    with pytest.raises(UnknownNameError, match="unknown published table '16'"):
        published_figures([16])
    with pytest.raises(RequestError, match="must be numbers such as 4 or 4,5, or all, got 'four'"):
        parse_tables("four")
    with pytest.raises(UnknownNameError, match="unknown column to compare across 'seed'"):
        parse_across("seed")


def test_the_input_is_not_changed_and_the_terminal_s_table_has_every_row() -> None:
    rows = frame(measurement(0.2))
    before = rows.copy()
    pairs = beside_published(rows, [4, 5])
    pd.testing.assert_frame_equal(rows, before)
    assert published_table(pairs).row_count == len(pairs)
