"""The tables of parts: name -> data set, mixing set, model, method, benchmark; and a part, a name with its settings.

One of ours is a file in its room, whose class is put into the room's table by `@METHODS.add("name")`, and one line in
the room's `__init__.py`, which imports it. Other people's classes need no line: a package of theirs announces them as
entry points (group `pixmix_ray.methods` and so on), an experiment file names them as `module:Class`, and in Python the
class or an object of it stands in place of a name.

Files that somebody else may have written name classes, and to import them is to run code: `check_trusted`.
"""

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.identity import Code, is_ours, own_name, part_identity, source_hash, user_module_names
from pixmix_ray.paths import written_path
from pixmix_ray.settings import Located, Settings

FOLDER = "folder"  # the mixing set that a path alone stands for
ARCHIVES = (".zip", ".npy", ".npz")  # endings of files that it reads
T = TypeVar("T", bound=Settings)
Added = TypeVar("Added", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Part(Generic[T]):
    """A part of an experiment. Pickled, it is the same part where the class's source is not at hand.

    Attributes:
        name: how a file names the class: in its table, by an entry point, or as module:Class.
        settings: the object that holds its settings.
    """

    name: str
    settings: T

    @property
    def own_name(self) -> str:
        """What it is called in ids and results, however it was named: for one not of ours the class's own name."""
        return own_name(self.name, self.settings)

    def identity(self) -> dict[str, Any]:
        """All that changes an outcome, as JSON values: own name, settings, and for one not of ours its source."""
        return dict(self._identity)

    def described(self) -> dict[str, Any]:
        """Its identity, but under the name by which it is found again."""
        return {**self._identity, "name": self.name}

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return part_identity(self.name, self.settings)  # once, for all the trials that have this part

    def __getstate__(self) -> dict[str, Any]:
        self.identity()
        return self.__dict__

    def dump(self) -> dict[str, Any]:
        """Name and all settings, as JSON values that `Table.read` takes back."""
        return {"name": self.name, **self.settings.model_dump(mode="json")}


@dataclass(frozen=True)
class Table(Generic[T]):
    """The classes of one kind by name.

    Attributes:
        kind: what they are, for messages, such as "method".
        base: the class that all are derived from.
        ours: those of this package, put there by `add`.
        join: the name of the class that joins several of them; with one, a+b is short for {name: join, sets: [a, b]}.
        short: names that stand for another name and some of its settings.
        function: the name of the class that makes a part of a function of the user; with one, module:function is short
            for {name: function, function: module:function}.
    """

    kind: str
    base: type[Settings]
    ours: dict[str, type[T]] = field(default_factory=dict)
    join: str | None = None
    short: dict[str, Mapping[str, object]] = field(default_factory=dict)
    function: str | None = None

    def add(
        self, name: str, *, short: Mapping[str, Mapping[str, object]] | None = None
    ) -> Callable[[type[Added]], type[Added]]:
        """Put a class of this package into the table: a decorator.

        Args:
            name: how experiment files call it.
            short: names that stand for it and some of its settings.
        """
        self.short.update({other: {"name": name, **settings} for other, settings in (short or {}).items()})

        def added(kind: type[Added]) -> type[Added]:
            self.ours[name] = cast(type[T], kind)
            return kind

        return added

    @property
    def group(self) -> str:
        """The group of entry points in which other packages announce theirs."""
        return f"pixmix_ray.{self.kind.replace(' ', '_')}s"

    def names(self) -> list[str]:
        """Of ours and of those of installed packages, whose code is not imported."""
        return list(dict.fromkeys([*(point.name for point in entry_points(group=self.group)), *self.ours]))

    def known(self) -> dict[str, type[T]]:
        """Ours and those of installed packages; a warning names each that cannot be used."""
        found: dict[str, type[T]] = {}
        for point in entry_points(group=self.group):
            try:
                found[point.name] = self._announced(point)
            except RequestError as error:
                warnings.warn(str(error), stacklevel=2)
            if point.name in self.ours:
                told = f"{_text(point)} has the name of a {self.kind} of pixmix_ray, which is used instead: rename it"
                warnings.warn(told, stacklevel=2)
        return {**found, **self.ours}

    def _announced(self, point: EntryPoint) -> type[T]:
        try:
            return self._checked(point.load(), point.value)
        except Exception as error:  # as in `_imported`
            raise RequestError(
                f"{_text(point)} cannot be used: {one_line(error)}. Fix or uninstall the package that declares it"
            ) from error

    def find(self, name: str, base: Path | None = None) -> type[T]:
        """The class called `name`, or named as `module:Class`; a module may lie in the current folder or in `base`.

        Raises:
            UnknownNameError: no such name.
            RequestError: `module:Class` cannot be imported or is of another kind.
        """
        if name in self.ours:
            return self.ours[name]
        if ":" in name:
            found = _imported(name, base)
            if self.function is not None and isfunction(found):
                return self.ours[self.function]
            return self._checked(found, name)
        for point in entry_points(group=self.group):
            if point.name == name:
                return self._announced(point)
        raise UnknownNameError(self.kind, name, [*self.names(), *self.short])

    def read(self, spec: object, base: Path | None = None) -> Part[T]:
        """The part that `spec` describes.

        Args:
            spec: a name or a class alone, a mapping of `name` (again either) and settings, or an object of a class.
            base: the folder at which relative paths start; default: the current one.

        Raises:
            RequestError: it describes none.
        """
        if isinstance(spec, Part):
            self._checked(type(spec.settings), repr(spec.settings))
            return cast(Part[T], spec)
        if isinstance(spec, Settings):
            found = self._checked(type(spec), repr(spec))
            return self._part(self._name(found), cast(T, spec))
        if isinstance(spec, str | type):
            spec = {"name": spec}
        if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str | type):
            raise RequestError(f"{self.kind} must be a name, or a mapping with the key 'name', got {spec!r}")
        if isinstance(spec["name"], str):
            spec = self._long_form(spec, base)
            found = self.find(spec["name"], base)
            name = self._name(found, spec["name"])
            if name == self.function and ":" in spec["name"]:
                name, spec = spec["name"], {**spec, "function": spec["name"]}  # told by it, as a class of the user
        else:
            found = self._checked(spec["name"], repr(spec["name"]))
            name = self._name(found)
        settings = {str(key): value for key, value in spec.items() if key != "name"}
        return self._part(name, found.read(settings, f"{self.kind} {name}", base))

    def _part(self, name: str, settings: T) -> Part[T]:
        """The part of these settings; of a join of one set, that set."""
        if name == self.join and len(members := cast(Any, settings).sets) == 1:
            return self._part(members[0].name, members[0].settings)
        if not is_ours(type(settings)):
            source_hash(type(settings))  # if it cannot be had, that is to be said where the class is named
        return Part(name=name, settings=settings)

    def _long_form(self, spec: Mapping[str, Any], base: Path | None) -> Mapping[str, Any]:
        """What a name that stands for others, or for some settings too, is short for."""
        name = spec["name"]
        if self.join is None or name in self.ours or name in self.short:
            pass
        elif (path := self._path_of(name, base)) is not None and (path.exists() or "+" not in name):
            spec = {**spec, "name": FOLDER, "folders": str(path)}
        elif "+" in name or "*" in name:
            spec = {**spec, "name": self.join, "sets": terms_in(name)}
        if (short := self.short.get(spec["name"])) is not None:
            if twice := sorted((set(short) & set(spec)) - {"name"}):
                raise RequestError(
                    f"{spec['name']} sets {twice[0]} itself: leave {twice[0]} out, or use {short['name']}"
                )
            spec = {**spec, **short}
        return spec

    def _path_of(self, name: str, base: Path | None) -> Path | None:
        """The folder or file that a text names in place of a part; none where it looks like a name, or module:Class.

        Raises:
            RequestError: it is a URI, a path of another system, or names a variable that is not set.
        """
        start = (name.folder if isinstance(name, Located) else base) or Path.cwd()
        looks_like = name.startswith((".", "~", "/", "$")) or "/" in name or "\\" in name
        if not looks_like and (":" in name or not (name.lower().endswith(ARCHIVES) or (start / name).is_dir())):
            return None
        try:
            text = written_path(name)
        except ValueError as error:
            raise RequestError(f"{self.kind} {error}") from None
        if "://" in text:
            raise RequestError(f"{self.kind} {name!r} is a URI: pictures are read from local folders: fetch it")
        return start / text

    def _name(self, found: type[T], given: str | None = None) -> str:
        """How a file names a class: one of ours by its name in the table, whatever it was called."""
        for name, part in self.ours.items():
            if part is found:
                return name
        return given or f"{found.__module__}:{found.__qualname__}"

    def _checked(self, found: object, name: str) -> type[T]:
        is_one = isinstance(found, type) and issubclass(found, self.base) and found is not self.base
        if not is_one or isabstract(found):
            raise RequestError(
                f"{name} is not a {self.kind}: it must be a concrete class derived from {self.base.__name__}"
            )
        kind = cast(type[T], found)
        if reserved := {"name", "source"} & set(kind.model_fields):
            raise RequestError(f"{name} has a setting {reserved.pop()!r}, which is a reserved name: rename it")
        return kind


def _text(point: EntryPoint) -> str:
    package = "" if point.dist is None else f" of the package {point.dist.name}"
    return f"the entry point {point.name} = {point.value} ({point.group}){package}"


def user_modules(parts: Iterable[Part[Any]]) -> list[ModuleType]:
    """The modules of the user that other processes need for these parts: those of their classes, and what they import.

    Modules and packages by name, without ours, installed ones, and `__main__`, whose classes travel by value.
    """
    classes = {kind for part in parts for kind in _code(part.settings) if not is_ours(kind)}
    names = {name for kind in classes for name in user_module_names(kind)}
    return [importlib.import_module(name) for name in sorted(names)]


def _code(settings: Settings) -> Iterator[Code]:
    """The class of settings, the function that they name, and those of the parts within."""
    yield type(settings)
    if (function := settings.code()) is not None:
        yield function
    for value in vars(settings).values():
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Settings):
                yield from _code(inner)


def terms_in(text: str) -> list[object]:
    """The sets that `text` joins by plus signs: names, or mappings with a weight; the labels of joins are such texts.

    >>> terms_in("fractals + fractaldb")
    ['fractals', 'fractaldb']
    >>> terms_in("0.3*fractals + (mine+yours)*0.7")
    [{'name': 'fractals', 'weight': 0.3}, {'name': 'mine+yours', 'weight': 0.7}]

    Raises:
        RequestError: a name is empty, or a parenthesis is not closed.
    """
    found: list[object] = []
    for term in _split(text):
        factors = _WEIGHTED.fullmatch(term)
        name = (factors["after"] or factors["before"] if factors else term).strip()
        if name.startswith("(") and name.endswith(")"):
            name = name[1:-1].strip()
        if not name:
            raise RequestError(f"mixing set {text!r} has an empty name: write it as fractals+fractaldb")
        weight = float(factors["first"] or factors["second"]) if factors else None
        found.append(name if weight is None else {"name": name, "weight": weight})
    return found


_NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_WEIGHTED = re.compile(rf"(?P<first>{_NUMBER})\s*\*(?P<after>.*)|(?P<before>.*)\*\s*(?P<second>{_NUMBER})")


def _split(text: str) -> list[str]:
    """The terms of a sum; a plus sign in parentheses, or in the exponent of a number, divides none."""
    terms, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "+" and not depth:
            terms.append("")
        else:
            terms[-1] += letter
    if depth:
        raise RequestError(f"mixing set {text!r} has an unclosed parenthesis: write it as (a+b)*0.3+c*0.7")
    return [term.strip() for term in terms]


def _imported(name: str, base: Path | None) -> object:
    module, _, attribute = name.partition(":")
    for folder in filter(None, (Path.cwd(), base)):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # last: a file called statistics.py must not hide the standard library's
    importlib.invalidate_caches()  # the file may be a moment old
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs other people's code, which may raise anything
        raise RequestError(
            f"cannot import {name!r}: {type(error).__name__}: {one_line(error)}. "
            "Write it as module:Class, importable from here"
        ) from error


def check_trusted(values: object, where: str, *, is_trusted: bool, way_out: str = "add --trust") -> None:
    """Refuse JSON values that describe parts if reading them would import what they name, and nobody trusts them.

    Args:
        values: as read from a file.
        where: which file, for the message.
        is_trusted: whether the user said that it may be done.
        way_out: how the user says so.

    Raises:
        RequestError: they name code, and are not trusted.
    """
    if not is_trusted and (named := named_code(values)):
        raise RequestError(f"{where} asks to import {one_line(named[0])!r}: if you trust it, {way_out}")


def named_code(values: object) -> list[str]:
    """What reading JSON values that describe parts would import: the names `module:Class`, and trials to be trusted.

    >>> named_code({"model": {"name": "theirs:Net"}, "mixing_set": {"name": "join", "sets": [{"name": "fractals"}]}})
    ['theirs:Net']
    >>> named_code({"mixing_set": {"name": "fvis", "trial": "results/trials/a", "trust": True}})
    ['results/trials/a']
    """
    if isinstance(values, Mapping):
        name = values.get("name")
        own = [name] if isinstance(name, str) and ":" in name else []
        if values.get("trust"):
            own.append(str(values.get("trial")))
        return own + [found for value in values.values() for found in named_code(value)]
    if isinstance(values, list):
        return [found for value in values for found in named_code(value)]
    return []
