"""The networks of timm, by their names there, such as resnet50.a1_in1k.

Normalisation and fixed input sizes are those of timm's own configuration of the name; published weights are read from
where timm finds them.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator
from torch import nn

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.models.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODELS,
    Channels,
    PositiveChannels,
    PreparedModel,
    needed,
)

NEAR = 8  # names that a message lists


def _timm() -> Any:
    return needed("timm", "the model timm")


@MODELS.add("timm")
class TimmModel(PreparedModel):
    """One of timm's networks.

    Attributes:
        arch: its name in timm, such as resnet50 or vit_base_patch16_224.augreg_in21k_ft_in1k.
        mean: of the three channels in [0, 1], taken off; by default as timm says of the architecture.
        std: what they are then divided by, likewise.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come. By default none, but
            for networks that take one size alone; of published weights the size that they were trained with.
    """

    summary: ClassVar[str] = "timm's networks: arch resnet50.a1_in1k, vit_base_patch16_224, ... (pip install timm)"
    source: ClassVar[str] = "Wightman, PyTorch Image Models"

    arch: str
    mean: Channels = IMAGENET_MEAN
    std: PositiveChannels = IMAGENET_STD

    @model_validator(mode="before")
    @classmethod
    def _takes_timms_input(cls, values: Any) -> Any:
        arch = values.get("arch") if isinstance(values, Mapping) else None
        if not isinstance(arch, str):
            return values
        _check_known(arch)
        config = _timm().get_pretrained_cfg(arch)
        if config is None:
            return values
        size = {"input_size": config.input_size[1]} if config.fixed_input_size else {}
        return {"mean": config.mean, "std": config.std, **size, **values}

    def label(self) -> str:
        """The name in results, timm's."""
        return self.arch

    def with_weights(self, weights: Path | None) -> tuple[Self, Path]:
        """As `Model.with_weights`; published ones come with the size that they were trained with."""
        if weights is not None:
            return self, weights
        config = _timm().get_pretrained_cfg(self.arch)
        file = _published(self.arch, config)
        size = self.input_size or config.input_size[1]
        return self.model_copy(update={"input_size": size}), file

    def network(self, num_classes: int) -> nn.Module:
        """Timm's network with fresh weights."""
        made: nn.Module = _timm().create_model(self.arch, pretrained=False, num_classes=num_classes)
        return made


def _check_known(arch: str) -> None:
    """Raise UnknownNameError if timm has no such network, or no such weights of it."""
    timm, (name, _, tag) = _timm(), arch.partition(".")
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=NEAR, cutoff=0.3)
        raise UnknownNameError("arch", arch, [*near, "and others, see timm.list_models()"])
    if tag and not timm.is_model_pretrained(arch):
        raise UnknownNameError("arch", arch, timm.list_pretrained(f"{name}.*") or [name])


def _published(arch: str, config: Any) -> Path:
    """The file of the weights that timm publishes, downloaded to its cache where it is not there yet.

    Raises:
        RequestError: there are none, or they cannot be had.
    """
    if config is None or not (config.hf_hub_id or config.url):
        raise RequestError(f"timm publishes no weights of {arch}: give weights in place of pretrained")
    try:
        if config.hf_hub_id:
            hub = needed("huggingface_hub", "published weights of timm")
            return Path(hub.hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
        return Path(needed("timm.models", "the model timm").download_cached_file(config.url))
    except RequestError:
        raise
    except Exception as error:  # a network, and other people's code
        raise RequestError(
            f"the published weights of {arch} cannot be downloaded ({type(error).__name__}: {one_line(error)}): fetch "
            "them on a machine with a network, and give the file as weights"
        ) from None
