"""Which trials are stopped early: asynchronous successive halving (Li et al., MLSys 2020) on validation errors.

The rule is that of Ray Tune's ASHAScheduler with one bracket, without Ray. Only trials of one experiment are compared.
A trial that is stopped keeps its last epoch: without the scheduler, or with another one, the same experiment goes on
with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from pixmix_ray.experiment.search import Asha
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.models import read_header
from pixmix_ray.storage.store import Store, trial_file

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Plan


class Halving:
    """Decides at each rung, an epoch in a geometric series, whether a trial goes on or is stopped.

    A trial goes on if its error is not above the 1/reduction_factor quantile of the errors of those that came to the
    rung before it; so the first to come goes on. Nothing is stopped after its last epoch.

    >>> halving = Halving(Asha(grace_period=2, reduction_factor=2), epochs=8)
    >>> halving.rungs
    (2, 4)
    >>> [halving.report(trial, 2, error) for trial, error in (("a", 0.2), ("b", 0.3), ("c", 0.1))]
    [False, True, False]
    """

    def __init__(self, settings: Asha, epochs: int) -> None:
        """Nothing is known of any trial; each would train for so many epochs."""
        self._share = 1 / settings.reduction_factor
        self._decisions: dict[int, dict[str, _Decision]] = {}
        rung: float = settings.grace_period
        while rung < epochs:
            self._decisions[math.ceil(rung)] = {}
            rung *= settings.reduction_factor
        self._decisions.pop(epochs, None)  # a rung may be a fraction: the epoch at which it is reached is the last

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials are compared."""
        return tuple(self._decisions)

    def report(self, trial_id: str, epoch: int, error: float) -> bool:
        """Whether a trial is to be stopped now, given its validation error after an epoch.

        A trial that is run again may report an epoch again: the answer is that of the first time, and it counts once.
        """
        rung = self._decisions.get(epoch)
        if rung is None:
            return False
        if trial_id not in rung:
            others = [error for error, _ in rung.values()]
            rung[trial_id] = (error, bool(others) and error > float(np.quantile(others, self._share)))
        return rung[trial_id][1]

    def earlier(self, trial_id: str, errors: Mapping[int, float]) -> None:
        """Count the errors by epoch that a trial had in an earlier run; what it trained already is not judged again."""
        for epoch, error in errors.items():
            if epoch in self._decisions:
                self._decisions[epoch].setdefault(trial_id, (error, False))


_Decision = tuple[float, bool]
"""The error of a trial at a rung, and whether it was stopped there."""


def halving_of(plan: Plan) -> Halving | None:
    """The scheduler that the experiment of a plan asks for, if any, with what its trials had in earlier runs."""
    settings = plan.experiment.scheduler
    if settings is None:
        return None
    halving = Halving(settings, plan.experiment.training[0].epochs)
    files = plan.store.files("trials")
    for trial in plan.trials:
        halving.earlier(trial.id, _errors(plan.store, trial, files))
    return halving


def keep_stopped(store: Store, trial: Trial, settings: Asha, errors: Mapping[int, float]) -> None:
    """Write down that a scheduler stopped a trial, and its errors by epoch up to there."""
    record = {
        "epoch": max(errors),
        "epochs": trial.training.epochs,
        "errors": {str(epoch): error for epoch, error in errors.items()},
        "scheduler": settings.identity(),
        "stopped_at": datetime.now(UTC).isoformat(),
    }
    store.write_json(trial_file(trial.id, "stopped.json"), record)


def _errors(store: Store, trial: Trial, files: set[str]) -> dict[int, float]:
    """The validation errors by epoch that are stored of a trial; none where the file that holds them is damaged."""
    done, stopped, progress = (
        trial_file(trial.id, name) for name in ("done.json", "stopped.json", "progress.safetensors")
    )
    found: dict[int, float | None] = {}
    with suppress(KeyError, ValueError):  # ResultsError is a ValueError; who goes on with the trial tells of the damage
        if done in files:
            record = store.read_json(done) or {}
            found = dict(enumerate(record["validation_errors"], start=1))
        elif stopped in files:
            record = store.read_json(stopped) or {}
            found = {int(epoch): error for epoch, error in record["errors"].items()}
        elif progress in files:
            header = read_header(store.read(progress) or b"", progress)
            found = {epoch["epoch"]: epoch["validation_error"] for epoch in json.loads(header["history"])}
    return {epoch: error for epoch, error in found.items() if error is not None}
