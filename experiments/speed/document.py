"""What the reports of all speed commands share: where and when was measured, and a grid of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from rich.table import Table
from rich.text import Text

from experiments.speed.timing import threads
from pixmix_ray.hardware import hardware
from pixmix_ray.storage.provenance import code_version, library_versions

Row = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells for the terminal or for a document.

    Attributes:
        columns: the names of the columns.
        numbers: which of them, counted from 0, are set to the right.
        rows: a cell for each column.
    """

    columns: tuple[str, ...]
    numbers: frozenset[int]
    rows: tuple[Row, ...]

    def table(self) -> Table:
        """For the terminal."""
        shown = Table()
        for number, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if number in self.numbers else "left", no_wrap=True)
        for row in self.rows:
            shown.add_row(*map(Text, row))
        return shown

    def markdown(self) -> str:
        """The same in Markdown."""
        rule = ["---:" if number in self.numbers else "---" for number in range(len(self.columns))]
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))


def rate_text(rate: float | None) -> str:
    """A rate for people, such as 18,870; a dash for none."""
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def ratio_text(ratio: float | None) -> str:
    """A ratio for people, such as 18.9 or 0.52; a dash for none."""
    return "-" if ratio is None else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def processors(device: str, thread_count: int) -> str:
    """The hardware in words: the processor with its threads, after the GPU if that is where it runs."""
    with threads(thread_count):
        processor = hardware(torch.device("cpu"))
    return processor if device == "cpu" else f"{hardware(torch.device(device))}, beside it {processor}"


def versions(libraries: Sequence[str]) -> str:
    """The version of this code and of `libraries`."""
    found: Mapping[str, str] = library_versions()
    return ", ".join([f"pixmix_ray {code_version()}", *(f"{name} {found[name]}" for name in libraries)])


def today() -> str:
    """The date, as 2026-11-22."""
    return f"{datetime.now(UTC):%Y-%m-%d}"
