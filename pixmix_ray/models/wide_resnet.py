"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016, arXiv 1605.07146), the paper's CIFAR network (§3.2).

Pre-activation basic blocks with dropout between the two convolutions; input normalised to [-1, 1] as the official
PixMix code does. WRN-40-4 has 8,949,210 parameters for 10 classes.
"""

import math
import re
from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from pixmix_ray.errors import RequestError
from pixmix_ray.models.base import MODELS, Channels, Model, Normalise, PositiveChannels

OFFICIAL = {"conv1": "stem", "bn1": "bn", "fc": "head"}
"""What the official code calls the parts outside the blocks -> what they are called here."""


@MODELS.add("wide_resnet")
class WideResNet(Model):
    """WRN-depth-width; the defaults are the paper's WRN-40-4 with a drop rate of 0.3.

    Attributes:
        depth: 6n + 4 layers.
        width: the factor on the 16, 32 and 64 channels of the three stages.
        dropout: drop rate between the two convolutions of a block.
        mean: of the three channels in [0, 1], taken off; for somebody else's weights, that of their training.
        std: what they are then divided by, likewise.
    """

    summary: ClassVar[str] = "wide residual network WRN-depth-width with dropout"
    source: ClassVar[str] = "Zagoruyko and Komodakis, BMVC 2016"
    implied: ClassVar[frozenset[str]] = frozenset({"mean", "std"})

    depth: int = Field(40, ge=10)
    width: int = Field(4, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    mean: Channels = (0.5, 0.5, 0.5)
    std: PositiveChannels = (0.5, 0.5, 0.5)

    @field_validator("depth")
    @classmethod
    def _has_whole_blocks(cls, depth: int) -> int:
        if (depth - 4) % 6:
            near = 6 * round((depth - 4) / 6) + 4
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, 34, 40, ...): the nearest is {near}")
        return depth

    def label(self) -> str:
        """The name in results."""
        return f"wrn_{self.depth}_{self.width}"

    def build(self, num_classes: int) -> nn.Module:
        """The network with fresh weights."""
        network = wide_resnet(self.depth, self.width, self.dropout, num_classes)
        network.add_module("normalise", Normalise(self.mean, self.std))
        return network


def wide_resnet(depth: int = 40, width: int = 4, dropout: float = 0.3, num_classes: int = 10) -> nn.Module:
    """A wide residual network from pictures (N, 3, H, W) in [0, 1] to logits (N, num_classes).

    Args:
        depth: 6n + 4 layers.
        width: the factor on the 16, 32 and 64 channels of the three stages.
        dropout: drop rate between the two convolutions of a block, in [0, 1).
        num_classes: number of classes, at least 1.

    Raises:
        RequestError: a depth that is not 6n + 4, or a width or number of classes below 1.
    """
    if depth < 10 or (depth - 4) % 6:
        raise RequestError(f"depth must be 6n + 4 (10, 16, 22, 28, 34, 40, ...), got {depth}")
    if width < 1 or num_classes < 1:
        raise RequestError(f"width and num_classes must be 1 or more, got {width} and {num_classes}")
    return _Network((depth - 4) // 6, width, dropout, num_classes)


class _Network(nn.Module):
    def __init__(self, blocks: int, width: int, dropout: float, num_classes: int) -> None:
        super().__init__()
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.normalise = Normalise([0.5] * 3, [0.5] * 3)
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.blocks = nn.Sequential(
            *(
                _Block(channels[stage] if first else channels[stage + 1], channels[stage + 1], stride, dropout)
                for stage in range(3)
                for first in [True] + [False] * (blocks - 1)
                for stride in [2 if first and stage > 0 else 1]
            )
        )
        self.bn = nn.BatchNorm2d(channels[3])
        self.head = nn.Linear(channels[3], num_classes)
        self.apply(_initialise)

    def own_name(self, name: str) -> str:
        """What a tensor is called here that the official code of PixMix, AugMix and Outlier Exposure calls `name`.

        Theirs is block2.layer.0.convShortcut.weight where ours is blocks.6.shortcut.weight, with six blocks a stage.
        """
        if found := re.fullmatch(r"block([123])\.layer\.(\d+)\.(.*)", name):
            number = (int(found[1]) - 1) * (len(self.blocks) // 3) + int(found[2])
            return f"blocks.{number}.{found[3].replace('convShortcut', 'shortcut')}"
        room, _, rest = name.partition(".")
        return f"{OFFICIAL.get(room, room)}.{rest}"

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        features = self.blocks(self.stem(self.normalise(images)))
        return self.head(F.relu(self.bn(features)).mean(dim=(2, 3)))  # type: ignore[no-any-return]  # torch types modules as Any


class _Block(nn.Module):
    def __init__(self, width_in: int, width_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False) if width_in != width_out else None

    def forward(self, features: Tensor) -> Tensor:
        activated = F.relu(self.bn1(features), inplace=True)
        # where the width changes, the shortcut starts from the activated features; elsewhere it is the identity
        residual = features if self.shortcut is None else self.shortcut(activated)
        out = self.dropout(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        return residual + self.conv2(out)  # type: ignore[no-any-return]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
