"""figure: one of the figures of results, for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import Objectives, Results, Variant, say
from pixmix_ray.cli.tables import split_names

commands = typer.Typer()


@commands.command(epilog="Example: pixmix-ray figure front results/quickstart -o front.pdf")
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
    file: Annotated[Path, typer.Option("--output", "-o", help="Where to: .pdf, .svg or .png.", show_default=False)],
    objectives: Objectives = None,
    variant: Variant = None,
) -> None:
    """Draw a figure of results, as wide as a column of a paper."""
    from pixmix_ray.report.figures import Asked, write_figure
    from pixmix_ray.results import read

    write_figure(name, Asked(results=read(results), variant=variant, objectives=split_names(objectives)), file)
    say(f"figure: {file}")
