"""A network saved by torch.jit.save: its architecture comes with it. The file is a program, so it must be trusted."""

import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from pixmix_ray.errors import CheckpointError, one_line
from pixmix_ray.models.base import MODELS
from pixmix_ray.models.prepared import PreparedModel
from pixmix_ray.models.weights import DAMAGED


@MODELS.add("torchscript")
class TorchScript(PreparedModel):
    """A TorchScript file.

    Attributes:
        mean: of the three channels in [0, 1], taken off before the network; by default nothing.
        std: what they are then divided by; by default 1.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come.
    """

    summary: ClassVar[str] = "a network saved by torch.jit.save, under checkpoints"
    source: ClassVar[str] = "torch.jit"
    is_trained: ClassVar[bool] = False
    is_program: ClassVar[bool] = True

    def label(self) -> str:
        """The name in results."""
        return "torchscript"

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """The network in the file."""
        try:
            with warnings.catch_warnings(action="ignore"):  # torch would rather have people export
                network = torch.jit.load(weights, map_location="cpu")  # type: ignore[no-untyped-call]  # torch leaves it untyped
        except DAMAGED as error:
            raise CheckpointError(
                f"{weights} is not a complete TorchScript file, as torch.jit.save writes it: {one_line(error)}"
            ) from None
        return self.prepared(network)
