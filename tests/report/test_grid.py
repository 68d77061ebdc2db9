"""One table in every format: each read back by something else, and names of somebody hostile run nothing."""

import csv
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pixmix_ray.errors import UnknownNameError
from pixmix_ray.report.grid import Cell, Column, Grid, grid_of
from pixmix_ray.report.paper import paper_grid

HOSTILE = (
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "a|b_c%d$e{f}~g^h#&",
    "[red]x\x1b[2J",
    "naïve «α» 日本 <|>",
)


def hostile() -> Grid:
    columns = (
        Column(key="method", header=("method",), is_number=False),
        Column(key="a", header=("Corruptions", "C", "mCE ↓")),
        Column(key="b", header=("Corruptions", "C", "mFR ↓")),
    )
    rows = tuple(
        (
            Cell(text=name, value=name),
            Cell(text="1.0 ± 0.1", value=0.01, mark="best"),
            Cell(text="–", value=float("nan")),
        )
        for name in HOSTILE
    )
    return Grid(columns=columns, rows=rows, caption="percent", title="C\u0304 & more", legend=(("best", "best"),))


def test_csv_and_json_hold_the_values_and_formulas_are_texts() -> None:
    rows = list(csv.DictReader(io.StringIO(hostile().text("csv"))))
    assert [row["method"] for row in rows] == [f"'{HOSTILE[0]}", *HOSTILE[1:]]
    assert [(row["a"], row["b"]) for row in rows] == [("0.01", "")] * len(HOSTILE)
    assert hostile().values()["rows"][0] == {"method": HOSTILE[0], "a": 0.01, "b": None}


def test_markup_in_names_is_text_in_markdown_html_and_the_terminal() -> None:
    markdown = hostile().text("markdown")
    assert "<script>" not in markdown and r"a\|b_c%d$e{f}~g^h#&" in markdown
    assert all(line.replace("\\|", "").count("|") == 4 for line in markdown.splitlines() if line.startswith("|"))
    html = hostile()._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "<b>1.0 ± 0.1</b>" in html
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    console.print(hostile().terminal())
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    assert "\x1b[2J" not in shown and "[red]x" in shown


def test_latex_escapes_names_and_joins_headers() -> None:
    latex = hostile().text("latex")
    assert r"\input" not in latex and r"\textbackslash{}input\{/etc/passwd\}" in latex
    assert r"\multicolumn{2}{c}{Corruptions}" in latex and r"\cmidrule(lr){2-3}" in latex
    assert r"\textbf{1.0 $\pm$ 0.1}" in latex and r"\caption{$\bar{\mathrm{C}}$ \& more. percent; bold: best}" in latex
    assert r"naïve ??? ?? \textless{}\textbar{}\textgreater{}" in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles_as_it_is(tmp_path: Path) -> None:
    narrow = hostile()
    wide = Grid(columns=narrow.columns * 3, rows=tuple(row * 3 for row in narrow.rows), breaks=frozenset({0}))
    tables = "\n".join(grid.text("latex") for grid in (narrow, wide, *map(paper_grid, range(1, 16))))
    start = r"\documentclass[twocolumn]{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{start}\n{tables}\n\\end{{document}}\n")
    ran = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_a_data_frame_becomes_a_table_and_comes_back() -> None:
    assert grid_of(pd.DataFrame({"list": [np.array([1, 2])]})).rows[0][0].text == "[1, 2]"
    frame = pd.DataFrame({"name": ["a", None], "value": [0.123456789, float("nan")], "count": [3, 4]})
    grid = grid_of(frame)
    assert [[cell.text for cell in row] for row in grid.rows] == [["a", "0.123457", "3"], ["", "", "4"]]
    assert [column.is_number for column in grid.columns] == [False, True, True]
    pd.testing.assert_frame_equal(grid.frame(), frame.astype({"name": object}), check_dtype=False)


def test_intervals_are_columns_of_their_own_for_programs() -> None:
    columns = (Column(key="method", header=("method",), is_number=False), Column(key="error", header=("error",)))
    rows = (
        (Cell(text="a", value="a"), Cell(text="10.0 ± 1.0", value=0.1, interval=(0.09, 0.11))),
        (Cell(text="b", value="b"), Cell(text="20.0", value=0.2)),
    )
    grid = Grid(columns=columns, rows=rows)
    assert grid.text("csv") == "method,error,error.low,error.high\na,0.1,0.09,0.11\nb,0.2,,"
    assert grid.values()["rows"][1] == {"method": "b", "error": 0.2, "error.low": None, "error.high": None}
    assert grid.frame().columns.tolist() == ["method", "error", "error.low", "error.high"]
    assert (
        Grid(columns=columns, rows=()).text("csv") == "method,error"
        and Grid(columns=columns, rows=()).values()["rows"] == []
    )


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown format 'cvs', did you mean 'csv'"):
        hostile().text("cvs")
