"""EDSR, a network that enlarges pictures (Lim et al., CVPRW 2017), with the weights of the authors' files.

Only what DeepAugment needs: the weights as tensors that can be changed, and a forward pass with places to interfere.
Names and shapes are those of the official PyTorch code (EDSR-PyTorch), whose pixels run from 0 to 255:

    sub_mean -> head.0 -> body.0 ... body.B-1 (conv, ReLU, conv, plus the input) -> body.B, plus head
             -> tail.0 (conv and pixel shuffle; twice for a scale of 4) -> tail.1 -> add_mean

Number of blocks, features and scale are read from the shapes. The residual scale is in no file; it is 0.1 for the large
model of 256 features and 1 for the others, as published.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.errors import CheckpointError, DataError
from pixmix_ray.models.weights import Weights, read_weights

MIDDLE = 5  # DeepAugment interferes after so many blocks


@dataclass(frozen=True, kw_only=True)
class EdsrWeights:
    """The weights of an EDSR of B blocks and F features, float32 on one device.

    Attributes:
        others: all but those of the blocks, by their official names.
        kernels: (B, 2, F, F, 3, 3), both convolutions of each block.
        biases: (B, 2, F).
    """

    others: Weights
    kernels: Tensor
    biases: Tensor

    @property
    def scale(self) -> int:
        """How many times larger the pictures become."""
        return math.prod(math.isqrt(len(self.others[f"{name}.bias"]) // self.biases.shape[2]) for name in self.tails)

    @property
    def tails(self) -> list[str]:
        """The names of the convolutions before each pixel shuffle."""
        return [name for step in (0, 2) if f"{(name := f'tail.0.{step}')}.weight" in self.others]

    def to(self, device: torch.device) -> "EdsrWeights":
        """The same on `device`."""
        others = {name: tensor.to(device) for name, tensor in self.others.items()}
        return replace(self, others=others, kernels=self.kernels.to(device), biases=self.biases.to(device))


def read_edsr(path: Path) -> EdsrWeights:
    """The weights in a state_dict file of the official layout, float32 on the CPU.

    Raises:
        DataError: no such file, unreadable, or not of an EDSR with at least two blocks.
    """
    try:
        weights = read_weights(path)
    except CheckpointError as error:
        raise DataError(str(error)) from error
    head = weights.get("head.0.weight", torch.empty(0))
    blocks = sum(name.startswith("body.") and name.endswith(".body.0.weight") for name in weights)
    if head.ndim != 4 or blocks < 2:
        raise DataError(f"{path} holds no EDSR weights (head.0.weight, body.0.body.0.weight, ...): give {_WANTED}")
    _check_shapes(path, weights, _shapes(len(head), blocks, weights))
    values = {name: tensor.float() for name, tensor in weights.items()}

    def blocks_of(kind: str) -> Tensor:
        pairs = [[values.pop(f"body.{i}.body.{j}.{kind}") for j in (0, 2)] for i in range(blocks)]
        return torch.stack([torch.stack(pair) for pair in pairs])

    kernels, biases = (blocks_of(kind) for kind in ("weight", "bias"))
    return EdsrWeights(others=values, kernels=kernels, biases=biases)


_WANTED = "a state_dict of the official EDSR-PyTorch, such as that of the baseline x4 or x2"


def _check_shapes(path: Path, weights: Weights, expected: dict[str, tuple[int, ...]]) -> None:
    for name in sorted(expected.keys() | weights.keys()):
        wanted, found = expected.get(name), tuple(weights[name].shape) if name in weights else None
        if wanted != found:
            raise DataError(f"{path} is not an EDSR: {name} should be {wanted}, got {found}: give {_WANTED}")


def _shapes(features: int, blocks: int, weights: Weights) -> dict[str, tuple[int, ...]]:
    """The shapes by name that fit together; the scale is that of the tail in `weights`."""
    channels = {"sub_mean": (3, 3, 1), "add_mean": (3, 3, 1), "head.0": (3, features, 3), "tail.1": (features, 3, 3)}
    inside = [f"body.{i}.body.{j}" for i in range(blocks) for j in (0, 2)] + [f"body.{blocks}"]
    channels |= dict.fromkeys(inside, (features, features, 3))
    tail = weights.get("tail.0.0.weight", torch.empty(4 * features))
    channels["tail.0.0"] = (features, (9 if len(tail) == 9 * features else 4) * features, 3)
    if "tail.0.2.weight" in weights:
        channels["tail.0.2"] = (features, 4 * features, 3)
    kernels = {f"{name}.weight": (out, into, size, size) for name, (into, out, size) in channels.items()}
    return kernels | {f"{name}.bias": (out,) for name, (_, out, _) in channels.items()}


def _same(features: Tensor) -> Tensor:
    return features


def enlarged(
    edsr: EdsrWeights,
    pictures: Tensor,
    *,
    after_head: Callable[[Tensor], Tensor] = _same,
    in_the_middle: Callable[[Tensor], Tensor] = _same,
    block_share: Tensor | float = 1.0,
) -> Tensor:
    """The pictures enlarged by the network: float32 (N, 3, scale·H, scale·W), about in [0, 1] but not clipped.

    Args:
        edsr: on the device of `pictures`.
        pictures: float32 (N, 3, H, W) in [0, 1]; not changed.
        after_head: changes the features (N, F, H, W) that enter the body, and that are added after it.
        in_the_middle: changes the features after the fifth block, or after the last where there are fewer.
        block_share: what the blocks add is multiplied by this, a number or (N, 1, 1, 1).
    """
    others, blocks = edsr.others, len(edsr.kernels)

    def convolved(features: Tensor, name: str) -> Tensor:
        kernel = others[f"{name}.weight"]
        return F.conv2d(features, kernel, others[f"{name}.bias"], padding=kernel.shape[3] // 2)

    start = after_head(convolved(convolved(pictures * 255, "sub_mean"), "head.0"))
    features = start
    share = block_share * (0.1 if edsr.biases.shape[2] == 256 else 1.0)
    for number, (kernels, biases) in enumerate(zip(edsr.kernels, edsr.biases, strict=True), start=1):
        inner = F.conv2d(features, kernels[0], biases[0], padding=1).relu_()
        features = features + share * F.conv2d(inner, kernels[1], biases[1], padding=1)
        if number == min(MIDDLE, blocks):
            features = in_the_middle(features)
    features = start + convolved(features, f"body.{blocks}")
    for name in edsr.tails:
        wider = convolved(features, name)
        features = F.pixel_shuffle(wider, math.isqrt(wider.shape[1] // features.shape[1]))
    return convolved(convolved(features, "tail.1"), "add_mean") / 255
