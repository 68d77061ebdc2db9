"""figure: one of the figures of results, for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import Objectives, Results, grouping_options, say
from pixmix_ray.cli.selection import Selection
from pixmix_ray.cli.tables import split_names

commands = typer.Typer()


@commands.command(epilog="Example: pixmix-ray figure front results/quickstart -o front.pdf")
@grouping_options
def figure(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="front, parallel, calibration, k-beta, corruptions, reliability, scores, training, pictures, "
            "makespan.",
            show_default=False,
        ),
    ],
    results: Results,
    file: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write: .pdf, .svg or .png.", show_default=False)
    ],
    objectives: Objectives = None,
    *,
    selection: Selection,
) -> None:
    """Draw a figure of the results, one column of a paper wide."""
    from pixmix_ray.report.figures import Asked, write_figure

    names = split_names(objectives)
    write_figure(name, Asked(results=selection.open(results), variant=selection.variant, objectives=names), file)
    say(f"figure: {file}")
