"""The commands: parse, build one object, call one function, print. Results go to stdout, progress to stderr.

    sweeps      run, plan, status: an experiment file and its results folder
    results     evaluate, rescore, migrate: checkpoints and their cells
    tables      table, pareto: what was measured, and what is on the front
    questions   query, compare, explain
    figures     figure
    pages       report, serve: results as a page to look at
    exchange    export, import
    parts       list, pictures, complexity: what can be named in an experiment file
    interrupts  Ctrl-C and SIGTERM
    console     how lines are printed, and the arguments that several commands take

Exit codes: 0 all done, 1 some trial or cell failed (named with its reason), 2 the request is wrong and nothing started,
75 the storage went away or another run holds the results folder, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM);
after the last three, the same command goes on.
"""

import typer

from pixmix_ray.cli import exchange, figures, pages, parts, questions, results, sweeps, tables
from pixmix_ray.cli.console import call

__all__ = ["app", "main"]

app = typer.Typer(
    help="Train and evaluate safe image classifiers on a Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for room in (sweeps, results, tables, questions, figures, pages, exchange, parts):
    app.add_typer(room.commands)


def main() -> None:
    """The entry point."""
    call(app)
