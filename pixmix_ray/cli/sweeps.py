"""An experiment file and its results folder: run, plan, status."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixmix_ray.cli.console import (
    ExperimentFile,
    Json,
    Limit,
    Output,
    Overrides,
    Presets,
    Results,
    fail,
    out,
    print_json,
    say,
    tell,
)
from pixmix_ray.cli.interrupts import ending_cleanly, last_words
from pixmix_ray.cli.selection import Experiment as ExperimentOption
from pixmix_ray.cli.selection import Selection, Sort, Where
from pixmix_ray.errors import RequestError, ResultsError, StorageError
from pixmix_ray.storage.store import PAGE

MOST_SHOWN = 1000  # trials: their predictions are read for the intervals

if TYPE_CHECKING:
    from pixmix_ray.orchestration.run import Run
    from pixmix_ray.planning.plan import Plan

GO_ON = "what is done is kept: run the same command again to go on"

commands = typer.Typer()


@commands.command(epilog="Example: pixmix-ray run experiments/quickstart.yaml --set training.epochs=1")
def run(
    file: ExperimentFile,
    overrides: Overrides = None,
    presets: Presets = None,
    limit: Limit = None,
    address: Annotated[
        str | None, typer.Option(help="host:port of a running Ray cluster; default: a local one.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Run in this process, without Ray, for debugging.")] = False,
) -> None:
    """Train and evaluate what an experiment still lacks; then show the table and the Pareto front."""
    if local and address is not None:
        raise RequestError(f"--local runs in this process, and --address {address} on a cluster: give one of them")
    todo = _plan(file, overrides, presets, limit)
    done, has_failed = run_and_tell(todo, "local" if local else address or "ray")
    if count := show_measures(done):
        _show_files(done, count, is_changed=bool(todo.cells_to_run()))
    if has_failed:
        raise typer.Exit(1)


def run_and_tell(todo: "Plan", executor: str) -> tuple["Plan", bool]:
    """Do what a plan lacks and tell of it on stderr; the plan afterwards, and whether something failed."""
    if not todo.cells_to_run():
        from pixmix_ray.planning.plan import updated

        todo = updated(todo)
    if not todo.cells_to_run():
        return todo, False
    from pixmix_ray.report.overview import axes_lines

    for line in [*axes_lines(todo), _counts(todo)]:
        tell(line)
    done = _run(todo, executor)
    for failure in done.failures:
        tell(f"FAILED {failure.label}: {failure.reason}", "red")
    _tell_usage(done.plan)
    return done.plan, bool(done.failures)


@commands.command("plan", epilog="Example: pixmix-ray plan experiments/quickstart.yaml --set 'seeds=[0, 1, 2]'")
def show_plan(
    file: ExperimentFile,
    overrides: Overrides = None,
    presets: Presets = None,
    limit: Limit = None,
    check: Annotated[
        bool, typer.Option("--check", help="Send one batch through every method, model and benchmark of yours.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what would run and what it would cost, without running it."""
    from pixmix_ray.report.as_json import plan_values
    from pixmix_ray.report.overview import axes_lines, pictures_notes, plan_table

    made = _plan(file, overrides, presets, limit)
    if check:
        from pixmix_ray.evaluation.checkpoints import check_externals
        from pixmix_ray.training.check import check_parts

        check_externals(made.checkpoints)
        count = check_parts(made.trials, made.experiment.benchmark_runs()) + len(made.checkpoints)
        tell(f"checked: {count} parts")
    if json:
        print_json(plan_values(made))
        return
    say(f"results: {made.store.uri}")
    for line in axes_lines(made):
        say(line)
    out.print(plan_table(made))
    say(_counts(made))
    gpus = made.experiment.resources.trial.gpus
    for note in dict.fromkeys(note for recipe in made.experiment.training for note in recipe.notes(gpus)):
        say(f"training: {note}")
    for part in made.experiment.benchmarks:
        for note in [*part.settings.notes(), *pictures_notes(made.experiment, part)]:
            say(f"{part.name}: {note}")


@commands.command(epilog="Example: pixmix-ray status results/quickstart")
def status(
    results: Results,
    watch: Annotated[bool, typer.Option("--watch", help="Keep updating until interrupted.")] = False,
    json: Json = False,
    where: Where = None,
    experiment: ExperimentOption = None,
    sort: Sort = None,
) -> None:
    """Show the trials and cells of a results folder: done, in progress, failed and why; exits with 1 if any failed."""
    if watch and json:
        raise RequestError("--watch updates a table and --json prints one object: give one of them")
    selection = Selection(where=where, experiment=experiment, sort=sort)
    if watch:
        from pixmix_ray.report.watch import watch as watch_results

        watch_results(results, out, selection.of_status)
        return
    from pixmix_ray.planning.status import read_status
    from pixmix_ray.planning.usage import total_usage
    from pixmix_ray.report.as_json import status_values
    from pixmix_ray.report.overview import status_table
    from pixmix_ray.report.usage import idle_line, usage_table
    from pixmix_ray.storage.store import Store

    found, usage = selection.of_status(read_status(results)), total_usage(Store(results))
    if json:
        print_json(status_values(found, usage))
    else:
        say(f"results: {found.uri}")
        out.print(status_table(found))
        if usage is not None:
            out.print(usage_table(usage))
            say(idle_line(usage))
        for line in found.failures:
            say(line, "red")
    if found.has_failed:
        raise typer.Exit(1)


@commands.command(epilog="Example: pixmix-ray logs results/quickstart pixmix-0123456789ab")
def logs(
    results: Results,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[TRIAL|CELL]", help="The ID of a trial or cell, or its beginning.", show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show what is printed as it comes, until the run ends.")
    ] = False,
) -> None:
    """Show what workers printed, warned and raised; without a name, list the logs."""
    from pixmix_ray.report.logs import followed, log_names, matching, text_of_log
    from pixmix_ray.storage.run_lock import FILE
    from pixmix_ray.storage.store import Store

    store = Store(results)
    if follow:
        at_work = f"following the run in {store.uri}" if store.exists(FILE) else f"waiting for a run in {store.uri}"
        tell(f"{at_work}; press Ctrl-C to stop")
        for text in followed(store, name or ""):
            out.file.write(text)
            out.file.flush()
        tell("the run has ended")
        return
    found = log_names(store) if name is None else matching(store, name)
    if not found:
        say("no logs: nothing was printed, and nothing failed")
    for one in found:
        if name is None or len(found) > 1:
            say(one if name is None else f"=== {one}")
        if name is not None:
            say(text_of_log(store, one).rstrip())


def _run(plan: "Plan", executor: str) -> "Run":
    """Do what the plan lacks; a signal on the way ends it cleanly."""
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else Tune starts another cluster when ours is closed
    from pixmix_ray.api import run as run_here

    with ending_cleanly() as ending:
        try:
            with last_words(f"pixmix-ray: this process was killed, or its Ray cluster went away; {GO_ON}"):
                return run_here(plan, executor=executor)
        except BaseException:
            if ending.number:
                fail(f"{ending}; {GO_ON}", ending.exit_code)
            raise


def _tell_usage(plan: "Plan") -> None:
    """What the run that just ended used."""
    from pixmix_ray.planning.usage import last_usage
    from pixmix_ray.report.usage import idle_line, took_line

    usage = last_usage(plan.store)
    if usage is not None:
        tell(took_line(usage))
        tell(idle_line(usage))


def _plan(file: Path, overrides: list[str] | None, presets: list[str] | None, limit: int | None) -> "Plan":
    from pixmix_ray.experiment.file import read_experiment

    sweep = read_experiment(file, overrides or (), presets=presets or (), limit=limit)
    from pixmix_ray.planning.fits import check_fits  # after the file was read: its imports take a second
    from pixmix_ray.planning.plan import make_plan

    plan = make_plan(sweep)
    check_fits(plan)
    return plan


def _counts(plan: "Plan") -> str:
    from pixmix_ray.report.overview import counts_line

    return counts_line(plan)


def show_measures(plan: "Plan") -> int:
    """Show the table and front of the experiment's own cells, if they are not too many; how many trials have some."""
    count = len({cell.trial.id for cell, state in plan.cells.items() if state == "done"})
    if count > MOST_SHOWN:
        say(f"{count} trials are too many to show here: select some with pixmix-ray table {plan.store.uri} --where ...")
        return count
    frame = plan.own_rows()
    from pixmix_ray.analysis.pareto import code_versions, default_objectives
    from pixmix_ray.analysis.spread import judge
    from pixmix_ray.analysis.variants import apart
    from pixmix_ray.report.fronts import front_notes
    from pixmix_ray.report.tables import measures_grid

    if frame.empty:
        return 0
    for line in code_versions(frame):
        tell(line)
    search = plan.experiment.search
    for part in apart(frame):
        # a search ends with the front of what it searched for
        names = default_objectives(part.frame) if search is None else list(search.objectives)
        judged = judge(plan.store, part.frame, names)
        if part.label:
            say(part.label)
        grid = measures_grid(judged.wide, judged.certainty.objectives, judged.certainty)
        Output().show(replace(grid, notes=judged.notes), front_notes(judged))
    return count


def _show_files(plan: "Plan", count: int, *, is_changed: bool) -> None:
    """Where the files lie; the page is made anew where something was done."""
    say(f"\nResults: {plan.store.uri}")
    say("  measurements.parquet  all measurements, one row each (pandas, polars, DuckDB)")
    say("  cells/                predictions for each picture, and the metrics made of them (Parquet)")
    say("  trials/               checkpoints")
    if count > MOST_SHOWN:
        say(f"no {PAGE}: a page holds at most {MOST_SHOWN} trials, and there are {count}")
    elif (not is_changed and plan.store.files(PAGE)) or _write_report(plan):
        say(f"  {PAGE}           all results as one page, for a browser")


def _write_report(plan: "Plan") -> bool:
    """The page of the whole results folder, in it; a folder that cannot be written has none."""
    from pixmix_ray.report.page import page
    from pixmix_ray.storage.index import read

    try:
        plan.store.write(PAGE, page(plan.store, read(plan.store.uri)).encode())
    except (StorageError, ResultsError) as error:
        tell(f"no {PAGE}: {error}", "yellow")
        return False
    return True
