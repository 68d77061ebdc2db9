"""export and import: results for other programs, and for other machines."""

from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import Results, grouping_options, say
from pixmix_ray.cli.selection import Selection
from pixmix_ray.errors import UnknownNameError

commands = typer.Typer()


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
