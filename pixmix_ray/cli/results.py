"""Checkpoints and their cells: evaluate, rescore, migrate; and for other programs and machines: export, import."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixmix_ray.cli.console import Json, Overrides, Results, grouping_options, out, print_json, say
from pixmix_ray.cli.selection import Selection
from pixmix_ray.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Plan

commands = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files of weights are read; see the options."""

    model: Annotated[
        str | None,
        typer.Option(help="The network of the weights: a name, module:function, or '{name: timm, arch: resnet18}'."),
    ] = None
    dataset: Annotated[
        str | None, typer.Option(help="The data set of the weights: a name, or a mapping with its settings.")
    ] = None
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Allow importing classes that a trial names, and running weights that are programs."
        ),
    ] = False


@commands.command(
    epilog="Example: pixmix-ray evaluate cifar10_resnet20.th --model cifar_resnet --dataset cifar10 "
    "--set dataset.root=data --benchmarks clean,adversaries"
)
@grouping_options
def evaluate(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(metavar="WEIGHTS...", help="Files of weights from any source, or folders of trials."),
    ] = None,
    benchmarks: Annotated[
        str, typer.Option(help="Comma-separated names, or all for those of the paper's tables.")
    ] = "all",
    results: Annotated[
        str | None, typer.Option(help="The results folder to write to; default: nothing is kept.")
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Evaluate checkpoints in this process, without Ray: weights from any source, or trained trials."""
    from pixmix_ray.api import evaluation_plan
    from pixmix_ray.cli.sweeps import run_and_tell
    from pixmix_ray.experiment.file import parse_part
    from pixmix_ray.report.as_json import measured_values

    if not checkpoints:
        raise RequestError("no checkpoint was given: give weights or a trial's folder, as in pixmix-ray evaluate w.pth")
    with evaluation_plan(
        checkpoints,
        [name.strip() for name in benchmarks.split(",")],
        model=reading.model and parse_part(reading.model),
        dataset=reading.dataset and parse_part(reading.dataset),
        results=results,
        overrides=overrides or (),
        trust=reading.trust,
    ) as todo:
        done, has_failed = run_and_tell(todo, "local")
        if json:
            print_json(measured_values(done.own_rows()))
        else:
            _show(done)
        if has_failed:
            raise typer.Exit(1)


def _show(done: "Plan") -> None:
    from pixmix_ray.cli.sweeps import show_measures
    from pixmix_ray.report.overview import measurements_in, measurements_table

    if len(done.sources) == 1:
        for name, rows in done.own_rows().groupby("benchmark", sort=False, observed=True):
            out.print(measurements_table(str(name), measurements_in(rows)))
    show_measures(done)
    for part in done.experiment.benchmarks:
        for note in part.settings.notes():
            say(f"{part.name}: {note}")


@commands.command(epilog="Example: pixmix-ray rescore results/quickstart --benchmarks clean,anomalies")
def rescore(
    results: Results,
    benchmarks: Annotated[str | None, typer.Option(help="Comma-separated names of benchmarks; default: all.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Rewrite the cells whose numbers differ.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Allow importing the classes that the cells name.")] = False,
) -> None:
    """Recompute metrics from stored predictions, without a network: check stored numbers or add new metrics."""
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
    """Convert a results folder of an earlier version to the current layout; safe to interrupt and run again."""
    from pixmix_ray.evaluation.migrate import migrate as migrated
    from pixmix_ray.storage.store import Store

    say(f"cells: {migrated(Store(results))} rewritten")


@commands.command("export", epilog="Example: pixmix-ray export results/quickstart --to archive -o quickstart.zip")
@grouping_options
def export_results(
    results: Results,
    to: Annotated[
        str, typer.Option("--to", help="csv, parquet, robustbench, openood, timm, hf or archive.", show_default=False)
    ],
    place: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write; a folder for robustbench, openood, timm and hf.",
            show_default=False,
        ),
    ],
    weights: Annotated[bool, typer.Option("--weights", help="With --to archive: include the trained weights.")] = False,
    *,
    selection: Selection,
) -> None:
    """Export results as a table, in the format of another project, or as an archive for import."""
    from pixmix_ray.analysis.archive import write_archive
    from pixmix_ray.analysis.leaderboards import FORMS
    from pixmix_ray.report.exports import TABLES, write_forms, write_table
    from pixmix_ray.storage.store import Store

    if to == "archive":
        selection.refuse("an archive holds a whole results folder: leave the option out")
        say(f"archive: {place}, {write_archive(Store(results), place, has_weights=weights)} files")
    elif to in TABLES:
        opened = selection.open(results)
        frame = opened.measurements if selection.variant is None else opened.part(selection.variant).frame
        write_table(frame, place, to)
        say(f"measurements: {place}")
    elif to in FORMS:
        opened = selection.open(results)
        found = FORMS[to](opened.store, opened.part(selection.variant).frame)
        write_forms(found, place)
        for path in found.files:
            say(str(place / path))
        for note in found.notes:
            say(f"note: {note}")
    else:
        raise UnknownNameError("export format", to, [*TABLES, *FORMS, "archive"])


@commands.command("import", epilog="Example: pixmix-ray import quickstart.zip results/quickstart")
def import_results(
    archive: Annotated[
        Path, typer.Argument(metavar="ARCHIVE", help="A file written by export --to archive.", show_default=False)
    ],
    results: Results,
) -> None:
    """Import an archive into a results folder; it is verified first, and nothing is overwritten."""
    from pixmix_ray.analysis.archive import read_archive
    from pixmix_ray.storage.store import Store

    found = read_archive(Store(results), archive)
    say(f"files: {len(found.added)} added, {len(found.same)} there already, {len(found.conflicts)} in conflict")
    for path in found.conflicts:
        say(f"conflict: {path} differs from the file in the archive; the file here was kept")
    if found.conflicts:
        raise typer.Exit(1)
