"""Axes over any key: what a list means, axes that go together, points left out, and labels that say what differs."""

from typing import Any, ClassVar

import pytest

from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.axes import axes_of, variants
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import METHODS

PIXMIX = {"name": "pixmix", "severity": [1, 3]}
MIXED: dict[str, Any] = {"mixing_set": {"name": "fractals", "count": 10}}


def opened(*overrides: str, **keys: Any) -> Experiment:
    file = {"results": "r", "dataset": "digits", "methods": ["baseline"], "benchmarks": ["clean"], **keys}
    return read_experiment(file, overrides)


@pytest.mark.parametrize(
    ("values", "kind", "count"),
    [
        ({"lr": [0.05, 0.1]}, Recipe, 2),
        ({"lr": [0.05, 0.1], "epochs": [1, 2, 3]}, Recipe, 6),
        ({"lr": {"grid": [0.05]}}, Recipe, 1),
        ({"validation": [None, 0.1]}, Recipe, 2),
        ({"severity": [1, 3, 5]}, METHODS.ours["pixmix"], 3),
        ({"names": ["fog", "snow"]}, BENCHMARKS.ours["corruptions"], 1),  # itself a list
        ({"names": {"grid": [["fog"], ["fog", "snow"]]}}, BENCHMARKS.ours["corruptions"], 2),
        ({"exclude": ["fog"], "limit": [5, 6]}, BENCHMARKS.ours["corruptions"], 2),
        ({"nonsense": [1, 2]}, Recipe, 1),  # told by whoever reads the settings
    ],
)
def test_a_list_where_one_value_belongs_is_an_axis(values: dict[str, Any], kind: Any, count: int) -> None:
    assert len(variants(values, kind)) == count


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        ({"dataset": ["digits", {"name": "digits", "train_limit": 64}]}, ["train_limit=null", "train_limit=64"]),
        ({"model": [{"name": "wide_resnet", "depth": 10, "width": [1, 2]}]}, ["wrn_10_1", "wrn_10_2"]),
        ({"training": {"lr": [0.05, 0.1]}}, ["lr=0.05", "lr=0.1"]),
        ({"methods": [{"name": "mixup", "alpha": [0.2, 1.0]}]}, ["alpha=0.2", "alpha=1"]),
        (
            {"training": {"lr": [0.05, 0.1], "epochs": [1, 2]}, "zip": ["training.lr", "training.epochs"]},
            ["epochs=1 lr=0.05", "epochs=2 lr=0.1"],
        ),
        (
            {
                "training": {"lr": [0.05, 0.1], "epochs": [1, 2]},
                "exclude": [{"training.lr": 0.05, "training.epochs": [1, 2]}, {"training.epochs": 1}],
            },
            [""],
        ),
        (
            {
                "training": {"lr": [1, 2]},
                "methods": ["baseline", "cutout"],
                "exclude": {"method": "cutout", "training.lr": 2},
            },
            ["lr=1", "", "lr=2"],
        ),
    ],
)
def test_axes_make_trials_with_labels_that_say_what_differs(keys: dict[str, Any], labels: list[str]) -> None:
    found = [trial.label for trial in opened(**keys).trials()]
    middles = [label.partition(" ")[2].rpartition("seed")[0].strip() for label in found]
    assert middles == labels
    assert len(set(found)) == len(found)


def test_methods_with_settings_of_their_own_are_no_product_of_each_other() -> None:
    sweep = opened(**MIXED, methods=["baseline", PIXMIX, {"name": "mixup", "alpha": [0.2, 1.0]}], k=[2, 3], beta=3)
    labels = [trial.label for trial in sweep.trials()]
    assert labels == [
        "baseline seed 0",
        *(f"pixmix k={k} beta=3 fractals severity={s} seed 0" for s in (1, 3) for k in (2, 3)),
        "mixup alpha=0.2 seed 0",
        "mixup alpha=1 seed 0",
    ]
    assert axes_of(sweep.points()) == {
        "method": ["baseline", "pixmix", "mixup"],
        "methods.pixmix.k": ["2", "3"],
        "methods.pixmix.severity": ["1", "3"],
        "methods.mixup.alpha": ["0.2", "1"],
    }


def test_the_command_line_makes_axes_too() -> None:
    overrides = ("methods.mixup.alpha=[0.2, 1]", "training.lr=[0.05, 0.1]", "dataset=[digits]", "seeds=[0, 1]")
    assert len(opened(*overrides, methods=["mixup"]).trials()) == 8


class Figures(Digits):
    summary: ClassVar[str] = "the same under another name"


def test_data_sets_are_named_where_there_are_several() -> None:
    sweep = opened(dataset=["digits", Figures])
    assert [trial.label for trial in sweep.trials()] == ["baseline digits seed 0", "baseline Figures seed 0"]
    assert axes_of(sweep.points()) == {"dataset": ["digits", "Figures"]}


def test_points_that_are_the_same_trial_are_one() -> None:
    sweep = opened(training={"weight_decay": [None, 5e-4]})  # baseline's own is 5e-4
    assert len(sweep.points()) == 2 and len(sweep.trials()) == 1


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"training": {"lr": []}}, r"lr = \[\]: give one value, or several"),
        ({"training": {"lr": {"grid": 3}}}, "lr: grid must be a list of values, got 3"),
        (
            {"zip": ["training.lr", "training.epoch"]},
            "axis in zip or exclude: 'training.epoch', did you mean 'training.epochs'",
        ),
        (
            {"training": {"lr": [1, 2], "epochs": [1, 2, 3]}, "zip": ["training.lr", "training.epochs"]},
            "training.lr has 2, training.epochs has 3 values: give each the same number",
        ),
        ({"exclude": {"method": "baseline"}}, r"leave none of the \d+ trials of the grid"),
        (
            {"training": {"epochs": [2, 3], "validation": 0.1}, "scheduler": {"name": "asha"}},
            "one training.epochs and one training.validation",
        ),
    ],
)
def test_a_grid_that_cannot_be_made_is_told(keys: dict[str, Any], error: str) -> None:
    with pytest.raises(RequestError, match=error):
        opened(**keys).trials()
