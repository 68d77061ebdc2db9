"""Work that takes no time to speak of, for tests of how work is ordered, placed and stopped."""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch

from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.work import Measure, Work
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.training.trial import Progress
from tests import stored_cells
from tests.stored_cells import CHECKPOINT, ERROR, put_of

# the workers cannot import the tests
for module in (sys.modules[__name__], stored_cells):
    ray.cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]  # it has no types
SECONDS = 3.0  # of a trial whose placement is looked at: long enough that several run at the same time


def train_by_seed(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """A trial whose validation error is a tenth of its seed plus one throughout; it goes on after its last epoch."""
    store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    path = trial_file(trial.id, "epoch.json")
    epochs, error = trial.training.epochs, (trial.seed + 1) / 10
    for epoch in range((store.read_json(path) or {"epoch": 0})["epoch"] + 1, epochs + 1):
        store.write_json(path, {"epoch": epoch})
        yield Progress(epoch=epoch, epochs=epochs, loss=1.0, validation_error=error, seconds=0.001)
    finish(trial, store, validation_errors=[error] * epochs)


def finish(trial: Trial, store: Store, **told: object) -> None:
    """Mark a trial as done."""
    store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": CHECKPOINT, **told})


def evaluate_nothing(trial: Source, store: Store, device: torch.device) -> Measure:
    """Cells with the same made-up measurement."""
    return lambda run: put_of(store, trial, run, ERROR)


def train_and_tell_where(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """A trial that writes down where and when it ran."""
    started = time.time()
    time.sleep(SECONDS)
    yield Progress(epoch=1, epochs=1, loss=1.0, seconds=SECONDS)
    finish(trial, store, **where(started))


def evaluate_and_tell_where(trial: Source, store: Store, device: torch.device) -> Measure:
    """Cells, likewise, in their column `versions`."""
    return lambda run: put_of(store, trial, run, ERROR, versions=json.dumps(where(time.time())))


def where(started: float) -> dict[str, Any]:
    """The node, the GPUs that torch would see, the threads, and the time."""
    return {
        "node": ray.get_runtime_context().get_node_id(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "threads": torch.get_num_threads(),
        "started": started,
        "ended": time.time(),
    }


BY_SEED = Work(train=train_by_seed, evaluate=evaluate_nothing)
TELLING = Work(train=train_and_tell_where, evaluate=evaluate_and_tell_where)
