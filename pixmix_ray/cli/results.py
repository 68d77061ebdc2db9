"""Checkpoints and their cells: evaluate, rescore, migrate."""

from typing import Annotated

import typer

from pixmix_ray.cli.console import Json, Overrides, Results, out, print_json, say

commands = typer.Typer()


@commands.command(
    epilog="Example: pixmix-ray evaluate --checkpoint cifar10_resnet20.th --model cifar_resnet --dataset cifar10 "
    "--set dataset.root=data --benchmarks clean,adversaries"
)
def evaluate(
    checkpoint: Annotated[str, typer.Option(help="A trial's folder or URI, or a state_dict file of anybody's.")],
    benchmarks: Annotated[str, typer.Option(help="Comma-separated names.")],
    model: Annotated[str | None, typer.Option(help="For a foreign file: the model's name.")] = None,
    dataset: Annotated[str | None, typer.Option(help="For a foreign file: the data set's name.")] = None,
    results: Annotated[str | None, typer.Option(help="Folder for the rows; default: not kept.")] = None,
    overrides: Overrides = None,
    trust: Annotated[bool, typer.Option("--trust", help="Import classes that the trial's file names.")] = False,
    json: Json = False,
) -> None:
    """Evaluate one checkpoint in this process, without Ray: one of ours, or a state_dict file."""
    from pixmix_ray.evaluation.cell import evaluate_here
    from pixmix_ray.evaluation.checkpoints import Request
    from pixmix_ray.report.as_json import measured_values
    from pixmix_ray.report.overview import measurements_table

    names = tuple(name.strip() for name in benchmarks.split(","))
    asked = Request(
        checkpoint=checkpoint,
        benchmarks=names,
        model=model,
        dataset=dataset,
        overrides=tuple(overrides or ()),
        is_trusted=trust,
    )
    opened, runs = asked.open()
    if json:
        print_json(measured_values({of.name: measured for of, measured in evaluate_here(opened, runs, results)}))
        return
    for run_of, measurements in evaluate_here(opened, runs, results):
        out.print(measurements_table(run_of.name, measurements))
        for note in run_of.benchmark.settings.notes():
            say(f"{run_of.name}: {note}")


@commands.command(epilog="Example: pixmix-ray rescore results/quickstart --benchmarks clean,anomalies")
def rescore(
    results: Results,
    benchmarks: Annotated[str | None, typer.Option(help="Comma-separated names; default: all.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Rewrite the cells that differ.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Import classes that the cells name.")] = False,
) -> None:
    """Measure stored predictions anew, without a network: check the stored numbers, or add new metrics."""
    from pixmix_ray.evaluation.rescore import rescore as rescored_cells

    counts: dict[str, int] = {}
    names = () if benchmarks is None else tuple(name.strip() for name in benchmarks.split(","))
    for cell in rescored_cells(results, names, write=write, is_trusted=trust):
        counts[cell.state] = counts.get(cell.state, 0) + 1
        if cell.reason:
            say(f"{cell.state} {cell.path}: {cell.reason}")
    say("cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if "different" in counts:
        raise typer.Exit(1)


@commands.command(epilog="Example: pixmix-ray migrate results/quickstart")
def migrate(results: Results) -> None:
    """Rewrite a results folder of an earlier version to today's layout; safe to be interrupted and run again."""
    from pixmix_ray.evaluation.migrate import migrate as migrated
    from pixmix_ray.storage.store import Store

    say(f"cells: {migrated(Store(results))} rewritten")
