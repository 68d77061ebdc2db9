"""The training recipe; the defaults are the paper's for CIFAR (§3.2) with the official code's schedule."""

import math
import re
import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from pixmix_ray.hardware import Tf32
from pixmix_ray.settings import Settings
from pixmix_ray.transforms import flip_and_crop, random_resized_crop

_SPAN = re.compile(r"(?P<number>[1-9]\d*) (?P<unit>minute|step)s?")


class Recipe(Settings):
    """How long, how fast and how exactly a network is trained.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step; the last batch of an epoch may be smaller.
        accumulation: parts in which a worker takes its share of a batch, one after the other, where memory is short;
            the gradients add up to those of the batch, but batch normalisation sees each part alone.
        lr: learning rate of the first step.
        final_lr: where the cosine schedule ends.
        momentum: of Nesterov's accelerated gradient.
        weight_decay: on all parameters; none means the method's own (5e-4, for Mixup 1e-4).
        flip: mirror half of the pictures; switch it off where left and right matter, as in digits.
        crop: "padded", a crop of the picture's size out of a black frame, as for CIFAR; or "resized", a part of random
            size and shape, resized, as for ImageNet.
        crop_padding: for "padded": the width of the frame in pixels.
        crop_size: for "resized": side of the result in pixels; none means the height of the pictures.
        precision: float32, or bfloat16 autocast, which is faster where the processor has it (docs/speed.md).
        tf32: where GPUs compute float32 with 10 bits of mantissa, which is faster: nowhere, in convolutions, or
            everywhere.
        deterministic: take algorithms that give the same bits at each run on one kind of GPU, often slower ones; an
            operation that has none fails. On a processor runs give the same bits without it.
        channels_last: memory layout; faster in every case measured so far (docs/speed.md).
        validation: fraction of the training pictures that is held out, to measure the clean error after each epoch;
            none trains on all of them.
        checkpoint_every: after how much of an epoch its state is saved as well, such as "10 minutes" or "500 steps", so
            that an interrupted training goes on there; none saves after whole epochs alone. No outcome depends on it.
    """

    location: ClassVar[frozenset[str]] = frozenset({"checkpoint_every"})
    implied: ClassVar[frozenset[str]] = frozenset({"accumulation", "tf32", "deterministic"})
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(128, ge=1)
    accumulation: int = Field(1, ge=1)
    lr: float = Field(0.1, gt=0)
    final_lr: float = Field(1e-6, ge=0)
    momentum: float = Field(0.9, gt=0, lt=1)
    weight_decay: float | None = Field(None, ge=0)
    flip: bool = True
    crop: Literal["padded", "resized"] = "padded"
    crop_padding: int = Field(4, ge=0)
    crop_size: int | None = Field(None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    tf32: Tf32 = "convolutions"
    deterministic: bool = False
    channels_last: bool = True
    validation: float | None = Field(None, gt=0, le=0.5)
    checkpoint_every: str | None = None

    @field_validator("checkpoint_every")
    @classmethod
    def _is_a_span(cls, value: str | None) -> str | None:
        if value is not None and not _SPAN.fullmatch(value):
            raise ValueError("it must be a number of minutes or steps, such as 10 minutes or 500 steps")
        return value

    @model_validator(mode="after")
    def _fits_the_crop(self) -> Self:
        if self.crop_size is not None and self.crop != "resized":
            raise ValueError(
                f"crop_size = {self.crop_size} is only used with crop: resized: set that, or leave crop_size out"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; each kind of crop has its own."""
        unused = {"crop", "crop_size"} if self.crop == "padded" else {"crop_padding"}
        if self.validation is None:  # trials without it keep the id that they had before there was such a key
            unused.add("validation")
        return {name: value for name, value in super().identity().items() if name not in unused}

    def notes(self, gpus: float) -> tuple[str, ...]:
        """What people should know before a training with so many GPUs starts, a line each."""
        if self.precision == "float32" or gpus > 0 or has_bfloat16():
            return ()
        return ("precision bfloat16: this machine's processor has no instructions for it, float32 is faster there",)

    def checkpoint_due(self) -> Callable[[int], bool]:
        """A function that says whether a state is due, by `checkpoint_every`, so many batches after the last one."""
        span = _SPAN.fullmatch(self.checkpoint_every or "")
        if span is None:
            return lambda batches: False
        number = int(span["number"])
        if span["unit"] == "step":
            return lambda batches: batches >= number
        last = time.monotonic()

        def is_due(batches: int) -> bool:
            nonlocal last
            if time.monotonic() - last < 60 * number:
                return False
            last = time.monotonic()
            return True

        return is_due

    def side(self, height: int) -> int:
        """The side in pixels of what is cropped from pictures of `height` pixels."""
        return (self.crop_size or height) if self.crop == "resized" else height

    def cropped(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The pictures, uint8 (N, 3, H, W), flipped and cropped, each by its own draws from `generator`."""
        if self.crop == "resized":
            return random_resized_crop(images, generator, size=self.side(images.shape[2]), flip=self.flip)
        return flip_and_crop(images, generator, flip=self.flip, padding=self.crop_padding)


def cosine(step: int, steps: int, first: float, last: float) -> float:
    """The learning rate of a step, on a half cosine from `first` to `last` (Loshchilov and Hutter, ICLR 2017).

    >>> [round(cosine(step, 4, 0.1, 0.0), 4) for step in range(4)]
    [0.1, 0.0854, 0.05, 0.0146]
    """
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / steps))


def has_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16, or does not say.

    Without them it is emulated: on an AMD EPYC without AVX-512 a training step took 7.6 times as long as in float32.
    """
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than torch 2.6
    return not capabilities or any(there for name, there in capabilities.items() if "bf16" in name)
