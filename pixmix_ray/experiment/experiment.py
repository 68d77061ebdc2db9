"""An experiment: validated, and expanded to trials and benchmarks. Every key is in experiments/README.md."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, field_validator, model_validator

from pixmix_ray.benchmarks import Benchmark
from pixmix_ray.datasets import Dataset
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.early_stopping import Asha, read_scheduler
from pixmix_ray.experiment.plugins import BENCHMARKS, DATASETS, METHODS, MIXING_SETS, MODELS, Part, Table
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.experiment.search import Search, Value
from pixmix_ray.experiment.tracking import Tracking
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.methods import Method
from pixmix_ray.metrics import direction
from pixmix_ray.mixing_sets import MixingSet, shorter_side_for
from pixmix_ray.models import Model
from pixmix_ray.settings import ResultsUri, Settings

T = TypeVar("T", bound=Settings)
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a column of int64 in the results
DEFAULTS = {
    "model": "wide_resnet",
    "mixing_set": "fractals",
    "benchmarks": ("clean", "corruptions", "corruptions_bar", "consistency", "adversaries", "anomalies"),
}


def as_list(value: object) -> list[object]:
    """The items of a list, or one item as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _one(table: Table[T]) -> PlainValidator:
    return PlainValidator(lambda value, info: table.read(value, _base(info)))


def _many(table: Table[T]) -> PlainValidator:
    return PlainValidator(lambda value, info: tuple(table.read(item, _base(info)) for item in as_list(value)))


def _base(info: ValidationInfo) -> Path | None:
    return (info.context or {}).get("base")


def _read_search(value: object) -> Search | None:
    if value is None or isinstance(value, Search):
        return value
    if not isinstance(value, Mapping):
        raise RequestError(f"search must be a mapping with the keys space and objectives, got {value!r}")
    return Search.read(value, "search")


class Experiment(Settings):
    """An experiment: which trials to train and which benchmarks to evaluate each on.

    Attributes:
        results: folder or URI of the results.
        dataset: what is learned.
        model: the network.
        methods: the methods to compare.
        mixing_set: pictures for the methods that mix them in; several are a grid.
        k: a grid over the setting k of the methods that have one.
        beta: likewise.
        seeds: each trial is run once per seed.
        training: the recipe.
        benchmarks: the safety measures.
        resources: of a trial and of an evaluation.
        search: suggests points of a space, one by one, in place of the grid over k and beta.
        scheduler: stops trials early that do worse than others on pictures held out; None trains all to their end.
        tracking: where training curves are shown, beside the results.
    """

    results: ResultsUri
    dataset: Annotated[Part[Dataset], _one(DATASETS)]
    model: Annotated[Part[Model], _one(MODELS)] = Field(DEFAULTS["model"], validate_default=True)
    methods: Annotated[tuple[Part[Method], ...], _many(METHODS)]
    mixing_set: Annotated[tuple[Part[MixingSet], ...], _many(MIXING_SETS)] = Field(
        DEFAULTS["mixing_set"], validate_default=True
    )
    k: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(as_list)] = ()
    beta: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(as_list)] = ()
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(as_list)] = Field((0,), min_length=1)
    training: Recipe = Recipe()
    benchmarks: Annotated[tuple[Part[Benchmark], ...], _many(BENCHMARKS)] = Field(
        DEFAULTS["benchmarks"], validate_default=True
    )
    resources: Resources = Resources()
    search: Annotated[Search | None, PlainValidator(_read_search)] = None
    scheduler: Annotated[Asha | None, PlainValidator(read_scheduler)] = None
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _tensorboard_has_a_folder(self) -> Self:
        if self.tracking.tensorboard and "://" in self.results:
            raise ValueError(f"tracking.tensorboard writes to a local folder, and results is {self.results}")
        return self

    @model_validator(mode="after")
    def _scheduler_can_stop(self) -> Self:
        if self.scheduler is None:
            return self
        if self.training.validation is None:
            raise ValueError(
                "scheduler compares errors on pictures that are held out: set training.validation: 0.1 (training "
                "losses of differently augmented pictures do not compare)"
            )
        if self.scheduler.grace_period >= self.training.epochs:
            raise ValueError(
                f"scheduler.grace_period = {self.scheduler.grace_period} must be below training.epochs = "
                f"{self.training.epochs}, or nothing can be stopped"
            )
        for axis in ("training.epochs", "training.validation"):
            if self.search is not None and axis in self.search.space:
                raise ValueError(f"search.space cannot hold {axis} beside a scheduler: all trials must compare")
        return self

    @model_validator(mode="after")
    def _search_can_be_made(self) -> Self:
        if self.search is None:
            return self
        if len(self.methods) != 1 or self.k or self.beta or len(self.mixing_set) != 1:
            raise ValueError(
                "a search is over the settings of one method with one mixing set and without the grids k and beta: "
                "give others an experiment file of their own with the same results"
            )
        for name, _, metric in (objective.partition(".") for objective in self.search.objectives):
            if [part.own_name for part in self.benchmarks].count(name) != 1:
                raise ValueError(f"search.objectives names the benchmark {name!r}, which must be in benchmarks, once")
            direction(metric)
        for axis, values in self.search.space.items():
            for value in values.ends():
                self.at({axis: value})  # every value alone is one that the setting takes
        return self

    @field_validator("methods", "benchmarks", "mixing_set")
    @classmethod
    def _is_not_empty(cls, parts: tuple[Part[Any], ...]) -> tuple[Part[Any], ...]:
        if not parts:
            raise ValueError("name at least one")
        return parts

    def trials(self) -> list[Trial]:
        """All trials of the grid, each once, the seeds innermost. Reads the data files to know their content.

        Raises:
            DataError: the data set, the mixing set or a file that a method reads is missing or broken.
            RequestError: a grid value that a method does not take.
        """
        dataset = _simplest(self.dataset)
        dataset_version, height = dataset.settings.version(), dataset.settings.height()
        versions: dict[int, str] = {}
        found: dict[str, Trial] = {}
        for method in itertools.chain.from_iterable(self._grid(method) for method in self.methods):
            method_version, recipe = method.settings.version(), self._recipe(method.settings, height)
            for pictures in self.mixing_set if method.settings.needs_pictures else (None,):
                if pictures is not None and id(pictures) not in versions:
                    versions[id(pictures)] = pictures.settings.version()
                for seed in self.seeds:
                    trial = Trial(
                        dataset=dataset,
                        dataset_version=dataset_version,
                        model=self.model,
                        method=method,
                        method_version=method_version,
                        mixing_set=pictures,
                        pictures_version="" if pictures is None else versions[id(pictures)],
                        training=recipe,
                        seed=seed,
                    )
                    found.setdefault(trial.id, trial)
        return list(found.values())

    def at(self, point: Mapping[str, Value]) -> "Experiment":
        """The sweep at one point of its search: the settings that the point names have its values.

        Raises:
            RequestError: there is no such setting, or it does not take the value.
        """
        (method,) = self.methods
        settings: dict[str, Any] = method.settings.model_dump()
        recipe: dict[str, Any] = self.training.model_dump()
        for axis, value in point.items():
            room, _, name = axis.rpartition(".")
            if room in ("", f"methods.{method.name}"):
                settings[name] = value
            elif room == "training":
                recipe[name] = value
            else:
                raise RequestError(
                    f"search.space cannot hold {axis!r}: it takes k, beta, methods.{method.name}.SETTING, training.KEY"
                )
        changed = replace(method, settings=type(method.settings).read(settings, f"method {method.name}"))
        training = Recipe.read(recipe, "training")
        return self.model_copy(update={"methods": (changed,), "training": training, "search": None})

    def benchmark_runs(self) -> list[BenchmarkRun]:
        """The benchmarks, with the content of the files that they read."""
        runs = [BenchmarkRun(benchmark=part, version=part.settings.version()) for part in self.benchmarks]
        return list({run.key: run for run in runs}.values())

    def parts(self) -> list[Part[Any]]:
        """All parts that the experiment names."""
        return [self.dataset, self.model, *self.methods, *self.mixing_set, *self.benchmarks]

    def prepare(self) -> None:
        """Decode all data of the sweep into this machine's cache, so that broken files are found before any work.

        Raises:
            DataError: something is missing or cannot be decoded (named).
        """
        data = self.dataset.settings.load()
        for method in self.methods:
            method.settings.prepare(data)
        if any(method.settings.needs_pictures for method in self.methods):
            for mixing_set in self.mixing_set:
                mixing_set.settings.pictures(shorter_side_for(self.training.side(data.train_images.shape[1])))
        for part in self.benchmarks:
            part.settings.prepare(part.settings.pictures(data.test_images, data.test_labels))

    def _grid(self, method: Part[Method]) -> Iterable[Part[Method]]:
        """The method once for each k and beta of the grid that it has and that its own settings do not pin."""
        free = set(type(method.settings).model_fields) - method.settings.model_fields_set
        axes = {name: values for name, values in (("k", self.k), ("beta", self.beta)) if values and name in free}
        for values in itertools.product(*axes.values()):
            spec = {**method.settings.model_dump(), **dict(zip(axes, values, strict=True))}
            yield replace(method, settings=type(method.settings).read(spec, f"method {method.name}"))

    def _recipe(self, method: Method, height: int | None) -> Recipe:
        """The recipe of a method's trials; values that are what is meant without them are left out or filled in."""
        changes: dict[str, Any] = {}
        if self.training.weight_decay is None:
            changes["weight_decay"] = method.weight_decay
        if self.training.crop_size is not None and self.training.crop_size == height:
            changes["crop_size"] = None
        return self.training.model_copy(update=changes)


def _simplest(dataset: Part[Dataset]) -> Part[Dataset]:
    """The data set without a `train_limit` that leaves no picture out."""
    limit = dataset.settings.train_limit
    total = None if limit is None else dataset.settings.num_train_images()
    if limit is None or total is None or limit < total:
        return dataset
    return replace(dataset, settings=dataset.settings.model_copy(update={"train_limit": None}))
