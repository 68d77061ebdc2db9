"""Every operation of the results folder fails once: afterwards the same command completes, with the same bits.

A small experiment is run in this process with light work in place of training and networks. In run N the Nth operation
of the folder raises an error, writes half of its bytes and raises, or is the last before the process is killed.
"""

import builtins
import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from pixmix_ray import paths
from pixmix_ray.errors import DamagedError, PixmixRayError
from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, hash_of_test_set
from pixmix_ray.identity import short_hash
from pixmix_ray.metrics import Measurement
from pixmix_ray.orchestration.run import Run, run_plan
from pixmix_ray.orchestration.work import Measure, Work
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage import index, local_files, run_lock
from pixmix_ray.storage.failures import forget_failure
from pixmix_ray.storage.schema import PREDICTIONS
from pixmix_ray.storage.sealed import open_json, seal_json
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file
from pixmix_ray.training.trial import Progress
from tests.stored_cells import put

TRIALS, CELLS, EPOCHS = 4, 5, 2
STRIDE = 20  # operations between two of a test
KINDS = {"rename": "rename", "replace": "rename", "link": "rename", "unlink": "delete", "scandir": "list"}
DEFAULT = (10,)  # with each twentieth operation the default suite is content
DRILLS = [first for first in range(STRIDE) if first not in DEFAULT]
Fault = Literal["raises", "torn", "killed"]
T = TypeVar("T")


class Killed(BaseException):
    """The process is gone: nothing that it would still do reaches the disk."""


@dataclass
class Disk:
    """The system's calls as `local_files` makes them, of which the one of number `at` fails."""

    at: int | None = None
    fault: Fault = "raises"
    calls: list[str] = field(default_factory=list)
    is_dead: bool = False

    def call(self, kind: str, action: Callable[[], T], torn: Callable[[], object] = lambda: None) -> T:
        """Do `action`, or fail; `torn` does half of it."""
        if self.is_dead:
            raise Killed
        self.calls.append(kind)
        if len(self.calls) - 1 != self.at:
            return action()
        if self.fault == "killed":
            self.is_dead = True
            with suppress(OSError):
                left_open = action()
                getattr(left_open, "close", lambda: None)()  # as the system does for a dead process
            raise Killed
        if self.fault == "torn":
            torn()
        raise OSError(errno.EIO, "simulated error of the disk")

    def open(self, place: str, mode: str) -> "BinaryIO | Stream":
        if mode == "rb":
            return self.call("read", lambda: builtins.open(place, "rb"))
        return Stream(self, self.call("create", lambda: builtins.open(place, "xb")))


class Stream:
    """A file that is being written."""

    def __init__(self, disk: Disk, file: BinaryIO) -> None:
        self.disk, self.file = disk, file
        self.flush, self.fileno = file.flush, file.fileno

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.file.close()

    def write(self, content: bytes) -> int:
        half = content[: len(content) // 2]
        return self.disk.call("write", lambda: self.file.write(content), lambda: self.file.write(half))


class System:
    """The module os, whose calls go through a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def __getattr__(self, name: str) -> Any:
        real, kind = getattr(os, name), KINDS.get(name)
        return real if kind is None else lambda *places: self.disk.call(kind, lambda: real(*places))

    def fsync(self, _: int) -> None:
        self.disk.call("fsync", lambda: None)  # no machine goes down here, and it would take most of the time


@pytest.fixture
def insert(monkeypatch: pytest.MonkeyPatch) -> Callable[[Disk], Disk]:
    """Puts a disk below all stores of this process."""
    monkeypatch.setattr(run_lock, "SETTLING", 0.0)
    monkeypatch.setattr(run_lock, "RENEWAL", 1e6)  # no thread makes operations between those of the run
    # each run is another process, as far as the lock can see, and those before have ended
    monkeypatch.setattr(run_lock.RunLock, "_is_alive", lambda lock, found: False)

    def put_below(disk: Disk) -> Disk:
        for module in (local_files, paths):
            monkeypatch.setattr(module, "os", System(disk))
        monkeypatch.setattr(local_files, "open", disk.open, raising=False)
        return disk

    return put_below


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def train(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """The files of `train_trial` in their order; the weights are a hash over all epochs."""
    if store.read(trial_file(trial.id, "done.json")) is not None:
        return
    store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    forget_failure(store, trial_file(trial.id, "failed.json"))
    store.delete(trial_file(trial.id, "stopped.json"))
    path = trial_file(trial.id, "progress.safetensors")
    begun = store.read_json(path) or {"epoch": 0, "weights": digest(trial.id)}
    weights = begun["weights"]
    for epoch in range(begun["epoch"] + 1, EPOCHS + 1):
        weights = digest(weights, epoch)
        store.write_json(path, {"epoch": epoch, "weights": weights})
        yield Progress(epoch=epoch, epochs=EPOCHS, loss=1.0, seconds=0.0)
    store.write(trial_file(trial.id, "model.safetensors"), weights.encode())
    done = seal_json(
        {"checkpoint_id": short_hash(weights.encode()), "settings": trial.settings, "epoch_seconds": [0.0]}
    )
    store.write_json(trial_file(trial.id, "done.json"), done)
    store.delete(path)
    store.delete(trial_file(trial.id, "failed.json"))


def evaluate(trial: Source, store: Store, device: torch.device) -> Measure:
    """Cells as `open_trial` writes them; the predictions are a hash of the weights."""
    content = store.read(trial_file(trial.id, "done.json"))
    weights = store.read(trial_file(trial.id, "model.safetensors"))
    if content is None or weights is None:
        raise DamagedError(f"the checkpoint of {trial.id} is missing")
    checkpoint = open_json(content, "done.json")["checkpoint_id"]
    if short_hash(weights) != checkpoint:
        raise DamagedError(f"the checkpoint of {trial.id} was damaged")

    def measure(run: BenchmarkRun) -> None:
        name = f"{trial.id}/{run.cell_key(hash_of_test_set(trial.dataset), checkpoint)}"
        if not store.exists(cell_file(name)):
            rows = predictions(digest(weights, run.key))
            wrong = int(np.count_nonzero(rows["predicted"].to_numpy()))
            measured = Measurement(metric="error", value=wrong / len(rows), n=len(rows))
            put(store, name, measured, rows=rows, trial_id=trial.id, checkpoint_id=checkpoint)
            store.delete(cell_failure_file(trial.id, run.key))

    return measure


def predictions(of: str) -> pa.Table:
    """A row for each digit of a hash: label 0, and the digit is the class that was predicted."""
    count = len(of)
    columns = {
        "condition": pa.array([""] * count).dictionary_encode(),
        "severity": np.zeros(count, np.int8),
        "index": np.arange(count, dtype=np.int32),
        "label": np.zeros(count, np.int16),
        "predicted": np.array([int(digit, 16) for digit in of], np.int16),
        "confidence": np.full(count, 0.5, np.float32),
    }
    return pa.table(columns, schema=PREDICTIONS)


def command(results: Path) -> Run:
    """What a user types, from the experiment to the end."""
    experiment = {
        "results": str(results),
        "dataset": "digits",
        "methods": ["baseline"],
        "training": {"epochs": EPOCHS, "flip": False},
        "seeds": list(range(TRIALS)),
        "benchmarks": [{"name": "clean", "limit": limit} for limit in range(10, 10 + CELLS)],
    }
    made = make_plan(read_experiment(experiment))
    return run_plan(made, executor="local", work=Work(train=train, evaluate=evaluate))


def kept(results: Path) -> dict[str, object]:
    """All that matters in a results folder.

    Not compared are times, the accounts of runs, files that were left half-written, and the progress of a trial that
    is done, which counts for nothing.
    """
    files = {str(path.relative_to(results)): path for path in results.rglob("*") if path.is_file()}
    of_no_account = (".part", "progress.safetensors")
    whole: dict[str, object] = {
        name: path.read_bytes()
        for name, path in files.items()
        if name.startswith(("cells/", "trials/")) and not name.endswith(of_no_account)
    }
    return {**whole, "index": index.read_rows(Store(results)).drop_columns(["cell_modified"]).to_pylist()}


def failing_run(results: Path) -> None:
    """The first run: it is killed, ends with an error that says to try again, or gets by; no work is blamed."""
    try:
        done = command(results)
    except Killed:
        return
    except PixmixRayError as error:
        has_started = (results / "trials").exists()
        assert error.exit_code in ({75} if has_started else {2, 75}), f"{error} ({type(error).__name__})"
    else:
        assert not done.failures, done.failures


# a write alone can be torn
@pytest.mark.parametrize("fault", ["raises", "torn", "killed"])
@pytest.mark.parametrize("first", [*DEFAULT, *(pytest.param(first, marks=pytest.mark.drill) for first in DRILLS)])
def test_after_any_operation_fails_the_same_command_completes_with_the_same_bits(
    fault: Fault, first: int, tmp_path: Path, insert: Callable[[Disk], Disk]
) -> None:
    calls = insert(Disk()).calls
    assert command(tmp_path / "undisturbed").failures == ()
    calls = list(calls)
    expected = kept(tmp_path / "undisturbed")
    assert len(expected) == 1 + TRIALS * (3 + CELLS)  # the index; trial.json, the weights and done.json; the cells
    failing = [number for number, kind in enumerate(calls) if fault != "torn" or kind == "write"]
    for number in itertools.islice(failing, first, None, STRIDE):
        results = tmp_path / str(number)
        insert(Disk(at=number, fault=fault))
        failing_run(results)
        insert(Disk())
        what = f"operation {number} ({calls[number]})"
        assert command(results).failures == (), what
        assert kept(results) == expected, what


def test_all_kinds_of_operations_are_among_them(tmp_path: Path, insert: Callable[[Disk], Disk]) -> None:
    disk = insert(Disk())
    command(tmp_path)
    assert set(disk.calls) == {"create", "write", "fsync", "rename", "list", "read", "delete"}
