"""Experiment files made of others: `extends`, `key+`, presets, and keys called x-... that only hold YAML anchors.

extends: base.yaml                  # or several; what stands here comes on top
methods+: [augmix]                  # added to the list of the base; without the plus it would take its place
presets: {smoke: {training: {epochs: 1}, dataset: {train_limit: 100}}}   # --preset smoke puts it on top
x-small: &small {limit: 100}        # kept for anchors, and ignored

A mapping on top of a mapping is merged key by key; a part with another name, and anything else, takes its place.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.paths import written_path
from pixmix_ray.settings import Located

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
