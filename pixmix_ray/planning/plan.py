"""What a sweep still has to do, read from its results folder, and what that will cost. Spends nothing."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pixmix_ray.errors import ResultsError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.garbage import without_garbage_collection
from pixmix_ray.planning.cell_names import cell_names, checkpoint_ids
from pixmix_ray.planning.study import next_trials
from pixmix_ray.planning.unit_costs import read_unit_costs
from pixmix_ray.storage.index import cell_seconds, list_cells, read_cells, refuse_older_layout, update
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file

SAMPLE = 100  # trials of a method whose files are read for what epochs took: more change a mean by a few percent
if TYPE_CHECKING:
    import pandas as pd

State = Literal["done", "missing", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One trial's checkpoint on one benchmark.

    Attributes:
        trial: whose checkpoint.
        run: the benchmark.
        name: of its file, CHECKPOINT/NAME-KEY; none before the trial has its checkpoint, which is part of the name.
    """

    trial: Trial
    run: BenchmarkRun
    name: str | None = None

    @property
    def label(self) -> str:
        """For people, such as "pixmix k=4 beta=3 fractals seed 0 × corruptions"."""
        return f"{self.trial.label} × {self.run.name}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trials and cells of a sweep with their states.

    Attributes:
        store: the results folder.
        sweep: what was asked for.
        trials: each trial of the sweep and its state.
        cells: each cell of the sweep and its state.
    """

    store: Store
    experiment: Experiment
    trials: dict[Trial, State]
    cells: dict[Cell, State]

    def trials_to_run(self) -> list[Trial]:
        """The trials that are not done and that a cell still needs."""
        needed = {cell.trial.id for cell in self.cells_to_run()}
        return [t for t, state in self.trials.items() if state not in ("done", "stopped") and t.id in needed]

    def cells_to_run(self) -> list[Cell]:
        """The cells that are not done and whose trial was not stopped early, in the order of the sweep."""
        return [cell for cell, state in self.cells.items() if state not in ("done", "stopped")]

    def checkpoint_of(self, trial: Trial) -> str | None:
        """The content id of a trial's weights as storage has it now; none if the trial is not done."""
        return checkpoint_ids(self.store, [trial.id]).get(trial.id)

    def is_measured(self, cell: Cell) -> bool:
        """Whether storage has the cell now."""
        name = cell_names(self.store, [cell.trial], [cell.run]).get((cell.trial.id, cell.run.key))
        return name is not None and self.store.exists(cell_file(name))

    def measured(self) -> set[str]:
        """The names of this experiment's cells that are measured now."""
        return set(self._names()) & set(list_cells(self.store))

    def _names(self) -> list[str]:
        """The names of this experiment's cells, as far as their trials are done now."""
        runs = {cell.run.key: cell.run for cell in self.cells}
        found = cell_names(self.store, self.trials, list(runs.values()))
        names = (found.get((cell.trial.id, cell.run.key)) for cell in self.cells)
        return [name for name in names if name is not None]

    def own_rows(self) -> "pd.DataFrame":
        """The measurements of this sweep's cells that are done so far, and of no other in the same folder.

        Cells that are damaged are set aside, with a warning: a plan made afterwards has them among the missing.

        Raises:
            ResultsError: the results cannot be read.
        """
        return read_cells(self.store, self._names())


@without_garbage_collection()
def make_plan(sweep: Experiment, *, keep_points: bool = False) -> Plan:
    """The plan of a sweep; of a search with all that can be suggested now.

    Args:
        sweep: what is wanted.
        keep_points: store the points of a search that are new, as must be done before they are trained. The plan is
            the same without.

    Raises:
        RequestError: the sweep names data that are missing or broken, or results of an older layout.
    """
    store, runs = Store(sweep.results), sweep.benchmark_runs()
    refuse_older_layout(store)
    listed = _Listed(cells=store.files("cells"), trials=store.files("trials"))
    if sweep.search is None:
        return plan_of(sweep, sweep.trials(), runs, store, listed)

    def states_of(trials: Sequence[Trial]) -> set[str]:
        return _states_of_point(plan_of(sweep, trials, runs, store, listed))

    return plan_of(sweep, next_trials(sweep, store, runs, states_of, keep=keep_points), runs, store, listed)


def updated(plan: Plan) -> Plan:
    """The plan once the index of its folder is up to date: cells that were found damaged and set aside are missing.

    Raises:
        ResultsError: the folder cannot be read.
    """
    update(plan.store)
    done = {cell.name for cell, state in plan.cells.items() if state == "done"}
    return plan if done <= set(list_cells(plan.store)) else make_plan(plan.experiment)


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """The files of a results folder when it was listed."""

    cells: set[str]
    trials: set[str]


def _states_of_point(plan: Plan) -> set[str]:
    """The states of the cells of a plan; those that a trial which failed lacks have failed with it."""
    return {
        "failed" if state == "missing" and plan.trials[cell.trial] == "failed" else state
        for cell, state in plan.cells.items()
    }


def plan_of(
    sweep: Experiment,
    trials: Sequence[Trial],
    runs: Sequence[BenchmarkRun],
    store: Store,
    listed: _Listed | None = None,
) -> Plan:
    """The states of the cells of some trials of an experiment, by a listing of the results folder, or a new one."""
    listed = listed or _Listed(cells=store.files("cells"), trials=store.files("trials"))
    files, cell_files = listed.trials, listed.cells
    stopped = _stopped(sweep, store, files, trials)
    names = cell_names(store, [trial for trial in trials if trial_file(trial.id, "done.json") in files], runs)
    cells: dict[Cell, State] = {}
    for trial in trials:
        for run in runs:
            name = names.get((trial.id, run.key))
            is_done = name is not None and cell_file(name) in cell_files
            state = _state(is_done, cell_failure_file(trial.id, run.key) in cell_files)
            cell = Cell(trial=trial, run=run, name=name)
            cells[cell] = "stopped" if state != "done" and trial.id in stopped else state
    states: dict[Trial, State] = {
        trial: "stopped"
        if trial.id in stopped
        else _state(trial_file(trial.id, "done.json") in files, trial_file(trial.id, "failed.json") in files)
        for trial in trials
    }
    return Plan(store=store, experiment=sweep, trials=states, cells=cells)


def _stopped(sweep: Experiment, store: Store, files: set[str], trials: Iterable[Trial]) -> set[str]:
    """The trials that this very scheduler stopped; with another one, or none, they go on."""
    if sweep.scheduler is None:
        return set()
    found = set()
    for trial in trials:
        path = trial_file(trial.id, "stopped.json")
        if path in files and trial_file(trial.id, "done.json") not in files:
            record = store.read_json(path) or {}
            if record.get("scheduler") == sweep.scheduler.identity():
                found.add(trial.id)
    return found


def _state(is_done: bool, has_failed: bool) -> State:
    return "done" if is_done else "failed" if has_failed else "missing"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimated seconds of work, of one trial or cell each at its share of the machine.

    Attributes:
        training: of all trials to run; none if nothing like them was ever measured here.
        evaluation: of all cells to run, likewise.
    """

    training: float | None
    evaluation: float | None


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What trials and cells took so far, in seconds at their share of the machine.

    Attributes:
        epochs: mean seconds of an epoch, by data set, model and method.
        cells: mean seconds of a cell on this machine, by key of the benchmark.
        measured: mean seconds of a cell in the results folder, by settings of the benchmark as in its rows.
        beside: seconds of a trial beside its epochs.
        start: seconds until the first trial of a run has its processes.
    """

    epochs: Mapping[str, float]
    cells: Mapping[str, float]
    measured: Mapping[str, float] = field(default_factory=dict)
    beside: float = 0
    start: float = 0

    def trial(self, trial: Trial) -> float | None:
        """Of the whole trial, by the same method, data set and model, else by all of that data set and model."""
        for key in (epoch_key(trial.settings, trial.method.name), epoch_key(trial.settings, "")):
            if key in self.epochs:
                return self.beside + self.epochs[key] * trial.training.epochs
        return None

    def cell(self, cell: Cell) -> float | None:
        """Of the cell, by the same benchmark with the same settings."""
        return self.measured.get(cell.run.settings_text, self.cells.get(cell.run.key))


def prices(store: Store, resources: Resources) -> Prices:
    """The prices that follow from what was measured in a results folder, else on this machine with the same shares."""
    epochs, cells = _history(store)
    here = read_unit_costs(resources)
    return Prices(
        epochs={key: mean(seconds) for key, seconds in {**_with_all_methods(here.epochs), **epochs}.items() if seconds},
        cells={key: mean(seconds) for key, seconds in here.cells.items() if seconds},
        measured={key: mean(seconds) for key, seconds in cells.items()},
        beside=mean(here.trials) if here.trials else 0,
        start=mean(here.starts) if here.starts else 0,
    )


def _with_all_methods(epochs: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """With entries for a data set and model by whatever method."""
    found = {key: list(seconds) for key, seconds in epochs.items()}
    for key, seconds in epochs.items():
        dataset, model, _ = json.loads(key)
        found.setdefault(json.dumps([dataset, model, ""], sort_keys=True), []).extend(seconds)
    return found


def estimate(plan: Plan) -> Cost:
    """The cost of what is left, by `prices`."""
    known = prices(plan.store, plan.experiment.resources)
    return Cost(
        training=_total(known.trial(trial) for trial in plan.trials_to_run()),
        evaluation=_total(known.cell(cell) for cell in plan.cells_to_run()),
    )


def _total(seconds: Iterable[float | None]) -> float | None:
    known = list(seconds)
    return None if None in known else sum(value for value in known if value is not None)


def epoch_key(settings: Mapping[str, object], method: str) -> str:
    """What the price of an epoch goes by: data set, model and method, or "" for any method."""
    return json.dumps([settings["dataset"], settings["model"], method], sort_keys=True)


def _history(store: Store) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds per epoch of trials done here, and seconds of the cells by settings of the benchmark."""
    epochs: dict[str, list[float]] = defaultdict(list)
    for done in _trials_done(store):
        with suppress(KeyError, TypeError):  # a damaged file of any trial has no price, no more
            for method in (done["settings"]["method"]["name"], ""):
                epochs[epoch_key(done["settings"], method)] += done["epoch_seconds"]
    cells: dict[str, list[float]] = defaultdict(list)
    for settings, seconds in cell_seconds(update(store)):
        cells[settings].append(seconds)
    return epochs, cells


def _trials_done(store: Store) -> Iterator[dict[str, Any]]:
    """What trials wrote when they were done, of at most `SAMPLE` trials of each method, evenly spaced."""
    by_method: dict[str, list[str]] = defaultdict(list)
    for path in sorted(store.files("trials")):
        if path.endswith("/done.json"):
            by_method[path.split("/")[1].rpartition("-")[0]].append(path)
    for paths in by_method.values():
        for place in np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).round().astype(int):
            with suppress(ResultsError):  # what cannot be read has no history, no more
                yield store.read_json(paths[place]) or {}
