"""The tables: name -> data set, mixing set, model, method, benchmark.

Adding one of ours is its file and one line here. Other people's classes need no line: a package of theirs announces
them as entry points (group `pixmix_ray.methods` and so on), or an experiment file names them as `module:Class`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pixmix_ray.benchmarks import (
    Adversaries,
    Anomalies,
    Benchmark,
    Clean,
    Consistency,
    Corruptions,
    CorruptionsBar,
    Renditions,
)
from pixmix_ray.datasets import Cifar10, Cifar100, Dataset, Digits, ImageFolder, ImageNet
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.methods import (
    AdversarialL2,
    AdversarialLinf,
    Ant,
    AugMix,
    AutoAugment,
    Baseline,
    CutMix,
    Cutout,
    Edsr,
    IPMix,
    Method,
    Mixup,
    Noise2Net,
    OutlierExposure,
    PixMix,
    PixMixCutMix,
    Prime,
    RandAugment,
    Speckle,
    Stylized,
    TrivialAugment,
)
from pixmix_ray.mixing_sets import (
    DeadLeaves,
    FeatureVisualizations,
    FractalDb,
    Fractals,
    JoinedSets,
    MixingSet,
    PictureFolder,
    RandomImages,
    SpectrumColorWmm,
    StyleGanOriented,
    names_in,
)
from pixmix_ray.mixing_sets.dead_leaves import KINDS as DEAD_LEAVES_SHAPES
from pixmix_ray.models import CifarResNet, Model, TorchvisionModel, WideResNet
from pixmix_ray.settings import Settings

T = TypeVar("T", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Part(Generic[T]):
    """A named part of an experiment: the name in its table, and the object that holds its settings."""

    name: str
    settings: T

    def identity(self) -> dict[str, Any]:
        """Name and the settings that change an outcome, as JSON values."""
        return {"name": self.name, **self._identity}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return self.settings.identity()  # once, for all the trials that have this part

    def dump(self) -> dict[str, Any]:
        """Name and all settings, as JSON values that `Table.read` takes back."""
        return {"name": self.name, **self.settings.model_dump(mode="json")}


@dataclass(frozen=True)
class Table(Generic[T]):
    """The classes of one kind by name.

    Attributes:
        kind: what they are, for messages, such as "method".
        base: the class that all are derived from.
        ours: those of this package.
        join: the name of the class that joins several of them; with one, a+b is short for {name: join, sets: [a, b]}.
        short: names that stand for another name and some of its settings.
    """

    kind: str
    base: type[Settings]
    ours: Mapping[str, type[T]]
    join: str | None = None
    short: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The group of entry points in which other packages announce theirs."""
        return f"pixmix_ray.{self.kind.replace(' ', '_')}s"

    def known(self) -> dict[str, type[T]]:
        """Ours and those of installed packages."""
        return {**{point.name: self._announced(point) for point in entry_points(group=self.group)}, **self.ours}

    def _announced(self, point: EntryPoint) -> type[T]:
        try:
            return self._checked(point.load(), point.value)
        except Exception as error:  # as in `_imported`
            raise RequestError(
                f"the entry point {point.name} = {point.value} of {self.group} cannot be imported: {error}. "
                "Mend or uninstall the package that announces it"
            ) from error

    def find(self, name: str) -> type[T]:
        """The class called `name`, or named as `module:Class`.

        Raises:
            UnknownNameError: no such name.
            RequestError: `module:Class` cannot be imported or is of another kind.
        """
        if name in self.ours:
            return self.ours[name]
        if ":" in name:
            return self._checked(_imported(name), name)
        if name in (known := self.known()):
            return known[name]
        raise UnknownNameError(self.kind, name, [*known, *self.short])

    def read(self, spec: object, base: Path | None = None) -> Part[T]:
        """The part that an experiment file describes: a name alone, or a mapping of `name` and settings."""
        if isinstance(spec, str):
            spec = {"name": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
            raise RequestError(f"{self.kind} must be a name, or a mapping with the key 'name', got {spec!r}")
        if self.join is not None and "+" in spec["name"]:
            spec = {**spec, "name": self.join, "sets": names_in(spec["name"])}
        if (short := self.short.get(spec["name"])) is not None:
            if twice := sorted((set(short) & set(spec)) - {"name"}):
                raise RequestError(f"{spec['name']} sets {twice[0]} itself: leave it out, or name {short['name']}")
            spec = {**spec, **short}
        settings = {str(key): value for key, value in spec.items() if key != "name"}
        found = self.find(spec["name"])
        ours = {part: name for name, part in self.ours.items()}
        name = ours.get(found, str(spec["name"]))  # one of ours named as module:Class means the same
        return Part(name=name, settings=found.read(settings, f"{self.kind} {name}", base))

    def _checked(self, found: object, name: str) -> type[T]:
        is_one = isinstance(found, type) and issubclass(found, self.base) and found is not self.base
        if not is_one or isabstract(found):
            raise RequestError(f"{name} is no {self.kind}: it must be a whole class derived from {self.base.__name__}")
        return cast(type[T], found)


def named_code(values: object) -> list[str]:
    """The names `module:Class` anywhere in JSON values that describe parts: what reading those would import.

    >>> named_code({"model": {"name": "theirs:Net"}, "mixing_set": {"name": "join", "sets": [{"name": "fractals"}]}})
    ['theirs:Net']
    """
    if isinstance(values, Mapping):
        name = values.get("name")
        own = [name] if isinstance(name, str) and ":" in name else []
        return own + [found for value in values.values() for found in named_code(value)]
    if isinstance(values, list):
        return [found for value in values for found in named_code(value)]
    return []


def _imported(name: str) -> object:
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # importing runs other people's code, which may raise anything
        raise RequestError(
            f"cannot import {name!r}: {type(error).__name__}: {' '.join(str(error).split())}. "
            "Write it as module:Class, importable from here"
        ) from error


DATASETS: Table[Dataset] = Table(
    "dataset",
    Dataset,
    {"digits": Digits, "cifar10": Cifar10, "cifar100": Cifar100, "imagenet": ImageNet, "image_folder": ImageFolder},
)


MODELS: Table[Model] = Table(
    "model",
    Model,
    {"wide_resnet": WideResNet, "cifar_resnet": CifarResNet, "torchvision_model": TorchvisionModel},
)


class FVis(FeatureVisualizations):
    """Feature visualizations of a model that is named as in an experiment file; see `FeatureVisualizations`."""

    @classmethod
    def read_model(cls, spec: object, base: Path | None) -> tuple[str, Model]:
        """Name and settings of the model."""
        part = MODELS.read(spec, base)
        return part.name, part.settings


class Join(JoinedSets):
    """A join of sets that are named as in an experiment file; see `JoinedSets`."""

    @classmethod
    def read_set(cls, spec: object, base: Path | None) -> tuple[str, MixingSet]:
        """Name and settings of one of the sets."""
        part = MIXING_SETS.read(spec, base)
        return part.name, part.settings


MIXING_SETS: Table[MixingSet] = Table(
    "mixing set",
    MixingSet,
    {
        "fractals": Fractals,
        "fvis": FVis,
        "fractaldb": FractalDb,
        "dead_leaves": DeadLeaves,
        "spectrum_color_wmm": SpectrumColorWmm,
        "stylegan_oriented": StyleGanOriented,
        "random_images_300k": RandomImages,
        "folder": PictureFolder,
        "join": Join,
    },
    join="join",
    # Table 4 calls the squares so
    short={f"dead_leaves_{shape}": {"name": "dead_leaves", "shape": shape} for shape in DEAD_LEAVES_SHAPES},
)
METHODS: Table[Method] = Table(
    "method",
    Method,
    {
        "baseline": Baseline,
        "cutout": Cutout,
        "mixup": Mixup,
        "cutmix": CutMix,
        "auto_augment": AutoAugment,
        "augmix": AugMix,
        "outlier_exposure": OutlierExposure,
        "pixmix": PixMix,
        "pixmix_cutmix": PixMixCutMix,
        "sin": Stylized,
        "speckle": Speckle,
        "ant": Ant,
        "noise2net": Noise2Net,
        "edsr": Edsr,
        "adversarial_linf": AdversarialLinf,
        "adversarial_l2": AdversarialL2,
        "ipmix": IPMix,
        "prime": Prime,
        "rand_augment": RandAugment,
        "trivial_augment": TrivialAugment,
    },
)
BENCHMARKS: Table[Benchmark] = Table(
    "benchmark",
    Benchmark,
    {
        "clean": Clean,
        "corruptions": Corruptions,
        "corruptions_bar": CorruptionsBar,
        "consistency": Consistency,
        "adversaries": Adversaries,
        "renditions": Renditions,
        "anomalies": Anomalies,
    },
)
TABLES: dict[str, Table[Any]] = {
    "methods": METHODS,
    "mixing-sets": MIXING_SETS,
    "datasets": DATASETS,
    "models": MODELS,
    "benchmarks": BENCHMARKS,
}
