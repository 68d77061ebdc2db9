"""Checkpoints that can be evaluated: those of our trials, and state_dict files of anybody's with a named model."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from pixmix_ray.datasets import Dataset, DataVersionWarning
from pixmix_ray.errors import CheckpointError, DamagedError, RequestError, one_line
from pixmix_ray.experiment.file import override
from pixmix_ray.experiment.plugins import BENCHMARKS, DATASETS, MODELS, Part
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, hash_of_test_set
from pixmix_ray.hashing import hash_of_values
from pixmix_ray.models import Model, parse_weights, read_weights
from pixmix_ray.storage.sealed import content_id, open_json
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.trust import check_trusted

EXTERNAL = "external"  # the method of weights that no trial of ours made


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained network and what a results row says of it.

    Attributes:
        source: where it was read from, for messages.
        trial_id: names the folder of its cells; of somebody else's weights `external-` and a hash.
        checkpoint_id: hash of the file of its weights.
        dataset: what it is evaluated on.
        model: its architecture.
        weights: its state_dict.
        described: the columns dataset, model, method, mixing_set, k, beta, seed, settings of its rows.
        class_names: of its outputs, in their order; none where nobody wrote them down.
    """

    source: str
    trial_id: str
    checkpoint_id: str
    dataset: Part[Dataset]
    model: Part[Model]
    weights: Mapping[str, Tensor]
    described: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None

    def check_classes(self, found: Sequence[str]) -> None:
        """Return if these classes of a data set are those that the network was trained on, in their order.

        Raises:
            CheckpointError: they are others, as after a class was renamed: its outputs mean other classes then.
        """
        if self.class_names is None or tuple(found) == self.class_names:
            return
        place = next((i for i, (a, b) in enumerate(zip(found, self.class_names, strict=False)) if a != b), -1)
        which = (
            f"number {place} is {found[place]!r} there and {self.class_names[place]!r} in the training"
            if place >= 0
            else f"there are {len(found)}, and {len(self.class_names)} in the training"
        )
        raise CheckpointError(
            f"{self.source} was trained on other classes than those of the data set: {which}; give the data set with "
            "the classes it was trained on, in their order"
        )

    @cached_property
    def test_set(self) -> str:
        """A hash of what decides the test pictures that it is evaluated on."""
        return hash_of_test_set(self.dataset)

    def cell(self, run: BenchmarkRun) -> str:
        """The name of its cell on a benchmark: CHECKPOINT/NAME-KEY."""
        return f"{self.trial_id}/{run.cell_key(self.test_set, self.checkpoint_id)}"


def trained(trial: Trial, store: Store) -> Checkpoint:
    """The checkpoint of a trial that is done.

    Raises:
        DamagedError: it is missing, or its bytes are not those that were written.
    """
    done = _done(trial, store)
    path = trial_file(trial.id, "model.safetensors")
    content = store.read(path)
    if content is None:
        raise DamagedError(f"{path} in {store.uri} is missing: run the experiment again, which makes it anew")
    if content_id(content) != done.get("checkpoint_id"):
        raise DamagedError(f"{path} in {store.uri} was damaged: run the experiment again, which makes it anew")
    return Checkpoint(
        source=f"{path} in {store.uri}",
        trial_id=trial.id,
        checkpoint_id=done["checkpoint_id"],
        dataset=trial.dataset,
        model=trial.model,
        weights=parse_weights(content, path),
        described={
            "dataset": trial.dataset.own_name,
            "model": trial.model.settings.label(),
            "method": trial.method.own_name,
            "mixing_set": trial.mixing_set_label,
            "k": trial.setting("k"),
            "beta": trial.setting("beta"),
            "seed": trial.seed,
            "settings": json.dumps(trial.settings, sort_keys=True),
            "training_code_version": done.get("code_version"),
        },
        class_names=None if done.get("class_names") is None else tuple(done["class_names"]),
    )


def _done(trial: Trial, store: Store) -> dict[str, Any]:
    """What was written when the trial was complete."""
    path = trial_file(trial.id, "done.json")
    content = store.read(path)
    if content is None:
        raise DamagedError(f"{path} in {store.uri} is missing: run the experiment again")
    return open_json(content, f"{path} in {store.uri}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `pixmix-ray evaluate` was asked for.

    Attributes:
        checkpoint: the folder or URI of one of our trials, or a file of weights.
        benchmarks: their names, or anything else that an experiment file takes for one.
        model: for a file: its architecture, likewise.
        dataset: for a file: the data set, likewise.
        overrides: `key.path=value` below dataset, model and benchmarks.
        is_trusted: whether the classes that the file of a trial names as module:Class may be imported.
    """

    checkpoint: str
    benchmarks: tuple[object, ...]
    model: object | None = None
    dataset: object | None = None
    overrides: tuple[str, ...] = ()
    is_trusted: bool = False

    def open(self) -> tuple[Checkpoint, list[BenchmarkRun]]:
        """The checkpoint and the benchmarks, validated.

        Raises:
            RequestError: something is unknown, missing or does not fit.
        """
        found = self._trial()
        raw: dict[str, Any] = {
            "dataset": self.dataset if found is None else found.trial.dataset.dump(),
            "model": self.model if found is None else found.trial.model.dump(),
            "benchmarks": list(self.benchmarks),
        }
        for text in self.overrides:
            raw = override(raw, text)
        if unknown := set(raw) - {"dataset", "model", "benchmarks"}:
            raise RequestError(f"--set {unknown.pop()}: evaluate takes keys below dataset, model and benchmarks")
        runs = [_benchmark_run(spec) for spec in raw["benchmarks"]]
        dataset, model = DATASETS.read(raw["dataset"]), MODELS.read(raw["model"])
        if found is None:
            return _external_checkpoint(Path(self.checkpoint), dataset, model), runs
        if model.dump() != found.trial.model.dump() or type(dataset.settings) is not type(found.trial.dataset.settings):
            raise RequestError("--set: model and data set of a trial of ours are those that it was trained with")
        if (version := dataset.settings.version()) != found.trial.dataset_version:
            warnings.warn(
                f"the data set is {version}, and was {found.trial.dataset_version} when {found.trial.id} was trained",
                DataVersionWarning,
                stacklevel=2,
            )
        return replace(trained(found.trial, found.store), dataset=dataset), runs

    def _trial(self) -> "_Stored | None":
        """The trial, if the checkpoint is a folder of ours; none if it is a file with model and data set named."""
        where = self.checkpoint.rstrip("/")
        if "://" in where or Path(where).is_dir():
            if self.model is not None or self.dataset is not None:
                raise RequestError(f"{where} is a trial of ours: leave --model and --dataset out")
            return _stored(where if "://" in where else str(Path(where).resolve()), is_trusted=self.is_trusted)
        if not Path(where).is_file():
            raise CheckpointError(f"no checkpoint {where}: give RESULTS/trials/TRIAL, or a file of weights")
        if self.model is None or self.dataset is None:
            raise RequestError(
                f"{where} is a file of weights: say what it is with --model "
                f"({', '.join(MODELS.known())}) and --dataset ({', '.join(DATASETS.known())})"
            )
        return None


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A trial and the results folder in which it lies."""

    trial: Trial
    store: Store


def _stored(where: str, *, is_trusted: bool) -> _Stored:
    """The trial whose folder is RESULTS/trials/TRIAL."""
    results, _, trial_id = where.rpartition("/trials/")
    store = Store(results or where)
    path = trial_file(trial_id, "trial.json")
    values = store.read_json(path) if results else None
    if values is None:
        raise CheckpointError(f"{where} is no trial of ours: give RESULTS/trials/TRIAL, or a file of weights")
    check_trusted(values, f"{path} in {store.uri}", is_trusted=is_trusted)
    try:
        return _Stored(trial=Trial.load(values), store=store)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} in {store.uri} is damaged: {one_line(error)}") from None


def _benchmark_run(spec: object) -> BenchmarkRun:
    part = BENCHMARKS.read(spec)
    return BenchmarkRun(benchmark=part, version=part.settings.version())


def external_id(model: Mapping[str, Any], checkpoint_id: str) -> str:
    """The name of somebody else's weights: of their content and their model, whatever file or data set is named."""
    return f"external-{hash_of_values({'model': dict(model), 'checkpoint_id': checkpoint_id})}"


def _external_checkpoint(file: Path, dataset: Part[Dataset], model: Part[Model]) -> Checkpoint:
    weights = read_weights(file)
    checkpoint_id = content_id(file.read_bytes())
    settings = {"checkpoint_id": checkpoint_id, "dataset": dataset.identity(), "model": model.identity()}
    return Checkpoint(
        source=str(file),
        trial_id=external_id(model.identity(), checkpoint_id),
        checkpoint_id=checkpoint_id,
        dataset=dataset,
        model=model,
        weights=weights,
        described={
            "dataset": dataset.own_name,
            "model": model.settings.label(),
            "method": EXTERNAL,
            "mixing_set": None,
            "k": None,
            "beta": None,
            "seed": 0,
            "settings": json.dumps(settings, sort_keys=True),
            "training_code_version": None,
        },
    )
