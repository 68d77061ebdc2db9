"""The account of one run, kept in the results folder while it runs; `pixmix_ray.planning.usage` does the sums."""

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.reserve import Forecast
from pixmix_ray.planning.plan import Cell, Plan, epoch_key
from pixmix_ray.planning.unit_costs import UnitCosts, add_unit_costs
from pixmix_ray.planning.usage import Meter, write_usage

SECONDS_BETWEEN_WRITES = 10.0


class Account:
    """Writes down what a run uses of its cluster, and what epochs and cells cost."""

    def __init__(self, plan: Plan, forecast: Forecast) -> None:
        """Begin now, with what the run is expected to take."""
        started = datetime.now(UTC)
        self.run = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"  # in the order of time
        self._store, self._resources = plan.store, plan.experiment.resources
        self._started = self._written = time.monotonic()
        self._meter = Meter(self._started, forecast.seconds, forecast.work)
        self._costs = UnitCosts()
        self._open: dict[str, float] = {}  # when each trial began, less the seconds of its epochs since

    def trial_started(self, trial: Trial, at: float) -> None:
        """A trial has its share from `at` on, by `time.monotonic`."""
        if not self._costs.starts:
            self._costs.starts.append(at - self._started)
        self._open[trial.id] = at
        self._meter.begin(trial.id, "training", trial.method.name, self._resources.trial, at)

    def epoch_ended(self, trial: Trial, seconds: float) -> None:
        """A trial has one more epoch."""
        kept = self._costs.epochs.setdefault(epoch_key(trial.settings, trial.method.name), [])
        kept.append(seconds)
        if trial.id in self._open:
            self._open[trial.id] += seconds

    def trial_ended(self, trial: Trial, at: float, *, is_whole: bool) -> None:
        """It gave its share back; `is_whole` if it has its checkpoint."""
        self._meter.end(trial.id, at)
        begun = self._open.pop(trial.id, None)
        if begun is not None and is_whole:
            self._costs.trials.append(max(0.0, at - begun))

    def cell_ended(self, cell: Cell, seconds: float, *, has_failed: bool) -> None:
        """A cell had its share for so long."""
        self._meter.add("evaluation", cell.run.name, self._resources.evaluation, seconds)
        if not has_failed:
            self._costs.cells.setdefault(cell.run.key, []).append(seconds)

    def tick(self, nodes: Sequence[Share]) -> None:
        """Called often, with the nodes of the cluster: count them, and now and then write the sums."""
        now = time.monotonic()
        self._meter.offered(nodes, now)
        if now - self._written > SECONDS_BETWEEN_WRITES:
            self._write(now)

    def close(self) -> None:
        """The run ended."""
        self._write(time.monotonic())
        add_unit_costs(self._resources, self._costs)

    def _write(self, now: float) -> None:
        self._written = now
        with suppress(OSError):  # where the results cannot be written, the work itself says so
            write_usage(self._store, self.run, self._meter.usage(now))
