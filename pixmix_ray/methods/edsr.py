"""EDSR: pictures enlarged by a super-resolution network whose weights and activations were distorted at random.

Reference: Hendrycks et al., "The Many Faces of Robustness", ICCV 2021, DeepAugment, and its code (imagenet-r,
DeepAugment/EDSR_distort_imagenet.py); the network is EDSR (Lim et al., CVPRW 2017). A picture is made smaller, then
enlarged by the network after

- three of the seventeen `DISTORTIONS` of its weights, drawn with replacement, a new draw every 20 pictures on average,
- one of four changes of the features that enter the body: channels copied over others, 5 % of the values zeroed, 2.5 %
  negated, none; and one of five in it: negated, ReLU or GELU, channels and rows or columns reversed, the blocks left
  out, none. These are drawn for each picture.

The published model was trained on clean and distorted pictures in equal parts, which `share` is.

Where we differ: 20 neighbours in the batch share one network, exactly. Pictures are distorted anew in every epoch,
where the code does it once, in files. The code reduces ImageNet pictures to 128 pixels and enlarges them to 512, for
crops of 224; here crops of the training size are reduced by the network's scale, so that they leave it as large as they
were (see `reduction`). Leaving out three blocks is, in the code, leaving out all but the last layer of the body, as
every layer is given the same features: we do the latter (in a fifth of these cases the code has one block in its
place). Its exchange of channels copies one over the other, and so does ours.

Cost of a picture that is distorted, with the baseline of scale s at 32 pixels: 0.13 (s = 4) or 0.35 (s = 2) billion
multiplications; on one core 4 ms or 8 ms, half of that for each picture of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pixmix_ray.datasets import ImageData
from pixmix_ray.datasets.file_digests import combined, file_md5s
from pixmix_ray.methods.base import METHODS, Method, MethodRun, Setup
from pixmix_ray.methods.noise2net import augmented_rows
from pixmix_ray.models.edsr import EdsrWeights, enlarged, read_edsr
from pixmix_ray.settings import DataPath
from pixmix_ray.transforms import resized, to_float


@METHODS.add("edsr")
class Edsr(Method):
    """Training on pictures of which a share went through a distorted super-resolution network.

    Source: Hendrycks et al., ICCV 2021, DeepAugment; the defaults are those of its code.

    Attributes:
        weights: the network's trained weights.
        share: of the pictures that are distorted, the same in every batch.
        num_distortions: how many distortions of its weights a network gets.
        pictures_per_network: how many pictures share a network.
        reduction: how many times smaller the pictures enter the network; default: its scale. Smaller numbers keep more
            detail, the output is then averaged down; the cost grows as 1 / reduction².
    """

    summary: ClassVar[str] = "half of the pictures go through a distorted super-resolution network"
    source: ClassVar[str] = "Hendrycks et al., ICCV 2021, DeepAugment; Lim et al., CVPRW 2017"
    location: ClassVar[frozenset[str]] = frozenset({"weights"})

    weights: DataPath = Field(
        description="a state_dict file of EDSR in the official PyTorch layout (keys head.0.weight, "
        "body.0.body.0.weight, ..., tail.1.weight, sub_mean, add_mean), such as edsr_baseline_x4 or edsr_baseline_x2"
    )
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    num_distortions: Annotated[int, Field(ge=0)] = 3
    pictures_per_network: Annotated[int, Field(ge=1)] = 20
    reduction: Annotated[int, Field(ge=1)] | None = None

    def version(self) -> str:
        """`edsr-` and 12 hexadecimal digits of the weights file; raises DataError if it is not an EDSR."""
        read_edsr(self.weights)  # so that a wrong file is refused before anything starts
        return f"edsr-{combined(file_md5s([self.weights]))}"

    def prepare(self, data: ImageData) -> None:
        """Check the weights file; see `Method.prepare`."""
        read_edsr(self.weights)

    def start(self, setup: Setup) -> MethodRun:
        """The method with the network on the device of the training."""
        return EdsrRun(self, read_edsr(self.weights).to(setup.device))

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures, some of them distorted: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`.

        The weights are read at every call; a training reads them once, see `start`.
        """
        return self.distort_images(read_edsr(self.weights).to(images.device), images, generator)

    def distort_images(self, edsr: EdsrWeights, images: Tensor, generator: torch.Generator) -> Tensor:
        """What `augment` returns, by a network that was read before; the host waits for the device once."""
        result = to_float(images)
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        size, factor = (images.shape[2], images.shape[3]), self.reduction or edsr.scale
        small = (-(-size[0] // factor), -(-size[1] // factor))
        for rows in torch.split(augmented_rows(len(images), self.share, images.device), self.pictures_per_network):
            if len(rows):
                reduced = resized(result.index_select(0, rows), small)
                distorted = distort(edsr, self.num_distortions, rng, generator)
                large = enlarge_with_changes(distorted, reduced.clamp_(0, 1), generator)
                result.index_copy_(0, rows, resized(large.clamp_(0, 1), size).clamp_(0, 1))
        return result


class EdsrRun(MethodRun):
    """The method with its network at hand; it learns nothing."""

    def __init__(self, method: Edsr, edsr: EdsrWeights) -> None:
        super().__init__(method)
        self._distort_images, self._edsr = method.distort_images, edsr

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """See `Method.augment`."""
        return self._distort_images(self._edsr, images, generator)


# Activations


def enlarge_with_changes(edsr: EdsrWeights, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures enlarged, float32 (N, 3, scale·H, scale·W), with one draw of changed activations for each."""
    count, device = len(pictures), pictures.device
    at_head = torch.randint(4, (count, 1, 1, 1), generator=generator, device=device)
    inside = torch.randint(5, (count, 1, 1, 1), generator=generator, device=device)
    is_rarer = torch.rand(count, 1, 1, 1, generator=generator, device=device) < 1 / 3
    return enlarged(
        edsr,
        pictures,
        after_head=lambda features: change_at_head(features, at_head, generator),
        in_the_middle=lambda features: change_inside(features, inside, is_rarer),
        block_share=(inside != 3).float(),
    )


def change_at_head(features: Tensor, kind: Tensor, generator: torch.Generator) -> Tensor:
    """The features (N, F, H, W) after change `kind`, int64 (N, 1, 1, 1), 0 to 3.

    0 copies a channel over another, five times; 1 zeroes 5 % of the values; 2 negates 2.5 %; 3 leaves them.
    """
    count, channels = features.shape[:2]
    device = features.device
    source = torch.arange(channels, device=device).repeat(count, 1)
    pairs = torch.randint(channels, (5, 2, count, 1), generator=generator, device=device)
    for to, of in pairs:
        source.scatter_(1, to, source.gather(1, of))
    copied = features[torch.arange(count, device=device).unsqueeze(1), source]
    uniforms = torch.rand(features.shape, generator=generator, device=device)
    features = torch.where(kind == 0, copied, features)
    features = features.masked_fill((kind == 1) & (uniforms < 0.05), 0)
    return torch.where((kind == 2) & (uniforms < 0.025), -features, features)


def change_inside(features: Tensor, kind: Tensor, is_rarer: Tensor) -> Tensor:
    """The features (N, F, H, W) after change `kind`, int64 (N, 1, 1, 1), 0 to 4.

    0 negates; 1 applies ReLU where `is_rarer`, bool (N, 1, 1, 1), else GELU; 2 reverses the channels, and the rows
    where `is_rarer`, else the columns; others leave them.
    """
    activated = torch.where(is_rarer, features.relu(), F.gelu(features))
    flipped = torch.where(is_rarer, features.flip(1, 2), features.flip(1, 3))
    features = torch.where(kind == 0, -features, features)
    features = torch.where(kind == 1, activated, features)
    return torch.where(kind == 2, flipped, features)


# Weights. A distortion changes the kernels (B, 2, F, F, 3, 3) and biases (B, 2, F) of all blocks in place. Which blocks
# it may fall on is as in the code, as far as the network has them.

Distortion = Callable[[Tensor, Tensor, np.random.Generator, torch.Generator], None]

_LAPLACE_4 = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
_LAPLACE_8 = ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1))


def distort(edsr: EdsrWeights, number: int, rng: np.random.Generator, generator: torch.Generator) -> EdsrWeights:
    """The network after `number` of the distortions, drawn with replacement; `edsr` itself is not changed.

    Args:
        edsr: on the device of `generator`.
        number: 0 or more.
        rng: decides what is changed, on the host.
        generator: draws the noise, on the device.
    """
    kernels, biases = edsr.kernels.clone(), edsr.biases.clone()
    for choice in rng.integers(len(DISTORTIONS), size=number):
        DISTORTIONS[choice](kernels, biases, rng, generator)
    return replace(edsr, kernels=kernels, biases=biases)


def _one(rng: np.random.Generator, kernels: Tensor, candidates: range) -> int:
    """One of the candidates, of those that the network has; its second block where it has none."""
    return int(rng.choice([block for block in candidates if block < len(kernels)] or [1]))


def _third(rng: np.random.Generator, kernels: Tensor) -> int:
    return _one(rng, kernels, range(0, 10, 3))


def _five(rng: np.random.Generator, kernels: Tensor) -> Sequence[int]:
    return [int(block) for block in rng.integers(min(15, len(kernels)), size=5)]


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)


def _filters_reversed(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _third(rng, kernels)
    kernels[block], biases[block] = kernels[block].flip(1), biases[block].flip(1)


def _negated(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _one(rng, kernels, range(1, 10, 3))
    kernels[block, 0] *= -1
    biases[block, 0] *= -1


def _zeroed(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _third(rng, kernels)
    kernels[block, 0] = 0
    biases[block, 0] = 0


def _minus_gelu(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _third(rng, kernels)
    kernels[block] = -F.gelu(kernels[block])


def _times(mask: tuple[tuple[int, ...], ...]) -> Distortion:
    """The distortion that multiplies the nine taps of every filter of a convolution by `mask`."""

    def times(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
        kernels[_third(rng, kernels), 0] *= torch.tensor(mask, dtype=kernels.dtype, device=kernels.device)

    return times


def _noise_times(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    chosen = kernels[_third(rng, kernels), 1]
    chosen *= 1 + 4 * rng.random() * _uniform(chosen, generator)


def _mirrored(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _third(rng, kernels)
    kernels[block, 0] = kernels[block, 0].flip(3)
    kernels[block, 1] *= -1


def _shifted(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _one(rng, kernels, range(1, 13, 4))
    channels = kernels.shape[2]
    rows, columns = rng.integers(3, size=channels), rng.integers(3, size=channels)
    taps = np.zeros((channels, 3, 3), dtype=np.float32)
    taps[np.arange(channels), rows, columns] = rng.choice([-1, 1], channels)
    mixing = torch.from_numpy(taps).to(kernels.device).expand(channels, -1, -1, -1)  # every output is the same sum
    kernels[block, 0] = F.conv2d(kernels[block, 0], mixing, padding=1)


def _noise_convolved(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _third(rng, kernels)
    noise = (2 * rng.random() * _uniform(kernels[block, 0], generator) - 1) / 6
    kernels[block, 0] = F.conv2d(kernels[block, 0], noise, padding=1)


def _dirichlet_convolved(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    block = _one(rng, kernels, range(1, 12, 4))
    weights = rng.dirichlet([0.1] * 9, kernels.shape[2:4]).astype(np.float32)
    mixing = torch.from_numpy(weights).to(kernels.device).view(kernels.shape[2:])
    kernels[block, 1] = F.conv2d(kernels[block, 1], mixing, padding=1)


def _noise_added(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    chosen = kernels[_one(rng, kernels, range(15)), 1]
    chosen += _uniform(chosen, generator) - 0.5


def _turned(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    for block in _five(rng, kernels):
        convolution, turns, first = int(rng.integers(2)), int(rng.integers(1, 4)), 2 * int(rng.integers(2))
        kernels[block, convolution] = torch.rot90(kernels[block, convolution], turns, (first, first + 1))


def _signs_drawn(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    for block in _five(rng, kernels):
        kernels[block, 0] *= torch.where(_uniform(kernels[block, 0], generator) < 0.5, -1.0, 1.0)


def _halved_at_random(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    for block in _five(rng, kernels):
        kernels[block, 0] *= _uniform(kernels[block, 0], generator) < 0.5


def _filters_negated(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    channels = kernels.shape[2]
    for block in _five(rng, kernels):  # as many draws as half the filters, some twice: about 0.4 of them
        kernels[block, 0, np.unique(rng.integers(channels, size=channels // 2))] *= -1


def _largest_kept(kernels: Tensor, biases: Tensor, rng: np.random.Generator, generator: torch.Generator) -> None:
    for block in _five(rng, kernels):
        taps = kernels[block, int(rng.integers(2))].view(*kernels.shape[2:4], 9)
        largest = taps.max(dim=2, keepdim=True)
        taps.zero_().scatter_(2, largest.indices, largest.values)


DISTORTIONS: tuple[Distortion, ...] = (
    _filters_reversed,
    _negated,
    _zeroed,
    _minus_gelu,
    _times(_LAPLACE_4),
    _times(_LAPLACE_8),
    _noise_times,
    _mirrored,
    _shifted,
    _noise_convolved,
    _dirichlet_convolved,
    _noise_added,
    _turned,
    _signs_drawn,
    _halved_at_random,
    _filters_negated,
    _largest_kept,
)
"""The seventeen of the code, in its order; each falls on a block, or on five, drawn at random."""
