"""The account of a run: what is left of it after a kill, and what it teaches the next estimate."""

from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.accounting import SECONDS_BETWEEN_WRITES, Account
from pixmix_ray.orchestration.executor import Capacity
from pixmix_ray.planning.forecast import Forecast
from pixmix_ray.planning.plan import make_plan, prices
from pixmix_ray.planning.usage import last_usage
from pixmix_ray.storage.store import Store

TWO_CPUS = Capacity(trials=1, trials_alone=2, tasks=4, cpus=2)


def test_a_killed_run_is_accounted_for_up_to_its_last_write(experiment: Path) -> None:
    plan = make_plan(read_experiment(experiment))
    (trial,) = plan.trials
    account = Account(plan, Forecast(seconds=60, work=50), 1000)
    account.trial_started(trial, 1002)
    due = 1000 + SECONDS_BETWEEN_WRITES
    for now in (1005, due, due + 1, due + 9):
        account.tick(TWO_CPUS, now)  # then the driver is killed: nothing is closed
    usage = last_usage(plan.store)
    assert usage is not None
    assert (usage.seconds, usage.work, usage.cpu_seconds) == (11, 9, 22)
    assert usage.idle_cpus == pytest.approx(1 - 0.75 * 9 / 22)
    assert (usage.expected_seconds, usage.expected_work) == (60, 50)


def test_a_run_teaches_the_next_estimate(experiment: Path, tmp_path: Path) -> None:
    plan = make_plan(read_experiment(experiment, ["training.epochs=2"]))
    (trial,), (cell,) = plan.trials, plan.cells
    account = Account(plan, Forecast(), 1000)
    account.trial_started(trial, 1004)
    account.epoch_ended(trial, 3)
    account.epoch_ended(trial, 5)
    account.trial_ended(trial, 1014, is_whole=True)  # 8 s of epochs in 10 s
    account.cell_ended(cell, 6, has_failed=False)
    account.cell_ended(cell, 0.1, has_failed=True)
    account.close(1020)
    known = prices(Store(tmp_path / "other"), plan.experiment.resources)
    assert known.trial(trial) == pytest.approx(2 * 4 + 2)
    assert known.cell(cell) == 6
    assert known.start == 4


def test_results_that_cannot_be_written_do_not_end_a_run(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    plan = make_plan(read_experiment(experiment))
    account = Account(plan, Forecast(), 1000)
    monkeypatch.setattr(Store, "write_json", fail)
    account.tick(TWO_CPUS, 1000 + 2 * SECONDS_BETWEEN_WRITES)
    account.close(1030)
    assert last_usage(plan.store) is None
