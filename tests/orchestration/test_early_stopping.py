"""A trial that is stopped early: what is left behind is found by a second run, and goes on without the scheduler."""

from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.planning.status import read_status
from pixmix_ray.storage.store import trial_file
from tests.orchestration.notes import Notes, opened
from tests.orchestration.stand_ins import BY_SEED

# one trial at a time on two CPUs, so that the order is known
COMMON = (
    "seeds=[0, 1]",
    "training.epochs=8",
    "training.validation=0.1",
    "resources.trial.cpus=1",
    "resources.evaluation.cpus=1",
)


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.drill])])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray Tune closes some of its own sockets and files late
def test_a_trial_that_is_stopped_is_kept_and_goes_on_without_the_scheduler(
    executor: str, experiment: Path, request: pytest.FixtureRequest
) -> None:
    if executor == "ray":
        request.getfixturevalue("ray_cluster")

    def plan_of(*overrides: str) -> Plan:
        return make_plan(read_experiment(experiment, [*COMMON, *overrides]))

    def run(plan: Plan) -> Notes:
        notes = Notes()
        assert run_plan(plan, executor=executor, watch=opened(notes), work=BY_SEED).failures == ()
        return notes

    # seed 1 has twice the validation error of seed 0, and is stopped at the first rung
    asha = "scheduler={name: asha, grace_period: 2, reduction_factor: 2}"
    notes = run(plan_of(asha))
    assert sorted(notes.ended) == [
        "measured baseline seed 0 × clean",
        "stopped baseline seed 1 after 2",
        "trained baseline seed 0",
    ]
    assert [epoch for label, epoch in notes.epochs if label == "baseline seed 1"] == [1, 2]

    again = plan_of(asha)
    assert (again.trials_to_run(), again.cells_to_run()) == ([], [])
    assert [*again.trials.values()] == [*again.cells.values()] == ["done", "stopped"]
    late = list(again.trials)[1]
    record = again.store.read_json(trial_file(late.id, "stopped.json")) or {}
    assert record["errors"] == {"1": 0.2, "2": 0.2} and record["scheduler"]["reduction_factor"] == 2
    states = {trial.trial_id: trial.state for trial in read_status(again.store.uri).trials}
    assert states[late.id] == "stopped at epoch 2/8"

    other = plan_of("scheduler={name: asha, grace_period: 3, reduction_factor: 2}")
    assert [trial.seed for trial in other.trials_to_run()] == [1]
    assert run(plan_of()).epochs == [(late.label, epoch) for epoch in range(3, 9)]
    assert [*plan_of(asha).trials.values()] == ["done", "done"]
