"""What an experiment still has to do, read from its results folder. Spends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pixmix_ray.experiment.external import External, Source, cell_names, checkpoint_ids
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.memory import without_garbage_collection
from pixmix_ray.planning.study import next_trials
from pixmix_ray.storage.cell import read_cell, write_cell
from pixmix_ray.storage.index import list_cells, read_cells, read_rows, refuse_older_layout
from pixmix_ray.storage.kept_plan import FILE, KeptPlan, read_kept_plan
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file

if TYPE_CHECKING:
    import pandas as pd

    from pixmix_ray.experiment.experiment import Experiment


State = Literal["done", "missing", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One checkpoint on one benchmark.

    Attributes:
        trial: whose checkpoint: a trial of the experiment, or one that is there already.
        run: the benchmark.
        name: of its file, CHECKPOINT/NAME-KEY; none before the trial has its checkpoint, which is part of the name.
    """

    trial: Source
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
        checkpoints: those that are there already.
    """

    store: Store
    experiment: Experiment
    trials: dict[Trial, State]
    cells: dict[Cell, State]
    checkpoints: tuple[External, ...] = ()

    @property
    def sources(self) -> list[Source]:
        """All that is measured: the trials, then the checkpoints that are there already."""
        return [*self.trials, *self.checkpoints]

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
        found = cell_names(self.store, self.sources, list(runs.values()))
        names = (found.get((cell.trial.id, cell.run.key)) for cell in self.cells)
        return [name for name in names if name is not None]

    def own_rows(self) -> pd.DataFrame:
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
        return plan_of(sweep, [*sweep.trials(), *sweep.externals()], runs, store, listed)

    def states_of(trials: Sequence[Trial]) -> set[str]:
        return _states_of_point(plan_of(sweep, trials, runs, store, listed))

    return plan_of(sweep, next_trials(sweep, store, runs, states_of, keep=keep_points), runs, store, listed)


def updated(plan: Plan) -> Plan:
    """The plan once the index of its folder is up to date: cells that were found damaged and set aside are missing.

    Cells of checkpoints that the experiment gives another label now have that label.

    Raises:
        ResultsError: the folder cannot be read.
    """
    relabel(plan.store, plan.checkpoints)
    readable = set(read_rows(plan.store, ["cell"])["cell"].unique().to_pylist())
    done = {cell.name for cell, state in plan.cells.items() if state == "done"}
    return plan if done <= readable else make_plan(plan.experiment)


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """The files of a results folder when it was listed."""

    cells: set[str]
    trials: set[str]


def _states_of_point(plan: Plan) -> set[str]:
    """The states of the cells of a plan; those that a trial which failed lacks have failed with it."""
    failed = {trial for trial, state in plan.trials.items() if state == "failed"}
    return {"failed" if state == "missing" and cell.trial in failed else state for cell, state in plan.cells.items()}


def plan_of(
    sweep: Experiment,
    sources: Sequence[Source],
    runs: Sequence[BenchmarkRun],
    store: Store,
    listed: _Listed | None = None,
) -> Plan:
    """The states of the cells of some trials and checkpoints, by a listing of the results folder, or a new one."""
    listed = listed or _Listed(cells=store.files("cells"), trials=store.files("trials"))
    files, cell_files = listed.trials, listed.cells
    trials = [source for source in sources if not isinstance(source, External)]
    there = tuple(source for source in sources if isinstance(source, External))
    stopped = _stopped(sweep, store, files, trials)
    done = [trial for trial in trials if trial_file(trial.id, "done.json") in files]
    names = cell_names(store, [*done, *there], runs)
    cells: dict[Cell, State] = {}
    for trial in sources:
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
    return Plan(store=store, experiment=sweep, trials=states, cells=cells, checkpoints=there)


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


def keep_plan(plan: Plan) -> None:
    """Write what a run set out to do into its results folder; labels of earlier runs stay.

    Raises:
        StorageError: it cannot be written.
    """
    cells = Counter(cell.trial.id for cell, state in plan.cells.items() if state != "stopped")
    before = read_kept_plan(plan.store)
    kept = KeptPlan(
        labels={**before.labels, **{source.id: source.label for source in plan.sources}},
        cells={source.id: cells[source.id] for source in plan.sources},
    )
    if kept != before:
        plan.store.write_json(FILE, {"labels": kept.labels, "cells": kept.cells})


def relabel(store: Store, sources: Iterable[External]) -> None:
    """Give the stored cells of somebody else's weights the labels that they have now.

    Raises:
        ResultsError: a cell cannot be read.
        StorageError: one cannot be written.
    """
    labels = {source.id: source.label for source in sources if source.trial is None}
    if not labels:
        return
    rows = read_rows(store, ["trial_id", "cell", "method"])
    stored = rows.filter(pc.is_in(rows["trial_id"].cast(pa.string()), pa.array(list(labels)))).to_pylist()
    for name, label in {row["cell"]: row["method"] for row in stored}.items():
        new = labels[name.partition("/")[0]]
        if label != new and (cell := read_cell(store, name)) is not None:
            footer = replace(cell.footer, common={**cell.footer.common, "method": new})
            write_cell(store, name, replace(cell, footer=footer))
