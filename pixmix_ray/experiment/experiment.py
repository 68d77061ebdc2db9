"""An experiment: validated, and expanded to trials and benchmarks. Every key is in experiments/README.md."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    WrapValidator,
    field_validator,
    model_validator,
)

from pixmix_ray.benchmarks import BENCHMARKS, Benchmark
from pixmix_ray.datasets import DATASETS, Dataset
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.axes import (
    GridSelection,
    Point,
    as_list,
    differing_shares,
    groups,
    parts_of,
    recipes,
    shares,
)
from pixmix_ray.experiment.external import CheckpointEntry, External, externals
from pixmix_ray.experiment.labels import labelled
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.experiment.search import Asha, Search, Value, read_scheduler
from pixmix_ray.experiment.tracking import Tracking
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.methods import METHODS, Method
from pixmix_ray.metrics import direction
from pixmix_ray.mixing_sets import MIXING_SETS, MixingSet, shorter_side_for
from pixmix_ray.models import MODELS, Model
from pixmix_ray.plugins import Part
from pixmix_ray.settings import ResultsUri, Settings

T = TypeVar("T", bound=Settings)
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a column of int64 in the results
DEFAULTS = {
    "model": "wide_resnet",
    "mixing_set": "fractals",
    "benchmarks": ("clean", "corruptions", "corruptions_bar", "consistency", "adversaries", "anomalies"),
}


def _read_search(value: object) -> Search | None:
    if value is None or isinstance(value, Search):
        return value
    if not isinstance(value, Mapping):
        raise RequestError(f"search must be a mapping with the keys space and objectives, got {value!r}")
    return Search.read(value, "search")


class Experiment(Settings):
    """An experiment: which trials to train, which checkpoints are there, and which benchmarks to evaluate each on.

    Attributes:
        results: folder or URI of the results.
        dataset: what is learned; several are a grid, as in all that follows.
        model: the network.
        methods: the methods to compare; none where all checkpoints are there already.
        checkpoints: networks that are not trained, and evaluated beside the others.
        mixing_set: pictures for the methods that mix them in; several are a grid.
        k: a grid over the setting k of the methods that have one.
        beta: likewise.
        seeds: each trial is run once per seed.
        training: the recipe.
        zip: groups of axes whose values go together: the first of each, the second of each, and so on.
        exclude: points of the grid that are left out, each by values at paths such as training.lr.
        benchmarks: the safety measures.
        resources: of a trial and of an evaluation.
        search: suggests points of a space, one by one, in place of the grid over k and beta.
        scheduler: stops trials early that do worse than others on pictures held out; None trains all to their end.
        tracking: where training curves are shown, beside the results.
    """

    results: ResultsUri
    dataset: Annotated[tuple[Part[Dataset], ...], parts_of(DATASETS)]
    model: Annotated[tuple[Part[Model], ...], parts_of(MODELS)] = Field(DEFAULTS["model"], validate_default=True)
    methods: Annotated[tuple[Part[Method], ...], parts_of(METHODS)] = ()
    checkpoints: Annotated[tuple[CheckpointEntry, ...], BeforeValidator(as_list)] = ()
    mixing_set: Annotated[tuple[Part[MixingSet], ...], parts_of(MIXING_SETS)] = Field(
        DEFAULTS["mixing_set"], validate_default=True
    )
    k: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(as_list)] = ()
    beta: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(as_list)] = ()
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(as_list)] = Field((0,), min_length=1)
    training: Annotated[tuple[Recipe, ...], BeforeValidator(recipes)] = (Recipe(),)
    zip: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(groups)] = ()
    exclude: Annotated[tuple[Mapping[str, Any], ...], BeforeValidator(as_list)] = ()
    benchmarks: Annotated[tuple[Part[Benchmark], ...], parts_of(BENCHMARKS)] = Field(
        DEFAULTS["benchmarks"], validate_default=True
    )
    resources: Annotated[Resources, WrapValidator(shares)] = Resources()
    search: Annotated[Search | None, PlainValidator(_read_search)] = None
    scheduler: Annotated[Asha | None, PlainValidator(read_scheduler)] = None
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _has_something_to_measure(self) -> Self:
        if not self.methods and not self.checkpoints:
            raise ValueError("the key 'methods' is missing: name methods to train, or checkpoints to evaluate")
        for part in self.model if self.methods else ():
            if not part.settings.is_trained:
                raise ValueError(
                    f"model {part.name} can only be evaluated: list it under checkpoints, with its weights"
                )
        asking = next((part.name for part in self.benchmarks if part.settings.needs_gradients), None)
        for entry in self.checkpoints:
            if asking is not None and entry.model is not None and not entry.model.settings.has_gradients:
                raise ValueError(
                    f"{asking} needs gradients, and {entry.model.name} networks have none: leave {asking} out of "
                    f"benchmarks, or give {entry.label or entry.weights} in another form"
                )
        return self

    @model_validator(mode="after")
    def _tensorboard_has_a_folder(self) -> Self:
        if self.tracking.tensorboard and "://" in self.results:
            raise ValueError(
                f"tracking.tensorboard needs local results, and results is {self.results}: give a local folder"
            )
        return self

    @model_validator(mode="after")
    def _scheduler_can_stop(self) -> Self:
        if self.scheduler is None:
            return self
        if len(self.dataset) > 1 or len({(of.epochs, of.validation) for of in self.training}) > 1:
            raise ValueError(
                f"scheduler compares trials with each other, and here are {len(self.dataset)} data sets and "
                f"{len(self.training)} recipes: give one data set, one training.epochs and one training.validation; "
                "put other trials into a file of their own"
            )
        (recipe, *_) = self.training
        if recipe.validation is None:
            raise ValueError(
                "scheduler compares errors on held-out pictures: set training.validation: 0.1 (training "
                "losses of differently augmented pictures are not comparable)"
            )
        if self.scheduler.grace_period >= recipe.epochs:
            raise ValueError(
                f"scheduler.grace_period = {self.scheduler.grace_period} must be below training.epochs = "
                f"{recipe.epochs}, or no trial could be stopped early"
            )
        for axis in ("training.epochs", "training.validation"):
            if self.search is not None and axis in self.search.space:
                raise ValueError(
                    f"search.space cannot contain {axis} with a scheduler, which compares all trials: leave one out"
                )
        return self

    @model_validator(mode="after")
    def _search_can_be_made(self) -> Self:
        if self.search is None:
            return self
        if self.checkpoints:
            raise ValueError(
                f"a search trains its trials, and the file has {len(self.checkpoints)} under checkpoints: "
                "put checkpoints into an experiment file of their own"
            )
        single = {name: getattr(self, name) for name in ("dataset", "model", "methods", "mixing_set", "training")}
        wrong = [name for name, axis in single.items() if len(axis) != 1]
        wrong += [name for name in ("k", "beta") if getattr(self, name)]
        if wrong:
            raise ValueError(
                "a search varies the settings of one method, with one data set, model, mixing set and recipe, and "
                f"no grid of k and beta: put other values of {wrong[0]} into another experiment file with the same "
                "results"
            )
        for axis, values in self.search.space.items():
            for value in values.ends():
                self.at({axis: value})  # every value alone is one that the setting takes
        return self

    @model_validator(mode="after")
    def _objectives_are_measured(self) -> Self:
        objectives = () if self.search is None else self.search.objectives
        for name, _, metric in (objective.partition(".") for objective in objectives):
            if [part.own_name for part in self.benchmarks].count(name) != 1:
                raise ValueError(f"search.objectives names the benchmark {name!r}: list it once in benchmarks")
            direction(metric)
        return self

    @field_validator("dataset", "model", "methods", "benchmarks", "mixing_set", "training")
    @classmethod
    def _is_not_empty(cls, parts: tuple[T, ...]) -> tuple[T, ...]:
        if not parts:
            raise ValueError("give at least one")
        return parts

    def trials(self) -> list[Trial]:
        """All trials of the grid, each once, the seeds innermost. Reads the data files to know their content.

        Raises:
            DataError: the data set, the mixing set or a file that a method reads is missing or broken.
            RequestError: a grid value that a method does not take, or a trial that its workers cannot share.
        """
        versions: dict[int, str] = {}

        def version_of(part: Part[Any]) -> str:
            if id(part) not in versions:
                versions[id(part)] = part.settings.version()
            return versions[id(part)]

        simplest = {id(part): _simplest(part) for part in self.dataset}
        found: dict[str, Trial] = {}
        for point in self.points():
            dataset, pictures = simplest[id(point.dataset)], point.mixing_set
            trial = Trial(
                dataset=dataset,
                dataset_version=version_of(dataset),
                model=point.model,
                method=point.method,
                method_version=version_of(point.method),
                mixing_set=pictures,
                pictures_version="" if pictures is None else version_of(pictures),
                training=_filled_in(point.recipe, point.method.settings, dataset.settings.height()),
                seed=point.seed,
                share=self.resources.shares.index(point.share),
            )
            _check_shared(trial, point.share.num_workers)
            if found.setdefault(trial.id, trial).share != trial.share:
                raise _two_shares(self.resources.shares)
        return labelled(list(found.values()), () if self.search is None else self.search.space)

    def points(self) -> list[Point]:
        """The points of the grid, the seeds innermost, without those that `zip` and `exclude` leave out.

        Raises:
            RequestError: `zip` or `exclude` names what no trial has, or leaves nothing.
        """
        if not self.methods:
            return []
        methods = [one for method in self.methods for one in self._grid(method)]
        points = [
            Point(
                dataset=dataset, model=model, recipe=recipe, method=method, mixing_set=pictures, seed=seed, share=share
            )
            for dataset, model, recipe, method, share in itertools.product(
                self.dataset, self.model, self.training, methods, reversed(self.resources.shares)
            )
            for pictures in (self.mixing_set if method.settings.needs_pictures else (None,))
            for seed in self.seeds
        ]
        return GridSelection(together=self.zip, excluded=self.exclude).of(points)

    def at(self, point: Mapping[str, Value]) -> "Experiment":
        """The sweep at one point of its search: the settings that the point names have its values.

        Raises:
            RequestError: there is no such setting, or it does not take the value.
        """
        (method,) = self.methods
        settings: dict[str, Any] = method.settings.model_dump()
        recipe: dict[str, Any] = self.training[0].model_dump()
        for axis, value in point.items():
            room, _, name = axis.rpartition(".")
            if room in ("", f"methods.{method.name}"):
                settings[name] = value
            elif room == "training":
                recipe[name] = value
            else:
                raise RequestError(
                    f"search.space cannot contain {axis!r}: use k, beta, methods.{method.name}.SETTING or training.KEY"
                )
        changed = replace(method, settings=type(method.settings).read(settings, f"method {method.name}"))
        training = Recipe.read(recipe, "training")
        return self.model_copy(update={"methods": (changed,), "training": (training,), "search": None})

    def externals(self) -> list[External]:
        """The checkpoints that are there already, each once. Reads their files to know their content.

        Raises:
            CheckpointError: weights are missing.
            RequestError: an entry does not fit the rest.
        """
        return externals(self.checkpoints, self.dataset)

    def benchmark_runs(self) -> list[BenchmarkRun]:
        """The benchmarks, with the content of the files that they read."""
        runs = [BenchmarkRun(benchmark=part, version=part.settings.version()) for part in self.benchmarks]
        return list({run.key: run for run in runs}.values())

    def parts(self) -> list[Part[Any]]:
        """All parts that the experiment names."""
        others = [part for entry in self.checkpoints for part in (entry.model, entry.dataset) if part is not None]
        return [*self.dataset, *self.model, *self.methods, *self.mixing_set, *self.benchmarks, *others]

    def prepare(self) -> None:
        """Decode all data of the sweep into this machine's cache, so that broken files are found before any work.

        Raises:
            DataError: something is missing or cannot be decoded (named).
        """
        needs_pictures = any(method.settings.needs_pictures for method in self.methods)
        for dataset in self.dataset:
            data = dataset.settings.load()
            for method in self.methods:
                method.settings.prepare(data)
            sides = {shorter_side_for(recipe.side(data.train_images.shape[1])) for recipe in self.training}
            for mixing_set, side in itertools.product(self.mixing_set if needs_pictures else (), sorted(sides)):
                mixing_set.settings.pictures(side)
            for part in self.benchmarks:
                part.settings.prepare(part.settings.pictures(data.test_images, data.test_labels))

    def _grid(self, method: Part[Method]) -> Iterable[Part[Method]]:
        """The method once for each k and beta of the grid that it has and that its own settings do not pin."""
        free = set(type(method.settings).model_fields) - method.settings.model_fields_set
        axes = {name: values for name, values in (("k", self.k), ("beta", self.beta)) if values and name in free}
        for values in itertools.product(*axes.values()):
            spec = {**method.settings.model_dump(), **dict(zip(axes, values, strict=True))}
            yield replace(method, settings=type(method.settings).read(spec, f"method {method.name}"))


def _two_shares(shares: Sequence[Share]) -> RequestError:
    """The error for a trial that is wanted with several shares: it would be the same trial."""
    axes = differing_shares(shares[::-1])
    key, values = next(iter(axes.items()))
    return RequestError(
        f"{key} = [{', '.join(values)}] gives a trial several shares, and they change no outcome: pair them with what "
        f"tells trials apart, such as zip: [model.depth, {key}], or give one value"
    )


def _check_shared(trial: Trial, workers: int) -> None:
    """Raise RequestError if so many workers cannot train a trial together."""
    if workers == 1:
        return
    size, method = trial.training.batch_size, trial.method.settings
    if size % workers:
        near = [str(count) for count in range(workers, 0, -1) if size % count == 0][:1]
        raise RequestError(
            f"resources.trial has {workers} workers, which do not divide training.batch_size = {size}: use "
            f"{near[0]} workers, or a batch size of {max(1, size // workers) * workers}"
        )
    if method.has_memory:
        raise RequestError(
            f"{trial.label}: {trial.method.own_name} keeps a state during training and needs a single worker: "
            "set resources.trial.workers=1 and at most one GPU"
        )


def _filled_in(recipe: Recipe, method: Method, height: int | None) -> Recipe:
    """The recipe of a method's trials; values that are what is meant without them are left out or filled in."""
    changes: dict[str, Any] = {}
    if recipe.weight_decay is None:
        changes["weight_decay"] = method.weight_decay
    if recipe.crop_size is not None and recipe.crop_size == height:
        changes["crop_size"] = None
    return recipe.model_copy(update=changes)


def _simplest(dataset: Part[Dataset]) -> Part[Dataset]:
    """The data set without a `train_limit` that leaves no picture out, and with what its files decide filled in."""
    changes: dict[str, Any] = {}
    limit = dataset.settings.train_limit
    total = None if limit is None else dataset.settings.num_train_images()
    if limit is not None and total is not None and limit >= total:
        changes["train_limit"] = None
    if "streamed" in type(dataset.settings).model_fields:
        changes["streamed"] = dataset.settings.is_streamed()
    return replace(dataset, settings=dataset.settings.model_copy(update=changes)) if changes else dataset
