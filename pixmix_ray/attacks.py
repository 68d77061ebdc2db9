"""Projected gradient ascent on a network's loss within a ball (Madry et al., ICLR 2018, section 2.1).

A step goes uphill by a fixed length, by the gradient's sign for L-infinity and along the gradient for L2, and what it
reaches is projected onto the ball around the clean picture and onto [0, 1]. Training and evaluation share this.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.errors import WorkError
from pixmix_ray.models import checked_logits

Norm = Literal["linf", "l2"]
_IMAGENET_VALUES = 3 * 224 * 224


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What an attacker may do.

    Attributes:
        norm: in which distance is measured.
        eps: radius of the ball ε > 0; pixels are in [0, 1].
        step: length of a step α > 0 in the same norm.
        steps: how many.
    """

    norm: Norm
    eps: float
    step: float
    steps: int


def pgd(network: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, attack: Attack) -> Tensor:
    """Pictures within `attack.eps` of `images` that `network` takes for their labels less: float32 (N, 3, H, W).

    They are in [0, 1] and outside of any graph. No parameter gets a gradient; the network runs in the mode it is in.

    Args:
        network: from pictures (N, 3, H, W) to logits (N, K).
        images: float32 (N, 3, H, W) in [0, 1]; not changed.
        labels: int64 (N,).
        noise: (N, 3, H, W), where to start from, less `images`.
        attack: ball and steps.

    Raises:
        WorkError: the network returns no logits, or what it returns has no gradients, or NaN.
    """
    attacked = _project(images + noise, images, attack)
    has_nan = torch.zeros((), dtype=torch.bool, device=images.device)
    for _ in range(attack.steps):
        attacked.requires_grad_()
        with torch.enable_grad():
            logits = checked_logits(network(attacked), len(attacked))
            # not the mean, whose gradients shrink with the batch towards what float32 cannot hold
            loss = F.cross_entropy(logits, labels, reduction="sum")
        if not loss.requires_grad:
            raise WorkError(
                "the network has no gradients with respect to its pictures, and an attack needs them: take no_grad, "
                "detach and rounding out of it, or leave adversaries out"
            )
        (gradient,) = torch.autograd.grad(loss, attacked)
        has_nan |= gradient.isnan().any()  # their signs would be zeros, and the attack none
        attacked = _project(attacked.detach() + attack.step * _uphill(gradient, attack.norm), images, attack)
    if has_nan:
        raise WorkError(
            "the network's gradients under attack are NaN or infinite: its weights or its activations are broken"
        )
    return attacked


def random_noise(shape: tuple[int, ...], attack: Attack, generator: torch.Generator) -> Tensor:
    """Noise, uniform in the ball of `attack`, for pictures of `shape` (N, 3, H, W): float32 on `generator`'s device."""
    count, *picture = shape
    if attack.norm == "linf":
        return torch.rand(shape, generator=generator, device=generator.device).mul_(2).sub_(1).mul_(attack.eps)
    direction = torch.randn(shape, generator=generator, device=generator.device)
    # the share of the ball within radius r of d dimensions is r^d
    radius = torch.rand(count, 1, 1, 1, generator=generator, device=generator.device)
    radius = radius.pow_(1 / math.prod(picture)).mul_(attack.eps)
    return direction.mul_(radius / lengths(direction))


def lengths(images: Tensor) -> Tensor:
    """The L2 norm of each picture (N, 3, H, W): (N, 1, 1, 1); at least 1e-20, so that it may divide."""
    norms: Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return norms.clamp_min(1e-20)


def as_at_224(radius: float, images: Tensor) -> float:
    """An L2 radius given for pictures of 3 × 224 × 224, for those of `images`: in proportion to √(number of values).

    That keeps the change of a single value the same.

    >>> as_at_224(3.0, torch.empty(0, 3, 56, 56))
    0.75
    """
    return radius * math.sqrt(images.shape[1:].numel() / _IMAGENET_VALUES)


def _uphill(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of length 1 along which the loss grows fastest."""
    return gradient.sign() if norm == "linf" else gradient / lengths(gradient)


def _project(reached: Tensor, images: Tensor, attack: Attack) -> Tensor:
    """What was reached, moved onto the ball around `images` and into [0, 1]."""
    if attack.norm == "linf":
        lowest, highest = (images - attack.eps).clamp_(min=0), (images + attack.eps).clamp_(max=1)
        return torch.min(torch.max(reached, lowest), highest)
    moved = reached - images
    # the clip comes last: as the picture is in [0, 1], it leads further into the ball, never out of it
    return (images + moved * (attack.eps / lengths(moved)).clamp_(max=1)).clamp_(0, 1)
