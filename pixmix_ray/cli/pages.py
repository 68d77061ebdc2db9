"""report and serve: results as a page to look at."""

from pathlib import Path
from typing import Annotated

import typer

from pixmix_ray.cli.console import Results, say, tell
from pixmix_ray.cli.selection import Selection, selecting

commands = typer.Typer()


@commands.command(epilog="Example: pixmix-ray report results/quickstart -o report.html")
@selecting
def report(
    results: Results,
    file: Annotated[Path, typer.Option("--output", "-o", help="Where to.")] = Path("report.html"),
    *,
    selection: Selection,
) -> None:
    """Write one HTML file of everything that was measured; it opens from the disk, without a network."""
    say(f"report: {selection.open(results).report(file, variant=selection.variant)}")


@commands.command(epilog="Example: pixmix-ray serve results/quickstart")
def serve(
    results: Results,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes any free one.")] = 8080,
) -> None:
    """Show the same page at an address that this machine alone reaches, and follow a sweep while it runs."""
    from pixmix_ray.report.serve import LOOPBACK, server
    from pixmix_ray.storage.store import Store

    with server(Store(results), port) as running:
        say(f"http://{LOOPBACK}:{running.server_port}/")
        tell("until Ctrl-C")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return
