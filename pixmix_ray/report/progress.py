"""Progress of a run: a live view on a terminal, plain lines elsewhere. All of it goes to stderr."""

import time
from collections import defaultdict

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pixmix_ray.results import Cell, Plan
from pixmix_ray.trial import Trial
from pixmix_ray.work import Progress

SECONDS_BETWEEN_LINES = 2.0


class ProgressView:
    """Shows what a run does; use it as a context manager."""

    def __init__(self, plan: Plan, console: Console) -> None:
        """Count what the plan still has to do; `console` is where it is shown."""
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._started = time.monotonic()
        self._last_line = 0.0
        self._epochs_of = {trial.id: trial.training.epochs for trial in plan.trials_to_run()}  # left to each
        self._epochs_left = sum(self._epochs_of.values())  # running totals: a sum a line would grow with the sweep
        self._training: dict[str, str] = {}
        self._cells_left: dict[str, int] = defaultdict(int)
        self._cells_of: dict[str, list[str]] = defaultdict(list)
        for cell in plan.cells_to_run():
            self._cells_left[cell.run.name] += 1
            self._cells_of[cell.trial.id].append(cell.run.name)
        self._cells_done = len(plan.cells) - sum(self._cells_left.values())
        self._cells_running = 0
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

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """Show the epoch."""
        self._leave_epochs(trial, progress.epochs - progress.epoch)
        self._epoch_seconds.add(progress.seconds)
        state = f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.3f}, {progress.seconds:.1f} s"
        self._training[trial.id] = f"{trial.label}: {state}"
        if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or progress.epoch == progress.epochs:
            self._line(f"{trial.label}: {state}")

    def trial_done(self, trial: Trial) -> None:
        """Show that the trial has its checkpoint."""
        self._training.pop(trial.id, None)
        self._line(f"{trial.label}: trained", lasting=True)

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
        self._cells_running += 1

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

    def tick(self) -> None:
        """Redraw the live view."""
        if self._live:
            lines = [Text(f"  training {state}") for state in self._training.values()]
            self._live.update(Group(*lines, Text(self._summary(), style="bold")))

    def _cell_ended(self, cell: Cell) -> None:
        self._cells_running -= 1
        self._cells_left[cell.run.name] -= 1

    def _leave_epochs(self, trial: Trial, left: int) -> None:
        self._epochs_left += left - self._epochs_of[trial.id]
        self._epochs_of[trial.id] = left

    def _line(self, text: str, *, lasting: bool = False) -> None:
        """Print one line; on a terminal only what is worth keeping, the rest is in the live view."""
        if self._live and not lasting:
            return
        self._last_line = time.monotonic()
        tail = "" if self._live else f"  [{self._summary()}]"
        self._console.print(
            f"{_clock(time.monotonic() - self._started)}  {text}{tail}", markup=False, highlight=False, soft_wrap=True
        )

    def _summary(self) -> str:
        left = sum(self._cells_left.values()) - self._cells_running
        failed = f", {self._failed} failed" if self._failed else ""
        return (
            f"cells: {self._cells_done} done, {self._cells_running} running, {left} left{failed}; "
            f"epochs left: {self._epochs_left}; {self._time_left()}"
        )

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
        return f"about {_clock(left / rate)} left"


class _Mean:
    """The mean of numbers as they come."""

    def __init__(self) -> None:
        self.total, self._count = 0.0, 0

    def add(self, value: float) -> None:
        self.total += value
        self._count += 1

    def mean(self, default: float) -> float:
        return self.total / self._count if self._count else default


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
