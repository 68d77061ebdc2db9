"""How long work takes on this machine: kept in the cache, apart for each pair of shares, and used for new folders."""

import os
from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.planning.durations import FILE, KEPT, NEWEST, Cost, Durations, cost
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.storage.store import Store

HALF = Resources(trial=Share(cpus=0.5))


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    """A results folder without results."""
    return Store(tmp_path / "empty")


def saved(plan: Plan, resources: Resources, *epochs: float) -> None:
    """As after a run that took so long for these epochs of its first trial."""
    durations = Durations()
    for seconds in epochs:
        durations.add_epoch(next(iter(plan.trials)), seconds)
    durations.save(resources)


def test_durations_are_kept_apart_by_share_and_the_newest_stay(experiment: Path, empty: Store) -> None:
    plan = make_plan(read_experiment(experiment))
    (trial,) = plan.trials
    assert Durations.of(empty, HALF).trial(trial) is None
    saved(plan, HALF, 1.0)
    saved(plan, HALF, 5.0)
    saved(plan, Resources(), 7.0)
    assert Durations.of(empty, HALF).trial(trial) == 3.0
    assert Durations.of(empty, Resources()).trial(trial) == 7.0
    saved(plan, HALF, *(100.0 for _ in range(KEPT)))
    assert Durations.of(empty, HALF).trial(trial) == 100.0


def test_a_cell_takes_as_long_as_most_of_the_newest_of_its_benchmark_in_this_run(experiment: Path) -> None:
    (cell,) = make_plan(read_experiment(experiment)).cells
    durations = Durations()
    for seconds in (*(100.0 for _ in range(KEPT - NEWEST)), *(1.0 for _ in range(NEWEST))):
        durations.add_cell(cell, seconds)
    assert durations.cell(cell) == 1.0


@pytest.mark.parametrize("content", ["{ damaged", "[]", '{"%s": {"epochs": 3}}', '{"%s": 3}', '{"%s": {"a": ["b"]}}'])
def test_a_damaged_file_costs_an_estimate_and_no_more(experiment: Path, empty: Store, content: str) -> None:
    plan = make_plan(read_experiment(experiment))
    (trial,) = plan.trials
    file = Path(os.environ["PIXMIX_RAY_CACHE"]) / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content.replace("%s", HALF.model_dump_json().replace('"', '\\"')))
    assert Durations.of(empty, HALF).trial(trial) is None
    saved(plan, HALF, 3.0)
    assert Durations.of(empty, HALF).trial(trial) == 3.0


def test_a_new_folder_is_estimated_by_what_this_machine_measured(experiment: Path) -> None:
    plan = make_plan(read_experiment(experiment, ["methods=[baseline, cutout]", "training.epochs=3"]))

    def estimated(plan: Plan) -> Cost:
        return cost(plan, Durations.of(plan.store, plan.experiment.resources))

    assert estimated(plan).training is None
    durations = Durations()
    for seconds in (1.0, 3.0):
        durations.add_epoch(next(iter(plan.trials)), seconds)
    durations.add_cell(next(iter(plan.cells)), 5.0)
    durations.add_trial(0.5)
    durations.add_start(9.0)
    durations.save(plan.experiment.resources)
    # three epochs at 2 s and half a second beside them, for cutout as for the method that was measured
    assert estimated(plan).training == pytest.approx(2 * (3 * 2 + 0.5))
    assert estimated(plan).evaluation == 2 * 5
    assert Durations.of(plan.store, plan.experiment.resources).start == 9
    other = make_plan(read_experiment(experiment, ["resources.trial.cpus=1"]))
    assert estimated(other).training is None  # other shares, other seconds
