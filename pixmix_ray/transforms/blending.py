"""PixMix's two ways to mix a picture with another, and the coefficients for them.

Reference: Hendrycks et al., "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures", CVPR 2022,
section 2.2. The coefficients are conic, not convex: they need not sum to 1, and one may be negative. With x the picture
so far and y the partner, both in [0, 1] (the paper's figure shows no clip, its code clips after every round, so do we):

    additive         (a (2x - 1) + b (2y - 1) + 1) / 2
    multiplicative   (2x)^a max(2y, 1e-37)^b / 2
"""

from functools import cache

import torch
from torch import Tensor

_VECTORS = 64  # values; a multiple of the vectors that torch works on at once
_ONE_THREAD = 2**15 - _VECTORS  # values that torch leaves to one thread, if there are more


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


def add_(mixed: Tensor, partners: Tensor, a: Tensor, b: Tensor) -> None:
    """Change `mixed` in place to additive mixes with partners, clipped to [0, 1].

    Args:
        mixed: float32 (N, 3, H, W) in [0, 1].
        partners: uint8 (N, 3, H, W), what each is mixed with.
        a: float32 (N,).
        b: float32 (N,).
    """
    weight_a, weight_b, shift = (number.view(-1, 1, 1, 1) for number in (a, b / 255, (1 - a - b) / 2))
    mixed.mul_(weight_a).add_(partners.float().mul_(weight_b)).add_(shift).clamp_(0, 1)


def multiply_(mixed: Tensor, partners: Tensor, a: Tensor, b: Tensor) -> None:
    """Change `mixed` in place to multiplicative mixes with partners, clipped to [0, 1].

    Powers go by way of base 2 logarithms, several times faster. Only the partner is kept above 1e-37; a black pixel of
    `mixed` stays black.

    Args:
        mixed: float32 (N, 3, H, W) in [0, 1].
        partners: uint8 (N, 3, H, W), what each is mixed with.
        a: float32 (N,), above 0.
        b: float32 (N,).
    """
    # the partner has 256 values: what it contributes, b log2(2y) + a - 1, is a table (N, 256)
    table = torch.addcmul((a - 1).unsqueeze(1), b.unsqueeze(1), _logarithms(mixed.device))
    contribution = table.gather(1, partners.flatten(1).long()).view_as(mixed)
    # a logarithm of zero takes twenty times as long, and black pixels are many: theirs is that of 1, and then dropped
    raised = torch.nn.functional.threshold(mixed, 0, 1)
    raised.log2_().mul_(a.view(-1, 1, 1, 1)).add_(contribution)
    _exp2_(raised)
    mixed.sign_().mul_(raised.clamp_max_(1))  # the sign is 0 where it is black; comparisons that give bool are slow


@cache
def _logarithms(device: torch.device) -> Tensor:
    """(256,) float32: log2(2y) of each value of a byte, y in [1e-37 / 2, 1]."""
    return torch.arange(256.0, device=device).mul_(2 / 255).clamp_min_(1e-37).log2_()


def _exp2_(values: Tensor) -> None:
    """Powers of two in place, the same for a value wherever it stands.

    On a processor torch raises whole vectors by one function and what is left over, at the end and where threads
    divide the work, by another, which differs in the last bit.
    """
    if values.device.type != "cpu":
        values.exp2_()
        return
    flat = values.view(-1)
    whole = len(flat) // _VECTORS * _VECTORS
    at_once = _ONE_THREAD if torch.get_num_threads() > 1 else max(1, whole)
    for part in torch.split(flat[:whole], at_once):
        part.exp2_()
    if whole < len(flat):
        flat[whole:] = torch.nn.functional.pad(flat[whole:], (0, _VECTORS))[:_VECTORS].exp2_()[: len(flat) - whole]
