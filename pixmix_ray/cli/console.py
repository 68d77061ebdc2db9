"""What all commands share: the call, the two consoles, and how arguments and options are written."""

import inspect
import io
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer
from rich.console import Console

from pixmix_ray.errors import PixmixRayError, RequestError, UnknownNameError

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
Form = Annotated[str, typer.Option("--format", help="Output format: terminal, markdown, latex or csv.")]


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a table is shown; see the options."""

    format: Form = "terminal"
    json: Json = False

    def __post_init__(self) -> None:
        from pixmix_ray.report.grid import FORMATS

        if self.format == "json":
            raise RequestError("--format json: give --json, which prints one object")
        if self.format not in FORMATS:
            raise UnknownNameError("format", self.format, FORMATS)
        if self.json and self.format != "terminal":
            raise RequestError(f"--format {self.format} and --json: give one of them")

    @property
    def is_for_people(self) -> bool:
        """Whether a person reads it, as it is."""
        return self.format == "terminal" and not self.json

    @property
    def is_one_table(self) -> bool:
        """Whether a program reads it, and no second table may follow."""
        return self.format == "csv" or self.json

    def show(self, grid: "Grid", notes: Sequence[str] = ()) -> None:
        """A table on stdout; `notes` are for the terminal and JSON alone."""
        if self.is_for_people:
            out.print(grid.terminal())
            for note in (*grid.notes, *notes):
                say(note)
        elif self.json:
            values = grid.values()
            print_json({**values, "notes": [*values["notes"], *notes]})
        else:
            print(grid.text(self.format))  # noqa: T201  # not wrapped to the width of the terminal


def grouping_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with parameters that are dataclasses of options, as one that takes these options."""
    signature = inspect.signature(command)
    groups: dict[str, Any] = {
        name: one.annotation for name, one in signature.parameters.items() if is_dataclass(one.annotation)
    }
    own = [one for name, one in signature.parameters.items() if name not in groups]
    options = [
        inspect.Parameter(of.name, inspect.Parameter.KEYWORD_ONLY, default=of.default, annotation=of.type)
        for group in groups.values()
        for of in fields(group)
    ]

    @wraps(command)
    def call(**given: Any) -> None:
        made = {name: group(**{of.name: given.pop(of.name) for of in fields(group)}) for name, group in groups.items()}
        command(**given, **made)

    call.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in (*own, *options)}
    return call


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


def say(text: str, style: str = "") -> None:
    """A line of the result, as it is: brackets are no markup, and a long line is not broken."""
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(values: Mapping[str, Any]) -> None:
    """An object as JSON on stdout."""
    print(as_json(values))  # noqa: T201  # not wrapped to the width of the terminal


def as_json(values: Mapping[str, Any]) -> str:
    """The text of an object; what JSON does not know is written as its text."""
    return json.dumps(values, indent=1, default=str, allow_nan=False)


def tell(text: str, style: str = "") -> None:
    """A line about what happens, likewise, to stderr; what files are called must not steer the terminal."""
    text = "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
    log.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def fail(message: str, code: int) -> NoReturn:
    """End the process with one line that says why."""
    tell(f"pixmix-ray: {message}")
    sys.exit(code)
