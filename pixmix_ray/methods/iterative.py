"""PixMix's "Iterative" variant at work: the mixing pictures are visualizations of the network in training.

Reference: Hendrycks et al., CVPR 2022, Table 5: "Iterative mixes with feature visualizations computed on the fly for
the current network". How often and how many the paper does not say. Here a new set is made before each epoch, from the
network as it is then, so that a training that goes on from a checkpoint makes the same ones.
"""

import numpy as np
import torch
from torch import Tensor, nn

from pixmix_ray.methods.base import Method, MethodRun, Setup
from pixmix_ray.mixing_sets import PictureBank, Pictures, shorter_side_for
from pixmix_ray.mixing_sets.feature_visualizations.feature_visualization import visualize
from pixmix_ray.seeding import torch_generator


class IterativeRun(MethodRun):
    """A mixing method whose pictures are `count` feature visualizations, new ones each epoch."""

    def __init__(self, method: Method, setup: Setup, *, count: int, steps: int) -> None:
        super().__init__(method)
        self._seed, self._device, self._size = setup.seed, setup.images.device, setup.size
        self._count, self._steps = count, steps
        self._bank: PictureBank | None = None

    def begin_epoch(self, network: nn.Module, number: int) -> None:
        """Make the pictures of this epoch."""
        generator = torch_generator(self._seed, "visualizations", number, device=self._device)
        side = shorter_side_for(self._size)
        made = visualize(network, count=self._count, size=side, steps=self._steps, generator=generator)
        sides = np.full(self._count, side, dtype=np.int64)
        self._bank = Pictures(
            pixels=made.permute(0, 2, 3, 1).reshape(-1, 3).cpu().numpy(),
            offsets=np.arange(self._count, dtype=np.int64) * side * side,
            heights=sides,
            widths=sides,
            version="",
        ).to(self._device)

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The images mixed with crops of this epoch's pictures; see `Method.augment`."""
        if self._bank is not None:
            pictures = self._bank.crops(len(images), images.shape[3], generator)
        return super().augment(images, pictures, generator)
