"""The account of one run, kept in the results folder while it runs; the arithmetic is in `pixmix_ray.results.usage`."""

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from pixmix_ray.distributed.reserve import Forecast
from pixmix_ray.results.plan import Cell, Plan
from pixmix_ray.results.usage import Meter, write_usage
from pixmix_ray.sweep import Share
from pixmix_ray.trial import Trial

SECONDS_BETWEEN_WRITES = 10.0


class Account:
    """Writes down what a run uses of its cluster."""

    def __init__(self, plan: Plan, forecast: Forecast) -> None:
        """Begin now, with what the run is expected to take."""
        started = datetime.now(UTC)
        self.run = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"  # in the order of time
        self._store, self._resources = plan.store, plan.sweep.resources
        self._meter = Meter(time.monotonic(), forecast.seconds, forecast.work)
        self._written = time.monotonic()

    def trial_started(self, trial: Trial, at: float) -> None:
        """A trial has its share from `at` on, by `time.monotonic`."""
        self._meter.begin(trial.id, "training", trial.method.name, self._resources.trial, at)

    def trial_ended(self, trial: Trial, at: float) -> None:
        """It gave its share back."""
        self._meter.end(trial.id, at)

    def cell_ended(self, cell: Cell, seconds: float) -> None:
        """A cell had its share for so long."""
        self._meter.add("evaluation", cell.run.name, self._resources.evaluation, seconds)

    def tick(self, nodes: Sequence[Share]) -> None:
        """Called often, with the nodes of the cluster: count them, and now and then write the sums."""
        now = time.monotonic()
        self._meter.offered(nodes, now)
        if now - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write the sums up to now."""
        self._written = time.monotonic()
        write_usage(self._store, self.run, self._meter.usage(self._written))
