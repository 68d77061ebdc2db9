"""The table of directions: complete, and honest about typing errors."""

import csv
from pathlib import Path

import pytest

from pixmix_ray.errors import UnknownNameError
from pixmix_ray.metrics import DIRECTIONS, direction

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "published.csv"


def test_only_the_two_areas_are_better_when_higher() -> None:
    assert {name for name, better in DIRECTIONS.items() if better == "higher"} == {"auroc", "aupr"}
    assert set(DIRECTIONS.values()) == {"lower", "higher"}


def test_direction_reads_the_table() -> None:
    assert {name: direction(name) for name in DIRECTIONS} == dict(DIRECTIONS)


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'aurroc', did you mean 'auroc'"):
        direction("aurroc")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published figures are not beside the repository")
def test_every_published_metric_has_a_direction() -> None:
    with PUBLISHED.open(newline="") as file:
        assert {row["metric"] for row in csv.DictReader(file)} <= set(DIRECTIONS)
