"""The two pieces of work, as plain functions from settings and a store to files: train a trial, evaluate a checkpoint.

They run in one process without Ray; Ray workers call the same two. Both are safe to run again: what is done is found
in the store and not done twice, and a half-trained trial goes on from its last whole epoch.
"""

import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from pixmix_ray.benchmarks import Benchmark, Measurement, Predictions, TestPictures, limited_batches
from pixmix_ray.checkpoints import Checkpoint, content_id, seal_json, trained
from pixmix_ray.datasets import ImageData
from pixmix_ray.errors import DataError, StorageError
from pixmix_ray.memory import is_out_of_memory
from pixmix_ray.mixing_sets import shorter_side_for
from pixmix_ray.models import fit_weights, open_tensors, seal_tensors
from pixmix_ray.results.failures import forget_failure
from pixmix_ray.results.predictions import predictions_table
from pixmix_ray.results.provenance import code_version, hardware, library_versions
from pixmix_ray.results.schema import measurements_table
from pixmix_ray.results.store import Store, cell_failure_file, cell_file, predictions_file, trial_file
from pixmix_ray.seeding import seed_globally
from pixmix_ray.training import TrainingData, train
from pixmix_ray.trial import BenchmarkRun, Trial


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One more epoch of a trial is safe in the store.

    Attributes:
        epoch: counted from 1.
        epochs: of the whole trial.
        loss: mean training loss of the epoch.
        seconds: wall time of the epoch.
        notice: something that its owner should know, such as a damaged file that was set aside.
    """

    epoch: int
    epochs: int
    loss: float
    seconds: float
    notice: str = ""


def train_trial(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """Train a trial to its end, yielding each epoch once it is safe in the store.

    A trial that is done yields nothing. A half-trained one goes on after its last whole epoch.

    Raises:
        TrainingDivergedError: the loss became NaN or infinite.
        StorageError: what was learned cannot be written.
        DataError: the data changed since the trial was planned.
    """
    if store.read(trial_file(trial.id, "done.json")) is not None:
        return
    with _kept(store):
        store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
        forget_failure(store, trial_file(trial.id, "failed.json"))
        store.delete(trial_file(trial.id, "stopped.json"))
    dataset = trial.dataset.settings.load()
    data = _training_data(trial, dataset, device)
    network = fresh_network(trial, dataset.num_classes).to(device)
    begun = _read_progress(trial, store)
    history, notice = begun.history, begun.notice
    for epoch in train(network, trial.method.settings, data, trial.training, seed=trial.seed, after=begun.after):
        history.append({"epoch": epoch.number, "loss": epoch.loss, "seconds": epoch.seconds})
        header = {"epoch": str(epoch.number), "history": json.dumps(history)}
        with _kept(store):
            content = seal_tensors(_on_cpu(epoch.tensors), header)
            store.write(trial_file(trial.id, "progress.safetensors"), content)
        yield Progress(
            epoch=epoch.number, epochs=trial.training.epochs, loss=epoch.loss, seconds=epoch.seconds, notice=notice
        )
        notice = ""
    with _kept(store):
        _finish(trial, store, network, history, device)


@contextmanager
def _kept(store: Store) -> Iterator[None]:
    """A block that writes results: that they cannot be written is an error of its own class."""
    try:
        yield
    except OSError as error:
        why = " ".join((error.strerror or str(error)).split())[:200]
        raise StorageError(
            f"cannot write to results {store.uri}: {why}. What is done is kept: once there is room and permission, "
            "run the same command again"
        ) from error


def fresh_network(trial: Trial, num_classes: int) -> nn.Module:
    """The trial's network with the weights that its seed names, on the CPU."""
    # the initialisers of torch draw from the global generator only: seed it for this call and give it back as it was
    with torch.random.fork_rng(devices=[]):
        seed_globally(trial.seed, "weights")
        return trial.model.settings.build(num_classes)


def _training_data(trial: Trial, dataset: ImageData, device: torch.device) -> TrainingData:
    _check_unchanged("data set", trial.dataset_version, dataset.version)
    _check_unchanged("method's files", trial.method_version, trial.method.settings.version())
    images = torch.from_numpy(np.array(dataset.train_images)).permute(0, 3, 1, 2).contiguous()
    pictures = None
    if trial.mixing_set is not None:
        found = trial.mixing_set.settings.pictures(shorter_side_for(trial.training.side(images.shape[2])))
        _check_unchanged("mixing set", trial.pictures_version, found.version)
        pictures = found.to(device)
    return TrainingData(
        images=images.to(device),
        labels=torch.from_numpy(np.array(dataset.train_labels)).to(device),
        pictures=pictures,
        version=dataset.version,
    )


def _check_unchanged(what: str, planned: str, found: str) -> None:
    if planned != found:
        versions = f"from {planned or 'none'} to {found or 'none'}"
        raise DataError(f"the {what} changed {versions} since the trial was planned: run again")


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """How far a trial has come.

    Attributes:
        after: number and tensors of the last whole epoch, if there is one.
        history: of the epochs up to it.
        notice: what happened to the file that should say so.
    """

    after: tuple[int, Mapping[str, Tensor]] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    notice: str = ""


def _read_progress(trial: Trial, store: Store) -> _Begun:
    path = trial_file(trial.id, "progress.safetensors")
    content = store.read(path)
    if content is None:
        return _Begun()
    try:
        tensors, header = open_tensors(content, f"{path} in {store.uri}")
        return _Begun(after=(int(header["epoch"]), tensors), history=json.loads(header["history"]))
    except (KeyError, ValueError) as error:  # DamagedError is a ValueError
        aside = store.set_aside(path)
        return _Begun(notice=f"{error}. It is now {aside}, and the trial starts from its beginning")


def _finish(
    trial: Trial, store: Store, network: nn.Module, history: list[dict[str, Any]], device: torch.device
) -> None:
    content = save(_on_cpu(network.state_dict()))
    store.write(trial_file(trial.id, "model.safetensors"), content)
    done = {
        "checkpoint_id": content_id(content),
        "finished_at": datetime.now(UTC).isoformat(),
        "epoch_seconds": [epoch["seconds"] for epoch in history],
        "losses": [epoch["loss"] for epoch in history],
        "device": hardware(device),
        "code_version": code_version(),
        "versions": library_versions(),
        "settings": trial.settings,
    }
    # written last: it marks the trial as complete
    store.write_json(trial_file(trial.id, "done.json"), seal_json(done))
    store.delete(trial_file(trial.id, "progress.safetensors"))
    store.delete(trial_file(trial.id, "failed.json"))


def evaluate_cell(
    checkpoint: Checkpoint, run: BenchmarkRun, store: Store, device: torch.device, code: str
) -> list[Measurement]:
    """Evaluate a checkpoint on a benchmark and write predictions, then measurements.

    Raises:
        CheckpointError: the weights do not fit the model.
        WorkError: the network's output is not finite.
        StorageError: the measurements cannot be written.
    """
    started = time.perf_counter()
    data = checkpoint.dataset.settings.load()
    network = _frozen(checkpoint, data, device)
    benchmark = run.benchmark.settings
    pictures = benchmark.pictures(data.test_images, data.test_labels)
    predictions = _predict_within_memory(benchmark, network, pictures, device)
    measurements = benchmark.measure(predictions)
    common = {
        "trial_id": checkpoint.trial_id,
        "checkpoint_id": checkpoint.checkpoint_id,
        **checkpoint.described,
        "benchmark": run.name,
        "benchmark_settings": json.dumps(run.benchmark.identity(), sort_keys=True),
        "data_version": ";".join(filter(None, [data.version, run.version])),
        "seconds": time.perf_counter() - started,
        "device": hardware(device),
        "code_version": code,
        "versions": json.dumps(library_versions(), sort_keys=True),
        "finished_at": datetime.now(UTC),
    }
    table = predictions_table(predictions, benchmark.extras)
    with _kept(store):
        store.write_table(predictions_file(checkpoint.trial_id, run.key), table)
        # written last: it marks the cell as complete
        store.write_table(cell_file(checkpoint.trial_id, run.key), measurements_table(measurements, common))
        store.delete(cell_failure_file(checkpoint.trial_id, run.key))
    return measurements


def _predict_within_memory(
    benchmark: Benchmark, network: nn.Module, pictures: TestPictures, device: torch.device
) -> Predictions:
    """The benchmark's predictions, in batches that are halved for as long as memory runs out."""
    at_most: int | None = None
    while True:
        with limited_batches(at_most) as limit:
            try:
                return benchmark.predict(network, pictures, device)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or limit.last <= 1:
                    raise
        at_most = limit.last // 2
        free_memory(device)  # only here, where the error and all that its frames held are gone


def free_memory(device: torch.device) -> None:
    """Give back what failed work still holds on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


Measure = Callable[[BenchmarkRun], object]
"""Measures one cell of a checkpoint that was opened; what it returns is of no account, what it writes is."""


def open_trial(trial: Trial, store: Store, device: torch.device, code: str) -> Measure:
    """Read the checkpoint of a trial that is done; the result evaluates it on a benchmark, as `evaluate_cell`.

    Raises:
        DamagedError: the checkpoint is missing, or its bytes are not those that were written.
    """
    checkpoint = trained(trial, store)
    return lambda run: evaluate_cell(checkpoint, run, store, device, code)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The two pieces of work that a run hands out. A simulation puts others in their place, and changes nothing else.

    Attributes:
        train: as `train_trial`.
        evaluate: as `open_trial`.
    """

    train: Callable[[Trial, Store, torch.device], Iterator[Progress]] = train_trial
    evaluate: Callable[[Trial, Store, torch.device, str], Measure] = open_trial


def evaluate_here(
    checkpoint: Checkpoint, runs: Iterable[BenchmarkRun], results: str | None
) -> Iterator[tuple[BenchmarkRun, list[Measurement]]]:
    """Evaluate a checkpoint in this process, on the GPU if there is one, and yield each benchmark as it is done.

    Args:
        checkpoint: what to evaluate.
        runs: on what.
        results: folder or URI for the rows; none keeps nothing.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory(prefix="pixmix_ray_") as scratch:
        store = Store(results or scratch)
        store.check_writable()
        for run in runs:
            yield run, evaluate_cell(checkpoint, run, store, device, code_version())


def _frozen(checkpoint: Checkpoint, data: ImageData, device: torch.device) -> nn.Module:
    network = checkpoint.model.settings.build(data.num_classes)
    fit_weights(network, dict(checkpoint.weights), checkpoint.source)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stub
    return network.eval().requires_grad_(requires_grad=False)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
