"""PixMix's two ways to mix a picture with another, and the coefficients for them.

Reference: Hendrycks et al., "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures", CVPR 2022,
section 2.2. The coefficients are conic, not convex: they need not sum to 1, and one may be negative. With x the picture
so far and y the partner, both in [0, 1] (the paper's figure shows no clip, its code clips after every round, so do we):

    additive         (a (2x - 1) + b (2y - 1) + 1) / 2
    multiplicative   (2x)^a max(2y, 1e-37)^b / 2
"""

import torch
from torch import Tensor

from pixmix_ray.transforms import native


def coefficients(uniform_a: Tensor, uniform_b: Tensor, is_beyond: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """The coefficients a and b, float32 of the arguments' shape; the larger `beta`, the closer to a = 1, b = 0.

    Where not `is_beyond`, a ~ Beta(β, 1) and b ~ Beta(1, β); else a ~ 1 + Beta(1, β) and b ~ -Beta(1, β).

    Args:
        uniform_a: draws from U(0, 1), float64; U^(1/β) is Beta(β, 1), and one minus that is Beta(1, β).
        uniform_b: more of these.
        is_beyond: bool.
        beta: β > 0.
    """
    large_a, large_b = uniform_a.pow(1 / beta), uniform_b.pow(1 / beta)
    a = torch.where(is_beyond, 2 - large_a, large_a)
    b = torch.where(is_beyond, large_b - 1, 1 - large_b)
    return a.float().clamp_min_(1e-30), b.float()  # a > 0: with a = 0 a black pixel would be 0 * log 0


def add_(mixed: Tensor, partner: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`mixed`, changed in place to its additive mix with `partner`, clipped to [0, 1].

    Args:
        mixed: float32 (N, 3, H, W) in [0, 1].
        partner: uint8 (N, 3, H, W).
        a: float32 (N,).
        b: float32 (N,).
    """
    numbers = a, b / 255, (1 - a - b) / 2
    if native.add_(mixed, partner, *numbers):
        return mixed
    weight_a, weight_b, shift = (number.view(-1, 1, 1, 1) for number in numbers)
    return mixed.mul_(weight_a).add_(partner.float().mul_(weight_b)).add_(shift).clamp_(0, 1)


def multiply_(mixed: Tensor, partner: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`mixed`, changed in place to its multiplicative mix with `partner`, clipped to [0, 1].

    Powers go by way of base 2 logarithms, several times faster. Only the partner is kept above 1e-37; a black pixel of
    `mixed` has logarithm minus infinity and stays black.

    Args:
        mixed: float32 (N, 3, H, W) in [0, 1].
        partner: uint8 (N, 3, H, W).
        a: float32 (N,), above 0.
        b: float32 (N,).
    """
    # the partner has 256 values: what it contributes, b log2(2y) + a - 1, is a table (N, 256)
    values = torch.arange(256.0, device=mixed.device).mul_(2 / 255).clamp_min_(1e-37).log2_()
    table = torch.addcmul((a - 1).unsqueeze(1), b.unsqueeze(1), values)
    logarithm = mixed.log2_()
    if not native.look_up_and_add_(logarithm, partner, a, table):
        contribution = table.gather(1, partner.flatten(1).long()).view_as(mixed)
        logarithm.mul_(a.view(-1, 1, 1, 1)).add_(contribution)
    return logarithm.exp2_().clamp_max_(1)
