"""What AugMix, IPMix and PRIME share: chains of operations, mixed with the picture, and a loss that compares views.

All three let a few chains of random operations c_i start from the picture x and mix them:

    x_mixed = (1 - m) x + m (w_1 c_1(x) + ... + w_k c_k(x)),    w ~ Dirichlet(α, ..., α),  m ~ Beta(α, α)

and all three may be trained with the Jensen-Shannon consistency loss of AugMix (Hendrycks et al., "AugMix: A Simple
Data Processing Method to Improve Robustness and Uncertainty", ICLR 2020, section 3). Their codes mix normalised
pictures; as the weights sum to one and a normalisation is affine, that is the same as normalising the mix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.transforms import OPERATIONS, apply_each, operation_parameter, to_float
from pixmix_ray.transforms.choice import chunk_slices

Operation = Callable[[Tensor, Tensor], Tensor]
"""From pictures (n, 3, H, W) and a parameter of each, (n,), to new pictures of the same kind."""

_RANDOM_DEPTH = 3  # a random depth is drawn from 1 to this
_CONSISTENCY = 12.0


def _depth(value: int) -> int:
    if value != -1 and value < 1:
        raise ValueError(f"a chain has 1 or more operations, or -1 for a random number of 1 to {_RANDOM_DEPTH}")
    return value


Depth = Annotated[int, AfterValidator(_depth)]
"""How many operations a chain has: 1 or more, or -1 for 1 to 3, drawn for each chain."""


@dataclass(frozen=True, kw_only=True)
class Chains:
    """Which operations the chains of N pictures consist of, and how they are mixed, as tensors on one device.

    Operations are drawn for the longest chain there can be, whether they take place or not.
    """

    length: Tensor
    """int64 (width, N): how many operations the chain has."""
    operation: Tensor
    """int64 (width, N, longest): which of the method's operations."""
    parameter: Tensor
    """(width, N, longest): what the operation is told, such as a level that is negative for the other way."""
    weights: Tensor
    """float32 (width, N): w, which sums to 1 over the chains."""
    share: Tensor
    """float32 (N,): m, of the chains in the mix."""


def run_chains(images: Tensor, chains: Chains, operations: Sequence[Operation]) -> Tensor:
    """What the chains make of the pictures: (width, N, 3, H, W), of the kind of `images`.

    Pictures whose next operation is the same go together; for the sizes of these groups the host waits for the device,
    once for each step.

    Args:
        images: (N, 3, H, W), uint8 or float32 as the operations take it; not changed.
        chains: the random choices, on the same device.
        operations: what `chains.operation` counts through.
    """
    width, _, longest = chains.operation.shape
    state = images.repeat(width, 1, 1, 1)
    for step in range(longest):
        choice = torch.where(chains.length > step, chains.operation[:, :, step], len(operations)).flatten()
        state = apply_each(operations, choice, state, chains.parameter[:, :, step].flatten())
    return state.view(width, *images.shape)


def mix_chains(images: Tensor, chains: Chains, operations: Sequence[Operation]) -> Tensor:
    """The mix of pictures and their chains: float32 (N, 3, H, W) in [0, 1]; see `run_chains` and `blend`."""
    return blend(images, run_chains(images, chains, operations), chains.weights, chains.share)


def deepest_chain(depth: int) -> int:
    """The largest number of operations that a chain of setting `depth` can have."""
    return depth if depth > 0 else _RANDOM_DEPTH


def draw_depth(depth: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The number of operations in each chain, int64 of `shape`: `depth`, or where that is -1, uniform on 1 to 3."""
    if depth > 0:
        return torch.full(shape, depth, device=generator.device)
    return torch.randint(1, _RANDOM_DEPTH + 1, shape, generator=generator, device=generator.device)


def draw_weights(count: int, width: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The weights of `width` chains, float32 (width, count), and the share of their mix in the picture, (count,).

    Columns of the weights are drawn from Dirichlet(α, ..., α), shares from Beta(α, α): gamma variates over their sum.
    """
    concentration = torch.full((width + 2, count), alpha, dtype=torch.float64, device=generator.device)
    # the one way to gamma variates that takes a generator
    gamma = torch._standard_gamma(concentration, generator=generator)
    weights, share = gamma[:width] / gamma[:width].sum(0), gamma[width] / gamma[width:].sum(0)
    return weights.float(), share.float()


def at_level(name: str) -> Operation:
    """Operation `name` of AugMix as a function of pictures, uint8 (N, 3, H, W), and of levels, float64 (N,).

    A level below 0 stands for its magnitude and for a geometric operation that goes the other way.
    """

    def operate(images: Tensor, level: Tensor) -> Tensor:
        return OPERATIONS[name](images, operation_parameter(name, level.abs(), level < 0, images.shape[3]))

    return operate


def blend(images: Tensor, chains: Tensor, weights: Tensor, share: Tensor) -> Tensor:
    """The mix of pictures and chains: float32 (N, 3, H, W) in [0, 1], not rounded to 8 bits.

    Args:
        images: uint8, or float32 in [0, 1], (N, 3, H, W); not changed.
        chains: (width, N, 3, H, W), what the chains made of them, of the same kind.
        weights: float32 (width, N), which sum to 1.
        share: float32 (N,), of the chains in the mix.
    """
    unit = 1 / 255 if images.dtype == torch.uint8 else 1.0
    factors = torch.cat([(1 - share).unsqueeze(0), share * weights]).mul_(unit)[..., None, None, None]
    mixed = torch.empty(images.shape, device=images.device)
    for part in chunk_slices(slice(0, len(images)), images):
        total = torch.mul(images[part].float(), factors[0, part], out=mixed[part])
        for chain, factor in zip(chains, factors[1:], strict=True):
            total.addcmul_(chain[part].float(), factor[part])
        total.clamp_(0, 1)  # the weights sum to 1 up to rounding
    return mixed


def views(images: Tensor, augmented: Callable[[], Tensor]) -> Tensor:
    """The clean pictures and two augmentations of them, drawn apart: float32 (N, 3 views, 3, H, W) in [0, 1].

    Args:
        images: uint8 (N, 3, H, W); not changed.
        augmented: draws and makes one augmentation, float32 (N, 3, H, W).
    """
    return torch.stack([to_float(images), augmented(), augmented()], 1)


def consistency_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy on the clean view plus 12 times the Jensen-Shannon divergence of all views, a scalar.

    The views go through the network together, in one pass. As in the code of AugMix the mean of the predictions is kept
    above 1e-7 before its logarithm.

    Args:
        network: from pictures (N, 3, H, W) to logits (N, K).
        images: float32 (B, V, 3, H, W), the clean view first; not changed.
        labels: int64 (B,).
    """
    joined = images.transpose(0, 1).flatten(0, 1)
    log_p = network(joined).float().log_softmax(1).unflatten(0, images.shape[1::-1])
    log_mean = log_p.exp().mean(0).clamp(1e-7, 1).log()
    divergence = F.kl_div(log_mean.expand_as(log_p), log_p, reduction="sum", log_target=True) / len(log_p)
    return F.nll_loss(log_p[0], labels) + _CONSISTENCY * divergence / len(labels)


def views_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of pictures (N, 3, H, W), or of views (N, V, 3, H, W) the consistency loss; a scalar."""
    if images.ndim == 5:
        return consistency_loss(network, images, labels)
    return F.cross_entropy(network(images), labels)
