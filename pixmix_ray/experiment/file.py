"""The experiment file, and what is put on top of it: presets, `key.path=value` and `key.path+=value`.

Relative paths in a file start at the folder of that file; those typed with --set start at the current folder.

A file may be made of others:

extends: base.yaml                  # or several; what stands here comes on top
methods+: [augmix]                  # added to the list of the base; without the plus it would take its place
presets: {smoke: {training: {epochs: 1}, dataset: {train_limit: 100}}}   # --preset smoke puts it on top
x-small: &small {limit: 100}        # kept for anchors, and ignored

A mapping on top of a mapping is merged key by key; a part with another name, and anything else, takes its place.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.experiment.axes import as_list
from pixmix_ray.experiment.experiment import DEFAULTS, Experiment
from pixmix_ray.paths import written_path
from pixmix_ray.settings import Located, Settings

ReadYaml = Callable[[Path], dict[str, Any]]


def composed(file: Path, read: ReadYaml, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The content of a file on top of the files that it extends.

    Args:
        file: the file.
        read: reads one YAML file.
        above: the files that extend it, for a circle to be noticed.

    Raises:
        RequestError: a file cannot be read, or extends itself.
    """
    try:
        file = file.resolve()
    except (ValueError, RuntimeError) as error:  # RuntimeError: a link that leads back to itself
        raise RequestError(f"cannot read the experiment file {str(file)!r}: {one_line(error)}") from None
    if file in above:
        raise RequestError(f"{above[-1]} and {file.name} extend each other: remove one of the two extends")
    own = read(file)
    extended = own.pop("extends", None) or []
    names = [extended] if isinstance(extended, str) else extended
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(f"{file.name}: extends must be a file or a list of files, got {extended!r}")
    content: dict[str, Any] = {}
    for name in names:
        try:
            base = file.parent / written_path(name)
        except ValueError as error:
            raise RequestError(f"{file.name}: extends {one_line(error)}") from None
        lower, folder = composed(base, read, (*above, file)), base.resolve().parent
        content = on_top(content, located(lower, folder) if folder != file.parent else lower)
    return on_top(content, {key: value for key, value in own.items() if not str(key).startswith("x-")})


def with_presets(content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The content with some of its presets on top, in that order, and without the key `presets`.

    Raises:
        UnknownNameError: there is no such preset.
        RequestError: presets are not mappings.
    """
    found = {key: value for key, value in content.items() if key != "presets"}
    presets = content.get("presets") or {}
    if not isinstance(presets, Mapping) or not all(isinstance(preset, Mapping) for preset in presets.values()):
        raise RequestError(
            f"presets must map names to mappings of keys, such as smoke: {{seeds: [0]}}, got {presets!r}"
        )
    for name in names:
        if name not in presets:
            raise UnknownNameError("preset", name, presets)
        found = on_top(found, presets[name])
    return found


def on_top(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `upper` on top of `lower`.

    >>> on_top({"methods": ["baseline"], "training": {"lr": 0.1}}, {"methods+": "pixmix", "training": {"epochs": 1}})
    {'methods': ['baseline', 'pixmix'], 'training': {'lr': 0.1, 'epochs': 1}}
    """
    found = dict(lower)
    for key, value in sorted(upper.items(), key=lambda item: str(item[0]).endswith("+")):  # wherever they stand
        name = str(key)
        if name.endswith("+"):
            found[name[:-1]] = added(found.get(name[:-1]), value)
        elif isinstance(value, Mapping) and isinstance(below := found.get(name), Mapping | str) and name != "presets":
            found[name] = _merged(below, value)
        else:
            found[name] = on_top(found.get(name) or {}, value) if name == "presets" and value else value
    return found


def added(lower: object, more: object) -> list[Any]:
    """A list with more at its end; a value alone counts as a list of one, none as an empty one."""
    return [*_listed(lower), *_listed(more)]


def _listed(value: object) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _merged(lower: Mapping[str, Any] | str, upper: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping on top of a mapping, or of a part that is a name alone."""
    below = {"name": lower} if isinstance(lower, str) else lower
    if "name" in upper and upper["name"] != below.get("name"):
        return on_top({}, upper)
    return on_top(below, upper)


def located(value: Any, folder: Path) -> Any:
    """The same content with texts that know the folder at which their relative paths start."""
    if isinstance(value, str) and not isinstance(value, Located):
        return Located.at(value, folder)
    if isinstance(value, list):
        return [located(item, folder) for item in value]
    if isinstance(value, Mapping):
        return {key: located(item, folder) for key, item in value.items()}
    return value


_RESOLVERS = {
    "tag:yaml.org,2002:bool": (re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "tag:yaml.org,2002:int": (re.compile("[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
}
"""What plain values are a boolean or an integer, and how these start."""


def read_experiment(
    source: Path | str | Mapping[str, Any] | Experiment,
    overrides: Iterable[str] = (),
    *,
    presets: Iterable[str] = (),
    limit: int | None = None,
) -> Experiment:
    """The experiment of a file, or of a mapping of the same keys, with changes on top.

    In a mapping, a class or an object of it may stand in place of a part's name. An `Experiment` is returned as it is.

    Args:
        source: the file or mapping.
        overrides: `key.path=value`, or `key.path+=value` to add to a list.
        presets: names of presets of the file, which are put on top in that order.
        limit: the most test pictures that any benchmark uses.

    Raises:
        RequestError: the source or an override is wrong; one line that says what and what is allowed.
    """
    overrides, presets = list(overrides), list(presets)
    if isinstance(source, Experiment):
        if overrides or presets or limit is not None:
            changes = [*overrides, *presets, *([] if limit is None else [f"limit {limit}"])]
            raise RequestError(
                f"{changes[0]!r} cannot be applied to an Experiment: change the mapping it was made from"
            )
        return source
    if isinstance(source, Mapping):
        raw = dict(source)
    else:
        try:
            file = Path(source)
        except TypeError:
            raise RequestError(f"an experiment is a file, a mapping or an Experiment, got {source!r:.80}") from None
        raw = composed(file, _read_yaml)
    raw = with_presets(raw, presets)
    for text in overrides:
        raw = override(raw, text)
    if limit is not None:
        raw["benchmarks"] = _limited(raw.get("benchmarks", DEFAULTS["benchmarks"]), limit)
    if isinstance(source, Mapping):
        return Experiment.read(raw, "experiment")
    return Experiment.read(raw, f"experiment {Path(source).name}", Path(source).resolve().parent)


def _limited(benchmarks: object, limit: int) -> list[object]:
    """The benchmarks, each over at most so many test pictures."""
    found = []
    for benchmark in as_list(benchmarks):
        spelled = _spelled(benchmark)
        own = spelled.get("limit") if isinstance(spelled, Mapping) else None
        is_less = isinstance(own, int) and own <= limit
        found.append({**spelled, "limit": limit} if isinstance(spelled, Mapping) and not is_less else spelled)
    return found


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        raw = parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read the experiment file {file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, or a date that does not exist
        raise RequestError(f"cannot read {file} as YAML: {one_line(error)}") from None
    if not isinstance(raw, dict):
        raise RequestError(f"{file} must be a mapping of keys to values, such as 'dataset: digits'")
    return raw


class _Loader(yaml.SafeLoader):
    """The safe loader, with plain values as in YAML 1.2, and a key that is there twice is the mistake that it is.

    By YAML 1.1, which it knows by itself, yes and no are true and false, 010 is 8 and 1:30 is 90.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  # typed as in the class above
        first: [(tag, pattern) for tag, pattern in found if tag not in _RESOLVERS]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        return super().construct_object(node, deep=True)  # whole at once: an anchor within itself is refused

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


for _tag, (_pattern, _firsts) in _RESOLVERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, _firsts)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, plain values as in YAML 1.2: only true and false are booleans, 010 is no octal number.

    >>> parse_yaml("[yes, true, 010, 1:30, 12, 0x10]")
    ['yes', True, '010', '1:30', 12, 16]

    Raises:
        yaml.YAMLError: it is none.
        ValueError: it holds a date that does not exist, or is nested too deeply.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_part(text: str) -> object:
    """What was typed for a part: its name, or a mapping in YAML, whose relative paths start at the current folder.

    Raises:
        RequestError: it is not YAML.
    """
    try:
        return _typed(parse_yaml(text)) if text.lstrip().startswith("{") else text
    except (yaml.YAMLError, ValueError):
        raise RequestError(f"{text!r} is not a YAML mapping, such as '{{name: timm, arch: resnet18}}'") from None


def override(raw: dict[str, Any], text: str) -> dict[str, Any]:
    """The content of an experiment file with one `key.path=value` put in; `raw` is not changed.

    A step of the path is a key, or in a list an index or the name of a part.

    >>> override({"methods": ["baseline", "pixmix"]}, "methods.pixmix.severity=1")
    {'methods': ['baseline', {'name': 'pixmix', 'severity': 1}]}
    """
    path, equals, value = text.partition("=")
    is_added, path = path.endswith("+"), path.removesuffix("+")
    if not equals or not all(path.split(".")):
        raise RequestError(f"--set {text!r} must be key=value, such as training.epochs=1, or key+=value")
    try:
        parsed = parse_yaml(value)
    except (yaml.YAMLError, ValueError):
        raise RequestError(f"--set {text!r}: {value!r} is not a YAML value; quote it") from None
    steps = path.split(".")
    if len(steps) > 1 and steps[0] in (*DEFAULTS, "methods"):
        part = raw.get(steps[0], DEFAULTS.get(steps[0]))
        raw = {**raw, steps[0]: as_list(part) if steps[0] in ("methods", "benchmarks") else part}
    typed = _typed(parsed)
    if is_added:
        typed = added(_at(raw, steps), typed)
    changed = _put(raw, steps, typed, text)
    assert isinstance(changed, dict)
    return changed


def _at(raw: Mapping[str, Any], path: list[str]) -> object:
    """What stands at a path, or by default there; none where nothing does."""
    node: object = raw if path[0] in raw else DEFAULTS
    for step in path:
        node = _spelled(node)
        if isinstance(node, list):
            node = {name: node[place] for name, place in _places(node).items()}
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def _put(node: object, path: list[str], value: object, text: str) -> object:
    if not path:
        return value
    step, rest = path[0], path[1:]
    node = _spelled(node)
    if node is None or isinstance(node, Mapping):
        mapping = node or {}
        return {**mapping, step: _put(mapping.get(step), rest, value, text)}
    if isinstance(node, list):
        place = _place(node, step, text)
        return [*node[:place], _put(node[place], rest, value, text), *node[place + 1 :]]
    raise RequestError(f"--set {text!r}: there is no key {step!r} below a plain value")


def _spelled(node: object) -> object:
    """A part that is a name, a class or an object alone, as a mapping."""
    if isinstance(node, Settings):
        return {"name": type(node), **{name: getattr(node, name) for name in node.model_fields_set}}
    return {"name": node} if isinstance(node, str | type) else node


def _place(parts: list[Any], step: str, text: str) -> int:
    """The index of the part that `step` names or counts."""
    places = _places(parts)
    if step in places:
        return places[step]
    if step.isdigit() and int(step) < len(parts):
        return int(step)
    raise RequestError(f"--set {text!r}: no {step!r} in the list: choose among {', '.join(map(_name, parts))}")


def _places(parts: list[Any]) -> dict[str, int]:
    """The index of the first part of each name; a class named module:Class is found by its own name, too."""
    named = [(_name(part), place) for place, part in enumerate(parts)]
    named += [(name.rpartition(":")[2], place) for name, place in named]
    return dict(reversed(named))


def _name(part: object) -> str:
    """The name of a part; of a class, its own."""
    spelled = _spelled(part)
    name = spelled.get("name") if isinstance(spelled, Mapping) else spelled
    return name.__name__ if isinstance(name, type) else str(name)


def _typed(value: object) -> object:
    """Strings marked as typed at the shell, so that relative paths in them start at the current folder."""
    if isinstance(value, str):
        return Located.at(value)
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return value
