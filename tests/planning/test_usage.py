"""The account of a run: sums worked out by hand, from a clock that the test holds."""

import json
from pathlib import Path

import pytest

from pixmix_ray.errors import ResultsError
from pixmix_ray.experiment.resources import Share
from pixmix_ray.planning.usage import Meter, Spent, Usage, last_usage, read_usage, total_usage, write_usage
from pixmix_ray.report.usage import idle_line, took_line
from pixmix_ray.storage.store import Store, run_file

WHOLE, HALF = Share(cpus=1, gpus=1), Share(cpus=2, gpus=0.5)


def test_idle_is_what_no_trial_and_no_cell_had() -> None:
    meter = Meter(100)
    meter.begin("a", "training", "pixmix", WHOLE, 102)
    meter.offered(4, 2, 110)
    meter.end("a", 112)
    meter.add("evaluation", "clean", HALF, 4)
    meter.offered(8, 2, 120)  # a node without GPUs joined
    usage = meter.usage(120)
    # offered: 10 s × 4 + 10 s × 8 CPUs, 20 s × 2 GPUs; taken: 10 s of the trial, 4 s of the cell
    assert (usage.seconds, usage.cpu_seconds, usage.gpu_seconds) == (20, 120, 40)
    assert set(usage.spent) == {
        Spent(kind="training", name="pixmix", count=1, seconds=10, cpu_seconds=10, gpu_seconds=10),
        Spent(kind="evaluation", name="clean", count=1, seconds=4, cpu_seconds=8, gpu_seconds=2),
    }
    assert usage.work == 14
    assert usage.idle_cpus == pytest.approx(1 - 18 / 120)
    assert usage.idle_gpus == pytest.approx(1 - 12 / 40)
    assert idle_line(usage) == "idle: CPUs 85%, GPUs 70% of 20 s"


def test_what_still_runs_is_counted_up_to_now_and_once() -> None:
    meter = Meter(0)
    meter.begin("a", "training", "pixmix", WHOLE, 0)
    assert meter.usage(3).work == 3
    assert meter.usage(5).work == 5
    meter.end("a", 7)
    meter.end("a", 9)
    assert meter.usage(9).spent == (
        Spent(kind="training", name="pixmix", count=1, seconds=7, cpu_seconds=7, gpu_seconds=7),
    )


def test_a_trial_that_begins_anew_pays_for_both_times() -> None:
    meter = Meter(0)
    meter.begin("a", "training", "pixmix", WHOLE, 0)
    meter.begin("a", "training", "pixmix", WHOLE, 4)
    meter.end("a", 10)
    (spent,) = meter.usage(10).spent
    assert (spent.count, spent.seconds) == (2, 10)


def test_a_cluster_without_gpus_has_no_idle_gpus() -> None:
    meter = Meter(0)
    meter.offered(2, 0, 10)
    assert meter.usage(10).idle_gpus is None
    assert idle_line(meter.usage(10)) == "idle: CPUs 100% of 10 s"


def test_runs_are_kept_and_added_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert total_usage(store) is None and last_usage(store) is None
    for run, seconds in {"20260101T000000-b": 10.0, "20260102T000000-a": 30.0}.items():
        meter = Meter(0, expected_seconds=9, expected_work=8)
        meter.add("training", "pixmix", WHOLE, seconds)
        meter.add("evaluation", "clean", HALF, 2)
        meter.offered(2, 1, seconds)
        write_usage(store, run, meter.usage(seconds))
        assert read_usage(store, run) == meter.usage(seconds)
    last, total = last_usage(store), total_usage(store)
    assert last is not None and total is not None
    assert last.work == 32
    assert (total.seconds, total.cpu_seconds, total.gpu_seconds) == (40, 80, 40)
    assert total.spent == (
        Spent(kind="evaluation", name="clean", count=2, seconds=4, cpu_seconds=8, gpu_seconds=2),
        Spent(kind="training", name="pixmix", count=2, seconds=40, cpu_seconds=40, gpu_seconds=40),
    )


@pytest.mark.parametrize("content", [{}, {"spent": 1}, {"spent": [], "seconds": 1, "more": 2}])
def test_a_damaged_account_is_refused_by_name(tmp_path: Path, content: object) -> None:
    store = Store(tmp_path)
    store.write(run_file("a"), json.dumps(content).encode())
    with pytest.raises(ResultsError, match=r"runs/a\.json in .* is damaged"):
        total_usage(store)


def test_the_estimate_stands_beside_what_it_took() -> None:
    def line(seconds: float | None) -> str:
        spent = (Spent(kind="training", name="pixmix", count=1, seconds=8, cpu_seconds=8),)
        usage = Usage(
            seconds=1800, cpu_seconds=2, gpu_seconds=0, spent=spent, expected_seconds=seconds, expected_work=seconds
        )
        return took_line(usage)

    assert line(7.4) == "estimated 7 s, 7 s of work; took 0.50 h, 8 s of work"
    assert line(None) == "took 0.50 h, 8 s of work; it was not estimated, nothing like it had been measured"
