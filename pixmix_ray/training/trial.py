"""One trial, from its settings to its checkpoint, without Ray. Safe to run again: what is done is not done twice."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from pixmix_ray.datasets import ImageData
from pixmix_ray.errors import DataError, PreemptedError
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.hardware import hardware
from pixmix_ray.identity import short_hash
from pixmix_ray.mixing_sets import shorter_side_for
from pixmix_ray.models import open_tensors, seal_tensors
from pixmix_ray.seeding import rng, seed_globally
from pixmix_ray.storage.failures import forget_failure
from pixmix_ray.storage.provenance import code_version, library_versions
from pixmix_ray.storage.sealed import seal_json
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.training import TrainingData, train
from pixmix_ray.training.batches import TrainingSource
from pixmix_ray.training.streamed import StreamedData, reading_processes
from pixmix_ray.training.workers import ALONE, Workers


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One more epoch of a trial, or a part of one, is safe in the store.

    Attributes:
        epoch: counted from 1.
        epochs: of the whole trial.
        loss: mean training loss of the epoch.
        validation_error: on the pictures held out after the epoch, a fraction in [0, 1]; none without any.
        seconds: wall time of the epoch.
        notice: something that its owner should know, such as a damaged file that was set aside.
        is_whole: whether the epoch has ended.
    """

    epoch: int
    epochs: int
    loss: float
    seconds: float
    validation_error: float | None = None
    notice: str = ""
    is_whole: bool = True


def train_trial(trial: Trial, store: Store, device: torch.device, workers: Workers = ALONE) -> Iterator[Progress]:
    """Train a trial to its end, yielding each epoch, and what is saved in between, once it is safe in the store.

    A trial that is done yields nothing. A half-trained one goes on where it was last saved. Of several workers that
    train it together each calls this with its own device, yields the same, and the first one alone reads and writes it.

    Raises:
        PreemptedError: the process, or that of another worker, was told that it will be ended; all is safe.
        TrainingDivergedError: the loss became NaN or infinite.
        StorageError: what was learned cannot be written.
        DataError: the data changed since the trial was planned.
    """
    is_done = workers.is_first and store.read(trial_file(trial.id, "done.json")) is not None
    if workers.is_any(is_done):
        return
    if workers.is_first:
        store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
        forget_failure(store, trial_file(trial.id, "failed.json"))
        store.delete(trial_file(trial.id, "stopped.json"))
    dataset = trial.dataset.settings.load()
    data = _training_data(trial, dataset, device)
    network = fresh_network(trial, dataset.num_classes).to(device)
    begun = _read_progress(trial, store, workers)
    history, notice = begun.history, begun.notice
    method, after = trial.method.settings, begun.after
    for epoch in train(network, method, data, trial.training, seed=trial.seed, after=after, workers=workers):
        if epoch.is_whole:
            history.append(
                {
                    "epoch": epoch.number,
                    "loss": epoch.loss,
                    "validation_error": epoch.validation_error,
                    "seconds": epoch.seconds,
                }
            )
        header = {"epoch": str(len(history)), "history": json.dumps(history)}
        if workers.is_first:
            content = seal_tensors(_on_cpu(epoch.tensors), header)
            store.write(trial_file(trial.id, "progress.safetensors"), content)
        yield Progress(
            epoch=epoch.number,
            epochs=trial.training.epochs,
            loss=epoch.loss,
            seconds=epoch.seconds,
            validation_error=epoch.validation_error,
            notice=notice,
            is_whole=epoch.is_whole,
        )
        notice = ""
        if len(history) < trial.training.epochs and workers.are_ending():
            raise PreemptedError(
                f"this machine will be taken away: saved in epoch {epoch.number}, to continue elsewhere"
            )
    if workers.is_first:
        _finish(trial, store, network, history, device, dataset.class_names)


def fresh_network(trial: Trial, num_classes: int) -> nn.Module:
    """The trial's network with the weights that its seed names, on the CPU."""
    # the initialisers of torch draw from the global generator only: seed it for this call and give it back as it was
    with torch.random.fork_rng(devices=[]):
        seed_globally(trial.seed, "weights")
        return trial.model.settings.build(num_classes)


def _training_data(trial: Trial, dataset: ImageData, device: torch.device) -> TrainingSource:
    _check_unchanged("data set", trial.dataset_version, dataset.version)
    _check_unchanged("method's files", trial.method_version, trial.method.settings.version())
    labels, height, held_out, pictures = np.array(dataset.train_labels), dataset.train_images.shape[1], None, None
    if trial.training.validation is not None:
        held_out = held_out_rows(labels, trial.training.validation, dataset.version)
    if trial.mixing_set is not None:
        found = trial.mixing_set.settings.pictures(shorter_side_for(trial.training.side(height)))
        _check_unchanged("mixing set", trial.pictures_version, found.version)
        pictures = found.to(device)
    if dataset.train_files is not None:
        return StreamedData(
            files=dataset.train_files,
            device=device,
            height=height,
            resize=dataset.resize or height,
            version=dataset.version,
            pictures=pictures,
            held_out=held_out,
            workers=reading_processes(device),
        )
    images = torch.from_numpy(np.array(dataset.train_images)).permute(0, 3, 1, 2).contiguous()
    return TrainingData(
        images=images.to(device),
        labels=torch.from_numpy(labels).to(device),
        pictures=pictures,
        version=dataset.version,
        held_out=None if held_out is None else torch.from_numpy(held_out).to(device),
    )


def held_out_rows(labels: NDArray[np.int64], fraction: float, version: str) -> NDArray[np.int64]:
    """The rows of the training set that are held out, in order: `fraction` of them, rounded, at least one.

    They are a function of the arguments alone, so that all trials of an experiment, whatever their seed, are measured
    on the same pictures. Each class has its share, to a picture; and those of a fraction are among those of a larger.

    Args:
        labels: (N,) the classes of all training pictures.
        fraction: in (0, 0.5].
        version: of the training set's content, which names the random order.
    """
    order = rng(0, "validation", version).permutation(len(labels))
    shuffled, place = labels[order], np.empty(len(labels))
    for label in np.unique(shuffled):
        of_class = np.flatnonzero(shuffled == label)
        place[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)  # from 0 to 1 in each class
    first = np.argsort(place, kind="stable")[: max(1, round(fraction * len(labels)))]
    return np.sort(order[first])


def _check_unchanged(what: str, planned: str, found: str) -> None:
    if planned != found:
        versions = f"from {planned or 'none'} to {found or 'none'}"
        raise DataError(f"the {what} changed {versions} since the trial was planned: run again")


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """How far a trial has come.

    Attributes:
        after: number of the last whole epoch, and tensors to go on from, if there are any.
        history: of the epochs up to it.
        notice: what happened to the file that should say so.
    """

    after: tuple[int, Mapping[str, Tensor]] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    notice: str = ""


def _read_progress(trial: Trial, store: Store, workers: Workers) -> _Begun:
    path = trial_file(trial.id, "progress.safetensors")
    content = workers.content(store.read(path) if workers.is_first else None)
    if content is None:
        return _Begun()
    try:
        tensors, header = open_tensors(content, f"{path} in {store.uri}")
        return _Begun(after=(int(header["epoch"]), tensors), history=json.loads(header["history"]))
    except (KeyError, ValueError) as error:  # DamagedError is a ValueError
        aside = store.set_aside(path) if workers.is_first else "set aside"
        return _Begun(notice=f"{error}. It was moved to {aside}, and the trial starts again")


def _finish(
    trial: Trial,
    store: Store,
    network: nn.Module,
    history: list[dict[str, Any]],
    device: torch.device,
    class_names: tuple[str, ...],
) -> None:
    content = save(_on_cpu(network.state_dict()))
    store.write(trial_file(trial.id, "model.safetensors"), content)
    done = {
        "checkpoint_id": short_hash(content),
        "finished_at": datetime.now(UTC).isoformat(),
        "epoch_seconds": [epoch["seconds"] for epoch in history],
        "losses": [epoch["loss"] for epoch in history],
        "validation_errors": [epoch.get("validation_error") for epoch in history],
        "device": hardware(device),
        "code_version": code_version(),
        "versions": library_versions(),
        "settings": trial.settings,
        "class_names": class_names,
    }
    # written last: it marks the trial as complete
    store.write_json(trial_file(trial.id, "done.json"), seal_json(done))
    store.delete(trial_file(trial.id, "progress.safetensors"))
    store.delete(trial_file(trial.id, "failed.json"))


def set_aside(trial: Trial, store: Store) -> None:
    """Give the files of a damaged checkpoint other names, so that the trial counts as not done."""
    for name in ("done.json", "model.safetensors"):  # the mark first: half of this must not leave it standing
        store.set_aside(trial_file(trial.id, name))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
