"""figure, report, serve: results to look at, one of the figures for a paper, or all on a page."""

from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import Objectives, Results, grouping_options, say, tell
from pixmix_ray.cli.selection import Selection
from pixmix_ray.cli.tables import split_names

commands = typer.Typer()


@commands.command(epilog="Example: pixmix-ray report results/quickstart -o report.html")
@grouping_options
def report(
    results: Results,
    file: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    *,
    selection: Selection,
) -> None:
    """Write all results into one HTML file, which opens without a network."""
    say(f"report: {selection.open(results).report(file, variant=selection.variant)}")


@commands.command(epilog="Example: pixmix-ray serve results/quickstart")
def serve(
    results: Results,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = 8080,
) -> None:
    """Serve the report on this machine only; the page follows a sweep while it runs."""
    from pixmix_ray.report.serve import LOOPBACK, server
    from pixmix_ray.storage.store import Store

    with server(Store(results), port) as running:
        say(f"http://{LOOPBACK}:{running.server_port}/")
        tell("press Ctrl-C to stop")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return


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
