"""AutoAugment: each picture goes through one of 25 pairs of operations that a search found (Cubuk et al., CVPR 2019).

Reference: sections 3 and 4 and the appendix of the paper. For each picture and visit a sub-policy is drawn uniformly,
for each of its two operations whether it happens, and which way it goes. The paper's printed policies are used and not
the 95 sub-policies of the authors' code for CIFAR. The default strengths are the paper's ranges, as
`pixmix_ray.methods.magnitudes` explains, the authors' code's a setting. Cutout, which the paper adds on CIFAR, is left
out: this is the policy alone, after crop and flip.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Final, Literal

import torch
from torch import Tensor

from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.magnitudes import PAPER, RELEASE, Interpolation, Steps, take


@dataclass(frozen=True)
class Step:
    """An operation of a sub-policy: a key of `pixmix_ray.transforms.OPERATIONS`, its probability, its level 0 to 9."""

    operation: str
    probability: float
    level: int


# the tables of the appendix, which torchvision has too; the authors' code for EfficientNet on ImageNet lists another 25
Policy = tuple[tuple[Step, Step], ...]


def _read(table: str) -> Policy:
    """A policy from lines of `operation probability level, operation probability level`."""

    def step(text: str) -> Step:
        operation, probability, level = text.split()
        return Step(operation, float(probability), int(level))

    lines = (line.split(",") for line in table.strip().splitlines())
    return tuple((step(first), step(second)) for first, second in lines)


CIFAR10: Final = _read("""
    invert 0.1 7, contrast 0.2 6
    rotate 0.7 2, translate_x 0.3 9
    sharpness 0.8 1, sharpness 0.9 3
    shear_y 0.5 8, translate_y 0.7 9
    autocontrast 0.5 8, equalize 0.9 2
    shear_y 0.2 7, posterize 0.3 7
    color 0.4 3, brightness 0.6 7
    sharpness 0.3 9, brightness 0.7 9
    equalize 0.6 5, equalize 0.5 1
    contrast 0.6 7, sharpness 0.6 5
    color 0.7 7, translate_x 0.5 8
    equalize 0.3 7, autocontrast 0.4 8
    translate_y 0.4 3, sharpness 0.2 6
    brightness 0.9 6, color 0.2 8
    solarize 0.5 2, invert 0.0 3
    equalize 0.2 0, autocontrast 0.6 0
    equalize 0.2 8, equalize 0.6 4
    color 0.9 9, equalize 0.6 6
    autocontrast 0.8 4, solarize 0.2 8
    brightness 0.1 3, color 0.7 0
    solarize 0.4 5, autocontrast 0.9 3
    translate_y 0.9 9, translate_y 0.7 9
    autocontrast 0.9 2, solarize 0.8 3
    equalize 0.8 8, invert 0.1 3
    translate_y 0.7 9, autocontrast 0.9 1
""")

IMAGENET: Final = _read("""
    posterize 0.4 8, rotate 0.6 9
    solarize 0.6 5, autocontrast 0.6 5
    equalize 0.8 8, equalize 0.6 3
    posterize 0.6 7, posterize 0.6 6
    equalize 0.4 7, solarize 0.2 4
    equalize 0.4 4, rotate 0.8 8
    solarize 0.6 3, equalize 0.6 7
    posterize 0.8 5, equalize 1.0 2
    rotate 0.2 3, solarize 0.6 8
    equalize 0.6 8, posterize 0.4 6
    rotate 0.8 8, color 0.4 0
    rotate 0.4 9, equalize 0.6 2
    equalize 0.0 7, equalize 0.8 8
    invert 0.6 4, equalize 1.0 8
    color 0.6 4, contrast 1.0 8
    rotate 0.8 8, color 1.0 2
    color 0.8 8, solarize 0.8 7
    sharpness 0.4 7, invert 0.6 8
    shear_x 0.6 5, equalize 1.0 9
    color 0.4 0, equalize 0.6 3
    equalize 0.4 7, solarize 0.2 4
    solarize 0.6 5, autocontrast 0.6 5
    invert 0.6 4, equalize 1.0 8
    color 0.6 4, contrast 1.0 8
    equalize 0.8 8, equalize 0.6 3
""")


POLICIES: Final = {"cifar10": CIFAR10, "imagenet": IMAGENET}
MAGNITUDES: Final = {"paper": PAPER, "release": RELEASE}


@dataclass(frozen=True, kw_only=True)
class SubPolicyChoices:
    """All random choices for N pictures, as tensors on one device."""

    sub_policy: Tensor
    """int64 (N,): which of the 25."""
    happens: Tensor
    """bool (N, 2): whether its first and its second operation take place."""
    is_negative: Tensor
    """bool (N, 2): whether they go the other way, where there is one."""


@METHODS.add("auto_augment")
class AutoAugment(Method):
    """Training on pictures changed by a learned policy.

    Source: Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019, section 3 and appendix.

    Attributes:
        policy: the one found on "cifar10" (the paper uses it for CIFAR-100 too), or on "imagenet".
        magnitudes: "paper", its ranges as the PyTorch ports read them, or "release", the authors' code for CIFAR.
        interpolation: how pictures are turned and sheared: the "nearest" pixel, as in the codes, or "bilinear".
    """

    summary: ClassVar[str] = "one of 25 learned pairs of operations for each picture"
    source: ClassVar[str] = "Cubuk et al., CVPR 2019, section 3 and appendix"

    policy: Literal["cifar10", "imagenet"] = "cifar10"
    magnitudes: Literal["paper", "release"] = "paper"
    interpolation: Interpolation = "nearest"

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The changed pictures: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        policy = POLICIES[self.policy]
        draws = draw(len(images), policy, generator)
        magnitudes = replace(MAGNITUDES[self.magnitudes], interpolation=self.interpolation)
        changed = take(images, steps(draws, policy), operation_names(policy), magnitudes)
        return super().augment(changed, None, generator)


def draw(count: int, policy: Policy, generator: torch.Generator) -> SubPolicyChoices:
    """The random choices for `count` pictures, on the device of `generator`."""
    device = generator.device
    sub_policy = torch.randint(0, len(policy), (count,), generator=generator, device=device)
    chance, sign = torch.rand(2, count, 2, dtype=torch.float64, generator=generator, device=device)
    return SubPolicyChoices(
        sub_policy=sub_policy, happens=chance < _table(policy, device)[sub_policy, :, 1], is_negative=sign < 0.5
    )


def steps(draws: SubPolicyChoices, policy: Policy) -> Steps:
    """What the draws mean; operations count through `operation_names`."""
    operation, _, level = _table(policy, draws.sub_policy.device)[draws.sub_policy].unbind(2)
    return Steps(
        operation=torch.where(draws.happens, operation.long(), len(operation_names(policy))),
        level=torch.where(draws.is_negative, -level, level),
    )


@cache
def operation_names(policy: Policy) -> tuple[str, ...]:
    """The operations that occur in the policy, in alphabetical order."""
    return tuple(sorted({step.operation for pair in policy for step in pair}))


@cache
def _table(policy: Policy, device: torch.device) -> Tensor:
    """float64 (25, 2, 3): number of the operation, probability and level of each step."""
    names = operation_names(policy)
    rows = [[[names.index(s.operation), s.probability, s.level] for s in pair] for pair in policy]
    return torch.tensor(rows, dtype=torch.float64, device=device)
