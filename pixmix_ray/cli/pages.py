"""report and serve: results as a page to look at."""

from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import Results, grouping_options, say, tell
from pixmix_ray.cli.selection import Selection

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
