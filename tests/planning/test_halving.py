"""Asynchronous successive halving: worked by hand, and against Ray Tune's own, which needs no running Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.tune.schedulers import ASHAScheduler

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.search import Asha
from pixmix_ray.planning.halving import Halving, halving_of, keep_stopped
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.planning.status import read_status
from pixmix_ray.storage.store import trial_file
from pixmix_ray.training.trial import train_trial


def test_the_better_half_of_those_that_came_so_far_goes_on() -> None:
    halving = Halving(Asha(grace_period=2, reduction_factor=2), epochs=8)
    assert halving.rungs == (2, 4)
    assert not halving.report("a", 1, 0.9)  # before the first rung
    assert not halving.report("a", 2, 0.1)  # the first to come
    assert halving.report("b", 2, 0.2)  # above the median of {0.1}
    assert not halving.report("c", 2, 0.15)  # the median of {0.1, 0.2}
    assert not halving.report("c", 4, 0.05)
    assert halving.report("a", 4, 0.06)
    assert not halving.report("c", 8, 1.0)  # after the last epoch


def test_an_epoch_that_is_reported_again_has_the_same_answer_and_counts_once() -> None:
    halving = Halving(Asha(grace_period=1, reduction_factor=2), epochs=4)
    assert [halving.report("a", 1, 0.1), halving.report("b", 1, 0.5)] == [False, True]
    assert [halving.report("a", 1, 0.9), halving.report("b", 1, 0.0)] == [False, True]
    assert not halving.report("c", 1, 0.3)  # the median of {0.1, 0.5}
    assert halving.report("d", 1, 0.31)  # above the median of {0.1, 0.3, 0.5}; that with 0.9 would be 0.4


def test_trials_of_earlier_runs_count_and_are_not_judged_again() -> None:
    halving = Halving(Asha(grace_period=2, reduction_factor=2), epochs=8)
    halving.earlier("old", {1: 0.9, 2: 0.1, 3: 0.1})
    halving.earlier("worse", {2: 0.3})
    assert not halving.report("worse", 2, 0.3)  # it went on then
    assert halving.report("new", 2, 0.25)  # above the median of {0.1, 0.3}


def test_a_rung_that_is_no_whole_number_is_reached_with_the_next_epoch() -> None:
    assert Halving(Asha(grace_period=2, reduction_factor=1.5), epochs=9).rungs == (2, 3, 5, 7)  # 2, 3, 4.5, 6.75, 10.1
    assert Halving(Asha(grace_period=1, reduction_factor=2.5), epochs=3).rungs == (1,)  # 2.5 is reached with the last


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("grace_period", "factor", "epochs"), [(1, 4, 20), (2, 2, 17), (3, 3, 27), (1, 1.5, 12)])
def test_the_decisions_are_those_of_ray_tune(seed: int, grace_period: int, factor: float, epochs: int) -> None:
    ours = Halving(Asha(grace_period=grace_period, reduction_factor=factor), epochs)
    theirs: Any = ASHAScheduler(
        time_attr="epoch",
        metric="error",
        mode="min",
        max_t=epochs,
        grace_period=grace_period,
        reduction_factor=factor,
        stop_last_trials=False,
    )
    draws = np.random.default_rng(seed)
    trials = [SimpleNamespace(trial_id=f"trial{number}") for number in range(30)]
    for trial in trials:
        theirs.on_trial_add(None, trial)
    epoch = dict.fromkeys(range(len(trials)), 0)
    stopped = 0
    while epoch:  # a trial that runs, whichever it is, has one more epoch
        number = int(draws.choice(list(epoch)))
        epoch[number] += 1
        if epoch[number] == epochs:
            del epoch[number]
            continue
        error = float(draws.integers(0, 50)) / 50 if seed % 2 else float(draws.random())  # with ties, and without
        expected = theirs.on_trial_result(None, trials[number], {"epoch": epoch[number], "error": error}) == "STOP"
        assert ours.report(trials[number].trial_id, epoch[number], error) == expected
        if expected:
            stopped += 1
            del epoch[number]
    assert 5 < stopped < 30


COMMON = ["seeds=[0, 1, 2]", "training.epochs=4", "training.validation=0.2"]
ASHA = "scheduler={name: asha, grace_period: 1, reduction_factor: 2}"


def plan_of(experiment: Path, *overrides: str) -> Plan:
    return make_plan(read_experiment(experiment, [*COMMON, *overrides]))


def test_errors_of_trials_that_are_done_stopped_or_half_trained_are_found_again(experiment: Path) -> None:
    plan = plan_of(experiment, ASHA)
    done, stopped, half = plan.trials
    errors = {}
    for trial, epochs in ((done, 4), (stopped, 2), (half, 1)):
        training = train_trial(trial, plan.store, torch.device("cpu"))
        progress = [next(training) for _ in range(epochs)]
        errors[trial.id] = {step.epoch: step.validation_error or 0.0 for step in progress}
        if epochs == 4:
            assert next(training, None) is None  # now it is done
    keep_stopped(plan.store, stopped, Asha(grace_period=1, reduction_factor=2), errors[stopped.id])

    found = halving_of(plan_of(experiment, ASHA))
    expected = Halving(Asha(grace_period=1, reduction_factor=2), epochs=4)
    for trial_id, of_trial in errors.items():
        expected.earlier(trial_id, of_trial)
    assert found is not None and found._decisions == expected._decisions
    assert [len(rung) for rung in expected._decisions.values()] == [3, 2]
    assert halving_of(plan_of(experiment)) is None


def test_a_stopped_trial_is_left_alone_under_the_same_scheduler_alone(experiment: Path) -> None:
    plan = plan_of(experiment, ASHA)
    trial = next(iter(plan.trials))
    plan.store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    keep_stopped(plan.store, trial, Asha(grace_period=1, reduction_factor=2), {1: 0.4, 2: 0.375})
    record = plan.store.read_json(trial_file(trial.id, "stopped.json")) or {}
    assert (record["epoch"], record["epochs"], record["errors"]) == (2, 4, {"1": 0.4, "2": 0.375})
    again = plan_of(experiment, ASHA)
    assert list(again.trials.values()) == list(again.cells.values()) == ["stopped", "missing", "missing"]
    assert trial.id not in {each.id for each in again.trials_to_run()}
    assert read_status(plan.store.uri).trials[0].state == "stopped at epoch 2/4"
    for other in ("scheduler={name: asha, grace_period: 2, reduction_factor: 2}", "scheduler=null"):
        assert len(plan_of(experiment, other).trials_to_run()) == 3


def test_damaged_records_of_earlier_runs_are_passed_over(experiment: Path) -> None:
    plan = plan_of(experiment, ASHA)
    for trial, (name, content) in zip(
        plan.trials,
        [("stopped.json", b"{"), ("progress.safetensors", b"\x00"), ("done.json", b"[]")],
        strict=True,
    ):
        plan.store.write(trial_file(trial.id, name), content)
    found = halving_of(plan)
    assert found is not None and not any(found._decisions.values())
