"""The published figures beside ours, for people: a row a figure, in the paper's units.

The input is the frame of `pixmix_ray.analysis.published.beside_published`. What all rows share is said once, above the
table; a dash stands where one of the two has no figure, so nothing that was asked for is left out.
"""

from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from pixmix_ray.analysis.published import WHO

_ABSENT = "–"
_UNITS = {"percent": "percent", "percent_of_alexnet": "percent of AlexNet's", "distance": "ranks"}
_HEADERS = {"mixing_set": "mixing set", "beta": "β", "table": "table"}
_NUMBERS = ("published", "ours", "difference")


def published_table(pairs: pd.DataFrame) -> Table:
    """The pairs as a table for a terminal."""
    header, rows = _cells(pairs)
    table = Table(title=shared(pairs), title_justify="left", caption=counts(pairs), caption_justify="left")
    for name in header:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def published_markdown(pairs: pd.DataFrame) -> str:
    """The same as Markdown."""
    header, rows = _cells(pairs)
    rules = ["---:" if name in _NUMBERS else ":---" for name in header]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rules, *rows)]
    return "\n".join([shared(pairs), "", *lines, "", counts(pairs)])


def shared(pairs: pd.DataFrame) -> str:
    """What all rows have in common: "Table 4; dataset cifar100, model wrn_40_4; percent"."""
    same = [name for name in WHO if name not in _varying(pairs)]
    texts = [f"{_HEADERS.get(name, name)} {_text(pairs[name].iloc[0])}" for name in same if pairs[name].notna().all()]
    tables = sorted({int(number) for text in pairs["table"] for number in text.split(", ") if number})
    units = ", ".join(_UNITS[unit] for unit in pairs["unit"].unique())
    named = f"Table{'s' if len(tables) > 1 else ''} {', '.join(map(str, tables))}"
    return "; ".join(part for part in (named, ", ".join(texts), units) if part)


def counts(pairs: pd.DataFrame) -> str:
    """How many figures have a counterpart: "48 published, 6 of them beside ours; 2 of ours have none published"."""
    has_published, has_ours = pairs["published"].notna(), pairs["ours"].notna()
    both, alone = int((has_published & has_ours).sum()), int((~has_published).sum())
    return f"{int(has_published.sum())} published, {both} of them beside ours; {alone} of ours without a published one"


def _cells(pairs: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows of texts."""
    varying = _varying(pairs)
    header = [*(_HEADERS.get(name, name) for name in varying), "measure", *_NUMBERS]
    rows = []
    for row in pairs.to_dict("records"):
        measure = f"{row['benchmark']}.{row['metric']}" + (f" {row['condition']}" if row["condition"] else "")
        decimals = 2 if row["unit"] == "distance" else 1
        error = _number(row["standard_error"], decimals)
        ours = _number(row["ours"], decimals) + ("" if error == _ABSENT else f" ± {error}")
        published = _number(row["published"], 1)  # as printed
        difference = _number(row["difference"], decimals, sign="+")
        rows.append([*(_text(row[name]) for name in varying), measure, published, ours, difference])
    return header, rows


def _varying(pairs: pd.DataFrame) -> Sequence[str]:
    """The columns that tell rows apart; the table is one if there are several."""
    return [name for name in ("table", *WHO) if pairs[name].nunique(dropna=False) > 1]


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value or value == "":
        return _ABSENT
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float, decimals: int, sign: str = "") -> str:
    return _ABSENT if value != value else f"{value:{sign}.{decimals}f}"
