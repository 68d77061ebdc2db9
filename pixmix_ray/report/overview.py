"""What there is and what is to do: plans, results folders, tables of parts, and the rows of one evaluation."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from rich.table import Table
from rich.text import Text

from pixmix_ray.benchmarks import BENCHMARKS, Benchmark
from pixmix_ray.experiment.axes import axes_of
from pixmix_ray.experiment.described import settings_of
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.external import External
from pixmix_ray.metrics import DIRECTIONS, UNITS, Measurement, declare, direction
from pixmix_ray.planning.durations import Durations, cost
from pixmix_ray.planning.status import Status
from pixmix_ray.plugins import Part
from pixmix_ray.plugins import Table as Parts
from pixmix_ray.report.usage import duration
from pixmix_ray.settings import Settings

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Plan, State

T = TypeVar("T")
MOST_ROWS = 1000  # of a table of trials: a row costs a millisecond, and nobody reads ten thousand
LEFT_OUT: dict[State, str] = {"failed": "failed", "stopped": "stopped early"}


def plan_table(plan: Plan) -> Table:
    """A row a checkpoint: its state, and how many of its cells are done; of very many those with something to do."""
    table = Table()
    for header in ("trial", "id", "epochs", "training", "cells done"):
        table.add_column(header, no_wrap=True)
    cells_of: dict[str, list[str]] = {source.id: [] for source in plan.sources}
    for cell, state in plan.cells.items():
        cells_of[cell.trial.id].append(state)
    shown = _few(plan.sources, table, lambda source: set(cells_of[source.id]) == {"done"})
    for source in shown:
        cells = cells_of[source.id]
        if isinstance(source, External):
            training = "–", "external"
        else:
            training = str(source.training.epochs), plan.trials[source]
        rest = "".join(f", {cells.count(of)} {word}" for of, word in LEFT_OUT.items() if of in cells)
        done = f"{cells.count('done')} of {len(cells)}{rest}"
        table.add_row(Text(source.label), Text(source.id), *training, done)
    return table


def _few(trials: Collection[T], table: Table, is_done: Callable[[T], bool]) -> Iterable[T]:
    """The trials to show; of more than `MOST_ROWS` the first that are not done, and the table says how many others."""
    if len(trials) <= MOST_ROWS:
        return trials
    shown = list(itertools.islice((trial for trial in trials if not is_done(trial)), MOST_ROWS))
    table.caption = f"and {len(trials) - len(shown)} more{'' if len(shown) == MOST_ROWS else ', which are done'}"
    return shown


def axes_lines(plan: Plan) -> list[str]:
    """A line for each axis of the grid with its values, and one for how many trials come of them; none without axes."""
    experiment = plan.experiment
    if experiment.search is not None:
        suggested = len(plan.trials) // len(experiment.seeds)
        most, axes = experiment.search.num_trials, ", ".join(experiment.search.space)
        repeated = "" if suggested == most else "; one that is suggested again counts, too"
        return [f"search over {axes}: {suggested} of at most {most} points suggested{repeated}"]
    points = experiment.points()
    lines = [f"axis {path}: {', '.join(values)}" for path, values in axes_of(points).items()]
    together = [f"zip: {', '.join(group)}" for group in experiment.zip]
    same = "" if len(points) == len(plan.trials) else f", {len(points) - len(plan.trials)} points duplicate others"
    return [*lines, *together, f"grid: {len(plan.trials)} trials{same}"] if lines else []


def pictures_notes(experiment: Experiment, part: Part[Benchmark]) -> list[str]:
    """What the pictures that a benchmark makes take in the cache of each machine, a line for each size of picture."""
    benchmark = part.settings
    keep_gb = getattr(benchmark, "keep_gb", 0)
    lines = []
    for side in dict.fromkeys(dataset.settings.height() for dataset in experiment.dataset):
        if side is None or not keep_gb or not (nbytes := benchmark.bytes_made(side)):
            continue
        size, total = f"{nbytes / 1e6:.3g} MB for each test picture", nbytes * (benchmark.limit or 0) / 1e9
        if total:
            size = f"up to {total:.2g} GB"
        where = f"pictures of {side} pixels are made once per machine and cached: {size}; keep_gb is {keep_gb:g}"
        if total > keep_gb:
            where = (
                f"pictures of {side} pixels take {size}, and keep_gb is {keep_gb:g}: without room they are made "
                "again for each checkpoint; raise keep_gb"
            )
        lines.append(where)
    return lines


def counts_line(plan: Plan) -> str:
    """How many trials and cells are done, missing and failed, and what is left to pay."""
    lines = [f"trials: {_counted(plan.trials.values())}"] if plan.trials else []
    lines += [f"checkpoints from elsewhere: {len(plan.checkpoints)}"] if plan.checkpoints else []
    return "\n".join([*lines, f"cells: {_counted(plan.cells.values())}", ""]) + (
        "nothing left to do" if not plan.cells_to_run() else f"work left: {_cost(plan)}"
    )


def _counted(states: Iterable[str]) -> str:
    counts = Counter(states)
    names = ["done", "missing", "failed", *(["stopped early"] if counts["stopped"] else [])]
    listed = ", ".join(f"{counts[name.split()[0]]} {name}" for name in names)
    return f"{sum(counts.values())} ({listed})"


def _cost(plan: Plan) -> str:
    left = cost(plan, Durations.of(plan.store, plan.experiment.resources))
    seconds_of = {"evaluation": left.evaluation}
    if plan.trials_to_run():
        seconds_of = {"training": left.training, **seconds_of}
    known = [f"{what} {duration(seconds)}" for what, seconds in seconds_of.items() if seconds is not None]
    unknown = [what for what, seconds in seconds_of.items() if seconds is None]
    if unknown:
        known.append(f"{' and '.join(unknown)} unknown, as nothing similar was measured on this machine")
    return ", ".join(known)


def status_table(status: Status) -> Table:
    """A row a trial: how far it is, how many of its cells are measured; of very many only those that are not done."""
    table = Table()
    labels = any(trial.label for trial in status.trials)
    for header in ("trial", "id") if labels else ("trial",):
        table.add_column(header, no_wrap=True)
    table.add_column("training")
    table.add_column("cells done", justify="right")
    table.add_column("cells failed", justify="right")
    for trial in _few(status.trials, table, lambda trial: trial.state == "done" and not trial.cells_failed):
        done = str(trial.cells_done) + ("" if trial.cells_planned is None else f" of {trial.cells_planned}")
        names = [Text(trial.label), trial.trial_id] if labels else [trial.trial_id]
        table.add_row(*names, trial.state, done, str(trial.cells_failed))
    return table


def parts_table(parts: Parts[Any]) -> Table:
    """A row a name: what it is, its settings with their defaults, where it comes from."""
    table = Table(show_lines=True)
    for header in ("name", "what it is", "settings (default)", "source"):
        table.add_column(header, no_wrap=header == "name")
    for name, part in sorted(parts.known().items()):
        described = (name, getattr(part, "summary", ""), _settings(part), getattr(part, "source", ""))
        table.add_row(*map(Text, described))
    return table


def _settings(part: Any) -> str:
    fields = part.model_fields.items()
    return "\n".join(f"{name} ({'required' if of.is_required() else _default(of)})" for name, of in fields)


def default_of(field: Any) -> Any:
    """The default of a setting, where it follows from others as it is without them."""
    return field.get_default(call_default_factory=True, validated_data={})


def _default(of: Any) -> str:
    value = default_of(of)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def measurements_in(rows: pd.DataFrame) -> list[Measurement]:
    """Rows of one cell as measurements."""
    names = [field.name for field in fields(Measurement)]
    values = rows[names].astype(object).where(rows[names].notna(), None)
    return [Measurement(**{str(name): value for name, value in row.items()}) for row in values.to_dict("records")]


def measurements_table(name: str, measurements: Iterable[Measurement]) -> Table:
    """The aggregates of one benchmark and its conditions, without single severities."""
    table = Table(title=Text(name), title_justify="left", caption="percent, where no other unit is given")
    for header in ("metric", "condition", "value", "±", "n"):
        table.add_column(header, justify="left" if header in ("metric", "condition") else "right")
    for row in sorted(measurements, key=lambda row: row.condition != ""):
        if row.severity is None:
            arrow = "↓" if direction(row.metric) == "lower" else "↑"
            factor, unit = (1, f", {UNITS[row.metric]}") if row.metric in UNITS else (100, "")
            spread = "" if row.standard_error is None else f"{factor * row.standard_error:.2f}"
            value = f"{factor * row.value:.2f}"
            table.add_row(f"{row.metric} {arrow}{unit}", row.condition, value, spread, str(row.n))
    return table


def part_lines(name: str, kind: type[Settings]) -> list[str]:
    """What a part is, and its source."""
    summary, source = getattr(kind, "summary", ""), getattr(kind, "source", "")
    return [f"{name}: {summary}", *([f"source: {source}"] if source else [])]


def settings_table(kind: type[Settings]) -> Table:
    """A row for each setting of a part."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("setting", "default", "allowed", "meaning"):
        table.add_column(header, overflow="fold", no_wrap=header == "setting")
    for setting in settings_of(kind):
        table.add_row(*map(Text, (setting.name, setting.default or "must be given", setting.range, setting.meaning)))
    return table


def metrics_table() -> Table:
    """A row a metric: its direction, its unit, and the benchmarks that have it as a headline."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for header in ("metric", "better", "unit", "headline of"):
        table.add_column(header, overflow="fold", no_wrap=header == "metric")
    headlines: dict[str, list[str]] = {}
    for benchmark, kind in BENCHMARKS.known().items():
        declare(kind.metrics)
        for metric in kind.headline:
            headlines.setdefault(metric, []).append(benchmark)
    for name, of in DIRECTIONS.items():
        table.add_row(name, of, UNITS.get(name, "fraction"), ", ".join(headlines.get(name, ())))
    return table
