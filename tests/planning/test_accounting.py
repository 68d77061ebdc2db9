"""The account of a run: sums worked out by hand from a clock that the test holds, and what it teaches the next run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.planning.durations import Durations, Forecast
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.planning.usage import SECONDS_BETWEEN_WRITES, Account, Spent, last_usage
from pixmix_ray.report.usage import idle_line
from pixmix_ray.storage.store import Store

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(experiment: Path) -> MakePlan:
    """The plan of the tiny experiment, its trials on a CPU and a GPU, its cells on two CPUs and half a GPU."""
    shares = ["resources.trial={cpus: 1, gpus: 1}", "resources.evaluation={cpus: 2, gpus: 0.5}"]
    return lambda *overrides: make_plan(read_experiment(experiment, [*shares, *overrides]))


def account_of(plan: Plan, now: float, expected: Forecast | None = None) -> Account:
    asked: Experiment = plan.experiment
    return Account(plan.store, asked.resources, now, durations=Durations(), expected=expected or Forecast())


def test_idle_is_what_no_trial_and_no_cell_had(plan: MakePlan) -> None:
    made = plan()
    (trial,), (cell,) = made.trials, made.cells
    account = account_of(made, 100)
    account.trial_started(trial, 102)
    account.tick(4, 2, 110)
    account.trial_ended(trial, 112, is_whole=True)
    account.cell_ended(cell, 4, has_failed=True)  # failed work counts as well
    account.tick(8, 2, 120)  # a node without GPUs joined
    usage = account.usage(120)
    # offered: 10 s × 4 + 10 s × 8 CPUs, 20 s × 2 GPUs; taken: 10 s of the trial, 4 s of the cell
    assert (usage.seconds, usage.cpu_seconds, usage.gpu_seconds) == (20, 120, 40)
    assert set(usage.spent) == {
        Spent(kind="training", name="baseline", count=1, seconds=10, cpu_seconds=10, gpu_seconds=10),
        Spent(kind="evaluation", name="clean", count=1, seconds=4, cpu_seconds=8, gpu_seconds=2),
    }
    assert usage.work == 14
    assert usage.idle_cpus == pytest.approx(1 - 18 / 120)
    assert usage.idle_gpus == pytest.approx(1 - 12 / 40)
    assert idle_line(usage) == "idle: CPUs 85%, GPUs 70% of 20 s"


def test_what_still_runs_is_counted_up_to_now_and_once(plan: MakePlan) -> None:
    made = plan()
    (trial,) = made.trials
    account = account_of(made, 0)
    account.trial_started(trial, 0)
    assert account.usage(3).work == 3
    assert account.usage(5).work == 5
    account.trial_ended(trial, 7, is_whole=False)
    account.trial_ended(trial, 9, is_whole=False)
    assert account.usage(9).spent == (
        Spent(kind="training", name="baseline", count=1, seconds=7, cpu_seconds=7, gpu_seconds=7),
    )


def test_a_trial_that_begins_anew_counts_both_times(plan: MakePlan) -> None:
    made = plan()
    (trial,) = made.trials
    account = account_of(made, 0)
    account.trial_started(trial, 0)
    account.trial_started(trial, 4)
    account.trial_ended(trial, 10, is_whole=True)
    (spent,) = account.usage(10).spent
    assert (spent.count, spent.seconds) == (2, 10)


def test_a_cluster_without_gpus_has_no_idle_gpus(plan: MakePlan) -> None:
    account = account_of(plan(), 0)
    account.tick(2, 0, 10)
    assert account.usage(10).idle_gpus is None
    assert idle_line(account.usage(10)) == "idle: CPUs 100% of 10 s"


def test_a_killed_run_is_accounted_for_up_to_its_last_write(plan: MakePlan) -> None:
    made = plan()
    (trial,) = made.trials
    account = account_of(made, 1000, Forecast(seconds=60, work=50))
    account.trial_started(trial, 1002)
    due = 1000 + SECONDS_BETWEEN_WRITES
    for now in (1005, due, due + 1, due + 9):
        account.tick(2, 0, now)  # then the driver is killed: nothing is closed
    usage = last_usage(made.store)
    assert usage is not None
    assert (usage.seconds, usage.work, usage.cpu_seconds) == (11, 9, 22)
    assert usage.idle_cpus == pytest.approx(1 - 9 / 22)
    assert (usage.expected_seconds, usage.expected_work) == (60, 50)


def test_a_run_teaches_the_next_estimate(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("training.epochs=2")
    (trial,), (cell,) = made.trials, made.cells
    account = account_of(made, 1000)
    account.trial_started(trial, 1004)
    account.epoch_ended(trial, 3)
    account.epoch_ended(trial, 5)
    account.trial_ended(trial, 1014, is_whole=True)  # 8 s of epochs in 10 s
    account.cell_ended(cell, 6, has_failed=False)
    account.cell_ended(cell, 0.1, has_failed=True)
    account.close(1020)
    known = Durations.of(Store(tmp_path / "other"), made.experiment.resources)
    assert known.trial(trial) == pytest.approx(2 * 4 + 2)
    assert known.cell(cell) == 6
    assert known.start == 4


def test_results_that_cannot_be_written_do_not_end_a_run(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    made = plan()
    account = account_of(made, 1000)
    monkeypatch.setattr(Store, "write_json", fail)
    account.tick(2, 0, 1000 + 2 * SECONDS_BETWEEN_WRITES)
    account.close(1030)
    assert last_usage(made.store) is None
