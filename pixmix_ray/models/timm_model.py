"""The networks of timm (Wightman, "PyTorch Image Models"), by their names there, such as resnet50.a1_in1k.

Normalisation and fixed input sizes are those of timm's own configuration of the name; published weights are read from
where timm finds them.
"""

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator
from torch import nn

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.models.base import IMAGENET_MEAN, IMAGENET_STD, MODELS, Channels, Model, PositiveChannels
from pixmix_ray.models.prepared import Prepared, needed
from pixmix_ray.models.weights import Weights, fit_weights, head_size, read_weights


def _timm() -> Any:
    return needed("timm", "the model timm")


def _configured(given: dict[str, Any], name: str, otherwise: Any) -> Any:
    """What timm's configuration of the architecture says; `otherwise` where that is not known yet."""
    config = _timm().get_pretrained_cfg(given["arch"]) if "arch" in given else None
    return otherwise if config is None else getattr(config, name)


def _fixed_size(given: dict[str, Any]) -> int | None:
    return _configured(given, "input_size", (0, 0, 0))[1] if _configured(given, "fixed_input_size", False) else None


@MODELS.add("timm")
class TimmModel(Model):
    """One of timm's networks.

    Attributes:
        arch: its name in timm, such as resnet50 or vit_base_patch16_224.augreg_in21k_ft_in1k.
        mean: of the three channels in [0, 1], taken off; by default as timm says.
        std: what they are then divided by, likewise.
        input_size: pixels that pictures are resized to; none takes them as they come. By default none, but for networks
            that take one size alone; of published weights the size that they were trained with.
    """

    summary: ClassVar[str] = "timm's networks: arch resnet50.a1_in1k, vit_base_patch16_224, ... (pip install timm)"
    source: ClassVar[str] = "Wightman, PyTorch Image Models"

    arch: str
    mean: Channels = Field(default_factory=lambda given: _configured(given, "mean", IMAGENET_MEAN))
    std: PositiveChannels = Field(default_factory=lambda given: _configured(given, "std", IMAGENET_STD))
    input_size: int | None = Field(default_factory=_fixed_size, ge=1)

    @field_validator("arch")
    @classmethod
    def _is_known(cls, arch: str) -> str:
        timm = _timm()
        if not timm.is_model(arch):
            raise UnknownNameError("arch", arch, timm.list_models())
        name, _, tag = arch.partition(".")
        if tag and timm.get_pretrained_cfg(arch, allow_unregistered=False) is None:
            raise UnknownNameError("arch", arch, timm.list_pretrained(f"{name}.*"))
        return arch

    def label(self) -> str:
        """The name in results, timm's."""
        return self.arch

    def build(self, num_classes: int) -> nn.Module:
        """The network, from pictures (N, 3, H, W) in [0, 1] to logits (N, num_classes)."""
        return Prepared(self._network(num_classes), self.mean, self.std, self.input_size)

    def with_weights(self, weights: Path | None) -> tuple[Self, Path]:
        """As `Model.with_weights`; published ones come with the size that they were trained with."""
        if weights is not None:
            return self, weights
        config = _timm().get_pretrained_cfg(self.arch)
        size = {} if "input_size" in self.model_fields_set else {"input_size": config.input_size[1]}
        return self.model_copy(update=size), _published(self.arch, config)

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """As `Model.opened`, by timm's own names of tensors."""
        found = _renamed(read_weights(weights))
        if num_outputs is None:
            num_outputs = head_size(self._network(2), found, str(weights))
        network = self._network(num_outputs)
        fit_weights(network, found, str(weights))
        return Prepared(network, self.mean, self.std, self.input_size)

    def _network(self, num_classes: int) -> nn.Module:
        made: nn.Module = _timm().create_model(self.arch, pretrained=False, num_classes=num_classes)
        return made


def _renamed(weights: Weights) -> Weights:
    """Weights of a trial of ours under timm's names."""
    is_ours = weights and all(name.startswith("network.") for name in weights)
    return {name.removeprefix("network."): tensor for name, tensor in weights.items()} if is_ours else weights


def _published(arch: str, config: Any) -> Path:
    """The file of the weights that timm publishes, downloaded to its cache where it is not there yet.

    Raises:
        RequestError: there are none, or they cannot be had.
    """
    try:
        if config is not None and config.hf_hub_id:
            from huggingface_hub import hf_hub_download  # timm needs it too

            return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
        if config is not None and config.url:
            from timm.models._hub import download_cached_file

            return Path(download_cached_file(config.url))
    except Exception as error:  # a network, and other people's code
        raise RequestError(
            f"the published weights of {arch} cannot be had: {type(error).__name__}: {one_line(error)}. Fetch them on "
            "a machine with a network, and give the file as weights"
        ) from None
    raise RequestError(f"timm publishes no weights of {arch}: give weights in place of pretrained")
