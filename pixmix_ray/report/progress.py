"""Progress of a run: a live view on a terminal, plain lines elsewhere. All of it goes to stderr.

The live view is a table of the trials in training and of the cells being measured, below it counts, rates and the time
left, and what is in use of the cluster and of this machine. What is worth keeping (a trial or cell that ended, a
failure with its reason) is printed above it as it comes. Plain lines
are short: time, what, value; and a summary each minute.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning.plan import Cell, Plan
from pixmix_ray.report.usage import clock, machine_use
from pixmix_ray.training.trial import Progress

SECONDS_BETWEEN_LINES = 2.0
SECONDS_BETWEEN_SUMMARIES = 60.0  # of plain lines; a live view always shows one
SECONDS_BETWEEN_USES = 5.0
MOST_ROWS = 20  # of the live view

Use = Mapping[str, tuple[float, float]]
"""A kind of resource, such as CPU: how much of it is in use, and how much there is."""


class ProgressView:
    """Shows what a run does; use it as a context manager."""

    def __init__(self, plan: Plan, console: Console, cluster_use: Callable[[], Use] = dict) -> None:
        """Count what the plan still has to do; `console` is where it is shown, `cluster_use` asks the cluster."""
        self._console = console
        self._cluster_use = cluster_use
        self._use, self._use_read = "", float("-inf")
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._started = time.monotonic()
        self._last_line, self._last_summary = 0.0, self._started
        self._epochs_of = {trial.id: trial.training.epochs for trial in plan.trials_to_run()}  # left to each
        self._epochs_left = sum(self._epochs_of.values())  # running totals: a sum a line would grow with the sweep
        self._training: dict[str, tuple[str, Progress]] = {}
        self._measuring: dict[Cell, float] = {}
        self._cells_left: dict[str, int] = defaultdict(int)
        self._cells_of: dict[str, list[str]] = defaultdict(list)
        for cell in plan.cells_to_run():
            self._cells_left[cell.run.name] += 1
            self._cells_of[cell.trial.id].append(cell.run.name)
        self._cells_done = len(plan.cells) - sum(self._cells_left.values())
        self._failed = 0
        self._epoch_seconds = _Mean()
        self._any_cell = _Mean()
        self._cell_seconds: dict[str, _Mean] = defaultdict(_Mean)

    def __enter__(self) -> "ProgressView":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def planned(self, plan: Plan) -> None:
        """Count what a search has suggested since."""
        for trial in plan.trials_to_run():
            if trial.id not in self._epochs_of:
                self._epochs_of[trial.id] = trial.training.epochs
                self._epochs_left += trial.training.epochs
        for cell in plan.cells_to_run():
            if cell.run.name not in self._cells_of[cell.trial.id]:
                self._cells_left[cell.run.name] += 1
                self._cells_of[cell.trial.id].append(cell.run.name)

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """Show the epoch."""
        self._leave_epochs(trial, progress.epochs - progress.epoch)
        self._epoch_seconds.add(progress.seconds)
        self._training[trial.id] = trial.label, progress
        state = f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}, {progress.seconds:.1f} s"
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or progress.epoch == progress.epochs:
            self._line(f"{trial.label}: {state}")

    def trial_done(self, trial: Trial) -> None:
        """Show that the trial has its checkpoint."""
        self._training.pop(trial.id, None)
        self._line(f"{trial.label}: trained", lasting=True)

    def trial_stopped(self, trial: Trial, epoch: int) -> None:
        """Show when; its cells are not measured."""
        self._training.pop(trial.id, None)
        self._leave_epochs(trial, 0)
        for name in self._cells_of.get(trial.id, ()):
            self._cells_left[name] -= 1
        self._line(f"{trial.label}: stopped early after epoch {epoch} of {trial.training.epochs}", lasting=True)

    def trial_failed(self, trial: Trial, reason: str) -> None:
        """Show why."""
        self._training.pop(trial.id, None)
        self._leave_epochs(trial, 0)
        for name in self._cells_of.get(trial.id, ()):  # they cannot be measured
            self._cells_left[name] -= 1
            self._failed += 1
        self._line(f"{trial.label}: FAILED: {reason}", lasting=True)

    def cell_started(self, cell: Cell) -> None:
        """Count it."""
        self._measuring[cell] = time.monotonic()

    def cell_done(self, cell: Cell, seconds: float) -> None:
        """Show it."""
        self._cell_ended(cell)
        self._cells_done += 1
        self._cell_seconds[cell.run.name].add(seconds)
        self._any_cell.add(seconds)
        self._line(f"{cell.label}: measured in {seconds:.1f} s", lasting=True)

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """Show why."""
        self._cell_ended(cell)
        self._failed += 1
        self._line(f"{cell.label}: FAILED: {reason}", lasting=True)

    def waits_again(self, work: Trial | Cell) -> None:
        """Take it off what is at work."""
        if isinstance(work, Cell):
            self._measuring.pop(work, None)
        else:
            self._training.pop(work.id, None)

    def tick(self) -> None:
        """Redraw the live view, or print a summary where there is none."""
        self._summarise()
        if self._live:
            self._live.update(Group(self._work(), Text(self._summary(), style="bold"), Text(self._in_use())))

    def _work(self) -> Table:
        """A row for each trial in training, then for each cell that is being measured."""
        table = Table.grid(padding=(0, 1))
        for label, progress in list(self._training.values())[:MOST_ROWS]:
            bar = ProgressBar(total=progress.epochs, completed=progress.epoch, width=20)
            epoch = f"epoch {progress.epoch}/{progress.epochs}"
            table.add_row(Text(label), bar, epoch, f"loss {progress.loss:.3f}", f"{progress.seconds:.1f} s an epoch")
        for cell, since in list(self._measuring.items())[: MOST_ROWS - table.row_count]:
            table.add_row(Text(cell.label), "", "measuring", "", f"for {time.monotonic() - since:.0f} s")
        if (hidden := len(self._training) + len(self._measuring) - table.row_count) > 0:
            table.add_row(f"and {hidden} more")
        return table

    def _in_use(self) -> str:
        """What is in use, asked now and then."""
        if time.monotonic() - self._use_read > SECONDS_BETWEEN_USES:
            self._use_read = time.monotonic()
            cluster = [f"{kind} {used:g} of {total:g}" for kind, (used, total) in self._cluster_use().items()]
            self._use = "; ".join([*(["in use: " + ", ".join(cluster)] if cluster else []), machine_use().line()])
        return self._use

    def _cell_ended(self, cell: Cell) -> None:
        self._measuring.pop(cell, None)
        self._cells_left[cell.run.name] -= 1

    def _leave_epochs(self, trial: Trial, left: int) -> None:
        self._epochs_left += left - self._epochs_of[trial.id]
        self._epochs_of[trial.id] = left

    def _line(self, text: str, *, lasting: bool = False) -> None:
        """Print one line; on a terminal only what is worth keeping, the rest is in the live view."""
        if self._live and not lasting:
            return
        self._last_line = time.monotonic()
        self._print(text)
        self._summarise()

    def _summarise(self) -> None:
        """Among plain lines, print the summary now and then."""
        if not self._live and time.monotonic() - self._last_summary >= SECONDS_BETWEEN_SUMMARIES:
            self._last_summary = time.monotonic()
            self._print(self._summary())

    def _print(self, text: str) -> None:
        since = clock(time.monotonic() - self._started)
        self._console.print(f"{since}  {text}", markup=False, highlight=False, soft_wrap=True)

    def _summary(self) -> str:
        left = sum(self._cells_left.values()) - len(self._measuring)
        failed = f", {self._failed} failed" if self._failed else ""
        return (
            f"cells: {self._cells_done} done, {len(self._measuring)} running, {left} left{failed}; "
            f"epochs left: {self._epochs_left}; {self._rates()}{self._time_left()}"
        )

    def _rates(self) -> str:
        """Epochs and cells a minute so far, once there are some."""
        minutes = max(time.monotonic() - self._started, 1e-9) / 60
        counts = {"epochs": self._epoch_seconds.count, "cells": self._any_cell.count}
        shown = [f"{count / minutes:.3g} {what}" for what, count in counts.items() if count]
        return f"{' and '.join(shown)} a minute; " if shown else ""

    def _time_left(self) -> str:
        """Time left if the work goes on at the rate so far, work being seconds of epochs and of cells."""
        done = self._epoch_seconds.total + self._any_cell.total
        if done == 0:
            return "time left: not known yet"
        epoch = self._epoch_seconds.mean(0.0)
        left = epoch * self._epochs_left
        for name, count in self._cells_left.items():
            left += count * self._cell_seconds[name].mean(self._any_cell.mean(epoch))
        rate = done / max(time.monotonic() - self._started, 1e-9)
        return f"about {clock(left / rate)} left"


class _Mean:
    """The mean of numbers as they come."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    def mean(self, default: float) -> float:
        return self.total / self.count if self.count else default
