"""The rates of evaluation for people: how they were measured, and a grid of benchmarks beside the network alone."""

import shlex
from collections.abc import Sequence

from experiments.speed.document import Grid, processors, rate_text, today, versions
from experiments.speed.evaluate import EvaluationRate, EvaluationSpeedRequest
from experiments.speed.material import KINDS

COLUMNS = ("benchmark", "evaluated, pictures/s", "network alone, pictures/s", "share of it, %")
LIBRARIES = ("torch", "numpy", "scipy")


def evaluation_heading(request: EvaluationSpeedRequest) -> str:
    """How the rates were measured: command, hardware, versions, network and pictures, in Markdown."""
    return (
        f"`{evaluation_command(request)}`: {processors(request.device, request.threads)}; {versions(LIBRARIES)}; "
        f"{today()}. Medians of {request.repeats}, in turn. {request.model.settings.label()} with fresh weights; "
        f"{request.pictures} crops of {KINDS[request.size].fractals} generated fractals of {request.size} pixels, in "
        f"memory; the network alone gets them as floats on its device, {request.batch_alone} at once. A benchmark "
        f"corrupts them on the spot, at severity {request.severity}; each corrupted copy counts as a picture."
    )


def evaluation_command(request: EvaluationSpeedRequest) -> str:
    """The command that measures the same again."""
    options = {"model": request.model.name, "batch": request.batch_alone}
    options |= {name: getattr(request, name) for name in ("threads", "device")}
    model = request.model.settings.model_dump(mode="json", exclude_defaults=True)
    sets = {f"model.{name}": value for name, value in model.items()}
    sets |= {name: getattr(request, name) for name in ("size", "pictures", "severity", "repeats")}
    sets["corruptions"] = f"[{','.join(request.corruptions)}]"
    words = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    words += [text for key, value in sets.items() for text in ("--set", f"{key}={value}")]
    return shlex.join(["python", "-m", "experiments.speed", "evaluate", *words])


def evaluation_grid(rates: Sequence[EvaluationRate]) -> Grid:
    """A row for each benchmark."""
    rows = [(rate.benchmark, rate_text(rate.rate), rate_text(rate.alone), f"{100 * rate.share:.1f}") for rate in rates]
    return Grid(columns=COLUMNS, numbers=frozenset({1, 2, 3}), rows=tuple(rows))
