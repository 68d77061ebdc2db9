"""One table in four formats, a terminal's, Markdown, LaTeX (booktabs) and CSV, and as values for JSON.

A cell holds a value and how a person reads it. In CSV and JSON the values stand, in the others the texts. Texts come
from names that somebody else may have chosen: they are escaped for each format, and in CSV a text that a spreadsheet
would take for a formula gets an apostrophe before it (OWASP, "CSV Injection").
"""

import csv
import io
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from pixmix_ray.errors import UnknownNameError, one_line

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Mark = Literal["best", "tied", "second", "differs", ""]
Format = Literal["terminal", "markdown", "latex", "csv"]
Value = str | int | float | bool | None
FORMATS: tuple[str, ...] = get_args(Format)
WIDE = 6  # columns that a column of a paper holds

_MARKDOWN: dict[Mark, str] = {"best": "**{}**", "tied": "*{}*", "second": "*{}*", "differs": "{} ≠", "": "{}"}
_LATEX: dict[Mark, str] = {
    "best": r"\textbf{{{}}}",
    "tied": r"\textit{{{}}}",
    "second": r"\underline{{{}}}",
    "differs": r"{}$^{{\neq}}$",
    "": "{}",
}
_TERMINAL: dict[Mark, tuple[str, str]] = {
    "best": ("*{}", "bold"),
    "tied": ("={}", "bold"),
    "second": ("{}", "underline"),
    "differs": ("≠{}", ""),
    "": ("{}", ""),
}
_SIGNS: dict[Mark, dict[str, str]] = {
    "best": {"terminal": "*", "markdown": "bold:", "latex": "bold:"},
    "tied": {"terminal": "=", "markdown": "italic:", "latex": "italic:"},
    "second": {"terminal": "underlined:", "markdown": "italic:", "latex": "underlined:"},
    "differs": dict.fromkeys(("terminal", "markdown", "latex"), "≠"),
}
"""How each mark is called where it is explained."""

_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[*"},  # at the start of a row they would belong to the line break before it
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "–": "--",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "β": r"$\beta$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "ℓ": r"$\ell$",
    "C\u0304": r"$\bar{\mathrm{C}}$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_LATEX_LETTERS = {chr(code) for code in range(0xC0, 0x100)} - set("ÐÞðþ×÷")  # of those beyond ASCII, what OT1 can set
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        text: as a person reads it.
        value: as a program does; none for nothing.
        mark: what is said of it among the others.
        interval: ends of the 95 % interval of the value; none where it has none.
    """

    text: str
    value: Value = None
    mark: Mark = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        key: its name for programs.
        header: lines for people, the top one first; neighbours with the same line share it in LaTeX.
        is_number: whether it is set flush right.
    """

    key: str
    header: tuple[str, ...]
    is_number: bool = True


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table.

    Attributes:
        columns: of it.
        rows: cells, as many as columns.
        caption: what a reader must know, units first; "" for nothing.
        title: such as "Table 8".
        legend: the marks that there may be, and what each means.
        breaks: numbers of rows below which a line is drawn.
        notes: lines below the table.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    title: str = ""
    legend: tuple[tuple[Mark, str], ...] = ()
    breaks: frozenset[int] = field(default_factory=frozenset)
    notes: tuple[str, ...] = ()

    def text(self, form: str) -> str:
        """The table in one of `FORMATS` but terminal, which `terminal` makes.

        Raises:
            UnknownNameError: there is no such format.
        """
        makers = {"markdown": self._markdown, "latex": self._latex, "csv": self._csv}
        if form not in makers:
            raise UnknownNameError("format", form, FORMATS)
        return makers[form]()

    def terminal(self) -> "Table":
        """The table for a terminal; names in it are no markup."""
        from rich.table import Table  # slow to import: results are read without it
        from rich.text import Text

        title = Text(_printable(self.title)) if self.title else None
        caption = Text(_printable(self._caption("terminal"))) if self.caption else None
        table = Table(title=title, caption=caption, box=None, padding=(0, 1, 0, 0))
        for place, column in enumerate(self.columns):
            header = Text("\n".join(_printable(line) for line in self._unrepeated(place)))
            if column.is_number:
                table.add_column(header, justify="right", no_wrap=True)
            else:
                table.add_column(header, overflow="fold")
        for number, row in enumerate(self.rows):
            table.add_row(*map(_styled, row), end_section=number in self.breaks)
        return table

    def _unrepeated(self, place: int) -> list[str]:
        """The lines of a header, those above the last empty where the column before has the same."""
        own, depth = self.columns[place].header, max(len(column.header) for column in self.columns)
        if depth > len(own) or not place:
            return [line for line in own if line] if depth > len(own) else list(own)
        before = self.columns[place - 1].header
        is_same = [level < depth - 1 and own[: level + 1] == before[: level + 1] for level in range(depth)]
        return ["" if same else line for line, same in zip(own, is_same, strict=True)]

    def frame(self) -> pd.DataFrame:
        """The values as a DataFrame, a column a key; where a column has intervals, `<key>.low` and `<key>.high`."""
        return pd.DataFrame(dict(self._values()))

    def values(self) -> dict[str, Any]:
        """The table for JSON: `title`, `rows` (each a mapping of column to value) and `notes`."""
        keys, columns = zip(*self._values(), strict=True)
        rows = [dict(zip(keys, map(_json_value, row), strict=True)) for row in zip(*columns, strict=True)]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}

    def _values(self) -> list[tuple[str, list[Value]]]:
        """The columns for programs: keys and values."""
        found: list[tuple[str, list[Value]]] = []
        for place, column in enumerate(self.columns):
            cells = [row[place] for row in self.rows]
            found.append((column.key, [cell.value for cell in cells]))
            if any(cell.interval is not None for cell in cells):
                for end, name in enumerate(("low", "high")):
                    ends: list[Value] = [None if cell.interval is None else cell.interval[end] for cell in cells]
                    found.append((f"{column.key}.{name}", ends))
        return found

    def _caption(self, form: str) -> str:
        """The caption with the legend of a format."""
        legend = ", ".join(f"{_SIGNS[mark][form]} {meaning}" for mark, meaning in self.legend)
        return "; ".join(filter(None, (self.caption, legend)))

    def _repr_html_(self) -> str:
        """As notebooks show it."""
        escape = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

        def shown(text: str) -> str:
            return "".join(escape.get(letter, letter) for letter in text)

        head = "".join(f"<th>{shown(' '.join(filter(None, column.header)))}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{_bold(shown(cell.text), cell.mark)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        caption = shown(": ".join(filter(None, (self.title, self._caption("markdown")))))
        notes = "".join(f"<p>{shown(note)}</p>" for note in self.notes)
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def _markdown(self) -> str:
        heads = [_markdown_text(" ".join(filter(None, column.header))) for column in self.columns]
        lines = [heads, ["---:" if column.is_number else ":---" for column in self.columns]]
        lines += [[_MARKDOWN[cell.mark].format(_markdown_text(cell.text)) for cell in row] for row in self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        above = f"**{_markdown_text(self.title)}**\n\n" if self.title else ""
        caption = _markdown_text(self._caption("markdown"))
        notes = "\n".join(f"- {_markdown_text(note)}" for note in self.notes)
        return "\n\n".join(filter(None, (above + table, caption, notes)))

    def _latex(self) -> str:
        """A table environment that compiles with the packages booktabs and graphicx, whatever the names.

        Letters that LaTeX's own fonts lack are question marks. A table of many columns is as wide as the page, its
        letters as small as that asks for.
        """
        kinds = "".join("r" if column.is_number else "l" for column in self.columns)
        is_wide = len(self.columns) > WIDE
        kind = "table*" if is_wide else "table"
        lines = [r"% \usepackage{booktabs,graphicx}", rf"\begin{{{kind}}}", r"\centering"]
        caption = ". ".join(filter(None, (self.title, self._caption("latex"))))
        lines += [rf"\caption{{{_latex_text(caption)}}}"] if caption else []
        lines += [r"\resizebox{\linewidth}{!}{%"] if is_wide else []
        lines += [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", *self._latex_header(), r"\midrule"]
        for number, row in enumerate(self.rows):
            lines.append(" & ".join(_LATEX[cell.mark].format(_latex_text(cell.text)) for cell in row) + r" \\")
            if number in self.breaks:
                lines.append(r"\midrule")
        lines += [r"\bottomrule", r"\end{tabular}" + "}" * is_wide]
        lines += [rf"\par\footnotesize\raggedright {_latex_text(note)}" for note in self.notes]
        return "\n".join([*lines, rf"\end{{{kind}}}"])

    def _latex_header(self) -> list[str]:
        depth = max(len(column.header) for column in self.columns)
        # what has fewer lines stands at the bottom
        padded = [("",) * (depth - len(column.header)) + column.header for column in self.columns]
        lines = []
        for level in range(depth):
            cells, rules, start = [], [], 0
            while start < len(padded):
                end = start + 1
                text = padded[start][level]
                while (
                    end < len(padded)
                    and text
                    and level < depth - 1
                    and padded[end][: level + 1] == padded[start][: level + 1]
                ):
                    end += 1
                if end - start > 1:
                    cells.append(rf"\multicolumn{{{end - start}}}{{c}}{{{_latex_text(text)}}}")
                    rules.append(rf"\cmidrule(lr){{{start + 1}-{end}}}")
                else:
                    cells.append(_latex_text(text))
                start = end
            lines.append(" & ".join(cells) + r" \\" + "".join(rules))
        return lines

    def _csv(self) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        columns = self._values()
        writer.writerow([csv_value(key) for key, _ in columns])
        writer.writerows(
            [csv_value(value) for value in row] for row in zip(*(values for _, values in columns), strict=True)
        )
        return stream.getvalue().removesuffix("\n")


def grid_of(frame: pd.DataFrame, caption: str = "") -> Grid:
    """The table of a DataFrame, as it is: numbers to six digits."""
    kinds = zip(map(str, frame.columns), frame.dtypes, strict=True)
    columns = tuple(
        Column(key=name, header=(name,), is_number=pd.api.types.is_numeric_dtype(kind)) for name, kind in kinds
    )
    rows = tuple(tuple(plain_cell(value) for value in row) for row in frame.itertuples(index=False, name=None))
    return Grid(columns=columns, rows=rows, caption=caption)


def plain_cell(value: object) -> Cell:
    """A cell of any value; null is empty."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return Cell(text="")
    if isinstance(value, np.generic | np.ndarray):
        value = value.item() if isinstance(value, np.generic) else value.tolist()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(text=str(value), value=value if isinstance(value, bool) else str(value))
    return Cell(text=f"{value:.6g}" if isinstance(value, float) else str(value), value=value)


def _styled(cell: Cell) -> "Text":
    from rich.text import Text

    template, style = _TERMINAL[cell.mark]
    # assembled, so that the style is on the figures alone and not on the padding before them
    return Text.assemble((template.format(_printable(cell.text)), style))


def _bold(text: str, mark: Mark) -> str:
    return f"<b>{text}</b>" if mark == "best" else f"<i>{text}</i>" if mark in ("tied", "second") else text


def _printable(text: str) -> str:
    return one_line(text, limit=10_000)


def _markdown_text(text: str) -> str:
    signs = {"\\": "\\\\", "|": "\\|", "<": "&lt;", ">": "&gt;", "`": "\\`", "[": "\\[", "*": "\\*"}
    return "".join(signs.get(letter, letter) for letter in _printable(text))


def _latex_text(text: str) -> str:
    shown = _printable(text)
    parts = shown.split("C\u0304")
    return _LATEX_SIGNS["C\u0304"].join("".join(map(_latex_letter, part)) for part in parts)


def _latex_letter(letter: str) -> str:
    plain = letter if letter.isascii() or letter in _LATEX_LETTERS else "?"  # else nothing would compile
    return _LATEX_SIGNS.get(letter, plain)


def csv_value(value: Value) -> Value:
    """A value as it stands in CSV: null is empty, and a text that starts like a formula has an apostrophe."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _json_value(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
