"""Rates for people: where and how they were measured, and a table for the terminal or for a document."""

from collections.abc import Sequence
from importlib.metadata import version

from experiments.speed.augment import Rate, SpeedRequest
from experiments.speed.document import Grid, processors, rate_text, ratio_text, today, versions
from experiments.speed.material import KINDS, PADDING
from experiments.speed.peers import PICTURES_IN_TURN, has_kornia

COLUMNS = ("method", "size", "ours, pictures/s", "peer", "peer, pictures/s", "ratio")
LIBRARIES = ("torch", "torchvision", "numpy", "pillow")


def heading(request: SpeedRequest) -> str:
    """How the rates were measured: command, hardware, versions, pictures and what is timed, in Markdown."""
    kind = KINDS[request.size]
    kornia = f"kornia {version('kornia')}" if has_kornia() else "kornia not installed, so not compared"
    resized = "" if request.size == 32 else " No RandomResizedCrop on either side."
    return (
        f"`{command(request)}`: {processors(request.device, request.threads)}; {versions(LIBRARIES)}, {kornia}; "
        f"{today()}. Medians of {request.repeats}, ours and its peers in turn; batches of "
        f"{request.pictures_at_once} crops of {kind.fractals} generated fractals, in memory. Timed on both sides: "
        f"flip, crop with padding {PADDING}, augmentation, normalisation, random draws, and all views of a picture "
        f"where a loss compares views; no data loader.{resized} What goes picture by picture gets {PICTURES_IN_TURN} "
        "of them at most, with Pillow on one thread of the processor. The files of the PixMix peer are JPEGs of "
        f"{kind.jpeg_side} pixels. Peers marked * draw less: torchvision v2 flips, crops and erases a whole batch "
        "alike, kornia takes the same operations of a policy for all of it."
    )


def command(request: SpeedRequest) -> str:
    """The command that measures the same again."""
    chosen = ["--methods", ",".join(request.methods)] if request.methods else []
    options = {name: getattr(request, name) for name in ("size", "threads", "repeats", "device")}
    options["batch"] = request.pictures_at_once
    rest = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return " ".join(["python -m experiments.speed augment", *chosen, *rest])


def rates_grid(rates: Sequence[Rate], size: int) -> Grid:
    """A row for each method and peer."""
    rows = [
        (
            rate.method,
            str(size),
            rate_text(rate.ours),
            rate.peer or "-",
            rate_text(rate.theirs),
            ratio_text(rate.ratio),
        )
        for rate in rates
    ]
    return Grid(columns=COLUMNS, numbers=frozenset({2, 4, 5}), rows=tuple(rows))
