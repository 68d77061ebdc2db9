"""Checkpoints and measurements: evaluate, rescore, migrate, table, pareto."""

from typing import TYPE_CHECKING, Annotated

import typer

from pixmix_ray.cli.console import Json, Objectives, Overrides, Results, out, print_json, say, tell

if TYPE_CHECKING:
    import pandas as pd

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


@commands.command(epilog="Example: pixmix-ray pareto results/quickstart --objectives clean.error,corruptions.mce")
def pareto(results: Results, objectives: Objectives = None) -> None:
    """Show which methods are on the Pareto front and what dominates the others."""
    from pixmix_ray.analysis.pareto import dominance
    from pixmix_ray.report.tables import configuration_labels, front_lines, measures_table

    frame, names = _measurements(results, objectives)
    judged = dominance(frame, names)
    judged = judged.assign(label=configuration_labels(judged))  # the same names in the table and in the lines
    out.print(measures_table(judged[judged["on_front"]], names))
    for line in front_lines(judged, names):
        say(line)


@commands.command("table", epilog="Example: pixmix-ray table results/quickstart --markdown")
def show_table(
    results: Results,
    objectives: Objectives = None,
    markdown: Annotated[bool, typer.Option(help="As Markdown, for a document.")] = False,
    published: Annotated[
        str | None, typer.Option(metavar="TABLES", help="Beside the paper's figures: table 4, several 4,5, or all.")
    ] = None,
    across: Annotated[
        str | None, typer.Option(help="With --published: dataset, model or both need not be the paper's.")
    ] = None,
) -> None:
    """Show method by safety measure, the best of each column marked; or our figures beside the published ones."""
    from pixmix_ray.analysis.pareto import by_configuration
    from pixmix_ray.report.tables import markdown_table, measures_table

    if published is not None:
        _show_published(results, objectives, markdown, published, across)
        return
    frame, names = _measurements(results, objectives)
    wide = by_configuration(frame, names)
    if markdown:
        print(markdown_table(wide, names))  # noqa: T201  # not wrapped to the width of the terminal
    else:
        out.print(measures_table(wide, names))


def _show_published(results: str, objectives: str | None, markdown: bool, published: str, across: str | None) -> None:
    """The figures of published tables, a row each, beside ours."""
    from pixmix_ray.analysis.published import beside_published, departures, parse_across, parse_tables
    from pixmix_ray.experiment.plugins import BENCHMARKS
    from pixmix_ray.experiment.recipe import Recipe
    from pixmix_ray.report.beside import published_markdown, published_table

    frame, names = _measurements(results, objectives)
    pairs = beside_published(frame, parse_tables(published), parse_across(across))
    if objectives is not None:
        pairs = pairs[(pairs["benchmark"] + "." + pairs["metric"]).isin(names)]
    if markdown:
        print(published_markdown(pairs))  # noqa: T201  # as above
    else:
        out.print(published_table(pairs))
    defaults = {
        name: BENCHMARKS.read(name).settings.identity() for name in set(frame["benchmark"]) & set(BENCHMARKS.ours)
    }
    for line in departures(frame[frame["settings"].isin(pairs["settings"])], Recipe().identity(), defaults):
        say(f"ours: {line}")


def _measurements(results: str, objectives: str | None) -> "tuple[pd.DataFrame, list[str]]":
    """The rows of a results folder, one variant of each benchmark, and the objectives to show."""
    from pixmix_ray.analysis.pareto import code_versions, default_objectives, one_variant
    from pixmix_ray.storage.index import read

    frame, left_out = one_variant(read(results))
    for line in [*left_out, *code_versions(frame)]:
        tell(line)
    if objectives is None:
        return frame, default_objectives(frame)
    return frame, [name.strip() for name in objectives.split(",")]
