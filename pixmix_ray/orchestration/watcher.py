"""Who is told what happens in a run, to show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pixmix_ray.experiment.trial import Trial

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Cell, Plan
    from pixmix_ray.training.trial import Progress


class Watcher(Protocol):
    """Is told what happens, to show it. The names of the methods are the events."""

    def planned(self, plan: Plan) -> None:
        """There is more to do than was known: a search suggested trials."""

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """One more epoch of a trial is safe."""

    def trial_done(self, trial: Trial) -> None:
        """A trial has its checkpoint."""

    def trial_stopped(self, trial: Trial, epoch: int) -> None:
        """A trial was stopped early after `epoch`; its cells are not measured."""

    def trial_failed(self, trial: Trial, reason: str) -> None:
        """A trial ended without a checkpoint; its cells cannot be measured."""

    def cell_started(self, cell: Cell) -> None:
        """A cell was handed to the executor."""

    def cell_done(self, cell: Cell, seconds: float) -> None:
        """A cell is in the store."""

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """A cell could not be measured."""

    def waits_again(self, work: Trial | Cell) -> None:
        """A trial or cell that was at work failed, or lost its worker, and waits for another attempt."""

    def tick(self) -> None:
        """Called several times a second."""


class SilentWatcher:
    """A watcher that shows nothing."""

    def planned(self, plan: Plan) -> None:
        """Nothing."""

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """Nothing."""

    def trial_done(self, trial: Trial) -> None:
        """Nothing."""

    def trial_stopped(self, trial: Trial, epoch: int) -> None:
        """Nothing."""

    def trial_failed(self, trial: Trial, reason: str) -> None:
        """Nothing."""

    def cell_started(self, cell: Cell) -> None:
        """Nothing."""

    def cell_done(self, cell: Cell, seconds: float) -> None:
        """Nothing."""

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """Nothing."""

    def waits_again(self, work: Trial | Cell) -> None:
        """Nothing."""

    def tick(self) -> None:
        """Nothing."""


class ForwardingWatcher:
    """A watcher that passes all on to another; to be derived from."""

    def __init__(self, inner: Watcher) -> None:
        """Pass on to `inner`."""
        self._inner = inner

    def planned(self, plan: Plan) -> None:
        """Passed on."""
        self._inner.planned(plan)

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """Passed on."""
        self._inner.epoch_done(trial, progress)

    def trial_done(self, trial: Trial) -> None:
        """Passed on."""
        self._inner.trial_done(trial)

    def trial_stopped(self, trial: Trial, epoch: int) -> None:
        """Passed on."""
        self._inner.trial_stopped(trial, epoch)

    def trial_failed(self, trial: Trial, reason: str) -> None:
        """Passed on."""
        self._inner.trial_failed(trial, reason)

    def cell_started(self, cell: Cell) -> None:
        """Passed on."""
        self._inner.cell_started(cell)

    def cell_done(self, cell: Cell, seconds: float) -> None:
        """Passed on."""
        self._inner.cell_done(cell, seconds)

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """Passed on."""
        self._inner.cell_failed(cell, reason)

    def waits_again(self, work: Trial | Cell) -> None:
        """Passed on."""
        self._inner.waits_again(work)

    def tick(self) -> None:
        """Passed on."""
        self._inner.tick()
