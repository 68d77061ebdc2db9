"""A network of other code behind what it expects of its input: its size, and its normalisation."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from pixmix_ray import transforms
from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.models.base import Channels, Model, Normalise, PositiveChannels
from pixmix_ray.models.weights import Weights, fit_weights, head_size, read_weights

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
