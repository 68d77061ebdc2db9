"""What an experiment file may say of early stopping."""

from pathlib import Path

import pytest

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.search import Asha

COMMON = ["training.epochs=8", "training.validation=0.1"]


def test_a_scheduler_is_a_name_or_a_name_with_settings(experiment: Path) -> None:
    assert read_experiment(experiment, [*COMMON, "scheduler=asha"]).scheduler == Asha()
    both = "scheduler={name: asha, grace_period: 2, reduction_factor: 3}"
    assert read_experiment(experiment, [*COMMON, both]).scheduler == Asha(grace_period=2, reduction_factor=3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheduler=ashe"], r"scheduler: name = 'ashe': must be 'asha'"),
        (["scheduler={name: asha, metric: loss}"], r"unknown key in scheduler: 'metric'"),
        (["scheduler={name: asha, reduction_factor: 1}"], r"reduction_factor = 1: must be above 1"),
        (["scheduler={name: asha, grace_period: 8}"], r"grace_period = 8 must be below training.epochs = 8"),
        (
            ["scheduler=asha", "training.validation=null"],
            r"set training.validation: 0.1 \(training losses of differently augmented pictures are not comparable\)",
        ),
        (
            [
                "scheduler=asha",
                "methods=[pixmix]",
                "search={objectives: [clean.error], space: {training.epochs: {low: 2, high: 9, integer: true}}}",
            ],
            r"search.space cannot contain training.epochs with a scheduler",
        ),
    ],
)
def test_a_scheduler_that_cannot_be_is_refused_when_planning(
    experiment: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read_experiment(experiment, [*COMMON, *overrides])
    assert "\n" not in str(caught.value)
