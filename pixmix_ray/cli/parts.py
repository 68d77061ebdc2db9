"""What can be named in an experiment file: list, and a look at mixing sets: sets pictures, sets complexity."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import ExperimentFile, Json, Overrides, grouping_options, out, print_json, say, tell
from pixmix_ray.errors import ResultsError, UnknownNameError

commands = typer.Typer()
sets = typer.Typer(
    help="Look at mixing sets.", no_args_is_help=True, epilog="Example: pixmix-ray sets pictures fractals --complexity"
)
commands.add_typer(sets, name="sets")


@commands.command("list", epilog="Example: pixmix-ray list methods pixmix")
def show_list(
    kind: Annotated[
        str | None,
        typer.Argument(help="methods, mixing-sets, datasets, models, benchmarks or metrics.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="One of these, to show all its settings.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List what an experiment file can name; with NAME, show each setting's default, range and meaning."""
    from pixmix_ray.experiment.described import TABLES
    from pixmix_ray.report.as_json import metrics_values, part_values, parts_values
    from pixmix_ray.report.overview import metrics_table, part_lines, parts_table, settings_table

    if kind is None:
        _list_kinds(json=json)
        return
    if kind == "metrics" and name is None:
        if json:
            print_json(metrics_values())
        else:
            out.print(metrics_table())
        return
    if kind not in TABLES:
        raise UnknownNameError("kind of part", kind, [*TABLES, "metrics"])
    if name is not None:
        found = TABLES[kind].find(str(TABLES[kind].short.get(name, {}).get("name", name)))
        if json:
            print_json(part_values(name, found))
            return
        for line in part_lines(name, found):
            say(line)
        out.print(settings_table(found))
    elif json:
        print_json(parts_values(kind, TABLES[kind]))
    else:
        out.print(parts_table(TABLES[kind]))


def _list_kinds(*, json: bool) -> None:
    from pixmix_ray.experiment.described import TABLES
    from pixmix_ray.metrics import DIRECTIONS

    names = {of: sorted(table.known()) for of, table in TABLES.items()} | {"metrics": list(DIRECTIONS)}
    if json:
        print_json({"kinds": names})
        return
    for of, listed in names.items():
        say(f"{of}: {', '.join(listed)}")


@commands.command(epilog="Example: pixmix-ray schema > experiment.schema.json")
def schema() -> None:
    """Print the JSON schema of experiment files, with which an editor completes and checks them."""
    from pixmix_ray.experiment.described import experiment_schema

    print_json(experiment_schema())


@commands.command(epilog="Example: pixmix-ray doctor experiments/quickstart.yaml")
def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="An experiment file whose data to look for.", show_default=False),
    ] = None,
    address: Annotated[str | None, typer.Option(help="host:port of a Ray cluster to look at.")] = None,
    json: Json = False,
) -> None:
    """Show what is installed, what each missing package would enable, devices, memory, disk, data and the cluster."""
    from pixmix_ray.experiment.file import read_experiment
    from pixmix_ray.report.doctor import Finding, examined

    found = examined(None if file is None else read_experiment(file))
    if address is not None:
        from pixmix_ray.orchestration.session import cluster_lines

        found += [Finding(what="cluster", found=line) for line in cluster_lines(address)]
    if json:
        print_json({"findings": [{"what": one.what, "found": one.found, "hint": one.hint} for one in found]})
        return
    for one in found:
        say(f"{one.what}: {one.found}" + (f" ({one.hint})" if one.hint else ""))


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Which crops of a mixing set are looked at; see the options."""

    count: Annotated[int, typer.Option(min=1, help="The number of crops to look at.")] = 64
    side: Annotated[int, typer.Option(min=1, help="The side of a crop in pixels.")] = 64
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing the crops.")] = 0


@sets.command(epilog="Example: pixmix-ray sets pictures fractals --sheet fractals.png --complexity")
@grouping_options
def pictures(
    mixing_set: Annotated[
        str,
        typer.Argument(
            metavar="SET", help="A mixing set: a name, a+b, or a mapping such as '{name: fractals, seed: 1}'."
        ),
    ],
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet to this PNG file.")] = None,
    complexity: Annotated[bool, typer.Option("--complexity", help="Show how complex the pictures are.")] = False,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the measures to this Parquet file, one row per crop.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow importing the classes that the trial of fvis names.")
    ] = False,
    *,
    crops: Crops,
) -> None:
    """Look at a mixing set, cropped as in training: a contact sheet, and measures of complexity."""
    from pixmix_ray.report import sheet as report

    sample = report.sampled(report.parse_mixing_set(mixing_set, is_trusted=trust), crops.count, crops.side, crops.seed)
    say(f"{sample.label}: {sample.total} pictures, version {sample.version}")
    for line in sample.remarks:
        say(line)
    if sheet is not None:
        report.write_sheet(sample, sheet)
        say(f"{crops.count} crops of {crops.side} pixels: {sheet}")
    if complexity or out_file is not None:
        measures = report.measured(sample.crops)
        out.print(report.complexity_table(sample, measures))
        if out_file is not None:
            report.write_measures(sample, measures, out_file)
            say(f"measures: {out_file}")


@sets.command(
    epilog="Example: pixmix-ray sets complexity experiments/table4_small.yaml --out sets.parquet --figure sets.png"
)
def complexity(
    file: ExperimentFile,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write the measures to this Parquet file, one row per set.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw a figure to this file: .png, .pdf or .svg.")] = None,
    count: Annotated[int, typer.Option(min=2, help="The number of crops of each set.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing the crops.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Measure the complexity of an experiment's mixing sets, beside the safety of the trials that used them."""
    from pixmix_ray.analysis.pareto import code_versions
    from pixmix_ray.analysis.variants import one_variant
    from pixmix_ray.experiment.file import read_experiment
    from pixmix_ray.report import complexity as report
    from pixmix_ray.report.figures.style import check_drawable
    from pixmix_ray.storage.index import read

    if figure is not None:
        check_drawable()
    sweep = read_experiment(file, overrides or ())
    measurements = None
    try:
        measurements, left_out = one_variant(read(sweep.results))
        for line in [*left_out, *code_versions(measurements)]:
            tell(line)
    except ResultsError as error:
        tell(f"complexity only, without safety measures: {error}")
    beside = report.sets_beside_safety(sweep, measurements, count, seed)
    correlations = report.rank_correlations(beside)
    out.print(report.sets_table(beside))
    if beside.objectives:
        out.print(report.correlations_table(correlations))
    if out_file is not None:
        report.write_sets(beside, out_file)
        say(f"sets: {out_file}")
    if figure is not None:
        report.write_figure(beside, correlations, figure)
        say(f"figure: {figure}")
