"""Whose turn it is, and stopping early: worked out by hand; what is left behind is found by a second run."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pixmix_ray.orchestration.halving import HalvingByMethod, InTurn, LossCurve

from pixmix_ray.experiment.early_stopping import Asha
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.planning.status import read_status
from pixmix_ray.storage.store import trial_file
from tests.orchestration.notes import Notes
from tests.orchestration.stand_ins import BY_SEED

GO_ON, STOP = "CONTINUE", "STOP"


def trial(name: str, method: str) -> Any:
    config = {"job": {"trial": {"method": {"name": method}}}}
    return SimpleNamespace(trial_id=name, config=config)


def test_a_trial_is_compared_with_those_of_its_own_method() -> None:
    halving = HalvingByMethod(Asha(grace_period=2, reduction_factor=2), epochs=8)
    trials = {name: trial(name, name.rstrip("123")) for name in ("a1", "a2", "a3", "b1", "b2")}
    for each in trials.values():
        halving.on_trial_add(None, each)

    def told(name: str, epoch: int, loss: float) -> str:
        return halving.on_trial_result(None, trials[name], {"epoch": epoch, "loss": loss})

    # steps at epochs 2, 4 and 8; the better half of what came to a step so far goes on
    assert told("a1", 1, 9.0) == GO_ON  # before the first step
    assert told("a1", 2, 1.0) == GO_ON  # the first to come
    assert told("a2", 2, 2.0) == STOP  # worse than the median of {1}
    assert told("a3", 2, 1.5) == GO_ON  # the median of {1, 2}
    assert told("b1", 2, 500.0) == GO_ON  # the first of its method, whatever the others' losses are
    assert told("b2", 2, 499.0) == GO_ON
    assert told("a3", 4, 0.5) == GO_ON
    assert told("a1", 4, 0.6) == STOP
    assert halving.on_trial_result(None, trials["a3"], {"progress": {}}) == GO_ON  # the last epoch has no loss


def test_trials_of_earlier_runs_count() -> None:
    earlier = [LossCurve(trial_id="old", method="a", losses={1: 3.0, 2: 1.0})]
    halving = HalvingByMethod(Asha(grace_period=2, reduction_factor=2), epochs=8, earlier=earlier)
    new = trial("new", "a")
    halving.on_trial_add(None, new)
    assert halving.on_trial_result(None, new, {"epoch": 2, "loss": 2.0}) == STOP


@pytest.mark.parametrize("halving", [InTurn(), HalvingByMethod(Asha(grace_period=2, reduction_factor=2), epochs=8)])
def test_the_first_that_waits_is_next_and_before_those_that_pause(halving: InTurn) -> None:
    names = [f"{letter}{number}" for number in range(12) for letter in "ba"]  # no order of letters or of lengths
    trials = {name: trial(name, name[0]) for name in names}
    alive: list[Any] = []
    controller = SimpleNamespace(get_live_trials=lambda: alive)
    assert halving.choose_trial_to_run(controller) is None
    for name in names:
        trials[name].status = "PENDING"
        halving.on_trial_add(controller, trials[name])
    alive = Alive(trials.values())
    turns = []
    while (chosen := halving.choose_trial_to_run(controller)) is not None and chosen.status == "PENDING":
        turns.append(chosen.trial_id)
        chosen.status = "PAUSED" if chosen.trial_id in ("b3", "a2") else "RUNNING"
    assert turns == names
    assert chosen is trials["a2"]  # it came before b3
    alive = Alive([trials["b3"], trials["b5"]])  # ended ones are no longer among them
    assert halving.choose_trial_to_run(controller) is trials["b3"]


class Alive(list[Any]):
    """Stands in for Tune's set, which has no order: here the last comes first."""

    def __iter__(self) -> Iterator[Any]:
        return reversed(self)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_trial_that_is_stopped_is_kept_and_goes_on_without_the_scheduler(experiment: Path) -> None:
    common = ["methods=[baseline, cutout]", "seeds=[0, 1]", "training.epochs=8", "resources.trial.cpus=1"]
    common += ["training.validation=0.1", "resources.evaluation.cpus=1"]  # one trial at a time: so the order is known
    asha = [*common, "scheduler={name: asha, grace_period: 2, reduction_factor: 2}"]

    def plan_of(overrides: list[str]) -> Plan:
        return make_plan(read_experiment(experiment, overrides))

    def run(overrides: list[str]) -> list[str]:
        notes = Notes()
        assert run_plan(plan_of(overrides), notes, work=BY_SEED) == []
        return sorted(notes.ended)

    # seed 1 has twice the loss of seed 0, and is stopped at the first step; cutout's losses do not count for baseline
    done = [f"{what} {method} seed 0" for method in ("baseline", "cutout") for what in ("measured", "trained")]
    done = [line if line.startswith("t") else f"{line} × clean" for line in done]
    stopped = [f"stopped {method} seed 1 after 2" for method in ("baseline", "cutout")]
    assert run(asha) == sorted(done + stopped)

    again = plan_of(asha)
    assert (again.trials_to_run(), again.cells_to_run()) == ([], [])
    assert [*again.trials.values()] == [*again.cells.values()] == ["done", "stopped"] * 2
    states = {trial.trial_id: trial.state for trial in read_status(again.store.uri).trials}
    late = [trial for trial in again.trials if trial.seed == 1]
    record = json.loads(again.store.read(trial_file(late[0].id, "stopped.json")) or b"")
    assert record["losses"] == {"1": 2.0, "2": 2.0} and record["scheduler"]["reduction_factor"] == 2
    assert [states[trial.id] for trial in late] == ["stopped at epoch 2/8"] * 2

    other = [*common, "scheduler={name: asha, grace_period: 3, reduction_factor: 2}"]
    assert [trial.seed for trial in plan_of(other).trials_to_run()] == [1, 1]
    notes = Notes()
    assert run_plan(plan_of(common), notes, work=BY_SEED) == []
    assert sorted(notes.epochs) == sorted((trial.label, epoch) for trial in late for epoch in range(3, 9))
