"""What a benchmark may keep of each prediction beside the class and its probability, for metrics that need more.

An extra (`pixmix_ray.metrics.Extra`) is a column of numbers, one a picture. A benchmark names those that it keeps
(`Benchmark.extras`); they are stored beside the predictions, so that a metric that is made of them costs no forward
pass. Whatever has a logarithm or an exponential in it is computed here and stored: metrics then only add and divide,
and give the same to the last bit on every machine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from torch import Tensor

from pixmix_ray.metrics import Extra


@dataclass(frozen=True, kw_only=True)
class FromLogits(Extra):
    """An extra that follows from the logits; one that is no `FromLogits` the benchmark makes itself.

    Attributes:
        of: from logits (N, K) float32 and labels (N,) int64 on one device to (N,).
    """

    of: Callable[[Tensor, Tensor], Tensor]


def _label_log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]


def _squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    missing = logits.softmax(dim=1)
    missing.scatter_add_(1, labels[:, None], missing.new_full((len(labels), 1), -1.0))
    return missing.square().sum(dim=1)


def _ranked(rank: int) -> Callable[[Tensor, Tensor], Tensor]:
    def at_rank(logits: Tensor, labels: Tensor) -> Tensor:
        # ties in the order of the classes, as in the reference, which topk does not promise
        return logits.argsort(dim=1, descending=True, stable=True)[:, rank - 1]

    return at_rank


PROPER_SCORES: Mapping[str, Extra] = MappingProxyType(
    {
        "label_log_probability": FromLogits(
            meaning="natural logarithm of the softmax probability of the true class",
            dtype=np.float32,
            range="0 or less",
            unit="nat",
            of=_label_log_probability,
        ),
        "squared_error": FromLogits(
            meaning="sum over the classes of (softmax probability, less 1 for the true class) squared",
            dtype=np.float32,
            range="[0, 2]",
            of=_squared_error,
        ),
    }
)
"""What negative log-likelihood and Brier score are the means of; only for pictures that have a label."""

ANOMALY_SCORES: Mapping[str, Extra] = MappingProxyType(
    {
        "max_logit": FromLogits(
            meaning="largest logit; less it is the score of Hendrycks et al. (ICML 2022)",
            dtype=np.float32,
            range="any",
            of=lambda logits, _: logits.max(dim=1).values,
        ),
        "energy": FromLogits(
            meaning="free energy, less the logarithm of the sum of the exponentials of the logits (Liu et al., 2020)",
            dtype=np.float32,
            range="any",
            of=lambda logits, _: -logits.logsumexp(dim=1),
        ),
    }
)
"""What anomaly scores other than the maximum softmax probability are made of."""

TOP_FIVE: Mapping[str, Extra] = MappingProxyType(
    {
        f"top{rank}": FromLogits(
            meaning=f"class of the logit that comes {rank}th by size, ties in the order of the classes",
            dtype=np.int16,
            range="0 or more",
            of=_ranked(rank),
        )
        for rank in range(1, 6)
    }
)
"""The five best classes, for measures of ranking."""
