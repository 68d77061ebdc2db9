"""The measurement: every method that changes pictures, as the training loop runs it, in turn with its peers.

What is timed is one call of the loop's own steps on a batch in memory: flip and crop, crops of the mixing set where the
method wants them, the method, and the model's normalisation, random draws included. Mixup and CutMix mix in their loss:
there the loss is timed too, with a network that costs nothing but its normalisation. A method whose loss compares views
of a picture makes all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from experiments.speed.material import KINDS, NUM_CLASSES, PADDING, Material, prepared
from experiments.speed.peers import CHANGES_ALONE, MEAN, STD, peers_of
from experiments.speed.pillow_pixmix import OFFICIAL
from experiments.speed.timing import Pipeline, pictures_per_second, threads
from pixmix_ray.errors import RequestError
from pixmix_ray.memory import keep_freed_memory
from pixmix_ray.methods import METHODS, Baseline, CutMix, Method, MethodRun, Mixup, Setup
from pixmix_ray.methods.pixmix_cutmix import PixMixCutMix
from pixmix_ray.models import Normalise
from pixmix_ray.seeding import rng, torch_generator
from pixmix_ray.settings import Settings
from pixmix_ray.training.batches import VALUES_AT_ONCE
from pixmix_ray.transforms import flip_and_crop

SECONDS = 0.3  # the least that one measurement takes
OURS = "ours"
MIX_IN_LOSS = (Mixup, CutMix, PixMixCutMix)


class SpeedRequest(Settings):
    """What to measure, and how.

    Attributes:
        methods: names as in an experiment file; none means all that change pictures and need no files.
        size: side of the pictures in pixels.
        threads: of torch; peers that go picture by picture use one.
        repeats: measurements of each pipeline, of which the median counts.
        device: where ours and the batched peers run.
        batch: pictures at once; none means 512 of 32 pixels, 32 of 224, and on a GPU as many as the training
            loop augments at once.
    """

    methods: tuple[str, ...] = ()
    size: Literal[32, 224] = 32
    threads: Annotated[int, Field(ge=1)] = 1
    repeats: Annotated[int, Field(ge=1)] = 5
    device: Literal["cpu", "cuda"] = "cpu"
    batch: Annotated[int, Field(ge=2)] | None = None

    @field_validator("device")
    @classmethod
    def _is_there(cls, device: str) -> str:
        if device == "cuda" and not torch.cuda.is_available():
            raise RequestError("device = 'cuda': there is no CUDA device here: use cpu")
        return device

    @property
    def pictures_at_once(self) -> int:
        """The size of the batch."""
        if self.batch is not None:
            return self.batch
        return KINDS[self.size].batch if self.device == "cpu" else VALUES_AT_ONCE["cuda"] // (3 * self.size**2)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What was measured for one method beside one peer.

    Attributes:
        method: its name.
        ours: pictures a second.
        peer: what it was compared with; "" where there is no peer.
        theirs: pictures a second of the peer; None where there is none.
    """

    method: str
    ours: float
    peer: str = ""
    theirs: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times as fast ours is; None without a peer."""
        return None if self.theirs is None else self.ours / self.theirs


def augmentation_rates(request: SpeedRequest, tell: Callable[[str], None]) -> list[Rate]:
    """The rates of all methods that are asked for, a row for each of their peers, or one without.

    Args:
        request: what to measure.
        tell: takes lines about what happens.

    Raises:
        RequestError: a method is unknown, needs files, or changes no pictures.
    """
    keep_freed_memory()
    methods = _methods(request, tell)
    tell(f"drawing {KINDS[request.size].fractals} fractals, unless they are in the cache")
    rates: list[Rate] = []
    with threads(request.threads), prepared(request.size, request.pictures_at_once, torch.device(request.device)) as on:
        for number, (name, method) in enumerate(methods.items(), 1):
            pipelines = {OURS: ours(method, on)} | {peer.name: peer.start(on) for peer in peers_of(name)}
            tell(f"{number}/{len(methods)} {name}: {'; '.join(pipelines)}")
            measured = pictures_per_second(pipelines, on.device, repeats=request.repeats, seconds=SECONDS)
            rates += _compared(name, measured)
            if name in CHANGES_ALONE:
                peer = CHANGES_ALONE[name]
                pipelines = {OURS: ours(method, on, is_cropped=True), peer.name: peer.start(on)}
                measured = pictures_per_second(pipelines, on.device, repeats=request.repeats, seconds=SECONDS)
                rates += _compared(name, measured)
    return rates


def _start(method: Method, images: Tensor, size: int, crop: Callable[[Tensor, torch.Generator], Tensor]) -> MethodRun:
    """A training with `method`."""
    setup = Setup(
        images=images,
        device=images.device,
        height=images.shape[2],
        data_version="",
        seed=0,
        size=size,
        crop=crop,
    )
    return method.start(setup)


def ours(method: Method, material: Material, *, is_cropped: bool = False) -> Pipeline:
    """What the training loop does to a batch, with `method`; returns normalised float32 (N, 3, S, S).

    For the methods that mix in their loss, it returns the pictures before their mixing. Where `is_cropped`, flip and
    crop are left out.
    """
    images, labels, device = material.images, material.labels, material.device
    crop = partial(flip_and_crop, flip=True, padding=PADDING)
    run = _start(method, images, material.size, crop)
    network = _FirstValues().to(device)
    run.begin_epoch(network, 1)
    rows, scalars = torch.arange(len(images), device=device), rng(0, "speed", "loss")
    generator = torch_generator(0, "speed", "augment", device=device)

    def once() -> Tensor:
        chosen = images if is_cropped else crop(run.shown(images.index_select(0, rows), rows, generator), generator)
        pictures = material.bank.crops(len(rows), material.size, generator) if method.needs_pictures else None
        augmented = run.augment(chosen, pictures, generator)
        if isinstance(method, MIX_IN_LOSS):
            run.loss(network, augmented, labels, scalars)
            return augmented
        normalised: Tensor = network.normalise(augmented)
        return normalised

    return once


class _FirstValues(nn.Module):
    """A network that costs nothing but the normalisation: its logits (N, 10) are the first ten values."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise(MEAN, STD)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.normalise(images).flatten(1)[:, :NUM_CLASSES]
        return logits


def _methods(request: SpeedRequest, tell: Callable[[str], None]) -> dict[str, Method]:
    """The methods that are asked for, by name; where none is, all that can be measured."""
    found = {}
    for name in request.methods or METHODS.known():
        try:
            method = _method(name, request.size)
            if not changes_pictures(method, request.size):
                raise RequestError(f"{name} changes no pictures before its loss: there is no augmentation to time")
        except RequestError as error:
            if request.methods:
                raise
            tell(f"left out: {error}")
        else:
            found[name] = method
    return found


def _method(name: str, size: int) -> Method:
    """The method with its defaults, but for PixMix at 224 pixels those for ImageNet, and CutMix on every batch."""
    pixmix, cutmix = OFFICIAL[size].model_dump(exclude_unset=True), {"probability": 1.0}
    special = {"pixmix": pixmix, "cutmix": cutmix, "pixmix_cutmix": pixmix | cutmix}
    return METHODS.read({"name": name, **special.get(name, {})}).settings


def changes_pictures(method: Method, size: int) -> bool:
    """Whether there is an augmentation to time; crop and flip alone are one, an attack on the network is none.

    Raises:
        RequestError: the method lacks a file.
    """
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    run = _start(method, images, size, lambda pictures, _: pictures)
    is_at_work = type(method).augment is not Method.augment or type(run).augment is not MethodRun.augment
    chooses = type(run).shown is not MethodRun.shown
    return is_at_work or chooses or isinstance(method, (Baseline, *MIX_IN_LOSS))


def _compared(name: str, measured: dict[str, float]) -> list[Rate]:
    """A row for each peer, or one without."""
    mine = measured[OURS]
    theirs = [Rate(method=name, ours=mine, peer=peer, theirs=rate) for peer, rate in measured.items() if peer != OURS]
    return theirs or [Rate(method=name, ours=mine)]
