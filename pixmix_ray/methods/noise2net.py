"""Noise2Net: pictures go through small image-to-image networks whose parameters are random, a new one for each.

Reference: Hendrycks et al., "The Many Faces of Robustness", ICCV 2021, DeepAugment and its Noise2Net, and its code
(imagenet-r, DeepAugment/train_noise2net.py). The network is a Res2Net (Gao et al., TPAMI 2019) of four blocks,

    x = x + ε · block(x),   ε ~ U(epsilon / 2, epsilon),   block = 1x1 to 4 parts, the parts in turn, 1x1 back to 3

on pictures normalised with the mean and deviation of ImageNet. In a block every part but the last is added to the one
before it and convolved, 1x1 or 3x3 with equal chance, dilated by 1, 2 or 3. Every convolution is followed by batch
normalisation over this one picture and, but for the last, by ReLU; parameters are as PyTorch draws them by default.
Half of each batch is noisy, the rest is clean.

The code draws kernel sizes and dilations once an epoch, with a network of its own for each, and ε once a batch; here
both are drawn for each picture, as the parameters are. The code leaves the result as it is, here it is clipped to
[0, 1].

Many pictures go at once: each is a group of the same convolution. The numbers of pictures that share a kernel size and
dilation are the one thing for which the host waits for the device. Cost: on one core about 0.9 ms a picture of the
batch at 32 pixels with the defaults, twenty times that of PixMix.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.transforms import to_float
from pixmix_ray.transforms.choice import sort_into_groups

PARTS = 4  # Res2Net's scale
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_EPS = 1e-5  # of batch normalisation
_VALUES_AT_ONCE = {"cpu": 2**21, "cuda": 2**27}  # of the widest layer: 32 and 2,048 pictures of 32 pixels


@dataclass(frozen=True, kw_only=True)
class Networks:
    """One random network for each of N pictures: B blocks of 4 parts with W channels each; float32 on one device."""

    expand: Tensor
    """(N, B, 4W, 3): the first convolution of a block, 1x1."""
    kernels: Tensor
    """(N, B, 3, W, W, 3, 3): those of the parts; 1x1 ones are the middle."""
    biases: Tensor
    """(N, B, 3, W): those of the parts."""
    dilations: Tensor
    """int64 (N, B, 3): 1 to 3, or 0 for a 1x1 convolution."""
    contract: Tensor
    """(N, B, 3, 4W): the last convolution of a block, 1x1."""
    epsilon: Tensor
    """(N,): the weight of every block."""


@METHODS.add("noise2net")
class Noise2Net(Method):
    """Training on pictures of which a share went through a random network.

    Source: Hendrycks et al., ICCV 2021, DeepAugment; the defaults are those of its code.

    Attributes:
        share: of the pictures that are noisy, the same in every batch.
        epsilon: the largest weight of a block's noise; it is drawn from half of it upwards.
        width: channels of each of the four parts.
        blocks: how many follow each other.
    """

    summary: ClassVar[str] = "half of the pictures go through small networks with random parameters"
    source: ClassVar[str] = "Hendrycks et al., ICCV 2021, DeepAugment"

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    epsilon: Annotated[float, Field(ge=0)] = 0.75
    width: Annotated[int, Field(ge=1)] = 16
    blocks: Annotated[int, Field(ge=1)] = 4

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures, some of them noisy: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        result = to_float(images)
        mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (_MEAN, _STD))
        widest = PARTS * self.width * images.shape[2] * images.shape[3]
        at_once = max(1, _VALUES_AT_ONCE[images.device.type] // widest)
        for rows in torch.split(augmented_rows(len(images), self.share, images.device), at_once):
            networks = draw_networks(len(rows), self, generator)
            noisy = apply_networks((result.index_select(0, rows) - mean) / std, networks)
            result.index_copy_(0, rows, noisy.mul_(std).add_(mean).clamp_(0, 1))
        return result


def augmented_rows(count: int, share: float, device: torch.device) -> Tensor:
    """Which pictures of a batch are augmented, int64 (round(count * share),) on `device`: evenly spread.

    The order of the pictures is random, so this is a draw; and every batch of those made at once gets its share.
    """
    number = round(count * share)
    return torch.arange(number, device=device) * count // max(number, 1)


def draw_networks(count: int, settings: Noise2Net, generator: torch.Generator) -> Networks:
    """Random networks for `count` pictures, on the device of `generator`."""
    device, width, blocks, convolved = generator.device, settings.width, settings.blocks, PARTS - 1

    def uniform(*shape: int, fan_in: int) -> Tensor:  # what Conv2d.reset_parameters draws, weights and biases
        drawn = torch.rand(count, blocks, *shape, generator=generator, device=device)
        return drawn.mul_(2).sub_(1).div_(math.sqrt(fan_in))

    draws = torch.randint(6, (count, blocks, convolved), generator=generator, device=device)
    dilations = (draws - 2).clamp_(min=0)  # 0 for three of six, 1, 2, 3 for one each
    widening = torch.where(dilations == 0, 3.0, 1.0)[..., None]  # a 1x1 convolution has a ninth of the inputs
    return Networks(
        dilations=dilations,
        expand=uniform(PARTS * width, 3, fan_in=3),
        kernels=uniform(convolved, width, width, 3, 3, fan_in=9 * width).mul_(widening[..., None, None, None]),
        biases=uniform(convolved, width, fan_in=9 * width).mul_(widening),
        contract=uniform(3, PARTS * width, fan_in=PARTS * width),
        epsilon=settings.epsilon * (0.5 + 0.5 * torch.rand(count, generator=generator, device=device)),
    )


def apply_networks(pictures: Tensor, networks: Networks) -> Tensor:
    """Each picture after its own network: float32 (N, 3, H, W), not clipped.

    Args:
        pictures: float32 (N, 3, H, W), normalised; not changed.
        networks: N of them, on the same device.
    """
    count, blocks, convolved = networks.dilations.shape
    kinds = PARTS  # 1x1 and three dilations
    layer = torch.arange(blocks * convolved, device=pictures.device).view(blocks, convolved, 1)
    order, groups = sort_into_groups(networks.dilations.permute(1, 2, 0) + kinds * layer, kinds * blocks * convolved)
    rows = [order[group] % max(count, 1) for group in groups]  # by block, part and dilation
    epsilon = networks.epsilon.view(-1, 1, 1, 1)
    per_block = kinds * convolved
    for block in range(blocks):
        mine = rows[block * per_block : (block + 1) * per_block]
        pictures = pictures + epsilon * _block(pictures, networks, block, mine)
    return pictures


def _block(pictures: Tensor, networks: Networks, block: int, rows: list[Tensor]) -> Tensor:
    """What block number `block` adds to the pictures; `rows` are the pictures of each part and dilation."""
    count, _, height, width = pictures.shape
    hidden = _expanded(pictures.flatten(2), networks.expand[:, block]).relu_()
    parts = hidden.view(count, PARTS, networks.kernels.shape[3], height, width)
    for number, chosen in enumerate(rows):
        part, dilation = divmod(number, PARTS)
        if len(chosen):
            features = parts[:, part].index_select(0, chosen)
            if part:
                features += parts[:, part - 1].index_select(0, chosen)
            kernels, biases = networks.kernels[chosen, block, part], networks.biases[chosen, block, part]
            convolved = _normalised(_convolved(features, kernels, biases, dilation)).relu_()
            parts[:, part].index_copy_(0, chosen, convolved)
    return _normalised(torch.bmm(networks.contract[:, block], hidden).view_as(pictures))


def _expanded(pixels: Tensor, weights: Tensor) -> Tensor:
    """The first convolution, weights (N, C, 3) on pixels (N, 3, P), and its normalisation: (N, C, P).

    A sum of three channels has a mean and a variance that follow from theirs: both steps are one product.
    """
    mean = pixels.mean(dim=2, keepdim=True)
    centred = pixels - mean
    covariance = torch.bmm(centred, centred.mT) / pixels.shape[2]
    variance = (torch.bmm(weights, covariance) * weights).sum(dim=2, keepdim=True)
    scaled = weights * torch.rsqrt(variance + _EPS)
    return torch.bmm(scaled, centred)


def _convolved(features: Tensor, kernels: Tensor, biases: Tensor, dilation: int) -> Tensor:
    """(N, W, H, W) after the convolution of each picture's own kernels (N, W, W, 3, 3) and biases (N, W)."""
    if dilation == 0:
        middle = kernels[..., 1, 1]
        return torch.baddbmm(biases.unsqueeze(2), middle, features.flatten(2)).view_as(features)
    groups = features.view(1, -1, *features.shape[2:])
    return F.conv2d(
        groups,
        kernels.flatten(0, 1),
        biases.flatten(),
        padding=dilation,
        dilation=dilation,
        groups=len(features),
    ).view_as(features)


def _normalised(features: Tensor) -> Tensor:
    """Batch normalisation of one picture: each channel to mean 0 and deviation 1 over its pixels."""
    return F.layer_norm(features, features.shape[2:], eps=_EPS)  # the same numbers as instance_norm, four times as fast
