"""Axes of a grid: a list where one value belongs, in any setting; axes that go together, and points left out.

dataset: [cifar10, cifar100]
methods: [baseline, {name: pixmix, severity: [1, 3, 5]}]
training: {lr: [0.05, 0.1], epochs: [10, 20]}
benchmarks: [{name: corruptions, names: {grid: [[fog], [fog, snow]]}}]   # where the setting is itself a list
zip: [training.lr, training.epochs]                                      # 0.05 for 10 epochs, 0.1 for 20
exclude: [{dataset: cifar100, methods.pixmix.severity: 5}]
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import PlainValidator, ValidationInfo, ValidatorFunctionWrapHandler

from pixmix_ray.datasets import Dataset
from pixmix_ray.errors import ProblemsError, RequestError, UnknownNameError
from pixmix_ray.experiment.labels import text_of
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.methods import Method
from pixmix_ray.mixing_sets import MixingSet
from pixmix_ray.models import Model
from pixmix_ray.plugins import Part, Table
from pixmix_ray.settings import Settings, base_folder

T = TypeVar("T", bound=Settings)
GRID = "grid"


def variants(values: Mapping[str, Any], kind: type[Settings]) -> list[dict[str, Any]]:
    """The settings once for each point of the axes among them, the last axis innermost.

    Args:
        values: as they stand in a file; a list where `kind` takes one value, or {grid: [...]}, is an axis.
        kind: the class of the settings.

    Raises:
        RequestError: an axis has no values.
    """
    axes = {str(key): _values_of(str(key), value, kind) for key, value in values.items()}
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def _values_of(key: str, value: object, kind: type[Settings]) -> list[object]:
    """What a setting is in turn; the value alone if it is no axis."""
    if isinstance(value, Mapping) and set(value) == {GRID}:
        axis = value[GRID]
        if not isinstance(axis, list | tuple) or not axis:
            raise RequestError(f"{key}: grid must be a list of values, got {axis!r}: write {key}: {{grid: [1, 2]}}")
        return list(axis)
    setting = kind.model_fields.get(key)
    if not isinstance(value, list | tuple) or setting is None or _takes_list(setting.annotation):
        return [value]
    if any(_is_loose(validator) for validator in setting.metadata):
        return [value]
    if not value:
        raise RequestError(f"{key} = []: give one value, or several for a grid")
    return list(value)


def _takes_list(annotation: object) -> bool:
    """Whether a setting of this type may be a list itself."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(map(_takes_list, get_args(annotation)))
    if origin is Annotated:
        first, *others = get_args(annotation)
        return _takes_list(first) or any(map(_is_loose, others))
    kind = origin or annotation
    return kind in (Any, object) or (isinstance(kind, type) and issubclass(kind, Sequence | Set) and kind is not str)


def _is_loose(validator: object) -> bool:
    """Whether a validator takes what the type does not say."""
    return type(validator).__name__ in ("PlainValidator", "WrapValidator")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a grid, before defaults that depend on other keys are filled in."""

    dataset: Part[Dataset]
    model: Part[Model]
    recipe: Recipe
    method: Part[Method]
    mixing_set: Part[MixingSet] | None
    seed: int
    share: Share

    def value(self, path: str) -> object:
        """What the point has at `path`, such as training.lr; none where the path is not one of its.

        Of a part alone, such as dataset, it is what names it.
        """
        room, _, rest = path.partition(".")
        if room in ("k", "beta") and not rest:
            return getattr(self.method.settings, room, None)
        if room in ("seed", "seeds") and not rest:
            return self.seed
        if room == "training":
            return getattr(self.recipe, rest, None)
        if room == "resources":
            return getattr(self.share, rest.removeprefix("trial."), None)
        parts: dict[str, Part[Any] | None] = {
            "dataset": self.dataset,
            "model": self.model,
            "mixing_set": self.mixing_set,
            "method": self.method,
            "methods": self.method,
        }
        part = parts.get(room)
        if part is None:
            return None
        if room == "methods" and rest:
            name, _, rest = rest.partition(".")
            if name not in (part.name, part.own_name):
                return None
        return getattr(part.settings, rest, None) if rest else part_label(part)


def part_label(part: Part[Any]) -> str:
    """What a part is called: of a mixing set its label, of others the name."""
    label = getattr(part.settings, "label", None)
    if isinstance(part.settings, MixingSet) and label is not None:
        return str(label(part.own_name))
    return part.own_name


@dataclass(frozen=True, kw_only=True)
class GridSelection:
    """Which points of the whole grid are wanted.

    Attributes:
        together: groups of axes whose values go together, the first with the first.
        excluded: points that are left out: all that have these values at these paths.
    """

    together: Sequence[Sequence[str]] = ()
    excluded: Sequence[Mapping[str, object]] = field(default_factory=tuple)

    def of(self, points: Sequence[Point]) -> list[Point]:
        """The points that are wanted.

        Raises:
            RequestError: a path that no point has, axes of different lengths, or nothing is left.
        """
        for path in [*itertools.chain(*self.together), *itertools.chain(*self.excluded)]:
            if all(point.value(path) is None for point in points):
                raise UnknownNameError("axis in zip or exclude:", path, known_paths(points))
        zipped = [_axes_together(points, group) for group in self.together]
        left = [
            point
            for point in points
            if all(_is_together(point, axes) for axes in zipped)
            and not any(_is_excluded(point, rule) for rule in self.excluded)
        ]
        if not left:
            raise RequestError(
                f"zip and exclude leave none of the {len(points)} trials of the grid: remove or relax one of them"
            )
        return left


def known_paths(points: Iterable[Point]) -> list[str]:
    """The paths that an axis may have."""
    found = dict.fromkeys(["dataset", "model", "method", "mixing_set", "k", "beta", "seed"])
    for point in points:
        found |= dict.fromkeys(f"training.{name}" for name in Recipe.model_fields)
        found |= dict.fromkeys(f"resources.trial.{name}" for name in Share.model_fields)
        of_method = type(point.method.settings).model_fields
        found |= dict.fromkeys(f"methods.{point.method.name}.{name}" for name in of_method)
        for room in ("dataset", "model", "mixing_set"):
            if (part := getattr(point, room)) is not None:
                found |= dict.fromkeys(f"{room}.{name}" for name in type(part.settings).model_fields)
    return list(found)


def _distinct(points: Iterable[Point], path: str) -> list[object]:
    """The values at a path in order of appearance."""
    found: list[object] = []
    for point in points:
        value = point.value(path)
        if value is not None and value not in found:
            found.append(value)
    return found


def _axes_together(points: Iterable[Point], group: Sequence[str]) -> dict[str, list[object]]:
    """The values at each path of a group; raises RequestError where they are not equally many."""
    axes = {path: _distinct(points, path) for path in group}
    if len({len(values) for values in axes.values()}) > 1:
        lengths = ", ".join(f"{path} has {len(values)}" for path, values in axes.items())
        raise RequestError(f"zip {list(group)}: {lengths} values: give each the same number of values")
    return axes


def _is_together(point: Point, axes: Mapping[str, list[object]]) -> bool:
    """Whether a point has the values of the same place on all the axes that it has."""
    places = {axes[path].index(value) for path in axes if (value := point.value(path)) is not None}
    return len(places) <= 1


def _is_excluded(point: Point, rule: Mapping[str, object]) -> bool:
    """Whether a point has all the values of a rule; a list in a rule stands for any of its values."""
    allowed = {path: value if isinstance(value, list | tuple) else [value] for path, value in rule.items()}
    return all(point.value(path) in values for path, values in allowed.items())


def axes_of(points: Sequence[Point]) -> dict[str, list[str]]:
    """The axes along which points differ, and the values of each as text, such as {"training.lr": ["0.05", "0.1"]}."""
    found: dict[str, list[str]] = {}
    for room in ("dataset", "model", "method", "mixing_set"):
        parts = [part for point in points if (part := getattr(point, room)) is not None]
        names = list(dict.fromkeys(map(part_label, parts)))
        if len(names) > 1:
            found[room] = names
        for name in names:
            same = list({id(part): part for part in parts if part_label(part) == name}.values())
            where = f"methods.{name}" if room == "method" else room
            found |= _differing(where, [part.settings for part in same])
    recipes = list({id(point.recipe): point.recipe for point in points}.values())
    found |= _differing("training", recipes)
    found |= differing_shares([point.share for point in points])
    if len(seeds := _distinct(points, "seed")) > 1:
        found["seed"] = list(map(str, seeds))
    return found


def differing_shares(shares: Sequence[Share]) -> dict[str, list[str]]:
    """The keys in which shares of trials differ, and the values of each as text."""
    return _differing("resources.trial", shares)


def _differing(where: str, settings: Sequence[Settings]) -> dict[str, list[str]]:
    """The settings of one class that are not the same in all of these."""
    names = type(settings[0]).model_fields if settings else {}
    texts = {name: list(dict.fromkeys(text_of(getattr(one, name)) for one in settings)) for name in names}
    return {f"{where}.{name}": values for name, values in texts.items() if len(values) > 1}


def as_list(value: object) -> list[object]:
    """The items of a list, or one item as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def parts_of(table: Table[T]) -> PlainValidator:
    """Takes a part or a list of them; one with axes among its settings stands for several."""

    def read(value: object, info: ValidationInfo) -> tuple[Part[T], ...]:
        base, parts, problems = base_folder(info), list[Part[T]](), dict[str, RequestError]()
        for item in _items(value):
            try:
                parts += [table.read(one, base) for one in _spread(table, item, base)]
            except RequestError as problem:
                problems.setdefault(str(problem), problem)
        if len(problems) > 1:
            raise ProblemsError(table.kind, problems.values())
        if problems:
            raise next(iter(problems.values()))
        return tuple(parts)

    return PlainValidator(read)


def _items(value: object) -> list[object]:
    """The parts that a key names."""
    if isinstance(value, Mapping) and set(value) == {GRID}:
        value = value[GRID]
    return as_list(value)


def _spread(table: Table[T], spec: object, base: Path | None) -> list[Any]:
    """What a part stands for: itself, or one for each point of the axes among its settings."""
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str | type):
        return [spec]
    name = spec["name"]
    if isinstance(name, str):
        name = str(table.short.get(name, {}).get("name", name))
        if table.join is not None and name not in table.names():
            return [spec]  # a join or a path
    kind = name if isinstance(name, type) else table.find(str(name), base)
    return variants(spec, kind)


def recipes(value: object) -> list[object]:
    """The mappings that a mapping with axes, or a list of such, stands for."""
    items = [variants(item, Recipe) if isinstance(item, Mapping) else [item] for item in _items(value)]
    return list(itertools.chain.from_iterable(items))


def shares(value: object, handler: ValidatorFunctionWrapHandler) -> Resources:
    """Resources of which the share of a trial may have axes."""
    trial = value.get("trial") if isinstance(value, Mapping) else None
    points = variants(trial, Share) if isinstance(trial, Mapping) else []
    if len(points) < 2:
        return handler(value)  # type: ignore[no-any-return]
    return Resources.joined([handler({**value, "trial": point}) for point in points])  # type: ignore[dict-item]


def groups(value: object) -> object:
    """A group of axes, or a list of groups, as a list of groups."""
    is_one = isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value)
    return [value] if is_one else value
