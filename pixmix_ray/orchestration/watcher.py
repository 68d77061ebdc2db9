"""Who is told what happens in a run: a watcher shows it, an accountant adds it up."""

from typing import Protocol

from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.executor import Capacity
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

    def tick(self) -> None:
        """Called several times a second."""


class Silent:
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

    def tick(self) -> None:
        """Nothing."""


class Accountant(Protocol):
    """Adds up what a run uses; times are the executor's."""

    def trial_started(self, trial: Trial, at: float) -> None:
        """A trial has its share from `at` on."""

    def epoch_ended(self, trial: Trial, seconds: float) -> None:
        """A trial has one more epoch."""

    def trial_ended(self, trial: Trial, at: float, *, is_whole: bool) -> None:
        """A trial gave its share back; `is_whole` if it has its checkpoint."""

    def cell_ended(self, cell: Cell, seconds: float, *, has_failed: bool) -> None:
        """A cell had its share for so long."""

    def tick(self, capacity: Capacity, now: float) -> None:
        """Called several times a second."""
