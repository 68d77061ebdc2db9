"""The networks of torchvision, for pictures of ImageNet's size: ResNet-50 (paper Appendix B), AlexNet and others.

Module names are torchvision's own, so that its weight files and everybody's state_dict of them load as they are; the
normalisation, by default ImageNet's, comes before the first layer and has no parameters.
"""

from typing import Any, ClassVar

from pydantic import Field, field_validator
from torch import Tensor, nn

from pixmix_ray.errors import UnknownNameError
from pixmix_ray.models.base import IMAGENET_MEAN, IMAGENET_STD, MODELS, Channels, Model, Normalise, PositiveChannels
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
    """

    summary: ClassVar[str] = "torchvision's networks: arch resnet50, resnet18, alexnet, ...; weights to start from"
    implied: ClassVar[frozenset[str]] = frozenset({"mean", "std"})
    source: ClassVar[str] = "He et al., CVPR 2016 (ResNet); Krizhevsky, 2014 (AlexNet); torchvision"

    arch: str = "resnet50"
    weights: DataPath | None = Field(None, description="a file of weights")
    mean: Channels = IMAGENET_MEAN
    std: PositiveChannels = IMAGENET_STD

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
        network.register_forward_pre_hook(_normalised)
        return network


def _normalised(network: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Called before `forward`, which gets what this returns."""
    normalise = network.get_submodule("normalise")
    return normalise(inputs[0])  # type: ignore[no-any-return]  # torch types modules as Any
