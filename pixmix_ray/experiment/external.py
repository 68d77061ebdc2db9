"""`checkpoints` of an experiment: networks that it does not train and evaluates like its own.

Each entry names a model with its settings and weights of anybody's, or a trial of ours in another results folder:

    checkpoints:
      - {model: cifar_resnet, depth: 20, weights: cifar10_resnet20.th, label: ResNet-20}
      - {model: timm, arch: resnet50, weights: "zoo/*.safetensors"}     # as many as match
      - {model: torchvision_model, arch: resnet50, pretrained: true}
      - {trial: ../results/other/trials/pixmix-0123456789ab}

What such a checkpoint is, is the content of its weights, its model with all settings, and its classes: not its label,
nor where the files lie.
"""

import glob
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Field, PlainValidator, model_validator

from pixmix_ray.datasets import DATASETS, Dataset, DataVersionWarning
from pixmix_ray.errors import CheckpointError, RequestError, UnknownNameError, one_line
from pixmix_ray.experiment.class_map import ClassMap
from pixmix_ray.experiment.labels import distinct
from pixmix_ray.experiment.trial import BenchmarkRun, Trial, done_record, hash_of_test_set
from pixmix_ray.identity import hash_of_values
from pixmix_ray.models import MODELS, Model
from pixmix_ray.plugins import Part, check_trusted
from pixmix_ray.settings import DataPath, ResultsUri, Settings, base_folder
from pixmix_ray.storage.store import Store, trial_file

REQUESTS = 32  # at the same time, to object storage
PREFIX = "external-"  # of the ids of somebody else's weights
GLOB = frozenset("*?[")


class CheckpointEntry(Settings):
    """One entry of `checkpoints`; keys that are none of these are settings of its model.

    Attributes:
        model: the architecture of somebody else's weights.
        weights: a file or folder of them, or a pattern such as zoo/*.pth, which stands for all that match.
        pretrained: take the weights that the model's own library publishes, in place of `weights`.
        classes: the classes of its outputs where they are not those of the data set: `imagenet`, a file with a name a
            line, names, or for each class of the data set the number of its output.
        label: its name in tables.
        dataset: what it is evaluated on; by default the experiment's.
        trial: a trial of ours, RESULTS/trials/TRIAL, in place of a model and weights.
        trust: whether classes that the file of such a trial names may be imported, and weights that are programs run.
    """

    model: Annotated[
        Part[Model] | None, PlainValidator(lambda value, info: value and MODELS.read(value, base_folder(info)))
    ] = None
    weights: DataPath | None = None
    pretrained: bool = False
    classes: Annotated[
        ClassMap | None, PlainValidator(lambda value, info: value and ClassMap.read(value, base_folder(info)))
    ] = None
    label: str | None = Field(None, min_length=1)
    dataset: Annotated[
        Part[Dataset] | None, PlainValidator(lambda value, info: value and DATASETS.read(value, base_folder(info)))
    ] = None
    trial: ResultsUri | None = None
    trust: bool = False

    @model_validator(mode="before")
    @classmethod
    def _other_keys_are_the_models(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise RequestError(
                f"checkpoints: each must be a mapping such as {{model: cifar_resnet, weights: FILE}}, got {values!r}"
            )
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        rest = {key: value for key, value in values.items() if key not in own}
        if own.get("model") is None:
            return values  # keys that nothing knows are then named
        if rest:
            model = own["model"] if isinstance(own["model"], Mapping) else {"name": own["model"]}
            own["model"] = {**model, **rest}
        return own

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        given = [name for name in ("weights", "pretrained", "trial") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"a checkpoint needs one of weights, pretrained: true or trial, got {' and '.join(given) or 'none'}"
            )
        if (self.model is None) != (self.trial is not None):
            raise ValueError(
                f"{self.trial} is a trial, which has its own model: leave model out"
                if self.trial
                else f"{self.weights or 'it'} needs a model: {', '.join(MODELS.names())}, or module:function"
            )
        if self.model is not None and self.model.settings.is_program and not self.trust:
            raise ValueError(
                f"{self.weights} is a program, and reading it runs it: if you trust it, add trust: true (--trust)"
            )
        if self.trial and self.classes:
            raise ValueError(f"{self.trial} is a trial, which has the classes of its data set: leave classes out")
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class External:
    """A checkpoint that the experiment does not train.

    Attributes:
        id: names the folder of its cells: `external-` and a hash, or the id of the trial.
        label: its name in tables.
        dataset: what it is evaluated on.
        model: the network.
        checkpoint_id: hash of the content of its weights.
        weights: where they lie.
        classes: of its outputs, where they are not those of the data set.
        trial: the trial of ours that it is of, if it is.
        results: the results folder of that trial.
    """

    id: str
    label: str
    dataset: Part[Dataset]
    model: Part[Model]
    checkpoint_id: str
    weights: Path | None = None
    classes: ClassMap | None = None
    trial: Trial | None = None
    results: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """All that changes an outcome, as JSON values."""
        if self.trial is not None:
            return self.trial.settings
        classes = {} if self.classes is None else {"classes": self.classes.identity()}
        return {
            "checkpoint_id": self.checkpoint_id,
            "dataset": self.dataset.identity(),
            "model": self.model.identity(),
            **classes,
        }

    @property
    def seed(self) -> int:
        """Of the training, where it is known; else 0."""
        return 0 if self.trial is None else self.trial.seed

    def described(self) -> dict[str, Any]:
        """The columns of its rows that say what was trained."""
        if self.trial is not None:
            return self.trial.described()
        return {
            "dataset": self.dataset.own_name,
            "model": self.model.settings.label(),
            "method": self.label,
            "mixing_set": None,
            "k": None,
            "beta": None,
            "seed": self.seed,
            "settings": json.dumps(self.settings, sort_keys=True),
        }


Source: TypeAlias = Trial | External
"""What has a checkpoint: a trial of the experiment, or one that is there already."""


def external_id(model: Mapping[str, Any], checkpoint_id: str, classes: object = None) -> str:
    """The name of somebody else's weights: of their content, model and classes, whatever file or data set is named."""
    values = {"model": dict(model), "checkpoint_id": checkpoint_id}
    return PREFIX + hash_of_values(values if classes is None else {**values, "classes": classes})


def externals(entries: Sequence[CheckpointEntry], datasets: Sequence[Part[Dataset]]) -> list[External]:
    """The checkpoints of all entries, each once, no two with the same label.

    Args:
        entries: as the experiment names them.
        datasets: the experiment's; of several an entry must name its own.

    Raises:
        CheckpointError: weights are missing, or a pattern matches nothing.
        RequestError: something else does not fit.
    """
    found: dict[str, External] = {}
    for entry in entries:
        for one in _externals(entry, datasets):
            if found.setdefault(one.id, one).dataset.identity() != one.dataset.identity():
                raise RequestError(
                    f"{one.label} is listed with two data sets: put the second into another experiment file with "
                    "the same results"
                )
    return _with_labels(list(found.values()))


def _externals(entry: CheckpointEntry, datasets: Sequence[Part[Dataset]]) -> list[External]:
    if entry.trial is not None:
        return [_of_trial(entry, entry.trial)]
    dataset = entry.dataset
    if dataset is None:
        if len(datasets) > 1:
            raise RequestError(
                f"there are {len(datasets)} data sets, and the checkpoint {entry.label or entry.weights} does not say "
                "which is its own: add the key dataset to it"
            )
        (dataset,) = datasets
    assert entry.model is not None
    files = [None] if entry.weights is None else _matching(entry.weights)
    return [_of_weights(entry, entry.model, file, dataset, is_one=len(files) == 1) for file in files]


def _of_weights(
    entry: CheckpointEntry, model: Part[Model], file: Path | None, dataset: Part[Dataset], *, is_one: bool
) -> External:
    settings, weights = model.settings.with_weights(file)
    model = replace(model, settings=settings)
    checkpoint_id = settings.content(weights)
    named = settings.label() if file is None else os.fsencode(file.stem).decode(errors="replace")
    label = named if entry.label is None else entry.label if is_one else f"{entry.label} {named}"
    return External(
        id=external_id(model.identity(), checkpoint_id, None if entry.classes is None else entry.classes.identity()),
        label=label,
        dataset=dataset,
        model=model,
        checkpoint_id=checkpoint_id,
        weights=weights,
        classes=entry.classes,
    )


def _matching(weights: Path) -> list[Path]:
    """The files and folders that a path or pattern names, in order.

    Raises:
        CheckpointError: there are none.
    """
    if weights.exists() or not GLOB & set(str(weights)):
        if not weights.exists():
            raise CheckpointError(f"no checkpoint {weights}: give a file of weights, or a pattern such as zoo/*.pth")
        return [weights]
    if not (found := sorted(map(Path, glob.glob(str(weights), recursive=True)))):
        raise CheckpointError(f"no file matches {weights}: give a file of weights, or a pattern such as zoo/*.pth")
    return found


def _with_labels(found: Sequence[External]) -> list[External]:
    """The same with labels that differ: by their model where they are the same, at last by a number."""
    counts = Counter(one.label for one in found)
    by_model = [one.label if counts[one.label] == 1 else f"{one.label} {one.model.settings.label()}" for one in found]
    return [replace(one, label=label) for one, label in zip(found, distinct(by_model), strict=True)]


def stored_trial(where: str, *, is_trusted: bool) -> tuple[Trial, Store]:
    """The trial whose folder is RESULTS/trials/TRIAL, and its results folder.

    Raises:
        CheckpointError: there is none, or its file is damaged.
        RequestError: it names code, and is not trusted.
    """
    results, _, trial_id = where.rstrip("/").rpartition("/trials/")
    store = Store(results or where)
    path = trial_file(trial_id, "trial.json")
    values = store.read_json(path) if results else None
    if values is None:
        raise CheckpointError(f"{where} is not a trial: give RESULTS/trials/TRIAL, or weights and their model")
    check_trusted(values, f"{path} in {store.uri}", is_trusted=is_trusted)
    try:
        return Trial.load(values), store
    except UnknownNameError as error:
        raise CheckpointError(
            f"{path} in {store.uri} needs what is not installed here: {error}. Install the package that has it"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} in {store.uri} is damaged: {one_line(error)}") from None


def _of_trial(entry: CheckpointEntry, where: str) -> External:
    """The checkpoint of a trial of ours, of whichever results folder."""
    trial, store = stored_trial(where, is_trusted=entry.trust)
    dataset = trial.dataset if entry.dataset is None else entry.dataset
    if type(dataset.settings) is not type(trial.dataset.settings):
        raise RequestError(f"{where} was trained on {trial.dataset.name}, not on {dataset.name}: leave dataset out")
    if (version := dataset.settings.version()) != trial.dataset_version:
        warnings.warn(
            f"the data set has changed since {trial.id} was trained: it was {trial.dataset_version} and is {version}",
            DataVersionWarning,
            stacklevel=2,
        )
    return External(
        id=trial.id,
        label=entry.label or trial.label,
        dataset=dataset,
        model=trial.model,
        checkpoint_id=str(done_record(trial, store).get("checkpoint_id")),
        trial=trial,
        results=store.uri,
    )


def cell_names(store: Store, sources: Iterable[Source], runs: Sequence[BenchmarkRun]) -> dict[tuple[str, str], str]:
    """The names of the cells (CHECKPOINT/NAME-KEY) of checkpoints that are there, by id and key of the benchmark.

    Raises:
        DataError: the files of a test set are missing or broken.
        ResultsError: the results cannot be read.
    """
    by_id = {source.id: source for source in sources}
    checkpoints = dict(checkpoint_ids(store, [id_ for id_, of in by_id.items() if not isinstance(of, External)]))
    checkpoints |= {id_: of.checkpoint_id for id_, of in by_id.items() if isinstance(of, External)}
    test_sets: dict[int, str] = {}  # by the data set's object, which trials share: its files are looked at once
    names: dict[tuple[str, str], str] = {}
    for trial_id, checkpoint in checkpoints.items():
        dataset = by_id[trial_id].dataset
        if id(dataset) not in test_sets:
            test_sets[id(dataset)] = hash_of_test_set(dataset)
        for run in runs:
            names[trial_id, run.key] = f"{trial_id}/{run.cell_key(test_sets[id(dataset)], checkpoint)}"
    return names


def checkpoint_ids(store: Store, trial_ids: Sequence[str]) -> Mapping[str, str]:
    """The hash of the weights of each trial that is done; trials whose file cannot be read are left out.

    The hash in the file itself is not looked at: where it is wrong, evaluating the trial finds that.
    """

    def read(trial_id: str) -> str | None:
        try:
            found = json.loads(store.read(trial_file(trial_id, "done.json")) or b"{}")
        except ValueError:
            return None
        checkpoint = found.get("checkpoint_id") if isinstance(found, dict) else None
        return checkpoint if isinstance(checkpoint, str) else None

    if store.is_local:
        ids = list(map(read, trial_ids))
    else:
        with ThreadPoolExecutor(REQUESTS) as pool:
            ids = list(pool.map(read, trial_ids))
    return {trial_id: found for trial_id, found in zip(trial_ids, ids, strict=True) if found is not None}
