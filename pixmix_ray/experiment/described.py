"""What can be set of a part: every setting with its meaning, default and range, out of its class; and a JSON schema.

Meanings stand in a setting's `Field(description=...)`, or in the Attributes of the docstring of its class.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BeforeValidator, PlainValidator
from pydantic.fields import FieldInfo

from pixmix_ray.benchmarks import BENCHMARKS
from pixmix_ray.datasets import DATASETS
from pixmix_ray.experiment.axes import GRID
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.external import CheckpointEntry
from pixmix_ray.experiment.labels import text_of
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.experiment.resources import Share
from pixmix_ray.methods import METHODS
from pixmix_ray.mixing_sets import MIXING_SETS
from pixmix_ray.models import MODELS
from pixmix_ray.plugins import Table
from pixmix_ray.settings import Settings

_ATTRIBUTE = re.compile(r"^ +(\w+): (.*(?:\n {12,}.*)*)", re.M)
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
TABLES: dict[str, Table[Any]] = {
    "methods": METHODS,
    "mixing-sets": MIXING_SETS,
    "datasets": DATASETS,
    "models": MODELS,
    "benchmarks": BENCHMARKS,
}
"""The tables of all kinds of parts, by what `pixmix-ray list` calls them."""
_MANY: dict[str, Table[Any]] = {
    "methods": METHODS,
    "mixing_set": MIXING_SETS,
    "benchmarks": BENCHMARKS,
    "dataset": DATASETS,
    "model": MODELS,
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a part.

    Attributes:
        name: its key in an experiment file.
        default: as it would be written there; "" where it must be given.
        range: what is allowed.
        meaning: in a line.
    """

    name: str
    default: str
    range: str
    meaning: str


def settings_of(kind: type[Settings]) -> list[Setting]:
    """Every setting of a part's class, in its order."""
    schema, meanings = kind.model_json_schema(), _meanings(kind)
    return [
        Setting(
            name=name,
            default="" if of.is_required() else _default_of(of),
            range=_range(schema.get("properties", {}).get(name, {}), schema.get("$defs", {})),
            meaning=of.description or meanings.get(name, ""),
        )
        for name, of in kind.model_fields.items()
    ]


def _default_of(field: FieldInfo) -> str:
    """A default as it would be written in a file; where it follows from others, as it is without them."""
    return text_of(field.get_default(call_default_factory=True, validated_data={})) or '""'


def _meanings(kind: type[Settings]) -> dict[str, str]:
    """What the docstrings of a class and its bases say of their attributes."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        attributes = (one.__doc__ or "").partition("Attributes:")[2]
        found |= {match[1]: " ".join(match[2].split()) for match in _ATTRIBUTE.finditer(attributes)}
    return found


def _range(schema: Mapping[str, Any], defined: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words.

    >>> _range({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {})
    'integer ≥ 1, or null'
    """
    if "$ref" in schema:
        return _range(defined.get(schema["$ref"].rpartition("/")[2], {}), defined)
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(filter(None, (_range(one, defined) for one in schema["anyOf"]))))
    if "const" in schema or "enum" in schema:
        return ", ".join(map(text_of, schema.get("enum", [schema.get("const")])))
    kind = str(schema.get("type", ""))
    if kind == "array" and isinstance(items := schema.get("items"), Mapping) and (inner := _range(items, defined)):
        kind = f"list of {inner}"
    kind = {"string": "text", "object": "mapping"}.get(kind, kind)
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    return f"{kind} {bounds}".strip()


def experiment_schema() -> dict[str, Any]:
    """A JSON schema of experiment files, for editors: keys, names of parts, their settings, and axes."""
    schema = Experiment.model_json_schema()
    properties, defined = schema["properties"], schema.setdefault("$defs", {})
    for key, meaning in _meanings(Experiment).items():
        if key in properties:
            properties[key]["description"] = meaning
    for key, table in _MANY.items():
        defined[table.kind] = _part_schema(table, defined)
        part = {"$ref": f"#/$defs/{table.kind}"}
        properties[key] |= {"anyOf": [part, {"type": "array", "items": part}]}
        properties[key].pop("items", None)
        properties[key].pop("type", None)
    entry = _loosened(defined["CheckpointEntry"], CheckpointEntry)
    defined["CheckpointEntry"] = {**entry, "additionalProperties": True}  # the settings of its model
    of_model: dict[str, Any] = {"$ref": "#/$defs/CheckpointEntry"}
    properties["checkpoints"] = {
        "description": properties["checkpoints"].get("description", ""),
        "anyOf": [of_model, {"type": "array", "items": of_model}],
    }
    defined["Recipe"] = _with_axes(defined["Recipe"], Recipe)
    defined["Share"] = _with_axes(defined["Share"], Share)
    properties["training"] = {
        "description": properties["training"].get("description", ""),
        "anyOf": [{"$ref": "#/$defs/Recipe"}, {"type": "array", "items": {"$ref": "#/$defs/Recipe"}}],
    }
    for key in ("k", "beta", "seeds"):
        items = properties[key].get("items", {})
        either = [items, {"type": "array", "items": items}]
        properties[key] = {"description": properties[key].get("description", ""), "anyOf": either}
    properties["zip"].pop("items", None)
    properties["exclude"].pop("type", None)
    keys = ("methods", "checkpoints", "benchmarks", "mixing_set", "seeds", "k", "beta")
    listed = [key for key in keys if key in properties]
    properties |= {f"{key}+": {**properties[key], "description": f"added to {key} of the base"} for key in listed}
    properties["extends"] = {
        "description": "a file, or several, on top of which this one comes",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    properties["presets"] = {"type": "object", "description": "changes by name, put on top by --preset NAME"}
    schema.pop("required", None)  # a file that extends another may leave anything out
    schema["patternProperties"] = {"^x-": {"description": "kept for YAML anchors, and ignored"}}
    schema["title"] = "experiment"
    defined["axis"] = _AXIS
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _part_schema(table: Table[Any], defined: dict[str, Any]) -> dict[str, Any]:
    """The schema of one part of a table: a name, or a mapping of a name and settings."""
    known = table.known()
    for name, kind in known.items():
        own = kind.model_json_schema()
        defined |= own.pop("$defs", {})
        meanings = {setting.name: setting.meaning for setting in settings_of(kind)}
        for key, value in own.get("properties", {}).items():
            value.setdefault("description", meanings.get(key, ""))
        own = _with_axes(own, kind)
        own["properties"] = {"name": {"const": name}, **own.get("properties", {})}
        own["required"] = ["name", *own.get("required", [])]
        own["description"] = getattr(kind, "summary", "")
        defined[f"{table.kind} {name}"] = own
    names = sorted([*known, *table.short])
    own_class = {"type": "object", "properties": {"name": {"type": "string", "pattern": "[:+*]"}}, "required": ["name"]}
    short = {"type": "object", "properties": {"name": {"enum": sorted(table.short)}}, "required": ["name"]}
    return {
        "anyOf": [
            {"enum": names},
            {"type": "string", "description": "a class of yours as module:Class, or a join as a+b"},
            *({"$ref": f"#/$defs/{table.kind} {name}"} for name in known),
            *([short] if table.short else []),
            own_class,
        ]
    }


def _loosened(schema: Mapping[str, Any], kind: type[Settings]) -> dict[str, Any]:
    """The schema without the types of those settings that are read in more forms than pydantic's schema says."""
    properties = dict(schema.get("properties", {}))
    validators = kind.__pydantic_decorators__.field_validators.values()
    before = {name for one in validators if one.info.mode == "before" for name in one.info.fields}
    for name, of in kind.model_fields.items():
        reads_more = name in before or any(map(_reads_more, of.metadata)) or _is_read_otherwise(of.annotation)
        if name in properties and reads_more:
            properties[name] = {
                key: text for key, text in properties[name].items() if key in ("description", "default")
            }
    return {**schema, "properties": properties}


def _reads_more(validator: object) -> bool:
    return isinstance(validator, BeforeValidator | PlainValidator)


def _is_read_otherwise(annotation: object) -> bool:
    return any(_reads_more(one) or _is_read_otherwise(one) for one in get_args(annotation))


def _with_axes(schema: Mapping[str, Any], kind: type[Settings]) -> dict[str, Any]:
    """The schema of settings, each of which may be an axis."""
    schema = _loosened(schema, kind)
    properties = {
        key: {
            "description": value.get("description", ""),
            **({"default": value["default"]} if "default" in value else {}),
            "anyOf": [value, {"$ref": "#/$defs/axis"}],
        }
        for key, value in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


_AXIS = {
    "anyOf": [
        {"type": "array", "minItems": 1},
        {"type": "object", "properties": {GRID: {"type": "array", "minItems": 1}}, "required": [GRID]},
    ],
    "description": "values of an axis of the grid",
}
