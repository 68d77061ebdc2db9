"""What a training method is: what it does to a batch of pictures, and its loss.

A method is one class with its settings as fields; adding one is one file, one line in the table of methods and one row
in the tests. Crop and flip are the training loop's; normalisation is the model's. Most methods are two functions
without memory, `Method.augment` and `Method.loss`. One that carries something through a training (a generator that
learns, pictures of its own) returns it from `Method.start` as its `MethodRun`.

Where several workers train together, or one takes a batch in parts, a loss is given a part of it. One that draws for
all pictures of a batch, such as which of them are mixed with each other, draws for the whole (`whole_batch`) and takes
what concerns its part. So the losses of all parts add up to that of one worker who sees the batch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import ImageData
from pixmix_ray.errors import RequestError
from pixmix_ray.plugins import Table
from pixmix_ray.settings import Settings
from pixmix_ray.transforms import to_float


class Method(Settings):
    """A method that leaves the pictures as they are and minimises the cross-entropy; the others change one or both.

    Attributes:
        summary: one line for people.
        source: where the method is published.
        weight_decay: the paper's weight decay for this method.
        revision: raised when the same settings come to mean another training, so that trials are trained anew.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    weight_decay: ClassVar[float] = 5e-4

    @property
    def needs_pictures(self) -> bool:
        """Whether `augment` wants pictures of a mixing set."""
        return False

    @property
    def has_memory(self) -> bool:
        """Whether it carries something through a training, so that `augment` and `loss` alone are not the method."""
        return type(self).start is not Method.start

    def version(self) -> str:
        """A fingerprint of the files that the method reads, part of a trial's identity; "" if it reads none.

        Raises:
            DataError: a file is missing.
        """
        return ""

    def prepare(self, data: ImageData) -> None:
        """Check and decode all that the method reads, into this machine's cache, before any training starts.

        Raises:
            DataError: a file is broken, or does not fit the training pictures.
        """

    def shown_copies(self) -> "Copies | None":
        """Pictures that are shown in place of streamed ones, if the method has any.

        Raises:
            RequestError: it has none that can be.
        """
        return None

    def start(self, setup: "Setup") -> "MethodRun":
        """The method at work in one training."""
        return MethodRun(self)

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures to train on: float32 (N, 3, H, W) in [0, 1], on the device of `images`.

        It is called on several training batches at once, so it draws for each picture, never for the whole batch. A
        method whose loss compares several views of a picture returns them together, (N, V, 3, H, W).

        Args:
            images: uint8 (N, 3, H, W), cropped and flipped already; not changed.
            pictures: uint8 (N, 3, H, W), one picture of the mixing set for each image, where `needs_pictures`.
            generator: where all draws come from; on the device of `images`.
        """
        return to_float(images)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The training loss of one batch, a scalar.

        Several workers, or one that takes a batch in parts, each call it with a part and the same `rng`; what it draws
        for the batch, and whom it mixes with whom, comes from `whole_batch`.

        Args:
            network: from pictures (N, 3, H, W) to logits (N, K).
            images: float32 (N, 3, H, W) or (N, V, 3, H, W), as `augment` made them; not changed.
            labels: int64 (N,).
            rng: for draws that are made once a batch; on the host, so that nothing waits for the device.
        """
        return F.cross_entropy(network(images), labels)


METHODS: Table[Method] = Table("method", Method)


@dataclass(frozen=True, kw_only=True)
class Copies:
    """One other picture for each training picture, of which a share is shown in its place.

    Attributes:
        folder: of picture files, as many as there are training pictures, in their order.
        share: of the pictures that are replaced, drawn anew at each visit, in [0, 1].
    """

    folder: Path
    share: float


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a training tells its method at the start.

    Attributes:
        device: of the training.
        height: of the training pictures before flip and crop, in pixels; where they are streamed, of the result.
        data_version: the content of the training set.
        seed: of the trial; name streams by it through `pixmix_ray.seeding`.
        size: side in pixels of the pictures after flip and crop.
        crop: flip and crop as the recipe says, from uint8 (B, 3, H, W) and a generator to (B, 3, size, size).
        images: uint8 (N, 3, H, W), all training pictures, on the device and not to be changed; none where they are
            streamed. Those that are held out for validation are among them: learn from what `shown` is given alone.
    """

    device: torch.device
    height: int
    data_version: str
    seed: int
    size: int
    crop: Callable[[Tensor, torch.Generator], Tensor]
    images: Tensor | None = None


class MethodRun:
    """A method at work in one training; as it is, for a method without memory.

    A run is made anew when a training goes on from a checkpoint, after an epoch or in the middle of one: what it
    learned, and what `begin_epoch` made, must be in `tensors`; all else must be a function of the setup.
    """

    def __init__(self, method: Method) -> None:
        self.method = method

    def begin_epoch(self, network: nn.Module, number: int) -> None:
        """Called before each epoch, counted from 1; `network` is in training mode and must be left as it is.

        An epoch that goes on in its middle does not begin again: `restore` is called alone.
        """

    def shown(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """What is shown in place of resident pictures, before crop and flip: uint8 (N, 3, H, W).

        Of streamed ones it is not asked: see `Method.shown_copies`.

        Args:
            images: uint8 (N, 3, H, W).
            rows: int64 (N,), their places in the training set.
            generator: for draws, on the device of `images`.
        """
        return images

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """See `Method.augment`."""
        return self.method.augment(images, pictures, generator)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """See `Method.loss`. Gradients that it leaves on the parameters of `network` are dropped."""
        return self.method.loss(network, images, labels, rng)

    def tensors(self) -> dict[str, Tensor]:
        """All that the run has learned and that this epoch began with, by name; saved with each state."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""


def matching(name: str, images: Tensor, pictures: Tensor | None, way_out: str = "give a mixing set") -> Tensor:
    """The mixing pictures of method `name`, one for each image, uint8 (N, 3, H, W).

    Raises:
        RequestError: they are missing or not of the same shape as `images`.
    """
    if pictures is None:
        raise RequestError(f"{name} needs pictures to mix with, got None: {way_out}")
    if pictures.shape != images.shape:
        shapes = f"{tuple(pictures.shape)} for images {tuple(images.shape)}"
        raise RequestError(f"{name} needs one picture of the same size for each image, got {shapes}: crop them so")
    return pictures


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, weight: float) -> Tensor:
    """Cross-entropy to `labels` times `weight` plus that to `others`, of the pictures mixed in, times the rest."""
    return weight * F.cross_entropy(logits, labels) + (1 - weight) * F.cross_entropy(logits, others)


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeBatch:
    """A batch, and which of its pictures a loss is given.

    Attributes:
        count: how many pictures it has.
        rows: those of them that the loss is given.
        fetch: returns all its pictures (N, ...) and labels (N,). The pictures of other workers come over the network,
            so all parts ask for them or none does.
    """

    count: int
    rows: slice
    fetch: Callable[[], tuple[Tensor, Tensor]]

    def shuffled(self, rng: np.random.Generator, device: torch.device) -> Tensor:
        """For each picture that the loss is given, int64 (n,), its place in a random order of the batch."""
        order = torch.from_numpy(rng.permutation(self.count)[self.rows])
        return order.to(device, non_blocking=True)


_current: ContextVar[WholeBatch | None] = ContextVar("_current", default=None)


@contextmanager
def part_of(batch: WholeBatch) -> Iterator[None]:
    """Within this block a loss is given a part of `batch`."""
    token = _current.set(batch)
    try:
        yield
    finally:
        _current.reset(token)


def whole_batch(images: Tensor, labels: Tensor) -> WholeBatch:
    """The batch that the pictures (n, ...) and labels (n,) of a loss are a part of; or all of, if nothing says more."""
    found = _current.get()
    if found is None:
        return WholeBatch(count=len(labels), rows=slice(0, len(labels)), fetch=lambda: (images, labels))
    return found
