"""The base of every group of settings: validated, frozen, unknown keys are errors, one line a mistake."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from pixmix_ray.errors import PixmixRayError, ProblemsError, RequestError, UnknownNameError
from pixmix_ray.paths import written_path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Located(str):
    """A text that, where it is a relative path, starts at a folder of its own, not at that of the experiment file.

    Attributes:
        folder: none for the current one, as for what was typed at the shell.
    """

    folder: Path | None = None

    @classmethod
    def at(cls, text: str, folder: Path | None = None) -> Self:
        """The text with its folder."""
        made = cls(text)
        made.folder = folder
        return made


def base_folder(info: ValidationInfo) -> Path | None:
    """The folder at which relative paths start, as `Settings.read` was told; none where it is the current one."""
    return (info.context or {}).get("base")


def data_path(value: str | Path, info: ValidationInfo) -> Path:
    """The local path made absolute; relative ones start at `base` of the context, the experiment file's folder.

    Raises:
        ValueError: it is a URI, or cannot be followed.
    """
    text = written_path(str(value))
    if "://" in text:
        raise ValueError("it is a URI, and data are read from local paths: download it and give its path")
    base = value.folder if isinstance(value, Located) else base_folder(info)
    try:
        return ((base or Path.cwd()) / text).resolve()
    except RuntimeError:
        raise ValueError("it is a link that leads back to itself: fix or remove it") from None


def _absolute(value: Any, info: ValidationInfo) -> Any:
    return data_path(value, info) if isinstance(value, str | Path) else value


def _absolute_text(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path) or not str(value):
        return value
    text = written_path(str(value))
    return text if "://" in text else str(_absolute(value, info))


def _holds_boolean(value: object) -> bool:
    return any(map(_holds_boolean, value)) if isinstance(value, list | tuple) else isinstance(value, bool)


def _is_number(annotation: Any) -> bool:
    """Whether a type, or one that it is made of, is a number and none is a boolean."""
    leaves = _leaves(annotation)
    return bool(leaves & {int, float}) and bool not in leaves


def _leaves(annotation: Any) -> set[Any]:
    return set().union(*map(_leaves, parts)) if (parts := get_args(annotation)) else {annotation}


DataPath = Annotated[Path, BeforeValidator(_absolute)]
"""A local path in an experiment file; relative ones start at the folder of that file."""

ResultsUri = Annotated[str, Field(min_length=1), BeforeValidator(_absolute_text)]
"""A folder for results: a local path (relative ones as for `DataPath`) or a URI such as s3://bucket/folder."""


class Settings(BaseModel):
    """Settings of one part of the system, kept beside the code that they steer.

    Attributes:
        location: the fields that say where something lies or how it is fetched. They do not change an outcome, so
            they are left out of `identity`.
        implied: the fields that are left out of it while they are the default, since they came after identities were
            stored.
        revision: raised when the same settings come to mean another outcome, so that what was made before counts as
            something else. Needed for classes of this package alone: the source of others is part of their identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")
    location: ClassVar[frozenset[str]] = frozenset()
    implied: ClassVar[frozenset[str]] = frozenset()
    revision: ClassVar[int] = 1

    @model_validator(mode="before")
    @classmethod
    def _booleans_are_no_numbers(cls, values: Any) -> Any:
        for name, field in cls.model_fields.items() if isinstance(values, Mapping) else ():
            if name in values and _holds_boolean(values[name]) and _is_number(field.annotation):
                raise ValueError(f"{name} = {values[name]!r}: must be a number, not true or false")
        return values

    def code(self) -> FunctionType | None:
        """A function of the user that the part calls, and other processes must have; none for most parts."""
        return None

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome, as JSON values, defaults filled in; and the revision after the first."""
        fields = type(self).model_fields
        unsaid = {name for name in self.implied if getattr(self, name) == fields[name].default}
        values = self.model_dump(mode="json", exclude={*self.location, *unsaid})
        return values if self.revision == 1 else {**values, "revision": self.revision}

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str, base: Path | None = None) -> Self:
        """The settings made of `values`.

        Args:
            values: keys and values as read from a file.
            where: what the values are, for messages, such as "method pixmix".
            base: the folder at which relative paths start; default: the current one.

        Raises:
            RequestError: names every wrong key and value and what is allowed, a line each.
        """
        try:
            return cls.model_validate(dict(values), context={"base": base or Path.cwd()})
        except ValidationError as error:
            raise explain(error, where, cls) from None


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> RequestError:
    """All mistakes that pydantic found, in our words: one as one line, several as a list."""
    found: list[RequestError] = []
    mistakes = sorted(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
    for mistake in mistakes:
        if mistake["type"] == "missing" and mistakes[0]["type"] == "extra_forbidden":
            continue  # a misspelt key is also a missing one: the spelling is the mistake to name
        if mistake["type"] == "default_factory_not_called":
            continue  # it follows from a setting that is wrong itself
        if mistake["loc"] and any(_is_within(other["loc"], mistake["loc"]) for other in mistakes):
            continue  # a list without its wrong items is also too short
        problem = _explained(mistake, where, model)
        if str(problem) not in map(str, found):  # one for each point of a grid
            found.append(problem)
    return found[0] if len(found) == 1 else ProblemsError(where, found)


def _is_within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _explained(mistake: "ErrorDetails", where: str, model: type[BaseModel]) -> RequestError:
    cause = mistake.get("ctx", {}).get("error")
    if isinstance(cause, PixmixRayError):
        return cause if isinstance(cause, RequestError) else RequestError(str(cause))
    key = ".".join(part for part in mistake["loc"] if isinstance(part, str))
    if mistake["type"] == "extra_forbidden":
        inside = ", ".join([where, *(part for part in mistake["loc"][:-1] if isinstance(part, str))])
        return UnknownNameError(f"key in {inside}:", str(mistake["loc"][-1]), _known_keys(model, mistake["loc"][:-1]))
    if mistake["type"] == "missing":
        return RequestError(f"{where}: the key {key!r} is missing{_meaning(model, mistake['loc'])}")
    message = _in_words(mistake["msg"].removeprefix("Value error, "))
    value = f"{key} = {mistake['input']!r}: " if key else ""  # a rule about several keys has none of its own
    return RequestError(f"{where}: {value}{message[:1].lower()}{message[1:]}")


_WORDS = {
    r"Input should be greater than or equal to": "must be at least",
    r"Input should be greater than": "must be above",
    r"Input should be less than or equal to": "must be at most",
    r"Input should be less than": "must be below",
    r"Input should be a valid integer.*": "must be a whole number",
    r"Input should be a valid number.*": "must be a number",
    r"Input should be a valid boolean.*": "must be true or false",
    r"Input should be a valid string.*": "must be a text",
    r"Input should be a valid (tuple|list).*": "must be a list",
    r"Input should be a valid (dictionary|mapping).*": "must be a mapping",
    r"String should have at least 1 character": "must not be empty",
    r"Input should be": "must be",
}
"""What pydantic says -> how we say it; the first that fits."""


def _in_words(message: str) -> str:
    """A message of pydantic's in our words.

    >>> _in_words("Input should be greater than or equal to 1"), _in_words("Input should be 32 or 224")
    ('must be at least 1', 'must be 32 or 224')
    """
    for theirs, ours in _WORDS.items():
        if re.match(theirs, message):
            return re.sub(theirs, ours, message, count=1)
    return message


def _meaning(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """What the key at `path` below `model` may be, where its field says so."""
    field = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    return f": set it to {field.description}" if field is not None and field.description else ""


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that lies at `path` below `model`."""
    for part in path:
        field = model.model_fields.get(str(part))
        model = (field and _model_in(field.annotation)) or model
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The group of settings in a type such as tuple[Recipe, ...]; none if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
