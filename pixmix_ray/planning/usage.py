"""What runs used of their cluster, as kept in `runs/RUN.json`: hours by method and benchmark, and how much was idle.

A run keeps sums, not intervals, so that its file is as small after a million cells as after ten. The file is rewritten
every few seconds, so that a killed run is accounted for up to then. Work that failed counts too. No clock is read:
every call says when it is, in seconds since any fixed moment.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.storage.store import Store, run_file

if TYPE_CHECKING:
    from pixmix_ray.experiment.trial import Trial
    from pixmix_ray.planning.durations import Durations, Forecast
    from pixmix_ray.planning.plan import Cell

Kind = Literal["training", "evaluation"]
SECONDS_BETWEEN_WRITES = 10.0


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What went into the trials of one method, or the cells of one benchmark.

    Attributes:
        kind: training or evaluation.
        name: of the method or benchmark.
        count: of pieces of work: trials or cells, each time that one was begun.
        seconds: wall time of all of them, summed.
        cpu_seconds: seconds × share of CPUs.
        gpu_seconds: seconds × share of GPUs.
    """

    kind: Kind
    name: str
    count: int = 0
    seconds: float = 0
    cpu_seconds: float = 0
    gpu_seconds: float = 0

    def plus(self, seconds: float, share: Share, count: int = 1) -> Spent:
        """With more work of this kind."""
        return replace(
            self,
            count=self.count + count,
            seconds=self.seconds + seconds,
            cpu_seconds=self.cpu_seconds + seconds * share.cpus,
            gpu_seconds=self.gpu_seconds + seconds * share.gpus,
        )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one run, or several together, used.

    Attributes:
        seconds: wall time of the run.
        cpu_seconds: that the nodes had to offer meanwhile.
        gpu_seconds: likewise.
        spent: on each method and benchmark.
        expected_seconds: what the run's wall time was estimated at before it began; None: not known then.
        expected_work: likewise for the seconds of all its trials and cells.
    """

    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    spent: tuple[Spent, ...]
    expected_seconds: float | None = None
    expected_work: float | None = None

    @property
    def work(self) -> float:
        """Seconds of all trials and cells."""
        return sum(part.seconds for part in self.spent)

    @property
    def idle_cpus(self) -> float | None:
        """The share of the CPUs' time that no trial or cell had, in [0, 1]; None without CPUs."""
        return _idle(self.cpu_seconds, sum(part.cpu_seconds for part in self.spent))

    @property
    def idle_gpus(self) -> float | None:
        """Likewise for the GPUs."""
        return _idle(self.gpu_seconds, sum(part.gpu_seconds for part in self.spent))


def _idle(offered: float, taken: float) -> float | None:
    return None if offered <= 0 else max(0.0, 1 - taken / offered)


def write_usage(store: Store, run: str, usage: Usage) -> None:
    """Keep what the run called `run` used so far."""
    store.write_json(run_file(run), asdict(usage))


def read_usage(store: Store, run: str) -> Usage | None:
    """What the run called `run` used; None if there was no such run.

    Raises:
        ResultsError: its file is damaged.
    """
    path = run_file(run)
    values = store.read_json(path)
    try:
        return None if values is None else _usage(values)
    except (KeyError, TypeError) as error:
        raise store.damaged(path, error) from None


def _usage(values: Mapping[str, Any]) -> Usage:
    return Usage(**{**values, "spent": tuple(Spent(**part) for part in values["spent"])})


def last_usage(store: Store) -> Usage | None:
    """What the run that began last used; None if none was accounted for.

    Raises:
        ResultsError: its file is damaged.
    """
    names = _runs(store)
    return read_usage(store, names[-1]) if names else None


def total_usage(store: Store) -> Usage | None:
    """What all runs into this results folder used together; None if none was accounted for.

    Raises:
        ResultsError: the file of a run is damaged.
    """
    found = [usage for usage in (read_usage(store, name) for name in _runs(store)) if usage is not None]
    return _together(found) if found else None


def _runs(store: Store) -> list[str]:
    """The names of the runs in the order in which they began."""
    return sorted(path.rpartition("/")[2].removesuffix(".json") for path in store.files("runs"))


def _together(usages: Iterable[Usage]) -> Usage:
    sums: dict[str, float] = defaultdict(float)
    spent: dict[tuple[Kind, str], Spent] = {}
    for usage in usages:
        for name in ("seconds", "cpu_seconds", "gpu_seconds"):
            sums[name] += getattr(usage, name)
        for part in usage.spent:
            before = spent.get((part.kind, part.name), Spent(kind=part.kind, name=part.name))
            spent[part.kind, part.name] = replace(
                before,
                count=before.count + part.count,
                seconds=before.seconds + part.seconds,
                cpu_seconds=before.cpu_seconds + part.cpu_seconds,
                gpu_seconds=before.gpu_seconds + part.gpu_seconds,
            )
    return Usage(**sums, spent=tuple(spent[key] for key in sorted(spent)))


@dataclass(kw_only=True)
class _Running:
    """A trial that has begun and not ended."""

    method: str
    since: float
    share: Share
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
        share = self._resources.shares[trial.share]
        self._running[trial.id] = _Running(method=trial.method.name, since=at, share=share)

    def epoch_ended(self, trial: Trial, seconds: float) -> None:
        """A trial has one more epoch."""
        self.durations.add_epoch(trial, seconds)
        if trial.id in self._running:
            self._running[trial.id].epochs += seconds

    def trial_ended(self, trial: Trial, at: float, *, is_whole: bool) -> None:
        """It gave its share back, if it had one; `is_whole` if it has its checkpoint."""
        running = self._running.pop(trial.id, None)
        if running is not None:
            self._add("training", running.method, at - running.since, running.share)
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
            _add(spent, "training", running.method, now - running.since, running.share)
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
