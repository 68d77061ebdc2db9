"""Work that takes no time to speak of, for tests of how work is ordered, placed and stopped."""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch

from pixmix_ray.evaluation.cell import Measure
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, hash_of_test_set
from pixmix_ray.orchestration.work import Work
from pixmix_ray.storage.store import Store, cell_file, trial_file
from pixmix_ray.training.trial import Progress

# the workers cannot import the tests
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # it has no types
CHECKPOINT = "0123456789ab"  # the hash of their weights, which nobody reads
SECONDS = 3.0  # of a trial whose placement is looked at: long enough that several run at the same time


def train_by_seed(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """A trial whose loss is its seed plus one throughout; for cutout a hundred times that."""
    store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    path = trial_file(trial.id, "epoch.json")
    epochs = trial.training.epochs
    loss = (trial.seed + 1) * (100.0 if trial.method.name == "cutout" else 1.0)
    for epoch in range((store.read_json(path) or {"epoch": 0})["epoch"] + 1, epochs + 1):
        store.write_json(path, {"epoch": epoch})
        yield Progress(epoch=epoch, epochs=epochs, loss=loss, seconds=0.001)
    store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": CHECKPOINT, "losses": [loss] * epochs})


def evaluate_nothing(trial: Trial, store: Store, device: torch.device, code: str) -> Measure:
    """Cells that hold nothing."""
    return lambda run: store.write(path_of(trial, run), b"")


def path_of(trial: Trial, run: BenchmarkRun) -> str:
    """Where the cell of a trial of ours lies."""
    return cell_file(f"{trial.id}/{run.cell_key(hash_of_test_set(trial.dataset), CHECKPOINT)}")


def train_and_tell_where(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """A trial that writes down where and when it ran."""
    started = time.time()
    time.sleep(SECONDS)
    yield Progress(epoch=1, epochs=1, loss=1.0, seconds=SECONDS)
    store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": CHECKPOINT, **where(started)})


def evaluate_and_tell_where(trial: Trial, store: Store, device: torch.device, code: str) -> Measure:
    """Cells, likewise."""
    return lambda run: store.write(path_of(trial, run), json.dumps(where(time.time())).encode())


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
