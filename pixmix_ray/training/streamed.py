"""Batches of pictures that stay on disk: read, decoded and cropped by worker processes while the device works.

Each picture is decoded from its original file, and RandomResizedCrop is cut out of it as by the official ImageNet
pipeline, with Pillow, to the same pixels: no smaller decoding (JPEG's scaled DCT) and no intermediate size; of a JPEG
the rows below the crop are left out. All that follows, flip, method and normalisation, is done on the device in
batches. The box of a picture is a function of (seed, epoch, place in the set), the draws on the device of (seed, epoch,
batch, group of it): neither depends on the number of worker processes or of trainers. A trainer whose share of a batch
begins or ends within a group of `GROUP` makes all of that group.

Workers are those of torch's DataLoader, and get places in the set and nothing else: what they hold of a million files
is a memory map. They are forked, which costs nothing where spawning one imports torch anew, and is safe, since they use
neither torch nor threads of it. Pictures come in memory that is shared with them, and not in files of /dev/shm, of
which many containers have 64 MB.
"""

import math
import mmap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pixmix_ray.datasets import jpeg
from pixmix_ray.datasets.encoded import Encoded, EncodedFiles, EncodedSet, PathList
from pixmix_ray.datasets.picture_files import centre_cut, decoded, picture_files, resized, resized_box
from pixmix_ray.errors import DataError, PixmixRayError, RequestError
from pixmix_ray.experiment.recipe import Recipe
from pixmix_ray.methods import MethodRun
from pixmix_ray.mixing_sets import PictureBank
from pixmix_ray.seeding import torch_generator, uniforms
from pixmix_ray.training.batches import VALIDATED_AT_ONCE, Augmenter, Batches, BatchShare
from pixmix_ray.transforms import random_box, to_float

Images = NDArray[np.uint8]

GROUP = 32  # pictures that a worker makes at once, and that have a stream of random numbers on the device
DRAWS = 23  # of a picture and visit: its box, and whether a copy is shown
GROUPS_AHEAD = 4  # of each worker: 20 MB at 224 pixels


def reading_processes(device: torch.device) -> int:
    """How many processes read for a training that has as many cores as torch may use threads here.

    On a GPU all of them but that of the training itself; on a processor half, since the network learns on the others.
    """
    cores = torch.get_num_threads()
    return max(1, cores - 1 if device.type == "cuda" else cores // 2)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is cut out of a decoded picture.

    Attributes:
        size: side of the result in pixels.
        resize: shorter side before the centre is cut out; none cuts out a random box.
    """

    size: int
    resize: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Pictures that are read together.

    Attributes:
        epoch: in which they are shown.
        rows: (B,) int64, their places in the set.
    """

    epoch: int
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """What a worker process does: from a group to its pictures, cut.

    Attributes:
        files: the set.
        cut: of each picture.
        seed: of the training.
        copies: pictures that are shown in place of those of the set, one for each.
        share: of pictures that are replaced by copies.
    """

    files: EncodedSet
    cut: Cut
    seed: int = 0
    copies: Encoded | None = None
    share: float = 0.0

    def read(self, group: Group, made: Images) -> None:
        """Put the pictures of a group into `made`, (B, 3, size, size) uint8.

        Raises:
            DataError: one cannot be read or decoded (named).
        """
        draws = uniforms(self.seed, "crop", group.epoch, indices=group.rows, count=DRAWS)
        with warnings.catch_warnings(action="ignore"):  # of Pillow, about metadata and size
            for place, row in enumerate(group.rows.tolist()):
                made[place] = np.asarray(self._picture(row, draws[place])).transpose(2, 0, 1)

    def _picture(self, row: int, draws: NDArray[np.float64]) -> Image.Image:
        source, place = self.files.pictures, int(self.files.places(np.array([row]))[0])
        if self.copies is not None and draws[-1] < self.share:
            source, place = self.copies, row
        content, name = source.read(place), source.name(place)
        if self.cut.resize is not None:
            return centre_cut(resized(decoded(content, name), self.cut.resize), self.cut.size)
        frame, numbers = jpeg.frame(content), draws[:-1].tolist()
        if frame is None:
            rgb = decoded(content, name)
            top, left, height, width = random_box(rgb.height, rgb.width, numbers)
        else:
            top, left, height, width = random_box(frame.height, frame.width, numbers)
            rgb = decoded(jpeg.down_to(content, frame, top + height), name)
        return resized_box(rgb, (left, top, left + width, top + height), self.cut.size)


class _Slots(Dataset[object]):
    """Places for the groups that are read ahead, in memory that is shared with the processes that are forked later."""

    def __init__(self, reader: Reader, groups: list[Group], count: int) -> None:
        self._reader, self._groups, size = reader, groups, reader.cut.size
        shape = (count, max(len(group.rows) for group in groups), 3, size, size)
        self._slots = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)

    def slot(self, number: int) -> Images:
        """The pictures of group `number`, once they are read, and until so many more groups are."""
        return self._slots[number % len(self._slots), : len(self._groups[number].rows)]

    def __getitem__(self, number: int) -> PixmixRayError | None:
        """Read group `number`; an error of ours is returned, since the loader makes long texts of those it raises."""
        try:
            self._reader.read(self._groups[number], self.slot(number))
        except PixmixRayError as error:
            return error
        return None


def read_groups(reader: Reader, groups: list[Group], workers: int, device: torch.device) -> Iterator[Tensor]:
    """The pictures of each group, uint8 (B, 3, size, size) on the device, in order; read ahead by worker processes.

    Raises:
        DataError: a picture cannot be read or decoded (named).
    """
    if not groups:
        return
    workers = min(workers, len(groups))
    slots = _Slots(reader, groups, workers * GROUPS_AHEAD + 2)  # what is read ahead, and what is looked at
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than it thinks there are cores
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")  # beside threads
        loader = DataLoader(
            slots,
            batch_size=None,
            sampler=range(len(groups)),
            num_workers=workers,
            prefetch_factor=GROUPS_AHEAD,
            collate_fn=_as_it_is,
            multiprocessing_context="fork",
            generator=torch.Generator(),  # else it draws a seed from the global one
        )
        iterator = iter(loader)
    for number, error in enumerate(iterator):
        if error is not None:
            raise error
        images = torch.from_numpy(slots.slot(number))
        # copied, as the slot is used again
        yield images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images.clone()


def _as_it_is(found: Any) -> Any:
    """What a worker returned: the loader is not to make a tensor of it."""
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedData:
    """What a network learns from, on disk.

    Attributes:
        files: the training set.
        device: where the network learns.
        height: side of the pictures before flip and crop in pixels; of a random box, the result's by default.
        resize: shorter side of a picture before a square of `height` is cut out, where no random box is.
        version: the content of the training set.
        pictures: the mixing set, for the methods that need one.
        held_out: (M,) int64, the rows that are not trained on, to measure the error on; none: all are trained on.
        workers: processes that read.
    """

    files: EncodedSet
    device: torch.device
    height: int
    resize: int
    version: str = ""
    pictures: PictureBank | None = None
    held_out: NDArray[np.int64] | None = None
    workers: int = 1
    images: None = None

    def batches(self, run: MethodRun, recipe: Recipe, *, seed: int, share: BatchShare | None = None) -> Batches:
        """The batches that `run` makes of the pictures; of a training by several workers, the share of one."""
        return StreamedBatches(self, run, recipe, seed=seed, share=share)


class StreamedBatches(Batches):
    """Batches of pictures on disk; see the module."""

    def __init__(
        self, data: StreamedData, run: MethodRun, recipe: Recipe, *, seed: int, share: BatchShare | None = None
    ) -> None:
        self.device = data.device
        self._data, self._recipe, self._seed, self._share = data, recipe, seed, share or BatchShare()
        self._augment = Augmenter(run, data.pictures, recipe)
        self._copies = _copies(run, len(data.files))
        is_trained = np.ones(len(data.files), dtype=np.bool_)
        if data.held_out is not None:
            is_trained[data.held_out] = False
        self._rows = np.flatnonzero(is_trained)
        self.num_pictures = len(self._rows)
        self.num_held_out = 0 if data.held_out is None else len(data.held_out)

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.batches`."""
        batch_size = self._recipe.batch_size
        order = torch.randperm(len(self._rows), generator=torch_generator(self._seed, "order", epoch)).numpy()
        rows = self._rows[order]
        batches = [
            (number, rows[number * batch_size : (number + 1) * batch_size])
            for number in range(first, math.ceil(len(rows) / batch_size))
        ]
        groups = [Group(epoch=epoch, rows=batch[part]) for _, batch in batches for part in self._groups(len(batch))]
        images = read_groups(self._reader(), groups, self._data.workers, self.device)
        for number, batch in batches:
            parts, share = self._groups(len(batch)), self._share.slice(len(batch))
            made = []
            for part in parts:
                generator = torch_generator(self._seed, "augment", epoch, number, part.start, device=self.device)
                cropped = self._flipped(next(images), generator)
                made.append(self._augment(cropped, generator, is_checked=number == first and part is parts[0]))
            yield _joined(made)[share.start - parts[0].start :][: share.stop - share.start], self._labels(batch[share])

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches.held_out`."""
        if self._data.held_out is None:
            return
        rows = self._data.held_out[self._share.slice(self.num_held_out)]
        parts = [rows[start : start + VALIDATED_AT_ONCE] for start in range(0, len(rows), VALIDATED_AT_ONCE)]
        reader = Reader(files=self._data.files, cut=Cut(size=self._data.height, resize=self._data.resize))
        groups = [Group(epoch=0, rows=part) for part in parts]
        for part, images in zip(parts, read_groups(reader, groups, self._data.workers, self.device), strict=True):
            yield to_float(images), self._labels(part)

    def _groups(self, count: int) -> list[slice]:
        """The groups of a batch of `count` pictures that hold the worker's share: draws are those of a group."""
        share = self._share.slice(count)
        first = share.start // GROUP * GROUP
        return [slice(start, min(start + GROUP, count)) for start in range(first, share.stop, GROUP)]

    def _reader(self) -> Reader:
        cut = Cut(size=self._data.height, resize=self._data.resize)
        if self._recipe.crop == "resized":
            cut = Cut(size=self._recipe.side(self._data.height))
        copies, share = self._copies
        return Reader(files=self._data.files, cut=cut, seed=self._seed, copies=copies, share=share)

    def _flipped(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Flipped, and cropped where that is not done yet, uint8 (B, 3, size, size)."""
        if self._recipe.crop != "resized":
            return self._recipe.cropped(images, generator)
        if not self._recipe.flip:
            return images
        is_flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
        if images.device.type != "cpu":  # whose number of rows the host would wait for
            return torch.where(is_flipped.view(-1, 1, 1, 1), images.flip(3), images)
        for row in is_flipped.nonzero().flatten().tolist():  # ten times as fast as all together, by their indices
            images[row] = images[row].flip(2)
        return images

    def _labels(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._data.files.labels_of(rows)).to(self.device, non_blocking=True)


def _copies(run: MethodRun, count: int) -> tuple[Encoded | None, float]:
    """The pictures that a method shows in place of `count` streamed ones, and how often."""
    found = run.method.shown_copies()
    if found is None:
        if type(run).shown is not MethodRun.shown:
            raise RequestError(f"{type(run).__name__}.shown needs all pictures in memory: set dataset.streamed: false")
        return None, 0.0
    copies = EncodedFiles(PathList.of(found.folder, picture_files(found.folder)))
    if len(copies) != count:
        raise DataError(
            f"{found.folder} holds {len(copies)} pictures, the training set {count}: give one for each, in order"
        )
    return copies, found.share


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
