"""Where there are GPUs and the experiment does not say, they are used, and that is said."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.executor import Executor
from pixmix_ray.orchestration.run import on_gpus
from pixmix_ray.planning.plan import make_plan


def _executor(*, has_gpus: bool) -> Executor:
    return cast(Executor, SimpleNamespace(has_gpus=lambda: has_gpus))


def test_a_machine_with_a_gpu_is_used_and_said(experiment: Path) -> None:
    plan = make_plan(read_experiment(experiment))
    with pytest.warns(
        UserWarning, match=r"GPUs were found: a trial uses 0\.75 of one, an evaluation 0\.25; set resources"
    ):
        resources = on_gpus(plan, _executor(has_gpus=True)).experiment.resources
    assert (resources.trial.gpus, resources.evaluation.gpus) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("override", "has_gpus"), [("resources.trial.gpus=0", True), ("resources.wait_seconds=9", False)]
)
def test_what_the_file_says_and_a_machine_without_one_stay_as_they_are(
    experiment: Path, override: str, has_gpus: bool
) -> None:
    plan = make_plan(read_experiment(experiment, [override]))
    with warnings.catch_warnings(action="error"):
        assert on_gpus(plan, _executor(has_gpus=has_gpus)) is plan
