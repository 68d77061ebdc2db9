"""Image classifiers of Hugging Face's transformers, out of a local folder: config.json, model.safetensors.

What the network expects of its input is read from the folder's preprocessor_config.json, where there is one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationInfo, model_validator
from torch import nn

from pixmix_ray.errors import CheckpointError, RequestError, one_line
from pixmix_ray.identity import hash_of_values
from pixmix_ray.models.base import MODELS, PreparedModel, needed
from pixmix_ray.models.weights import Weights, fit_weights, head_size, parse_weights
from pixmix_ray.settings import DataPath, data_path

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, SHARDS = "model.safetensors", "model-*.safetensors"
WITHOUT_MEANING = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "id2label", "label2id", "architectures"}
)
"""Keys of a configuration that change nothing of the network; the number of classes is asked for apart."""


@MODELS.add("transformers")
class TransformersModel(PreparedModel):
    """A network of transformers' `AutoModelForImageClassification`.

    Attributes:
        config: the folder with config.json, or that file; under `checkpoints` the folder of the weights.
        mean: of the three channels in [0, 1], taken off; by default as preprocessor_config.json says, else none.
        std: what they are then divided by, likewise.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come. By default as
            preprocessor_config.json says.
    """

    summary: ClassVar[str] = "a local folder of transformers: config.json, model.safetensors (pip install transformers)"
    source: ClassVar[str] = "Wolf et al., EMNLP 2020 (Transformers)"
    location: ClassVar[frozenset[str]] = frozenset({"config"})  # identity() holds what it says

    config: DataPath | None = Field(None, description="the folder with config.json")

    @model_validator(mode="before")
    @classmethod
    def _takes_the_folders_input(cls, values: Any, info: ValidationInfo) -> Any:
        config = values.get("config") if isinstance(values, dict) else None
        if isinstance(config, str | Path) and config:
            return {**_input_of(data_path(config, info)), **values}
        return values

    def identity(self) -> dict[str, Any]:
        """What config.json says of the network, and the input."""
        return {**super().identity(), "config": hash_of_values(self._meant())}

    def label(self) -> str:
        """The kind of network, such as vit."""
        return str(self._read().get("model_type", "transformers"))

    def with_weights(self, weights: Path | None) -> tuple[Self, Path]:
        """As `Model.with_weights`, with the configuration that lies beside the weights."""
        if weights is None:
            raise RequestError(
                "transformers is read from a local folder: fetch it, such as by `hf download NAME --local-dir FOLDER`, "
                "and give the folder as weights"
            )
        folder = weights if weights.is_dir() else weights.parent
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).read({"config": folder, **own}, "model transformers"), weights

    def weight_files(self, weights: Path) -> list[Path]:
        """The safetensors in a folder, or the file."""
        if not weights.is_dir():
            return [weights]
        if (weights / WEIGHTS).is_file():
            return [weights / WEIGHTS]
        if not (found := sorted(weights.glob(SHARDS))):
            raise CheckpointError(
                f"{weights} holds no {WEIGHTS}: save the network with save_pretrained, which writes it; other formats "
                "are not read, as reading them may run code"
            )
        return found

    def network(self, num_classes: int) -> nn.Module:
        """The network with fresh weights."""
        values = {key: value for key, value in self._read().items() if key not in ("id2label", "label2id")}
        made = self._library().AutoConfig.for_model(**{**values, "num_labels": num_classes})
        try:
            network: nn.Module = self._library().AutoModelForImageClassification.from_config(made)
        except ValueError as error:
            raise CheckpointError(f"{self.config} is not of an image classifier: {one_line(error)}") from None
        return network

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """As `Model.opened`."""
        found: Weights = {}
        for file in self.weight_files(weights):
            found |= parse_weights(file.read_bytes(), str(file))
        if num_outputs is None:
            num_outputs = head_size(self.network(2), found, str(weights))
        network = self.network(num_outputs)
        fit_weights(network, found, str(weights))
        return self.prepared(network)

    def _library(self) -> Any:
        return needed("transformers", "the model transformers")

    def _meant(self) -> dict[str, Any]:
        return {key: value for key, value in self._read().items() if key not in WITHOUT_MEANING}

    def _read(self) -> dict[str, Any]:
        if self.config is None:
            raise RequestError("transformers needs config: the folder with config.json, or under checkpoints weights")
        file = self.config / CONFIG if self.config.is_dir() else self.config
        values = _json(file)
        if values is None or "model_type" not in values:
            raise CheckpointError(f"{file} is not a configuration of transformers: give a folder of save_pretrained")
        return values


def _input_of(config: Path) -> dict[str, Any]:
    """The settings that a folder's preprocessor_config.json means; none where there is none."""
    folder = config if config.is_dir() else config.parent
    values = _json(folder / PREPROCESSOR)
    if values is None:
        return {}
    try:
        return _meaning(values)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / PREPROCESSOR} says of no input that is known ({one_line(error)}): remove it, and set mean, std "
            "and input_size"
        ) from None


def _meaning(values: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, std and input_size, as far as a preprocessor_config.json says them."""
    found = _normalisation_of(values)
    size = values.get("crop_size") if values.get("do_center_crop") else values.get("size")
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return {**found, "input_size": int(size)} if size and values.get("do_resize", True) else found


def _normalisation_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mean and std that a preprocessor takes; none where it does not normalise."""
    if not (values.get("do_normalize", True) and "image_mean" in values and "image_std" in values):
        return {}
    scale = values.get("rescale_factor", 1 / 255) * 255 if values.get("do_rescale", True) else 255
    return {key: [one / scale for one in values[f"image_{key}"]] for key in ("mean", "std")}


def _json(file: Path) -> dict[str, Any] | None:
    """The object in a JSON file; none if there is no such file."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {one_line(error)}") from None
    return values if isinstance(values, dict) else None
