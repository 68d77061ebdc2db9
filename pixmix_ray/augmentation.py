"""Any method in somebody's own training: on a batch, or as a torchvision v2 transform. Without Ray, without a file.

augment = Augment("pixmix", mixing_set="fractals")
for images, labels in loader:  # uint8 (N, 3, H, W), or float in [0, 1]; cropped and flipped, not normalised
    loss = augment.loss(network, augment(images), labels)
"""

import os
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import get_worker_info
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pixmix_ray.errors import RequestError
from pixmix_ray.methods import METHODS, Method
from pixmix_ray.mixing_sets import MIXING_SETS, PictureBank, shorter_side_for
from pixmix_ray.seeding import rng, torch_generator


class Augment(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """A method as a transform. Each process draws its own random numbers, so workers of a loader do not repeat.

    Attributes:
        method: its settings.
    """

    _transformed_types = (Tensor, Image.Image)

    def __init__(self, method: object, mixing_set: object = "fractals", *, seed: int = 0) -> None:
        """Get ready; the mixing set is made at the first batch, once a machine, if the method wants one.

        Args:
            method: as in an experiment file: a name, a mapping such as {"name": "pixmix", "k": 3}, or a `Method`.
            mixing_set: likewise.
            seed: of all random draws.

        Raises:
            RequestError: something is unknown, or the method carries something through a training (`has_memory`).
        """
        super().__init__()
        part = METHODS.read(method)
        self.method: Method = part.settings
        if self.method.has_memory:
            raise RequestError(
                f"{part.name} learns in the course of a training, so it is not a transform: use an experiment"
            )
        self._set = MIXING_SETS.read(mixing_set) if self.method.needs_pictures else None
        self._seed = seed
        self._banks: dict[tuple[str, int], PictureBank] = {}
        self._generators: dict[tuple[int, str], torch.Generator] = {}
        self._steps = 0

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One picture or a batch, augmented.

        Args:
            inpt: (3, H, W) or (N, 3, H, W), uint8, or float in [0, 1]; or a picture of Pillow.
            params: of torchvision; unused.

        Returns:
            float32 in [0, 1] of the same shape; (N, V, 3, H, W) where the loss compares views; of Pillow's, Pillow's.
        """
        if isinstance(inpt, Image.Image):
            made = self._batch(functional.pil_to_tensor(inpt.convert("RGB")).unsqueeze(0))
            return functional.to_pil_image(_bytes(made[0]))
        return self._batch(inpt) if inpt.ndim == 4 else self._batch(inpt.unsqueeze(0))[0]

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The method's loss of one batch, a scalar, for methods that mix labels or compare views.

        Args:
            network: from (N, 3, H, W) in [0, 1] to logits (N, K); if yours wants normalised pictures, normalise in it.
            images: as the transform made them.
            labels: int64 (N,).
        """
        self._steps += 1
        return self.method.loss(network, images, labels, rng(self._seed, "loss", self._steps))

    def _batch(self, images: Tensor) -> Tensor:
        pixels = _bytes(images)
        generator = self._generator(pixels.device)
        pictures = None if self._set is None else self._bank(pixels).crops(len(pixels), pixels.shape[-1], generator)
        return self.method.augment(pixels, pictures, generator)

    def _bank(self, images: Tensor) -> PictureBank:
        """The mixing set for pictures of this size, on their device."""
        assert self._set is not None
        if images.shape[-1] != images.shape[-2]:
            size = tuple(images.shape[-2:])
            raise RequestError(f"pictures to mix are square, got {size}: crop before this transform")
        key = str(images.device), images.shape[-1]
        if key not in self._banks:
            self._banks[key] = self._set.settings.pictures(shorter_side_for(key[1])).to(images.device)
        return self._banks[key]

    def _generator(self, device: torch.device) -> torch.Generator:
        """The generator of this process: a worker that was forked must not draw as its parent does."""
        key = os.getpid(), str(device)
        if key not in self._generators:
            worker = get_worker_info()
            index = (0, 0) if worker is None else (worker.id + 1, worker.seed % 2**32)  # the seed is another each epoch
            self._generators[key] = torch_generator(self._seed, "augmentation", *index, device=device)
        return self._generators[key]


def _bytes(images: Tensor) -> Tensor:
    """Pictures as uint8."""
    return images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).to(torch.uint8)
