"""query, compare, explain: questions to results."""

from typing import Annotated

import typer

from pixmix_ray.cli.console import Objectives, Output, Results, grouping_options, say, tell
from pixmix_ray.cli.selection import Selection
from pixmix_ray.cli.tables import split_names

commands = typer.Typer()

MOST_ROWS = 500  # on a terminal, where more take minutes to lay out


@commands.command(
    epilog="Example: pixmix-ray query results/quickstart "
    "\"select method, value from measurements where metric = 'mce' and condition = ''\""
)
@grouping_options
def query(
    results: Results,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SQL statement.", show_default=False)],
    *,
    output: Output,
) -> None:
    """Query results in SQL; the tables are measurements, predictions, trials, failures and published."""
    from pixmix_ray.analysis.sql import query as asked
    from pixmix_ray.report.grid import grid_of
    from pixmix_ray.storage.store import Store

    found = asked(Store(results), sql)
    shown = found.head(MOST_ROWS) if output.is_for_people else found
    output.show(grid_of(shown))
    if len(shown) < len(found):
        tell(f"the first {len(shown)} of {len(found):,} rows: --format csv has all")


@commands.command(epilog="Example: pixmix-ray compare results/before results/after")
@grouping_options
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A results folder or URI.", show_default=False)],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The results folder or URI to compare with A.", show_default=False)
    ],
    objectives: Objectives = None,
    trials: Annotated[bool, typer.Option("--trials", help="Trial by trial, a seed with the same seed.")] = False,
    *,
    selection: Selection,
    output: Output,
) -> None:
    """Show what changed between two results folders, and which changes are significant."""
    from pixmix_ray.analysis.comparison import Side
    from pixmix_ray.analysis.comparison import compare as compared
    from pixmix_ray.report.changes import changes_grid, changes_notes

    opened = [selection.open(uri) for uri in (first, second)]
    parts = [one.part(selection.variant) for one in opened]
    sides = [Side(store=one.store, frame=part.frame) for one, part in zip(opened, parts, strict=True)]
    before, after = (side.by_trial() for side in sides) if trials else sides
    names = split_names(objectives)
    asked = [one.objectives(part, names) for one, part in zip(opened, parts, strict=True)]
    found = compared(before, after, [name for name in asked[0] if name in asked[1]])
    output.show(changes_grid(found), changes_notes(found))


@commands.command(epilog="Example: pixmix-ray explain corruptions.mce")
@grouping_options
def explain(
    metric: Annotated[str, typer.Argument(help="A metric, or benchmark.metric.", show_default=False)],
    results: Annotated[
        str | None, typer.Argument(metavar="RESULTS", help="Also describe its values in these results.")
    ] = None,
    *,
    output: Output,
) -> None:
    """Explain a metric: definition, formula, normaliser, averages, and where published code differs."""
    import pandas as pd

    from pixmix_ray.analysis.explanations import explain as explained
    from pixmix_ray.report.grid import grid_of

    measurements = None
    if results is not None:
        from pixmix_ray.storage.index import read

        measurements = read(results)
    lines = explained(metric, measurements)
    if output.is_for_people:
        for heading, text in lines:
            say(f"{heading + ':':<16}{text}")
    else:
        output.show(grid_of(pd.DataFrame(lines, columns=["about", "text"])))
