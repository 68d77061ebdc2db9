"""The networks of torchvision, for pictures of ImageNet's size: ResNet-50 (paper Appendix B), AlexNet and others.

Module names are torchvision's own, so that its weight files and everybody's state_dict of them load as they are; the
normalisation, by default ImageNet's, comes before the first layer and has no parameters.
"""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator
from torch import Tensor, nn

from pixmix_ray.errors import RequestError, UnknownNameError, one_line
from pixmix_ray.models.base import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODELS,
    Channels,
    Model,
    Normalise,
    PositiveChannels,
    resized,
)
from pixmix_ray.models.weights import content_of, read_weights, start_from
from pixmix_ray.settings import DataPath

OTHER_OUTPUTS = frozenset({"googlenet", "inception_v3"})  # several outputs while they train


@MODELS.add("torchvision_model")
class TorchvisionModel(Model):
    """One of torchvision's classification networks.

    Attributes:
        arch: its name in torchvision, such as resnet50, resnet18 or alexnet.
        weights: file of weights to start from; none draws fresh ones. The paper's ImageNet networks start from trained
            ones. A head for another number of classes is made anew.
        mean: of the three channels in [0, 1], taken off; for somebody else's weights, that of their training.
        std: what they are then divided by, likewise.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come. By default none, and
            of the weights that torchvision publishes the size that they were trained with.
    """

    summary: ClassVar[str] = "torchvision's networks: arch resnet50, resnet18, alexnet, ...; weights to start from"
    implied: ClassVar[frozenset[str]] = frozenset({"mean", "std", "input_size"})
    source: ClassVar[str] = "He et al., CVPR 2016 (ResNet); Krizhevsky, 2014 (AlexNet); torchvision"

    arch: str = "resnet50"
    weights: DataPath | None = Field(None, description="a file of weights")
    mean: Channels = IMAGENET_MEAN
    std: PositiveChannels = IMAGENET_STD
    input_size: int | None = Field(None, ge=1)

    @field_validator("arch")
    @classmethod
    def _is_known(cls, arch: str) -> str:
        import torchvision.models  # here: slow to import, and needed for this alone

        known = set(torchvision.models.list_models(module=torchvision.models)) - OTHER_OUTPUTS
        if arch not in known:
            raise UnknownNameError("arch", arch, known)
        return arch

    def identity(self) -> dict[str, Any]:
        """The architecture and normalisation, and the content of the weights to start from.

        Raises:
            CheckpointError: there is no such file.
        """
        return {**super().identity(), "weights": None if self.weights is None else content_of([self.weights])}

    def label(self) -> str:
        """The name in results, torchvision's."""
        return self.arch

    def with_weights(self, weights: Path | None) -> tuple[Self, Path]:
        """As `Model.with_weights`; torchvision's newest, with what they expect of their input."""
        if self.weights is not None:
            raise RequestError(
                f"weights is given for the model, {self.weights}, and for the checkpoint, {weights or 'pretrained'}: "
                "leave one "
                "out"
            )
        if weights is not None:
            return self, weights
        import torchvision.models

        newest = torchvision.models.get_model_weights(self.arch).DEFAULT
        expected = newest.transforms()
        (size,) = set(expected.crop_size)
        update = {"mean": tuple(expected.mean), "std": tuple(expected.std), "input_size": self.input_size or size}
        return self.model_copy(update=update), _published(newest.url)

    def build(self, num_classes: int) -> nn.Module:
        """The network, from pictures (N, 3, H, W) in [0, 1] to logits (N, num_classes).

        Raises:
            CheckpointError: the weights are missing or broken, or of another architecture.
        """
        import torchvision.models

        network: nn.Module = torchvision.models.get_model(self.arch, weights=None, num_classes=num_classes)
        if self.weights is not None:
            start_from(network, read_weights(self.weights), str(self.weights))
        network.add_module(
            "normalise", Normalise(self.mean, self.std)
        )  # a module, so that it moves to the device with the rest
        network.register_forward_pre_hook(partial(_prepared, size=self.input_size))
        return network


def _prepared(network: nn.Module, inputs: tuple[Tensor], *, size: int | None) -> Tensor:
    """Called before `forward`, which gets what this returns."""
    normalise = network.get_submodule("normalise")
    return normalise(resized(inputs[0], size))  # type: ignore[no-any-return]  # torch types modules as Any


def _published(url: str) -> Path:
    """The file of published weights, downloaded to torch's cache where it is not there yet.

    Raises:
        RequestError: they cannot be had.
    """
    import torch.hub

    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rpartition("-")[2], progress=False)
        except (OSError, RuntimeError) as error:  # no network; another hash
            raise RequestError(
                f"{url} cannot be downloaded ({one_line(error)}): fetch it on a machine with a network, and give the "
                "file as weights"
            ) from None
    return file
