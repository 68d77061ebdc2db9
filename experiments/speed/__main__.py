"""The commands: augment, corruptions, whole-sets, pictures, evaluate."""

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from pixmix_ray.cli.console import call, out, say, tell

if TYPE_CHECKING:
    from experiments.speed import Grid

app = typer.Typer(
    help="Measure speed on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Example: python -m experiments.speed augment --size 224",
)


@app.command(
    "augment", epilog="Example: python -m experiments.speed augment --methods pixmix,augmix --size 224 --markdown"
)
def speed_augment(
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated names; default: all that change pictures and need no files.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures: 32 or 224.")] = 32,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    repeats: Annotated[int, typer.Option(help="Measurements of each, of which the median counts.")] = 5,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[
        int | None, typer.Option(help="Pictures at once; default: 512 of size 32, 32 of 224; more on cuda.")
    ] = None,
    markdown: Annotated[bool, typer.Option(help="As Markdown, for a document.")] = False,
) -> None:
    """Measure how fast the methods augment on this machine, each beside its peers in the same run."""
    from experiments.speed import SpeedRequest, augmentation_rates, heading, rates_grid

    names = [] if methods is None else [name.strip() for name in methods.split(",")]
    request = SpeedRequest.read(
        {"methods": names, "size": size, "threads": threads, "repeats": repeats, "device": device, "batch": batch},
        "speed augment",
    )
    grid = rates_grid(augmentation_rates(request, tell), size)
    _show_grid(heading(request), grid, markdown)


@app.command("corruptions", epilog="Example: python -m experiments.speed corruptions --family c --size 224 --markdown")
def speed_corruptions(
    family: Annotated[str | None, typer.Option(help="c, c_bar or p; default: all three.")] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures: 32 or 224.")] = 32,
    severity: Annotated[int, typer.Option(help="Of C and C-bar: 1 to 5.")] = 3,
    repeats: Annotated[int, typer.Option(help="Measurements of each, of which the median counts.")] = 3,
    markdown: Annotated[bool, typer.Option(help="As Markdown, for a document.")] = False,
) -> None:
    """Measure how fast test pictures are corrupted on this machine, beside installed peers in the same run."""
    from experiments.speed import CorruptionSpeedRequest, corruption_rates, corruptions_grid, corruptions_heading

    request = CorruptionSpeedRequest.read(
        {"family": family, "size": size, "severity": severity, "repeats": repeats}, "speed corruptions"
    )
    grid = corruptions_grid(corruption_rates(request, tell))
    _show_grid(corruptions_heading(request), grid, markdown)


@app.command(
    "whole-sets", epilog="Example: python -m experiments.speed whole-sets --family c --pictures 10000 --processes 2"
)
def speed_whole_sets(
    family: Annotated[str | None, typer.Option(help="c, c_bar or p; default: all three.")] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures: 32 or 224.")] = 32,
    pictures: Annotated[int, typer.Option(help="How many test pictures.")] = 10_000,
    processes: Annotated[int, typer.Option(help="How many make a set at once.")] = 2,
    markdown: Annotated[bool, typer.Option(help="As Markdown, for a document.")] = False,
) -> None:
    """Measure how long this machine takes for all of C, C-bar and P."""
    from experiments.speed.whole_sets import WholeSetsRequest, whole_set_times, whole_sets_grid, whole_sets_heading

    values = {"family": family, "size": size, "pictures": pictures, "processes": processes}
    request = WholeSetsRequest.read(values, "speed whole-sets")
    _show_grid(whole_sets_heading(request), whole_sets_grid(whole_set_times(request, tell)), markdown)


@app.command("pictures", epilog="Example: python -m experiments.speed pictures --sets dead_leaves_squares --size 224")
def speed_pictures(
    sets: Annotated[str | None, typer.Option(help="Comma-separated generators; default: all.")] = None,
    size: Annotated[int, typer.Option(help="Side of the crops that the pictures are for: 32 or 224.")] = 32,
    repeats: Annotated[int, typer.Option(help="Measurements of each, of which the median counts.")] = 3,
    markdown: Annotated[bool, typer.Option(help="As Markdown, for a document.")] = False,
) -> None:
    """Measure how fast mixing sets are drawn on one thread of this machine."""
    from experiments.speed import PictureSpeedRequest, picture_rates, pictures_grid, pictures_heading

    names = [] if sets is None else [name.strip() for name in sets.split(",")]
    request = PictureSpeedRequest.read({"sets": names, "size": size, "repeats": repeats}, "speed pictures")
    grid = pictures_grid(picture_rates(request, tell))
    _show_grid(pictures_heading(request), grid, markdown)


@app.command(
    "evaluate", epilog="Example: python -m experiments.speed evaluate --set model.depth=16 --set pictures=1000"
)
def speed_evaluate(
    model: Annotated[str, typer.Option(help="The model's name.")] = "wide_resnet",
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="model.depth=16, corruptions=[fog], severity=1, ..."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Pictures that the network alone gets at once; default: as in an evaluation.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    markdown: Annotated[bool, typer.Option(help="As Markdown, for a document.")] = False,
) -> None:
    """Measure how much of a network's own speed is left when benchmarks evaluate it on this machine."""
    from experiments.speed import EvaluationSpeedRequest, evaluation_grid, evaluation_heading, evaluation_rates

    values = {"model": model, "batch": batch, "threads": threads, "device": device}
    request = EvaluationSpeedRequest.asked(values, overrides or ())
    grid = evaluation_grid(evaluation_rates(request, tell))
    _show_grid(evaluation_heading(request), grid, markdown)


def main() -> None:
    """The entry point."""
    call(app)


def _show_grid(heading: str, grid: "Grid", markdown: bool) -> None:
    """What was measured and how."""
    say(f"{heading}\n")
    if markdown:
        print(grid.markdown())  # noqa: T201  # not wrapped to the width of the terminal
    else:
        out.print(grid.table())


if __name__ == "__main__":
    main()
