"""A network of other code behind what it expects of its input: its size, and its normalisation."""

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.models.base import Normalise


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
        if self._size is not None and images.shape[2:] != (self._size, self._size):
            images = F.interpolate(images, (self._size, self._size), mode="bilinear", antialias=True)
        return logits_in(self.network(self.normalise(images)))


def logits_in(returned: object) -> Tensor:
    """The logits in what a network of other code returns: a tensor, or an object or mapping that holds one as logits.

    Raises:
        WorkError: there are none.
    """
    found = returned if isinstance(returned, Tensor) else getattr(returned, "logits", None)
    if found is None and isinstance(returned, dict):
        found = returned.get("logits")
    if not isinstance(found, Tensor):
        raise WorkError(
            f"the network returns a {type(returned).__name__}: it must return logits, a tensor (N, K), or what has "
            "them as logits: wrap it so that it does"
        )
    return found


def needed(package: str, what: str) -> ModuleType:
    """A package that one kind of models needs and nothing else, imported when it is first asked for.

    Raises:
        RequestError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top:
            raise RequestError(f"{what} needs {top}, which cannot be imported: {error}") from None
        raise RequestError(f"{what} needs the package {top}, which is not installed: pip install {top}") from None
