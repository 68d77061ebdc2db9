"""An experiment file and its results folder: run, plan, status."""

from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixmix_ray.cli.console import ExperimentFile, Overrides, Results, fail, log, out, say, tell

if TYPE_CHECKING:
    from pixmix_ray.distributed import Failure
    from pixmix_ray.results import Plan

commands = typer.Typer()


@commands.command(epilog="Example: pixmix-ray run experiments/quickstart.yaml --set training.epochs=1")
def run(
    file: ExperimentFile,
    overrides: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="host:port of a running Ray cluster; default: a local one.")
    ] = None,
) -> None:
    """Train and evaluate all that an experiment lacks, and show the table and the Pareto front."""
    todo = _plan(file, overrides)
    todo.store.check_writable()
    failures = _run(todo, address) if todo.cells_to_run() else []
    for failure in failures:
        tell(f"FAILED {failure.label}: {failure.reason}", "red")
    _show_sweep(todo)
    if failures:
        raise typer.Exit(1)


@commands.command("plan", epilog="Example: pixmix-ray plan experiments/quickstart.yaml --set 'seeds=[0, 1, 2]'")
def show_plan(file: ExperimentFile, overrides: Overrides = None) -> None:
    """Show what would run and what it would cost; spends nothing."""
    from pixmix_ray.report.overview import plan_table

    made = _plan(file, overrides)
    say(f"results: {made.store.uri}")
    out.print(plan_table(made))
    say(_counts(made))
    for part in made.sweep.benchmarks:
        for note in part.settings.notes():
            say(f"{part.name}: {note}")


@commands.command(epilog="Example: pixmix-ray status results/quickstart")
def status(results: Results) -> None:
    """Show the trials and cells of a results folder: done, in progress, failed and why."""
    from pixmix_ray.report.overview import status_table
    from pixmix_ray.results.status import read_status

    found = read_status(results)
    say(f"results: {found.uri}")
    out.print(status_table(found))
    for line in found.failures:
        say(line, "red")


def _run(plan: "Plan", address: str | None) -> "list[Failure]":
    """Run the plan on Ray; the trials and cells that failed."""
    from pixmix_ray.distributed import prepare, probe, run_plan, session
    from pixmix_ray.report.progress import ProgressView

    tell(_counts(plan))
    if address is not None:
        probe(address)
    try:
        with ExitStack() as stack:
            connect = cache(lambda: stack.enter_context(session(address)))
            prepare(plan.sweep, connect)
            connect()
            return run_plan(plan, stack.enter_context(ProgressView(plan, log)))
    except KeyboardInterrupt:
        fail("interrupted; what is done is kept: run the same command again to go on", 130)


def _plan(file: Path, overrides: list[str] | None) -> "Plan":
    from pixmix_ray.sweep import read_sweep

    sweep = read_sweep(file, overrides or ())
    from pixmix_ray.results import make_plan  # after the file was read: its imports take a second

    return make_plan(sweep)


def _counts(plan: "Plan") -> str:
    from pixmix_ray.report.overview import counts_line

    return counts_line(plan)


def _show_sweep(plan: "Plan") -> None:
    """The table and front of the sweep's own cells, and where the files lie."""
    from pixmix_ray.report.tables import front_lines, measures_table
    from pixmix_ray.results import default_objectives, dominance
    from pixmix_ray.results.pareto import one_variant

    frame = plan.own_rows()
    if frame.empty:
        return
    frame, left_out = one_variant(frame)
    for line in left_out:
        tell(line)
    names = default_objectives(frame)
    judged = dominance(frame, names)
    out.print(measures_table(judged, names))
    for line in front_lines(judged, names):
        say(line)
    say(f"\nResults: {plan.store.uri}")
    say("  cells/        measurements (Parquet; pixmix_ray.results.read opens them as one DataFrame)")
    say("  predictions/  what each network said of each picture")
    say("  trials/       checkpoints")
