"""What a training method is: what it does to a batch of pictures, and its loss.

A method is one class with its settings as fields; adding one is one file, one line in the table of methods and one row
in the tests. Crop and flip are the training loop's; normalisation is the model's.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.settings import Settings


class Method(Settings):
    """A method that leaves the pictures as they are and minimises the cross-entropy; the others change one or both.

    Attributes:
        summary: one line for people.
        source: where the method is published.
        weight_decay: the paper's weight decay for this method.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    weight_decay: ClassVar[float] = 5e-4

    @property
    def needs_pictures(self) -> bool:
        """Whether `augment` wants pictures of a mixing set."""
        return False

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures to train on: float32 (N, 3, H, W) in [0, 1], on the device of `images`.

        It is called on several training batches at once, so it draws for each picture, never for the whole batch.

        Args:
            images: uint8 (N, 3, H, W), cropped and flipped already; not changed.
            pictures: uint8 (N, 3, H, W), one picture of the mixing set for each image, where `needs_pictures`.
            generator: where all draws come from; on the device of `images`.
        """
        return images.float().div_(255)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The training loss of one batch, a scalar.

        Args:
            network: from pictures (N, 3, H, W) to logits (N, K).
            images: float (N, 3, H, W), as `augment` made them; not changed.
            labels: int64 (N,).
            rng: for draws that are made once a batch; on the host, so that nothing waits for the device.
        """
        return F.cross_entropy(network(images), labels)


def shuffled(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A random order of the batch, int64 (N,), on the device of `images`."""
    return torch.from_numpy(rng.permutation(len(images))).to(images.device, non_blocking=True)


def mixed_cross_entropy(logits: Tensor, labels: Tensor, partners: Tensor, weight: float) -> Tensor:
    """Cross-entropy to `labels` times `weight` plus that to the labels of the pictures mixed in times the rest."""
    return weight * F.cross_entropy(logits, labels) + (1 - weight) * F.cross_entropy(logits, labels[partners])
