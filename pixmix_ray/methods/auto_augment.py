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

from pixmix_ray.methods.auto_augment_policies import CIFAR10, IMAGENET, Policy
from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.magnitudes import PAPER, RELEASE, Interpolation, Steps, take

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
