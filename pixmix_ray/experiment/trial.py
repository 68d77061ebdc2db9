"""A trial: one training, named by what it is. And a cell: one trial's checkpoint on one benchmark.

The id of a trial is a hash of everything that changes its outcome, defaults filled in, and of nothing else: not of
paths, resources or the order of keys. Two experiment files that mean the same share their trials. For classes of the
user it covers their source; when the code of one of ours comes to mean another outcome, its `revision` is raised (a
mixing set's VERSION), and when the training loop does, IDENTITY_VERSION.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pixmix_ray.benchmarks import Benchmark
from pixmix_ray.datasets import DATASETS, Dataset
from pixmix_ray.errors import DamagedError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.identity import hash_of_values, short_hash
from pixmix_ray.methods import METHODS, Method
from pixmix_ray.mixing_sets import MIXING_SETS, MixingSet
from pixmix_ray.models import MODELS, Model
from pixmix_ray.plugins import Part
from pixmix_ray.storage.sealed import open_json
from pixmix_ray.storage.store import Store, trial_file

IDENTITY_VERSION = 1  # raised when the same settings come to mean another training


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One training.

    Attributes:
        dataset: what is learned.
        dataset_version: the content of its files.
        model: the network.
        method: the augmentation and loss.
        method_version: the content of the files that the method reads; "" if it reads none.
        mixing_set: for the methods that need pictures.
        pictures_version: the content of the mixing set; "" without one.
        training: the recipe, its weight decay filled in.
        seed: of weights, order and augmentation.
        label: a short name for people, such as "pixmix k=4 beta=3 fractals seed 0"; no part of the identity.
        share: which of the shares of the experiment's resources it takes; no part of the identity either.
    """

    dataset: Part[Dataset]
    dataset_version: str
    model: Part[Model]
    method: Part[Method]
    method_version: str = ""
    mixing_set: Part[MixingSet] | None = None
    pictures_version: str = ""
    training: Recipe
    seed: int
    label: str = ""
    share: int = 0

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.default_label)

    @cached_property
    def id(self) -> str:
        """The method's name and twelve hexadecimal digits of the content hash."""
        return f"{self.method.own_name}-{hash_of_values({**self.settings, 'seed': self.seed})}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything but the seed that changes the outcome, as JSON values."""
        return {
            "identity_version": IDENTITY_VERSION,
            "dataset": {**self.dataset.identity(), "version": self.dataset_version},
            "model": self.model.identity(),
            "method": self.method.identity() | ({"version": self.method_version} if self.method_version else {}),
            "mixing_set": self.mixing_set and {**self.mixing_set.identity(), "version": self.pictures_version},
            "training": self.training.identity(),
        }

    @property
    def mixing_set_label(self) -> str | None:
        """The name of the mixing set in results, such as fractals+fvis."""
        return None if self.mixing_set is None else self.mixing_set.settings.label(self.mixing_set.own_name)

    def setting(self, name: str) -> int | float | None:
        """The method's setting `name` (k, beta) or none if it has no such setting."""
        value = getattr(self.method.settings, name, None)
        return value if isinstance(value, int | float) else None

    @property
    def default_label(self) -> str:
        """The label of a trial that stands alone."""
        grid = [f"{name}={self.setting(name):g}" for name in ("k", "beta") if self.setting(name) is not None]
        pictures = [] if self.mixing_set_label is None else [self.mixing_set_label]
        return " ".join([self.method.own_name, *grid, *pictures, f"seed {self.seed}"])

    def described(self) -> dict[str, Any]:
        """The columns of its rows that say what was trained."""
        return {
            "dataset": self.dataset.own_name,
            "model": self.model.settings.label(),
            "method": self.method.own_name,
            "mixing_set": self.mixing_set_label,
            "k": self.setting("k"),
            "beta": self.setting("beta"),
            "seed": self.seed,
            "settings": json.dumps(self.settings, sort_keys=True),
        }

    def named(self, label: str) -> "Trial":
        """The same trial with another label."""
        renamed = replace(self, label=label)
        vars(renamed).update({name: vars(self)[name] for name in ("id", "settings") if name in vars(self)})
        return renamed

    def dump(self) -> dict[str, Any]:
        """The whole trial as JSON values that `Trial.load` takes back."""
        return {
            "dataset": self.dataset.dump(),
            "dataset_version": self.dataset_version,
            "model": self.model.dump(),
            "method": self.method.dump(),
            "method_version": self.method_version,
            "mixing_set": self.mixing_set and self.mixing_set.dump(),
            "pictures_version": self.pictures_version,
            "training": self.training.model_dump(mode="json"),
            "seed": self.seed,
        }

    @staticmethod
    def load(values: Mapping[str, Any]) -> "Trial":
        """The trial that `dump` described."""
        mixing_set = values["mixing_set"]
        return Trial(
            dataset=DATASETS.read(values["dataset"]),
            dataset_version=values["dataset_version"],
            model=MODELS.read(values["model"]),
            method=METHODS.read(values["method"]),
            method_version=values.get("method_version", ""),  # trials written before methods read files have none
            mixing_set=None if mixing_set is None else MIXING_SETS.read(mixing_set),
            pictures_version=values["pictures_version"],
            training=Recipe.read(values["training"], "training"),
            seed=int(values["seed"]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkRun:
    """A benchmark with its settings and the content of what it reads beside the test set."""

    benchmark: Part[Benchmark]
    version: str

    @cached_property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.own_name

    @cached_property
    def key(self) -> str:
        """Name and a hash of settings and content: what a cell costs goes by it, and where a failure is recorded."""
        return f"{self.name}-{self._content}"

    @cached_property
    def _content(self) -> str:
        content = {"version": self.version, "revision": self.benchmark.settings.revision}
        return hash_of_values({**self.benchmark.identity(), **content})

    @cached_property
    def settings_text(self) -> str:
        """Name and settings as they stand in the rows of its cells."""
        return json.dumps(self.benchmark.described(), sort_keys=True)

    def cell_key(self, test_set: str, checkpoint_id: str) -> str:
        """The name of a cell below its checkpoint: the benchmark's, and a hash of everything that decides the numbers.

        Args:
            test_set: what `hash_of_test_set` gives.
            checkpoint_id: hash of the weights.
        """
        decides = f"{self._content}/{test_set}/{checkpoint_id}"
        return f"{self.name}-{short_hash(decides)}"


def hash_of_test_set(dataset: Part[Dataset]) -> str:
    """A hash of what decides the test pictures of a data set, whatever it is trained on.

    Raises:
        DataError: its files are missing or broken.
    """
    return hash_of_values({"name": dataset.name, **dataset.settings.test_set()})


def done_record(trial: Trial, store: Store) -> dict[str, Any]:
    """What was written when a trial was complete.

    Raises:
        DamagedError: it is missing, or not what was written.
    """
    path = trial_file(trial.id, "done.json")
    content = store.read(path)
    if content is None:
        raise DamagedError(f"{path} in {store.uri} is missing: run the experiment again")
    return open_json(content, f"{path} in {store.uri}")
