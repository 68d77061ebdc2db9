"""What every model is: settings that build a network, and a network that normalises its own input.

`PreparedModel` puts a network of other code behind what that expects of its input: its size, its normalisation.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from pixmix_ray import transforms
from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.models.weights import Weights, content_of, fit_weights, head_size, read_weights
from pixmix_ray.plugins import Table
from pixmix_ray.settings import Settings

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Positive = Annotated[float, Field(gt=0)]


def _of_unit_range(mean: float) -> float:
    if mean > 1:
        raise ValueError("is of pixels from 0 to 255, and here they are in [0, 1]: divide mean and std by 255")
    return mean


Mean = Annotated[float, AfterValidator(_of_unit_range)]
Channels = tuple[Mean, Mean, Mean]
"""A mean for each of red, green and blue, of pixels in [0, 1]."""
PositiveChannels = tuple[Positive, Positive, Positive]
"""A standard deviation for each, above 0."""


class Model(Settings, ABC):
    """Settings of one architecture.

    Attributes:
        summary: one line for `pixmix-ray list models`.
        source: where the architecture comes from.
        revision: raised when the same settings come to mean another network, so that trials are trained anew.
        has_gradients: whether gradients of the logits reach the pictures, as adversaries need them.
        is_trained: whether it can be trained from fresh weights; else it stands under `checkpoints` alone.
        is_program: whether to read its files is to run what somebody else wrote, so that it must be trusted.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    has_gradients: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True
    is_program: ClassVar[bool] = False

    @abstractmethod
    def label(self) -> str:
        """The network's name in results, such as wrn_40_4."""

    @abstractmethod
    def build(self, num_classes: int) -> nn.Module:
        """A network from pictures (N, 3, H, W) in [0, 1] to logits (N, num_classes), with fresh weights."""

    def with_weights(self, weights: Path | None) -> tuple[Self, Path]:
        """These settings as some weights need them, and the file or folder of the weights.

        Args:
            weights: where they lie; none for those that the network's own library publishes, which may be downloaded.

        Raises:
            RequestError: there are no published ones, or they cannot be had.
        """
        if weights is None:
            raise RequestError(f"{self.label()} has no published weights: give weights in place of pretrained")
        return self, weights

    def weight_files(self, weights: Path) -> list[Path]:
        """The files whose content decides what a checkpoint is."""
        return [weights]

    def content(self, weights: Path) -> str:
        """A hash of the weights.

        Raises:
            CheckpointError: they cannot be read.
        """
        return content_of(self.weight_files(weights))

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """A network with somebody's weights, from pictures (N, 3, H, W) in [0, 1] to logits.

        Args:
            weights: their file or folder.
            num_outputs: how many logits; none for as many as the weights have.

        Raises:
            CheckpointError: the weights are missing or broken, or do not fit.
        """
        found = read_weights(weights)
        if num_outputs is None:
            num_outputs = head_size(self.build(2), found, str(weights))
        network = self.build(num_outputs)
        fit_weights(network, found, str(weights))
        return network


MODELS: Table[Model] = Table("model", Model, function="function")


class Normalise(nn.Module):
    """(x - mean) / std per channel, from [0, 1]; it has no parameters and leaves no trace in a state_dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures, (N, 3, H, W)."""
        mean, std = self.mean, self.std
        if images.device.type == "cpu" and images.is_contiguous(memory_format=torch.channels_last):
            # numbers of a whole row: torch would work on the three of a pixel at once, four times slower
            mean, std = (
                numbers.expand(-1, -1, 1, images.shape[3]).contiguous(memory_format=torch.channels_last)
                for numbers in (mean, std)
            )
        return (images - mean).div_(std)


def checked_logits(returned: object, count: int) -> Tensor:
    """What a network returned for `count` pictures, if it is logits (N, K).

    Raises:
        WorkError: it is something else, such as a tuple.
    """
    if not isinstance(returned, Tensor):
        raise WorkError(
            f"the network returns a {type(returned).__name__}: it must return logits alone, a tensor (N, K): "
            "wrap it so that it does"
        )
    if returned.ndim != 2 or len(returned) != count:
        raise WorkError(
            f"the network returns {tuple(returned.shape)} for {count} pictures: it must be (N, K), a row a picture"
        )
    return returned


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Within it `network` is in evaluation mode; afterwards each of its modules is in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


INSIDE = "network."  # before the names of the other code's tensors


class Prepared(nn.Module):
    """From pictures (N, 3, H, W) in [0, 1] to logits (N, K), by a network that wants them otherwise.

    Attributes:
        network: the other code's.
        normalise: what it expects of pixels.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], size: int | None) -> None:
        """Put a network behind a normalisation, and where `size` is given behind a resizing to that many pixels."""
        super().__init__()
        self.network = network
        self.normalise = Normalise(mean, std)
        self._size = size

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return logits_in(self.network(self.normalise(resized(images, self._size))))


def resized(images: Tensor, size: int | None) -> Tensor:
    """Pictures (N, 3, size, size), resized bilinearly; as they are where no size is given."""
    return images if size is None else transforms.resized(images, (size, size))


class PreparedModel(Model):
    """A model whose network other code makes.

    Attributes:
        mean: of the three channels in [0, 1], taken off before the network.
        std: what they are then divided by.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come.
    """

    mean: Channels = (0.0, 0.0, 0.0)
    std: PositiveChannels = (1.0, 1.0, 1.0)
    input_size: int | None = Field(None, ge=1)

    def network(self, num_classes: int) -> nn.Module:
        """The other code's network with fresh weights, from normalised pictures to logits.

        Raises:
            RequestError: the architecture comes with the weights, as it does where a class does not say otherwise.
        """
        raise RequestError(f"model {self.label()} can only be evaluated: list it under checkpoints, with its weights")

    def build(self, num_classes: int) -> nn.Module:
        """The network, from pictures (N, 3, H, W) in [0, 1] to logits (N, num_classes)."""
        return self.prepared(self.network(num_classes))

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """As `Model.opened`, by the other code's names of tensors."""
        found = _without_ours(read_weights(weights))
        if num_outputs is None:
            num_outputs = head_size(self.network(2), found, str(weights))
        network = self.network(num_outputs)
        fit_weights(network, found, str(weights))
        return self.prepared(network)

    def prepared(self, network: nn.Module) -> nn.Module:
        """The network behind what it expects of its input."""
        return Prepared(network, self.mean, self.std, self.input_size)


def _without_ours(weights: Weights) -> Weights:
    """Weights of a trial of ours under the other code's names; other weights as they are."""
    is_ours = bool(weights) and all(name.startswith(INSIDE) for name in weights)
    return {name.removeprefix(INSIDE): tensor for name, tensor in weights.items()} if is_ours else weights


def logits_in(returned: object) -> Tensor:
    """The logits in what a network of other code returns: a tensor, or an object or mapping that holds one as logits.

    Raises:
        WorkError: there are none.
    """
    found = returned if isinstance(returned, Tensor) else getattr(returned, "logits", None)
    if not isinstance(found, Tensor):
        raise WorkError(
            f"the network returns a {type(returned).__name__}: it must return logits, a tensor (N, K), or an object "
            "with the attribute logits: wrap it so that it does"
        )
    return found


def needed(module: str, what: str) -> Any:
    """A module of a package that one kind of models needs and nothing else, imported when it is first asked for.

    Raises:
        RequestError: it is not installed, or cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == package:
            raise RequestError(
                f"{what} needs the package {package}, which is not installed: pip install {package}"
            ) from None
        raise RequestError(f"{what} needs the package {package}, which cannot be imported: {error}") from None
