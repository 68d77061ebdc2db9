"""What work costs on this machine: kept in the cache, apart for each pair of shares, and used where a folder is new."""

import os
from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.planning.plan import epoch_key, estimate, make_plan
from pixmix_ray.planning.unit_costs import FILE, KEPT, UnitCosts, add_unit_costs, read_unit_costs

HALF = Resources(trial=Share(cpus=0.5))


def test_costs_are_kept_apart_by_share_and_the_newest_stay() -> None:
    assert read_unit_costs(HALF) == UnitCosts()
    add_unit_costs(HALF, UnitCosts(epochs={"a": [1.0]}, cells={"c": [2.0]}, trials=[3.0], starts=[4.0]))
    add_unit_costs(HALF, UnitCosts(epochs={"a": [5.0], "b": [6.0]}))
    add_unit_costs(Resources(), UnitCosts(epochs={"a": [7.0]}))
    kept = read_unit_costs(HALF)
    assert kept == UnitCosts(epochs={"a": [1.0, 5.0], "b": [6.0]}, cells={"c": [2.0]}, trials=[3.0], starts=[4.0])
    assert read_unit_costs(Resources()).epochs == {"a": [7.0]}
    add_unit_costs(HALF, UnitCosts(epochs={"a": [float(number) for number in range(100)]}))
    assert read_unit_costs(HALF).epochs["a"] == [float(number) for number in range(100 - KEPT, 100)]


@pytest.mark.parametrize("content", ["{ damaged", "[]", '{"%s": {"epochs": 3}}'])
def test_a_damaged_file_costs_an_estimate_and_no_more(content: str) -> None:
    file = Path(os.environ["PIXMIX_RAY_CACHE"]) / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content.replace("%s", HALF.model_dump_json().replace('"', '\\"')))
    assert read_unit_costs(HALF) == UnitCosts()
    add_unit_costs(HALF, UnitCosts(trials=[3.0]))
    assert read_unit_costs(HALF).trials == [3.0]


def test_a_new_folder_is_priced_by_what_this_machine_measured(experiment: Path) -> None:
    plan = make_plan(read_experiment(experiment, ["methods=[baseline, cutout]", "training.epochs=3"]))
    assert estimate(plan).training is None
    (clean,) = {cell.run.key for cell in plan.cells}
    (baseline, _) = plan.trials
    key = epoch_key(baseline.settings, "baseline")
    costs = UnitCosts(epochs={key: [1.0, 3.0]}, cells={clean: [5.0]}, trials=[0.5], starts=[9.0])
    add_unit_costs(plan.experiment.resources, costs)
    cost = estimate(plan)
    # three epochs at 2 s and half a second beside them, for cutout as for the method that was measured
    assert cost.training == pytest.approx(2 * (3 * 2 + 0.5))
    assert cost.evaluation == 2 * 5
    other = make_plan(read_experiment(experiment, ["resources.trial.cpus=1"]))
    assert estimate(other).training is None  # other shares, other seconds
