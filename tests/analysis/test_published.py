"""The published figures: all there, named as ours; numbers are the paper's."""

import json
from typing import Any

import pandas as pd
import pytest

from pixmix_ray.analysis.published import (
    PARTNERS,
    SCALES,
    parse_across,
    published_figures,
)
from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.corruptions import BAR_NAMES, OFFICIAL
from pixmix_ray.corruptions.p.sequences import PERTURBATIONS
from pixmix_ray.datasets import DATASETS
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import METHODS
from pixmix_ray.metrics import DIRECTIONS
from pixmix_ray.mixing_sets import MIXING_SETS


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
    assert set(figures["dataset"]) <= set(DATASETS.ours)
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


def test_mistakes_name_what_is_allowed() -> None:
    assert parse_across("model") == ["model"]
    with pytest.raises(UnknownNameError, match="unknown published table '16'"):
        published_figures([16])
    with pytest.raises(UnknownNameError, match="unknown column to compare across 'seed'"):
        parse_across("seed")
