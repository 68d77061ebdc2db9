"""Where the batches of a training come from: one interface, and its form for pictures that lie on the device.

What a batch holds is a function of (seed, epoch, its number) alone: the order of the pictures, crop, flip and the
method's augmentation. So a training goes on from any batch of an epoch, in another process and on another machine, as
if it had never been interrupted; and several workers, each with its share of every batch, see together what one sees.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from pixmix_ray.errors import WorkError
from pixmix_ray.methods import MethodRun
from pixmix_ray.mixing_sets import PictureBank
from pixmix_ray.seeding import torch_generator
from pixmix_ray.transforms import to_float

if TYPE_CHECKING:
    from pixmix_ray.experiment.recipe import Recipe

VALIDATED_AT_ONCE = 256  # pictures
TOLERANCE = 1e-3  # of augmented pictures beyond [0, 1]: roundings of half precision
# augmented in one go: what fits the caches of a CPU; on a GPU so many that the launches of the kernels do not matter
VALUES_AT_ONCE = {"cpu": 512 * 3 * 32 * 32, "cuda": 8192 * 3 * 32 * 32}


@dataclass(frozen=True, kw_only=True)
class BatchShare:
    """The part of every batch that one of several workers gets: all of it where there is one worker.

    Attributes:
        rank: of the worker, from 0.
        of: how many workers there are.
    """

    rank: int = 0
    of: int = 1

    def slice(self, count: int) -> slice:
        """Which of `count` pictures are the worker's: runs of the same length, the first ones longer by one.

        Of fewer pictures than workers each gets all, since batch normalisation needs something of everybody.
        """
        if count < self.of:
            return slice(0, count)
        each, over = divmod(count, self.of)
        start = self.rank * each + min(self.rank, over)
        return slice(start, start + each + (self.rank < over))


class Batches(ABC):
    """The batches of one training, each float32 (B, 3, H, W) or (B, V, 3, H, W), augmented, and labels int64 (B,).

    Attributes:
        device: where the batches are.
        num_pictures: trained on in an epoch, by all workers together.
        num_held_out: pictures on which the error is measured.
    """

    device: torch.device
    num_pictures: int
    num_held_out: int

    @abstractmethod
    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This worker's share of the batches of an epoch, counted from 1, from batch `first`, counted from 0."""

    @abstractmethod
    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This worker's share of the pictures held out, as they are, float32 (B, 3, H, W), and their labels (B,)."""


class TrainingSource(Protocol):
    """The pictures of a training, wherever they are."""

    @property
    def device(self) -> torch.device:
        """Where the network learns."""

    @property
    def height(self) -> int:
        """Of the pictures before flip and crop, in pixels; where they are streamed, of the result."""

    @property
    def images(self) -> Tensor | None:
        """All of them, uint8 (N, 3, H, W), on the device; none where they are streamed."""

    @property
    def version(self) -> str:
        """Their content."""

    def batches(self, run: MethodRun, recipe: "Recipe", *, seed: int, share: BatchShare | None = None) -> Batches:
        """The batches that `run` makes of them; of a training by several workers, the share of one."""


class Augmenter:
    """What is done to cropped pictures of a training, the same for all forms of `Batches`."""

    def __init__(self, run: MethodRun, pictures: PictureBank | None, recipe: "Recipe") -> None:
        self._run, self._layout = run, torch.channels_last if recipe.channels_last else torch.contiguous_format
        self._pictures = pictures if run.method.needs_pictures else None

    def __call__(self, images: Tensor, generator: torch.Generator, *, is_checked: bool) -> Tensor:
        """The method's pictures of uint8 (N, 3, H, W), float32 (N, 3, H, W) or (N, V, 3, H, W).

        Args:
            images: flipped and cropped.
            generator: where all draws come from.
            is_checked: whether what the method returns is looked at, which waits for the device.

        Raises:
            WorkError: it is looked at, and is not what a training needs.
        """
        pictures = None
        if self._pictures is not None:
            pictures = self._pictures.crops(len(images), images.shape[-1], generator)
        augmented = self._run.augment(images, pictures, generator)
        if is_checked:
            check_augmented(augmented, images)
        if augmented.ndim == 4:  # several views of a picture are laid out by the loss that joins them
            augmented = augmented.contiguous(memory_format=self._layout)
        return augmented


class ResidentBatches(Batches):
    """Batches of pictures that lie on the device as uint8 from the start: a batch is a draw of indices there.

    Flip, crop and augmentation run on several batches at once, with one stream of random numbers an epoch. Where an
    epoch does not begin with its first batch, those before it are made and left: the stream is then at its place.
    """

    def __init__(
        self, data: "TrainingData", run: MethodRun, recipe: "Recipe", *, seed: int, share: BatchShare | None = None
    ) -> None:
        self.device = data.images.device
        self._data, self._run, self._recipe, self._seed = data, run, recipe, seed
        self._share = share or BatchShare()
        is_trained = torch.ones(len(data.labels), dtype=torch.bool, device=self.device)
        if data.held_out is not None:
            is_trained[data.held_out] = False
        self._rows = is_trained.nonzero().squeeze(1)
        self.num_pictures = len(self._rows)
        self.num_held_out = 0 if data.held_out is None else len(data.held_out)

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.batches`."""
        data, size = self._data, self._recipe.batch_size
        generator = torch_generator(self._seed, "augment", epoch, device=self.device)
        order = torch.randperm(len(self._rows), generator=torch_generator(self._seed, "order", epoch)).to(self.device)
        pictures_at_once = VALUES_AT_ONCE[self.device.type] // data.images.shape[1:].numel()
        at_once = max(1, pictures_at_once // size) * size
        augment, number = Augmenter(self._run, data.pictures, self._recipe), 0
        for rows in torch.split(self._rows[order], at_once):
            images = self._recipe.cropped(
                self._run.shown(data.images.index_select(0, rows), rows, generator), generator
            )
            augmented = augment(images, generator, is_checked=number == 0)
            labels = data.labels[rows]
            for batch in zip(torch.split(augmented, size), torch.split(labels, size), strict=True):
                if number >= first:
                    yield self._shared(*batch)
                number += 1

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.held_out`."""
        if self._data.held_out is not None:
            for rows in torch.split(self._data.held_out[self._share.slice(self.num_held_out)], VALIDATED_AT_ONCE):
                yield to_float(self._data.images[rows]), self._data.labels[rows]

    def _shared(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mine = self._share.slice(len(labels))
        return images[mine], labels[mine]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a network learns from, on the device where it learns.

    Attributes:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64.
        pictures: the mixing set, for the methods that need one.
        version: the content of the training set.
        held_out: (M,) int64, the rows that are not trained on, to measure the error on; none: all are trained on.
    """

    images: Tensor
    labels: Tensor
    pictures: PictureBank | None = None
    version: str = ""
    held_out: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the pictures are."""
        return self.images.device

    @property
    def height(self) -> int:
        """Of the pictures, in pixels."""
        return self.images.shape[2]

    def batches(self, run: MethodRun, recipe: "Recipe", *, seed: int, share: BatchShare | None = None) -> Batches:
        """The batches that `run` makes of the pictures; of a training by several workers, the share of one."""
        return ResidentBatches(self, run, recipe, seed=seed, share=share)


def check_augmented(augmented: object, images: Tensor) -> None:
    """Return if a method made of `images` (N, 3, H, W) what a training needs: float (N, 3, H, W), (N, V, 3, H, W).

    Raises:
        WorkError: its shape, its type or its range is another.
    """
    shape = tuple(images.shape)
    if not isinstance(augmented, Tensor):
        raise WorkError(f"augment returns {type(augmented).__name__}: it must be a tensor of shape {shape}")
    found = tuple(augmented.shape)
    if found != shape and (len(found) != 5 or (found[0], *found[2:]) != shape):
        raise WorkError(
            f"augment returns shape {found} for pictures of {shape}: it must be the same, or (N, V, 3, H, W)"
        )
    if not augmented.is_floating_point():
        raise WorkError(f"augment returns {augmented.dtype}: it must be float32 in [0, 1], as by images / 255")
    low, high = augmented.amin().item(), augmented.amax().item()
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise WorkError(
            f"augment returns values from {low:.3g} to {high:.3g}: they must be in [0, 1], as by .clamp(0, 1)"
        )
