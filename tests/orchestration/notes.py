"""A watcher of runs for the tests."""

from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning.plan import Cell
from pixmix_ray.training.trial import Progress


class Notes:
    """A watcher that writes down the events."""

    def __init__(self) -> None:
        self.epochs: list[tuple[str, int]] = []
        self.ended: list[str] = []

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        self.epochs.append((trial.label, progress.epoch))

    def trial_done(self, trial: Trial) -> None:
        self.ended.append(f"trained {trial.label}")

    def trial_stopped(self, trial: Trial, epoch: int) -> None:
        self.ended.append(f"stopped {trial.label} after {epoch}")

    def trial_failed(self, trial: Trial, reason: str) -> None:
        self.ended.append(f"failed {trial.label}")

    def cell_started(self, cell: Cell) -> None:
        pass

    def cell_done(self, cell: Cell, seconds: float) -> None:
        self.ended.append(f"measured {cell.label}")

    def cell_failed(self, cell: Cell, reason: str) -> None:
        self.ended.append(f"failed {cell.label}")

    def tick(self) -> None:
        pass
