"""What all commands share: the call, the two consoles, and how an argument or option is written."""

import io
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from rich.console import Console

from pixmix_ray.errors import PixmixRayError, UnknownNameError

if TYPE_CHECKING:
    from pixmix_ray.report.grid import Grid

out = Console(width=None if sys.stdout.isatty() else 160)  # a file or a pipe has no width: don't cut tables to 80
log = Console(stderr=True)

ExperimentFile = Annotated[Path, typer.Argument(metavar="FILE", help="An experiment file (YAML).", show_default=False)]
Results = Annotated[str, typer.Argument(metavar="RESULTS", help="A results folder or URI.", show_default=False)]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045  # typer reads this form on every Python that we support
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file, such as training.epochs=1."),
]
Presets = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--preset", metavar="NAME", help="Apply a preset of the file; --set is applied after it."),
]
Limit = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", min=1, help="Use at most this many test pictures in every benchmark."),
]
Objectives = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Comma-separated metrics, as benchmark.metric; default: clean error and the paper's safety measures."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object for other programs; docs/json.md describes it.")
]
Form = Annotated[str, typer.Option("--format", help="Output format: terminal, markdown, latex, csv or json.")]


def call(app: typer.Typer) -> None:
    """Run the command of `app` that the arguments name: an error of ours becomes one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? for ±, and nothing is lost
    show_once = cache(lambda text: tell(f"warning: {text}", "yellow"))
    warnings.showwarning = lambda message, *_: show_once(str(message))
    try:
        app()
    except PixmixRayError as error:
        fail(str(error), error.exit_code)


def show(grid: "Grid", form: str) -> None:
    """A table on stdout in one of its formats."""
    from pixmix_ray.report.grid import FORMATS

    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    if form == "terminal":
        out.print(grid.terminal())
        for note in grid.notes:
            say(note)
    else:
        print(grid.text(form))  # noqa: T201  # not wrapped to the width of the terminal


def say(text: str, style: str = "") -> None:
    """A line of the result, as it is: brackets are no markup, and a long line is not broken."""
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(values: Mapping[str, Any]) -> None:
    """An object as JSON on stdout."""
    from pixmix_ray.report.as_json import as_json

    print(as_json(values))  # noqa: T201  # not wrapped to the width of the terminal


def tell(text: str, style: str = "") -> None:
    """A line about what happens, likewise, to stderr; what files are called must not steer the terminal."""
    text = "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
    log.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: int) -> NoReturn:
    """End the process with one line that says why."""
    tell(f"pixmix-ray: {message}")
    sys.exit(code)
