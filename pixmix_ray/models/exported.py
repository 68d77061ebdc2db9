"""Networks saved by torch.export.save and torch.jit.save: programs, with their architecture, which must be trusted.

torch.export.load evaluates the symbolic sizes of the program as Python, and unpickles weights that are subclasses of
tensors; so of somebody whom one does not trust, the weights alone as safetensors are the better thing to ask for.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pixmix_ray.errors import CheckpointError, one_line
from pixmix_ray.models.base import MODELS, PreparedModel
from pixmix_ray.models.weights import DAMAGED


@MODELS.add("exported")
class Exported(PreparedModel):
    """A .pt2 file of torch.export, made in evaluation mode, with pictures (N, 3, H, W) for its one input.

    Attributes:
        mean: of the three channels in [0, 1], taken off before the network; by default nothing.
        std: what they are then divided by; by default 1.
        input_size: pixels that pictures are resized to, bilinearly; none takes them as they come.
    """

    summary: ClassVar[str] = "a network saved by torch.export.save, under checkpoints"
    source: ClassVar[str] = "torch.export"
    is_trained: ClassVar[bool] = False
    is_program: ClassVar[bool] = True

    def label(self) -> str:
        """The name in results."""
        return "exported"

    def opened(self, weights: Path, num_outputs: int | None) -> nn.Module:
        """The network in the file."""
        try:
            with warnings.catch_warnings(action="ignore"):
                program = torch.export.load(weights)
        except Exception as error:  # torch raises whatever comes up while it reads
            raise CheckpointError(
                f"{weights} is not a complete exported program, as torch.export.save writes it: {one_line(error)}"
            ) from None
        return self.prepared(_Program(program))


class _Program(nn.Module):
    """The module of an exported program, which has one mode alone; where its batch is fixed, pictures go so by so."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        module: nn.Module = program.module()
        vars(module)["train"] = lambda mode=True: module  # torch's own raises: it has the mode that it was exported in
        self.module = module
        self._batch = _fixed_batch(program)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        return in_batches(self.module, images, self._batch)


def _fixed_batch(program: Any) -> int | None:
    """How many pictures the program takes at once; none for any number."""
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            size = node.meta["val"].shape[0]
            return size if isinstance(size, int) else None
    return None


def in_batches(network: Callable[[Tensor], Tensor], images: Tensor, batch: int | None) -> Tensor:
    """What a network returns for pictures (N, 3, H, W), by batches of one size if that is all that it takes."""
    if batch is None or len(images) == batch:
        return network(images)
    parts = []
    for part in torch.split(images, batch):
        filled = torch.cat([part, part[-1:].expand(batch - len(part), -1, -1, -1)]) if len(part) < batch else part
        parts.append(network(filled)[: len(part)])
    return torch.cat(parts)


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
