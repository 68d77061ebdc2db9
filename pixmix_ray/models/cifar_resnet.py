"""The small residual networks for CIFAR (He et al., CVPR 2016, §4.2): ResNet-20, -32, -44, -56, -110.

Shortcuts are parameter-free (option A: every second pixel, missing channels zero). Module names and the ImageNet
normalisation are those of the widely shared trained weights, so that their state_dict files load as they are.
"""

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from pixmix_ray.models.base import IMAGENET_MEAN, IMAGENET_STD, MODELS, Channels, Model, Normalise, PositiveChannels


@MODELS.add("cifar_resnet")
class CifarResNet(Model):
    """ResNet-depth for 32x32 pictures with parameter-free shortcuts.

    Attributes:
        depth: 6n + 2 layers.
        mean: of the three channels in [0, 1], taken off; for somebody else's weights, that of their training.
        std: what they are then divided by, likewise.
    """

    summary: ClassVar[str] = "CIFAR ResNet-20/32/44/56/110 with parameter-free shortcuts"
    source: ClassVar[str] = "He et al., CVPR 2016, section 4.2"

    depth: int = Field(20, ge=8)
    mean: Channels = IMAGENET_MEAN
    std: PositiveChannels = IMAGENET_STD

    @field_validator("depth")
    @classmethod
    def _has_whole_blocks(cls, depth: int) -> int:
        if (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (20, 32, 44, 56, 110), got {depth}")
        return depth

    def label(self) -> str:
        """The name in results."""
        return f"resnet_{self.depth}"

    def build(self, num_classes: int) -> nn.Module:
        """The network with fresh weights."""
        return _Network((self.depth - 2) // 6, self, num_classes)


class _Network(nn.Module):
    def __init__(self, blocks: int, settings: CifarResNet, num_classes: int) -> None:
        super().__init__()
        self.normalise = Normalise(settings.mean, settings.std)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks)
        self.layer3 = _stage(32, 64, blocks)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def own_name(self, name: str) -> str:
        """What a tensor is called here whose layer most other code calls fc."""
        return name.replace("fc.", "linear.") if name.startswith("fc.") else name

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        features = F.relu(self.bn1(self.conv1(self.normalise(images))))
        features = self.layer3(self.layer2(self.layer1(features)))
        return self.linear(features.mean(dim=(2, 3)))  # type: ignore[no-any-return]  # torch types modules as Any


def _stage(width_in: int, width_out: int, blocks: int) -> nn.Sequential:
    first = _Block(width_in, width_out, stride=1 if width_in == width_out else 2)
    return nn.Sequential(first, *(_Block(width_out, width_out, stride=1) for _ in range(blocks - 1)))


class _Block(nn.Module):
    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra = width_out - width_in
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features
        if self.extra:
            half = self.extra // 2
            shortcut = F.pad(features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        out = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(out)) + shortcut)
