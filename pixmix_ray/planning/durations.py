"""How long trials, cells and whole runs take, in seconds at their share of the machine: the one place that knows.

What this run measures comes first, then what lies in the results folder, then what was measured on this machine with
the same shares, whatever folder it was for. The last is a small file in the cache, which is a memory aid: damaged or
missing, it costs an estimate and no more. With a cluster elsewhere it is that of the machine where the command runs.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from pixmix_ray.cache import cache_folder, check_owner, private_folder
from pixmix_ray.errors import DataError, ResultsError
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.storage.index import cell_seconds
from pixmix_ray.storage.store import Store

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Cell, Plan

FILE = "durations.json"
KEPT = 20  # of each kind, on this machine
NEWEST = 9  # cells of each benchmark in this run
SAMPLE = 100  # trials of a method whose files are read for what epochs took: more change a mean by a few percent
PICTURES = 10_000  # of a test set, where a benchmark has no limit: only ratios matter
WORTH = 1.1  # keeping a share free may make a run longer by a tenth, for results that come while it trains
BESIDE, START = "a trial beside its epochs", "the start of a run"


class Durations:
    """What is known of durations when a run begins, and what it measures."""

    def __init__(self, known: Mapping[str, float] | None = None) -> None:
        """Without measurements of this run; `known` are means of earlier ones, by the keys of this module."""
        self._known = dict(known or {})
        self._measured: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    @classmethod
    def of(cls, store: Store, resources: Resources) -> Durations:
        """What is known from a results folder, and on this machine with the same shares."""
        found: dict[str, list[float]] = _read(resources)
        for key in list(found):
            if (any_method := _any_method(key)) is not None:
                found.setdefault(any_method, []).extend(found[key])
        return cls({key: sum(values) / len(values) for key, values in {**found, **_history(store)}.items() if values})

    @property
    def start(self) -> float:
        """From the beginning of a run until its first trial runs."""
        return self._known.get(START, 0.0)

    def trial(self, trial: Trial) -> float | None:
        """Of a whole trial, by the same method, data set and model, else by all of that data set and model."""
        for key in (epoch_key(trial.settings, trial.method.name), epoch_key(trial.settings, "")):
            if key in self._known:
                return self._known.get(BESIDE, 0.0) + self._known[key] * trial.training.epochs
        return None

    def cell(self, cell: Cell) -> float | None:
        """Of a cell, by the same benchmark with the same settings.

        Of what this run measured it is the median: the first cell of each worker pays for its imports.
        """
        if measured := self._measured.get(cell.run.settings_text):
            return median(list(measured)[-NEWEST:])
        return self._known.get(cell.run.settings_text)

    def add_epoch(self, trial: Trial, seconds: float) -> None:
        """An epoch of a trial took so long."""
        self._measured[epoch_key(trial.settings, trial.method.name)].append(seconds)

    def add_trial(self, seconds: float) -> None:
        """A trial took so long beside its epochs."""
        self._measured[BESIDE].append(seconds)

    def add_start(self, seconds: float) -> None:
        """It took so long until the first trial ran."""
        self._measured[START].append(seconds)

    def add_cell(self, cell: Cell, seconds: float) -> None:
        """A cell took so long."""
        self._measured[cell.run.settings_text].append(seconds)

    def save(self, resources: Resources) -> None:
        """Keep what this run measured for others on this machine, beside the newest of theirs."""
        before = _read(resources)
        joined = {key: [*before.get(key, []), *self._measured.get(key, [])] for key in {**before, **self._measured}}
        kept = {key: values[-KEPT:] for key, values in joined.items()}
        with suppress(OSError, DataError):  # a cache that cannot be written, or is somebody else's
            private_folder(cache_folder())
            Store(cache_folder()).write_json(FILE, {**_content(), resources.model_dump_json(): kept})

    def longest_first(self, trials: Iterable[Trial]) -> list[Trial]:
        """Trials by how long they are expected to take; an epoch of one that is not known is taken for the mean."""
        known = [(trial, self.trial(trial)) for trial in trials]
        epochs = sum(trial.training.epochs for trial, seconds in known if seconds is not None)
        an_epoch = sum(seconds for _, seconds in known if seconds is not None) / epochs if epochs else 1.0
        expected = {t: an_epoch * t.training.epochs if seconds is None else seconds for t, seconds in known}
        return sorted(
            expected, key=lambda trial: -expected[trial]
        )  # stable: equals stay in the order of the experiment

    def relative(self, cells: Iterable[Cell]) -> dict[str, float]:
        """By key of the benchmark what its cells take beside others: known seconds, else by passes of the network."""
        of = {cell.run.key: (self.cell(cell), _passes(cell)) for cell in cells}
        seconds = sum(known for known, _ in of.values() if known is not None)
        passes = sum(passes for known, passes in of.values() if known is not None)
        a_pass = seconds / passes if seconds else 1.0
        return {key: a_pass * passes if known is None else known for key, (known, passes) in of.items()}


def epoch_key(settings: Mapping[str, object], method: str) -> str:
    """What the duration of an epoch goes by: data set, model and method, or "" for any method."""
    return json.dumps([settings["dataset"], settings["model"], method], sort_keys=True)


def _any_method(key: str) -> str | None:
    """The key of epochs of the same data set and model by whatever method; none of a key of anything else."""
    if not key.startswith("["):
        return None
    return json.dumps([*json.loads(key)[:2], ""], sort_keys=True)


def _passes(cell: Cell) -> float:
    settings = cell.run.benchmark.settings
    return settings.passes * (settings.limit or PICTURES)


def _read(resources: Resources) -> dict[str, list[float]]:
    """What was measured on this machine with these shares; nothing if nothing was, or the file makes no sense."""
    try:
        found = _content().get(resources.model_dump_json(), {})
        return {str(key): [float(seconds) for seconds in values] for key, values in found.items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _content() -> dict[str, Any]:
    with suppress(ResultsError, DataError, OSError):
        check_owner(cache_folder())
        return Store(cache_folder()).read_json(FILE) or {}
    return {}


def _history(store: Store) -> dict[str, list[float]]:
    """What epochs of trials done in a results folder took, and its cells by settings of the benchmark."""
    found: dict[str, list[float]] = defaultdict(list)
    for done in _trials_done(store):
        with suppress(KeyError, TypeError):  # a damaged file of any trial tells no duration, no more
            for method in (done["settings"]["method"]["name"], ""):
                found[epoch_key(done["settings"], method)] += done["epoch_seconds"]
    for settings, seconds in cell_seconds(store):
        found[settings].append(seconds)
    return found


def _trials_done(store: Store) -> Iterator[dict[str, Any]]:
    """What trials wrote when they were done, of at most `SAMPLE` trials of each method, evenly spaced."""
    by_method: dict[str, list[str]] = defaultdict(list)
    for path in sorted(store.files("trials")):
        if path.endswith("/done.json"):
            by_method[path.split("/")[1].rpartition("-")[0]].append(path)
    for paths in by_method.values():
        for place in np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).round().astype(int):
            with suppress(ResultsError):  # what cannot be read tells no duration, no more
                yield store.read_json(paths[place]) or {}


@dataclass(frozen=True, kw_only=True)
class Slots:
    """How many trials and cells run at once.

    Attributes:
        trials: if one evaluation's share is kept free.
        trials_alone: if none is.
        tasks: evaluations, if no trial trains.
    """

    trials: int
    trials_alone: int
    tasks: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is decided and expected before a run begins.

    Attributes:
        keeps_evaluation_share: whether one evaluation's share is kept free while trials train.
        seconds: how long the run will take; None if something in it was never measured.
        work: seconds of all its trials and cells, likewise.
    """

    keeps_evaluation_share: bool = True
    seconds: float | None = None
    work: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimated seconds of what is left, each trial and cell at its share of the machine.

    Attributes:
        training: of all trials; None if nothing like one of them was ever measured.
        evaluation: of all cells, likewise.
        longest: of the longest trial and the longest cell together, as far as they are known.
    """

    training: float | None
    evaluation: float | None
    longest: float


def cost(plan: Plan, durations: Durations) -> Cost:
    """What a plan lacks, in seconds of work."""
    trials = [durations.trial(trial) for trial in plan.trials_to_run()]
    cells = [durations.cell(cell) for cell in plan.cells_to_run()]
    longest = sum(max((value or 0.0 for value in values), default=0.0) for values in (trials, cells))
    return Cost(training=_total(trials), evaluation=_total(cells), longest=longest)


def forecast(plan: Plan, durations: Durations, slots: Slots) -> Forecast:
    """The forecast of a run.

    Ray Tune keeps the process of a trial that ended for the next, and with it the share, so a share that was lent to a
    trial does not come back before the trials run out. It is therefore lent for the whole run or not at all: where
    evaluation is so little that a share kept for it would be idle most of the time, and the run a tenth longer.
    """
    left = cost(plan, durations)
    if left.training is None or left.evaluation is None or slots.trials == 0:
        return Forecast()
    beside = slots.tasks * (1 - slots.trials / slots.trials_alone)  # evaluations that fit beside the trials
    epochs_last = left.training / slots.trials
    kept = epochs_last + max(0.0, left.evaluation - beside * epochs_last) / slots.tasks
    lent = left.training / slots.trials_alone + left.evaluation / slots.tasks
    is_kept = max(kept, left.longest) <= WORTH * max(lent, left.longest)
    seconds = durations.start + max(kept if is_kept else lent, left.longest)
    return Forecast(keeps_evaluation_share=is_kept, seconds=seconds, work=left.training + left.evaluation)


def _total(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None if one is not known."""
    found = list(seconds)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None
