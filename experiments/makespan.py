"""How long a sweep takes on Ray beside the best list schedule of the same trials and cells, and beside what none beats.

    python experiments/makespan.py [--trials 40] [--slots 4] [--scale 1] [--seed 0]

The real loop runs: real Ray Tune, real tasks, a real results folder, and the work of experiments/scale.py, which takes
no time. To it is added sleep of a known length, drawn so that trials differ by a factor of four and cells of one
checkpoint by sixteen. Beside it stand the same lengths as a list schedule (longest first, the better of trials first
and cells first, no time lost on anything; experiments/schedule.py) and a lower bound. Sleep needs no core, so there may
be more slots than cores; but a slot's process has to start, which takes seconds of a core.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch
from rich.console import Console
from rich.table import Table
from scale import Nothing, OnePicture, OneWeight, Stub
from schedule import TrialTime, best_list_makespan, list_makespan, lower_bound

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration.ray_executor import RayExecutor
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.work import Measure, Work, open_checkpoint
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.planning.usage import last_usage
from pixmix_ray.plugins import user_modules
from pixmix_ray.report.progress import ProgressView
from pixmix_ray.report.usage import idle_line, took_line
from pixmix_ray.seeding import rng
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress, train_trial

EPOCHS = 3


class Half(Stub):
    """A cell of half a second: `passes` is its length, which is how a run that knows no better orders cells."""

    passes: ClassVar[float] = 0.5


class One(Stub):
    """A cell of one second."""

    passes: ClassVar[float] = 1.0


class Four(Stub):
    """A cell of four seconds."""

    passes: ClassVar[float] = 4.0


class Eight(Stub):
    """A cell of eight seconds."""

    passes: ClassVar[float] = 8.0


BENCHMARKS = (Half, One, Four, Eight)


def trial_seconds(trial: Trial) -> float:
    """5 to 20 s, times the scale, by the trial's number."""
    return float(rng(trial.seed, "makespan").uniform(5, 20)) * scale_of(trial)


def cell_seconds(trial: Trial, run: BenchmarkRun) -> float:
    """The benchmark's, times the scale."""
    return run.benchmark.settings.passes * scale_of(trial)


def scale_of(trial: Trial) -> float:
    """The workers know nothing but their trial: the scale is written in its recipe."""
    return trial.training.lr


def train_and_sleep(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """As `train_trial`, only longer."""
    for progress in train_trial(trial, store, device):
        seconds = trial_seconds(trial) / EPOCHS
        time.sleep(seconds)
        yield replace(progress, seconds=seconds)


def measure_and_sleep(trial: Trial, store: Store, device: torch.device) -> Measure:
    """As `open_checkpoint`, only longer."""
    measure_at_once = open_checkpoint(trial, store, device)

    def measure(run: BenchmarkRun) -> None:
        time.sleep(cell_seconds(trial, run))
        measure_at_once(run)

    return measure


def main() -> None:
    """Run, simulate, print; exit 1 if the run took over a tenth more than the list schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--slots", type=int, default=4, help="CPUs of the cluster")
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pixmix_ray_makespan_") as folder:
        plan = make_plan(read_experiment(experiment(folder, asked.trials, asked.scale, asked.seed)))
        nodes = [Share(cpus=asked.slots)]
        times = [
            TrialTime(
                seconds=trial_seconds(trial),
                cells=tuple(cell_seconds(trial, cell.run) for cell in plan.cells if cell.trial is trial),
            )
            for trial in plan.trials
        ]
        with RayExecutor(cpus=asked.slots) as executor:
            executor.connect(user_modules(plan.experiment.parts()))
            started = time.monotonic()
            failures = run_plan(
                plan,
                executor=executor,
                watch=lambda plan, on: ProgressView(plan, Console(stderr=True), on.in_use),
                work=Work(train=train_and_sleep, evaluate=measure_and_sleep),
            ).failures
            took = time.monotonic() - started
        usage = last_usage(plan.store)
        resources = plan.experiment.resources
        best = best_list_makespan(times, nodes, resources)
        bound = lower_bound(times, nodes, resources)
        kept = list_makespan(times, nodes, resources, at_once=asked.slots - 1)
    assert not failures and usage is not None
    table = Table(title=f"{asked.trials} trials × {len(BENCHMARKS)} cells, {asked.slots} slots")
    for header in ("schedule", "seconds", "ratio to the best list schedule"):
        table.add_column(header, justify="left" if header == "schedule" else "right")
    rows = {
        "no schedule is shorter": bound,
        "best list schedule": best,
        "list schedule, one slot kept for cells": kept,
        "this run": took,
    }
    for name, seconds in rows.items():
        table.add_row(name, f"{seconds:.1f}", f"{seconds / best:.3f}")
    console = Console(width=120)
    console.print(table)
    console.print(took_line(usage), idle_line(usage), sep="\n", highlight=False)
    if took > 1.1 * best:
        sys.exit(1)


def experiment(folder: str, trials: int, scale: float, seed: int) -> dict[str, Any]:
    """The content of an experiment file; a trial's number is its seed, and the scale its learning rate."""
    return {
        "results": f"{folder}/results",
        "dataset": OnePicture,
        "model": OneWeight,
        "methods": [Nothing],
        "seeds": [1000 * seed + number for number in range(trials)],
        "training": {"epochs": EPOCHS, "lr": scale, "flip": False, "batch_size": 1},
        "benchmarks": [benchmark(number=0) for benchmark in BENCHMARKS],
    }


if __name__ == "__main__":
    main()
