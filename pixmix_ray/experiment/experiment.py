"""The experiment file: validated, and expanded to trials and benchmarks.

Every key is documented in experiments/README.md. Relative paths in a file start at the folder of that file; those
typed with --set start at the current folder.
"""

import itertools
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
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
from pixmix_ray.mixing_sets import MixingSet, shorter_side_for
from pixmix_ray.models import Model
from pixmix_ray.settings import ResultsUri, Settings, TypedPath

T = TypeVar("T", bound=Settings)
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # a column of int64 in the results
DEFAULTS = {
    "model": "wide_resnet",
    "mixing_set": "fractals",
    "benchmarks": ("clean", "corruptions", "corruptions_bar", "consistency", "adversaries", "anomalies"),
}


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _one(table: Table[T]) -> PlainValidator:
    return PlainValidator(lambda value, info: table.read(value, _base(info)))


def _many(table: Table[T]) -> PlainValidator:
    return PlainValidator(lambda value, info: tuple(table.read(item, _base(info)) for item in _as_list(value)))


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
    k: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_list)] = ()
    beta: Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_as_list)] = ()
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_list)] = Field((0,), min_length=1)
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
        for name in (objective.partition(".")[0] for objective in self.search.objectives):
            if [part.name.rpartition(":")[2] for part in self.benchmarks].count(name) != 1:
                raise ValueError(f"search.objectives names the benchmark {name!r}, which must be in benchmarks, once")
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
        dataset_version = self.dataset.settings.version()
        versions: dict[int, str] = {}
        found: dict[str, Trial] = {}
        for method in itertools.chain.from_iterable(self._grid(method) for method in self.methods):
            method_version, recipe = method.settings.version(), self._recipe(method.settings)
            for pictures in self.mixing_set if method.settings.needs_pictures else (None,):
                if pictures is not None and id(pictures) not in versions:
                    versions[id(pictures)] = pictures.settings.version()
                for seed in self.seeds:
                    trial = Trial(
                        dataset=self.dataset,
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
        changed = Part(name=method.name, settings=type(method.settings).read(settings, f"method {method.name}"))
        training = Recipe.read(recipe, "training")
        return self.model_copy(update={"methods": (changed,), "training": training, "search": None})

    def benchmark_runs(self) -> list[BenchmarkRun]:
        """The benchmarks, with the content of the files that they read."""
        runs = [BenchmarkRun(benchmark=part, version=part.settings.version()) for part in self.benchmarks]
        return list({run.key: run for run in runs}.values())

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
            yield Part(name=method.name, settings=type(method.settings).read(spec, f"method {method.name}"))

    def _recipe(self, method: Method) -> Recipe:
        if self.training.weight_decay is not None:
            return self.training
        return self.training.model_copy(update={"weight_decay": method.weight_decay})


def read_experiment(file: Path, overrides: Iterable[str] = ()) -> Experiment:
    """The sweep of an experiment file, with `key.path=value` overrides.

    Raises:
        RequestError: the file or an override is wrong; one line that says what and what is allowed.
    """
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as error:
        raise RequestError(f"cannot read the experiment file {file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, or a date that does not exist
        raise RequestError(f"cannot read {file} as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise RequestError(f"{file} must be a mapping of keys to values, such as 'dataset: digits'")
    for text in overrides:
        raw = override(raw, text)
    return Experiment.read(raw, f"experiment {file.name}", file.resolve().parent)


class _Loader(yaml.SafeLoader):
    """The safe loader, which takes a key that is there twice for the mistake that it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def override(raw: dict[str, Any], text: str) -> dict[str, Any]:
    """The content of an experiment file with one `key.path=value` put in; `raw` is not changed.

    A step of the path is a key, or in a list an index or the name of a part.

    >>> override({"methods": ["baseline", "pixmix"]}, "methods.pixmix.severity=1")
    {'methods': ['baseline', {'name': 'pixmix', 'severity': 1}]}
    """
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise RequestError(f"--set {text!r} must be key=value, such as training.epochs=1")
    try:
        parsed = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise RequestError(f"--set {text!r}: {value!r} is no YAML value; quote it") from None
    steps = path.split(".")
    if len(steps) > 1 and steps[0] in (*DEFAULTS, "methods"):
        part = raw.get(steps[0], DEFAULTS.get(steps[0]))
        raw = {**raw, steps[0]: _as_list(part) if steps[0] in ("methods", "benchmarks") else part}
    changed = _put(raw, steps, _typed(parsed), text)
    assert isinstance(changed, dict)
    return changed


def _put(node: object, path: list[str], value: object, text: str) -> object:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(node, str):
        node = {"name": node}
    if node is None or isinstance(node, dict):
        mapping = node or {}
        return {**mapping, step: _put(mapping.get(step), rest, value, text)}
    if isinstance(node, list):
        place = _place(node, step, text)
        return [*node[:place], _put(node[place], rest, value, text), *node[place + 1 :]]
    raise RequestError(f"--set {text!r}: {step!r} lies below a plain value")


def _place(parts: list[Any], step: str, text: str) -> int:
    """The index of the part that `step` names or counts."""
    names = [str(part.get("name")) if isinstance(part, dict) else str(part) for part in parts]
    if step in names:
        return names.index(step)
    if step.isdigit() and int(step) < len(parts):
        return int(step)
    raise RequestError(f"--set {text!r}: no {step!r} in the list; it holds {', '.join(names)}")


def _typed(value: object) -> object:
    """Strings marked as typed at the shell, so that relative paths in them start at the current folder."""
    if isinstance(value, str):
        return TypedPath(value)
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return value
