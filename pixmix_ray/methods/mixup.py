"""Mixup: a batch is blended with itself in another order, pictures and labels (Zhang et al., ICLR 2018, section 2).

As in the authors' code there is one coefficient a batch, and instead of blended labels the two cross-entropies are
blended, which is the same. The PixMix paper (section 3.2) gives Mixup a weight decay of 1e-4, all others 5e-4.
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from pixmix_ray.methods.base import METHODS, Method, mixed_cross_entropy, whole_batch


@METHODS.add("mixup")
class Mixup(Method):
    """Training on λ x + (1 - λ) x', λ ~ Beta(α, α).

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, section 2.

    Attributes:
        alpha: α > 0; 1 draws λ uniformly.
        probability: the share of batches that are blended.
    """

    summary: ClassVar[str] = "pairs of pictures and their labels are blended"
    source: ClassVar[str] = "Zhang et al., ICLR 2018, section 2"
    weight_decay: ClassVar[float] = 1e-4

    alpha: Annotated[float, Field(gt=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The blended cross-entropy of the blended batch, a scalar; see `Method.loss`."""
        if rng.random() >= self.probability:
            return super().loss(network, images, labels, rng)
        weight = float(rng.beta(self.alpha, self.alpha))
        batch = whole_batch(images, labels)
        partners, (all_images, all_labels) = batch.shuffled(rng, images.device), batch.fetch()
        blended = all_images.index_select(0, partners).lerp_(images, weight)
        return mixed_cross_entropy(network(blended), labels, all_labels[partners], weight)
