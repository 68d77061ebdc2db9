"""How long a sweep takes on Ray beside the best list schedule of the same trials and cells, and beside what none beats.

    python experiments/makespan.py [--trials 40] [--slots 4] [--scale 1] [--seed 0]

The real loop runs: real Ray Tune, real tasks, a real results folder, and only the work inside a trial and a cell is put
aside for sleep of a known length, drawn so that trials differ by a factor of four and cells of one checkpoint by
sixteen. Beside it stand the same lengths as a list schedule (longest first, the better of trials first and cells
first, no time lost on anything; pixmix_ray/planning/schedule.py) and a lower bound. Sleep needs no core, so there may
be more slots than cores; but a slot's process has to start, which takes seconds of a core.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from pixmix_ray.planning.schedule import TrialTime, best_list_makespan, list_makespan, lower_bound
from rich.console import Console
from rich.table import Table

from pixmix_ray.evaluation.cell import Measure
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration import run_plan, session
from pixmix_ray.orchestration.work import Work
from pixmix_ray.planning.plan import Cell, make_plan
from pixmix_ray.planning.usage import last_usage
from pixmix_ray.report.progress import ProgressView
from pixmix_ray.report.usage import idle_line, took_line
from pixmix_ray.seeding import rng
from pixmix_ray.storage.store import Store, cell_file, trial_file
from pixmix_ray.training.trial import Progress

EPOCHS = 3
CELL_SECONDS = {"clean": 0.5, "anomalies": 1.0, "corruptions_bar": 4.0, "adversaries": 8.0}


def trial_seconds(trial: Trial) -> float:
    """5 to 20 s, times the scale, by the trial's number."""
    return float(rng(trial.seed, "makespan").uniform(5, 20)) * scale_of(trial)


def cell_seconds(trial: Trial, run: BenchmarkRun) -> float:
    """The benchmark's, times the scale."""
    return CELL_SECONDS[run.name] * scale_of(trial)


def scale_of(trial: Trial) -> float:
    """The workers know nothing but their trial: the scale is written in its recipe."""
    return trial.training.lr


def sleep_through(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """In place of a training."""
    for epoch in range(1, EPOCHS + 1):
        time.sleep(trial_seconds(trial) / EPOCHS)
        yield Progress(epoch=epoch, epochs=EPOCHS, loss=1.0, seconds=trial_seconds(trial) / EPOCHS)
    store.write_json(trial_file(trial.id, "done.json"), {"slept": trial_seconds(trial)})


def sleep_on(trial: Trial, store: Store, device: torch.device, code: str) -> Measure:
    """In place of evaluations."""

    def measure(run: BenchmarkRun) -> None:
        time.sleep(cell_seconds(trial, run))
        store.write(cell_file(f"{trial.id}/{run.key}"), b"slept")

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
        file = Path(folder) / "sweep.yaml"
        file.write_text(yaml.safe_dump(experiment(asked.trials, asked.scale, asked.seed)))
        plan = make_plan(read_experiment(file))
        nodes = [Share(cpus=asked.slots)]
        times = {trial.id: TrialTime(seconds=trial_seconds(trial)) for trial in plan.trials}
        for cell in plan.cells:
            times[cell.trial.id] = with_cell(times[cell.trial.id], cell)
        with session(cpus=asked.slots), ProgressView(plan, Console(stderr=True)) as view:
            started = time.monotonic()
            failures = run_plan(plan, view, work=Work(train=sleep_through, evaluate=sleep_on))
            took = time.monotonic() - started
        usage = last_usage(plan.store)
        resources = plan.experiment.resources
        best = best_list_makespan(list(times.values()), nodes, resources)
        bound = lower_bound(list(times.values()), nodes, resources)
        kept = list_makespan(list(times.values()), nodes, resources, at_once=asked.slots - 1)
    assert not failures and usage is not None
    table = Table(title=f"{asked.trials} trials × {len(CELL_SECONDS)} cells, {asked.slots} slots")
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


def with_cell(before: TrialTime, cell: Cell) -> TrialTime:
    """The trial with one more cell."""
    return TrialTime(seconds=before.seconds, cells=(*before.cells, cell_seconds(cell.trial, cell.run)))


def experiment(trials: int, scale: float, seed: int) -> dict[str, object]:
    """The experiment file; a trial's number is its seed, and the scale its learning rate."""
    return {
        "results": "results",
        "dataset": "digits",
        "methods": ["baseline"],
        "seeds": [1000 * seed + number for number in range(trials)],
        "training": {"epochs": EPOCHS, "lr": scale},
        "benchmarks": list(CELL_SECONDS),
    }


if __name__ == "__main__":
    main()
