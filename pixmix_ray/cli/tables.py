"""table, pareto, certainty: what was measured, how surely, and which methods nothing dominates."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from pixmix_ray.cli.console import Objectives, Output, Results, grouping_options, say, tell
from pixmix_ray.cli.selection import Selection
from pixmix_ray.errors import RequestError

if TYPE_CHECKING:
    from pixmix_ray.report.grid import Grid
    from pixmix_ray.results import Results as Opened

commands = typer.Typer()


@commands.command("table", epilog="Example: pixmix-ray table results/quickstart --format latex")
@grouping_options
def show_table(
    results: Annotated[str | None, typer.Argument(metavar="RESULTS", help="A results folder or URI.")] = None,
    objectives: Objectives = None,
    paper: Annotated[
        str | None,
        typer.Option(metavar="N", help="Table 1 to 15 or figure4 of the paper, with the published values beside ours."),
    ] = None,
    across: Annotated[
        str | None, typer.Option(help="With --paper: what may differ from the paper, of dataset,model,mixing_set.")
    ] = None,
    *,
    selection: Selection,
    output: Output,
) -> None:
    """Show methods by safety measures with 95 % intervals, or a table of the paper beside your results."""
    if paper is not None:
        if objectives is not None:
            raise RequestError(f"--objectives {objectives}: a table of the paper has its own: leave it or --paper out")
        _show_paper(results, paper, across, output, selection)
        return
    if across is not None:
        raise RequestError(f"--across {across}: it is for tables of the paper: give --paper N too")
    if results is None:
        raise RequestError("table needs a results folder, or --paper N for a table of the paper")
    opened = selection.open(results)
    names = split_names(objectives)
    for label in _labels(opened, selection.variant, output):
        _show_part(opened.table(names, variant=label), label, output)
    tell_versions(opened)


@commands.command(epilog="Example: pixmix-ray pareto results/quickstart --objectives clean.error,corruptions.mce")
@grouping_options
def pareto(
    results: Results,
    objectives: Objectives = None,
    epsilon: Annotated[
        float, typer.Option(min=0, help="Also keep what is behind by less than this many percentage points.")
    ] = 0.0,
    *,
    selection: Selection,
    output: Output,
) -> None:
    """Show which methods are on the Pareto front, how certain that is, and what dominates the others."""
    from pixmix_ray.report.fronts import front_grid, front_notes

    opened = selection.open(results)
    for label in _labels(opened, selection.variant, output):
        judged = opened.judged(split_names(objectives), variant=label)
        _show_part(front_grid(judged, epsilon / 100), label, output, front_notes(judged))
    tell_versions(opened)


@commands.command(epilog="Example: pixmix-ray certainty results/quickstart --objectives clean.error,corruptions.mce")
@grouping_options
def certainty(
    results: Results,
    objectives: Objectives = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Show for each pair how certain it is that one dominates, or is better.")
    ] = False,
    *,
    selection: Selection,
    output: Output,
) -> None:
    """Show how certain each value is, and how much of the uncertainty comes from seeds and from pictures."""
    from pixmix_ray.report.grid import grid_of

    opened = selection.open(results)
    for label in _labels(opened, selection.variant, output):
        found = opened.certainty(split_names(objectives), pairs=pairs, variant=label)
        caption = "fractions; 95 % intervals; shares of 1,000 draws of pictures and seeds"
        _show_part(grid_of(found, caption), label, output)


def split_names(text: str | None) -> list[str] | None:
    """The names in a comma-separated list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _show_part(grid: "Grid", label: str | None, output: Output, notes: Sequence[str] = ()) -> None:
    """A table of one part, below the part's name."""
    if label and not output.json:
        say(f"\n{label}" if output.is_for_people else "")
    output.show(replace(grid, title=label) if label and not output.is_for_people else grid, notes)


def _labels(opened: "Opened", variant: str | None, output: Output) -> list[str | None]:
    """The parts to show, each for itself: all, or the one that was asked for; for programs there must be one."""
    if variant is not None or output.is_one_table:
        return [opened.part(variant).label or None]
    labels = [part.label or None for part in opened.parts]
    if len(labels) > 1:
        tell(f"{len(labels)} groups of results differ in benchmark settings or data: --variant TEXT shows one alone")
    return labels


def tell_versions(opened: "Opened") -> None:
    """Warn of measurements by several versions of the code."""
    from pixmix_ray.analysis.pareto import code_versions

    for line in code_versions(opened.measurements):
        tell(line)


def _show_paper(results: str | None, paper: str, across: str | None, output: Output, selection: Selection) -> None:
    """A table of the paper, and below it how ours were made otherwise."""
    from pixmix_ray.analysis.published import parse_across
    from pixmix_ray.report.paper import paper_grid

    settings = parse_across(across)
    if results is None:
        output.show(paper_grid(paper))
        return
    opened = selection.open(results)
    output.show(paper_grid(paper, opened.store, opened.part(selection.variant).frame, settings))
