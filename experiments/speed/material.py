"""What all pipelines are timed on: generated fractals, so that nothing need be downloaded.

Fractals have edges and smooth parts as photographs do. What is in a picture matters to the decoding of JPEG alone; no
operation that is timed takes longer for one picture than for another.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixmix_ray.mixing_sets import Fractals, PictureBank, Pictures, shorter_side_for
from pixmix_ray.seeding import torch_generator
from pixmix_ray.transforms import flip_and_crop

NUM_CLASSES = 10
PADDING = 4  # of the random crop, on both sides, at every size


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How the pictures of one size are made and timed.

    Attributes:
        batch: pictures augmented at once on a processor.
        fractals: how many fractals there are to mix with and to cut pictures from.
        jpeg_side: side of the files that the PixMix peer opens, in pixels.
    """

    batch: int
    fractals: int
    jpeg_side: int


KINDS = {32: Kind(batch=512, fractals=64, jpeg_side=128), 224: Kind(batch=32, fractals=16, jpeg_side=256)}


@dataclass(frozen=True, kw_only=True)
class Material:
    """A batch, pictures to mix it with, and an empty folder.

    Attributes:
        images: uint8 (N, 3, S, S), S 32 or 224, on the device that is timed.
        labels: int64 (N,) on that device.
        pictures: the mixing pictures, of the size that PixMix resizes them to.
        folder: for files, deleted in the end.
    """

    images: Tensor
    labels: Tensor
    pictures: Pictures
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where the batch lies."""
        return self.images.device

    @property
    def size(self) -> int:
        """The side of the pictures, in pixels."""
        return int(self.images.shape[-1])

    def cropped(self, generator: torch.Generator) -> Tensor:
        """The batch flipped and cropped as in training, drawn for each picture: uint8 (N, 3, S, S)."""
        return flip_and_crop(self.images, generator, flip=True, padding=PADDING)

    @cached_property
    def bank(self) -> PictureBank:
        """The mixing pictures on the device."""
        return self.pictures.to(self.device)

    @cached_property
    def pillow_pictures(self) -> tuple[Image.Image, ...]:
        """The mixing pictures as Pillow pictures in memory."""
        return tuple(Image.fromarray(self.pictures[number]) for number in range(len(self.pictures)))

    @cached_property
    def jpegs(self) -> tuple[Path, ...]:
        """The mixing pictures as JPEG files, larger, written when first asked for."""
        kind = KINDS[self.size]
        pictures = Fractals(count=kind.fractals).pictures(kind.jpeg_side)
        files = tuple(self.folder / f"{number}.jpg" for number in range(len(pictures)))
        for number, file in enumerate(files):
            Image.fromarray(pictures[number]).save(file, quality=90)
        return files


def fractals(size: int) -> Pictures:
    """The fractals that pictures of `size` pixels, 32 or 224, are mixed with and cut from; drawn once a machine."""
    return Fractals(count=KINDS[size].fractals).pictures(shorter_side_for(size))


def pictures_at_rest(size: int, count: int, side: int | None = None) -> NDArray[np.uint8]:
    """Crops of those fractals as they lie in test sets, (count, S, S, 3) uint8.

    Args:
        size: 32 or 224.
        count: how many.
        side: S, where it is not `size`: up to the shorter side of the fractals.
    """
    crops = fractals(size).to("cpu").crops(count, side or size, torch_generator(0, "speed material"))
    return crops.permute(0, 2, 3, 1).contiguous().numpy()


@contextmanager
def prepared(size: int, batch: int, device: torch.device) -> Iterator[Material]:
    """`batch` pictures of `size` pixels on `device`."""
    pictures = fractals(size)
    generator = torch_generator(0, "speed material")
    images = pictures.to("cpu").crops(batch, size, generator)
    labels = torch.randint(NUM_CLASSES, (batch,), generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        yield Material(images=images.to(device), labels=labels.to(device), pictures=pictures, folder=Path(folder))
