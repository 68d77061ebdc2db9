"""The account of one run: what it uses of its cluster, and how long its trials and cells take.

It keeps sums, not intervals, so that its file `runs/RUN.json` is as small after a million cells as after ten. The file
is rewritten every few seconds, so that a killed run is accounted for up to then. Work that failed counts too. No clock
is read: every call says when it is, in seconds since any fixed moment.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning.usage import Kind, Spent, Usage, write_usage
from pixmix_ray.storage.store import Store

if TYPE_CHECKING:
    from pixmix_ray.planning.durations import Durations
    from pixmix_ray.planning.forecast import Forecast
    from pixmix_ray.planning.plan import Cell

SECONDS_BETWEEN_WRITES = 10.0


@dataclass(kw_only=True)
class _Running:
    """A trial that has begun and not ended."""

    method: str
    since: float
    epochs: float = 0.0  # seconds


class Account:
    """Adds up what a run uses, writes it down, and tells `durations` what it measures."""

    def __init__(
        self, store: Store, resources: Resources, now: float, *, durations: Durations, expected: Forecast
    ) -> None:
        """Begin now, with what the run is expected to take."""
        self.durations = durations
        self._store, self._resources, self._expected = store, resources, expected
        self._run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"  # in the order of time
        self._started = self._seen = self._written = now
        self._has_begun = False
        self._cpu_seconds = self._gpu_seconds = 0.0
        self._spent: dict[tuple[Kind, str], Spent] = {}
        self._running: dict[str, _Running] = {}  # by trial

    def trial_started(self, trial: Trial, at: float) -> None:
        """A trial has its share from `at` on; if it was already running, it is begun anew after a fault."""
        if not self._has_begun:
            self._has_begun = True
            self.durations.add_start(at - self._started)
        self.trial_ended(trial, at, is_whole=False)
        self._running[trial.id] = _Running(method=trial.method.name, since=at)

    def epoch_ended(self, trial: Trial, seconds: float) -> None:
        """A trial has one more epoch."""
        self.durations.add_epoch(trial, seconds)
        if trial.id in self._running:
            self._running[trial.id].epochs += seconds

    def trial_ended(self, trial: Trial, at: float, *, is_whole: bool) -> None:
        """It gave its share back, if it had one; `is_whole` if it has its checkpoint."""
        running = self._running.pop(trial.id, None)
        if running is not None:
            self._add("training", running.method, at - running.since, self._resources.trial)
            if is_whole:
                self.durations.add_trial(max(0.0, at - running.since - running.epochs))

    def cell_ended(self, cell: Cell, seconds: float, *, has_failed: bool) -> None:
        """A cell had its share for so long."""
        self._add("evaluation", cell.run.name, seconds, self._resources.evaluation)
        if not has_failed and seconds:
            self.durations.add_cell(cell, seconds)

    def tick(self, cpus: float, gpus: float, now: float) -> None:
        """The nodes had so many CPUs and GPUs since the last call: count it, and now and then write the sums."""
        elapsed = max(0.0, now - self._seen)
        self._cpu_seconds += elapsed * cpus
        self._gpu_seconds += elapsed * gpus
        self._seen = max(now, self._seen)
        if now - self._written > SECONDS_BETWEEN_WRITES:
            self._write(now)

    def close(self, now: float) -> None:
        """The run ended."""
        self._write(now)
        self.durations.save(self._resources)

    def usage(self, now: float) -> Usage:
        """The sums so far, with what is running as if it ended now."""
        spent = dict(self._spent)
        for running in self._running.values():
            _add(spent, "training", running.method, now - running.since, self._resources.trial)
        return Usage(
            seconds=now - self._started,
            cpu_seconds=self._cpu_seconds,
            gpu_seconds=self._gpu_seconds,
            spent=tuple(spent.values()),
            expected_seconds=self._expected.seconds,
            expected_work=self._expected.work,
        )

    def _add(self, kind: Kind, name: str, seconds: float, share: Share) -> None:
        _add(self._spent, kind, name, seconds, share)

    def _write(self, now: float) -> None:
        self._written = now
        with suppress(OSError):  # where the results cannot be written, the work itself says so
            write_usage(self._store, self._run, self.usage(now))


def _add(spent: dict[tuple[Kind, str], Spent], kind: Kind, name: str, seconds: float, share: Share) -> None:
    before = spent.get((kind, name), Spent(kind=kind, name=name))
    spent[kind, name] = before.plus(max(0.0, seconds), share)
