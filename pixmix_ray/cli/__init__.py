"""The commands: parse, build one object, call one function, print. Results go to stdout, progress to stderr.

    sweeps      run, plan, status: an experiment file and its results folder
    results     evaluate, rescore, migrate, export, import: checkpoints, their cells, and other programs
    tables      table, pareto, certainty: what was measured, how surely, and what is on the front
    questions   query, compare, explain
    pages       figure, report, serve: results to look at
    parts       list, sets pictures, sets complexity: what can be named in an experiment file
    interrupts  Ctrl-C and SIGTERM
    selection   --where, --experiment, --sort, --variant
    console     how lines are printed, and the arguments that several commands take

Exit codes: 0 all done, 1 some trial or cell failed (named with its reason), 2 the request is wrong and nothing started,
75 the storage went away or another run holds the results folder, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM);
after the last three, the same command goes on.
"""

from typing import Annotated

import typer

from pixmix_ray.cli import pages, parts, questions, results, sweeps, tables
from pixmix_ray.cli.console import call, say

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for room in (sweeps, results, tables, questions, pages, parts):
    app.add_typer(room.commands)


def show_version(is_asked: bool) -> None:
    """Print the version and end."""
    if is_asked:
        from pixmix_ray.storage.provenance import code_version

        say(f"pixmix-ray {code_version()}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=show_version)
    ] = False,
) -> None:
    """Train and evaluate safe image classifiers on a Ray cluster."""


def main() -> None:
    """The entry point."""
    call(app)
