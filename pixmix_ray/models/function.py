"""A network that a function of yours makes, named as module:function in place of a model."""

import importlib
import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import nn

from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.identity import source_hash
from pixmix_ray.models.base import MODELS, PreparedModel


@MODELS.add("function")
class FunctionModel(PreparedModel):
    """What `module:function` returns, a torch module from pictures to logits.

    The function gets `num_classes`, if it has such a parameter, and keys that are none of these as arguments. Its
    source is part of what the model is, as is that of a class of yours.

    Attributes:
        function: module:function.
        arguments: of the function, beside num_classes.
        mean: of the three channels in [0, 1], taken off before the network; by default nothing.
        std: what they are then divided by; by default 1.
    """

    summary: ClassVar[str] = "a torch module that a function of yours returns: name it as module:function"
    source: ClassVar[str] = "yours"

    function: str = Field(description="module:function")
    arguments: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _other_keys_are_arguments(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        rest = {key: value for key, value in values.items() if key not in cls.model_fields}
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        arguments = own.get("arguments", {})
        return {**own, "arguments": {**arguments, **rest} if isinstance(arguments, Mapping) else arguments}

    def code(self) -> FunctionType:
        """The function."""
        module, _, name = self.function.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, FunctionType)
        return found

    def identity(self) -> dict[str, Any]:
        """The function's own name, its source, and all settings."""
        name = self.function.rpartition(":")[2]
        return {**super().identity(), "function": name, "source": source_hash(self.code())}

    def label(self) -> str:
        """The function's name."""
        return self.function.rpartition(":")[2]

    def network(self, num_classes: int) -> nn.Module:
        """What the function returns.

        Raises:
            WorkError: it is no torch module.
            RequestError: it does not take its arguments.
        """
        parameters = inspect.signature(self.code()).parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        given = dict(self.arguments)
        if "num_classes" in parameters or takes_any:
            given["num_classes"] = num_classes
        if strange := [name for name in given if name not in parameters and not takes_any]:
            raise RequestError(
                f"{self.function} has no parameter {strange[0]!r}: it has {', '.join(parameters) or 'none'}"
            )
        made = self.code()(**given)
        if not isinstance(made, nn.Module):
            raise WorkError(f"{self.function} returns a {type(made).__name__}: it must return a torch.nn.Module")
        return made
