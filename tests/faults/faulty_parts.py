"""Methods and benchmarks that break in a real way: named in experiments as `faulty_parts:Class`.

Each attempt leaves a file named by its process in the folder `diary`, by which a test counts attempts; the first
`times` of them break.
"""

import os
import signal
import time
import uuid
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

from pixmix_ray.benchmarks import Clean, TestPictures
from pixmix_ray.methods import Method, MethodRun, PixMix, Setup
from pixmix_ray.metrics import Predictions
from pixmix_ray.orchestration.session import place_here
from pixmix_ray.training.check import BATCH
from pixmix_ray.transforms import to_float


def note(folder: str, place: str = os.uname().nodename) -> int:
    """Leave a note of this attempt, and in it the place, the host by default; how many there are, with it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    (Path(folder) / name).write_text(place)
    return len(list(Path(folder).iterdir()))


def is_check(setup: Setup) -> bool:
    """Whether a method is only checked, before a run and in the process of the driver."""
    return setup.images is not None and len(setup.images) <= BATCH


def exhaust_memory() -> None:
    """Ask for more memory than any machine has."""
    torch.empty(1 << 50, dtype=torch.uint8)


def fill_memory(gigabytes: float) -> None:
    """Take memory little by little, so that whoever watches it has time to end this process."""
    step = 2**26
    held = []
    for _ in range(int(gigabytes * 2**30 / step)):
        held.append(np.ones(step, np.uint8))
        time.sleep(0.02)
    raise AssertionError(f"nobody minded {gigabytes} GB")


class KillsItsWorker(Clean):
    """SIGKILL of the evaluator's worker, in the middle of the pass."""

    summary: ClassVar[str] = "kills its process"
    diary: str
    times: int

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        if note(self.diary) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(network, test, device)


class Hungry(Clean):
    """A network that needs too much memory for more than `fits` pictures at once."""

    summary: ClassVar[str] = "memory runs out in large batches"
    diary: str
    fits: int

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        note(self.diary)

        def hungry(images: Tensor) -> Tensor:
            if len(images) > self.fits:
                exhaust_memory()
            logits: Tensor = network(images)
            return logits

        return super().predict(hungry, test, device)  # type: ignore[arg-type]  # as good as a module here


class FillsMemory(Clean):
    """More and more of the machine's memory."""

    summary: ClassVar[str] = "takes all memory"
    diary: str
    times: int
    gigabytes: float

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        is_checked = len(test.labels) <= BATCH  # before a run, in the process of the driver
        if not is_checked and note(self.diary) <= self.times:
            fill_memory(self.gigabytes)
        return super().predict(network, test, device)


class Raises(Clean):
    """An exception in somebody's own benchmark."""

    summary: ClassVar[str] = "raises"
    diary: str

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        note(self.diary)
        raise KeyError("a slip in my benchmark")


class NeedsMemory(Method):
    """Memory that runs out in training."""

    summary: ClassVar[str] = "memory runs out"
    source: ClassVar[str] = "tests"
    diary: str
    times: int

    def start(self, setup: Setup) -> MethodRun:
        if note(self.diary) <= self.times:
            exhaust_memory()
        return super().start(setup)


class FillsMemoryInTraining(Method):
    """More and more of the machine's memory, in a trainer, once a file is there."""

    summary: ClassVar[str] = "takes all memory"
    source: ClassVar[str] = "tests"
    diary: str
    times: int
    gigabytes: float
    after: str = "/"

    def start(self, setup: Setup) -> MethodRun:
        if not is_check(setup) and note(self.diary, str(place_here().node)) <= self.times:
            while not Path(self.after).exists():
                time.sleep(0.05)
            fill_memory(self.gigabytes)
        return super().start(setup)


class RaisesInTraining(Method):
    """An exception in somebody's own method."""

    summary: ClassVar[str] = "raises"
    source: ClassVar[str] = "tests"
    diary: str

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        note(self.diary)
        raise KeyError("a slip in my method")


class _Diary(MethodRun):
    def __init__(self, method: "Diary", seed: int) -> None:
        super().__init__(method)
        self._folder, self._seed = Path(method.diary), seed

    def begin_epoch(self, network: nn.Module, number: int) -> None:
        name = f"{self._seed}-{number}"
        note(str(self._folder / "epochs" / name))
        while (self._folder / "held" / name).exists():  # a test has something to do meanwhile
            time.sleep(0.05)


class Diary(Method):
    """Plain training that notes each epoch that it begins, and waits within one that a test holds."""

    location: ClassVar[frozenset[str]] = frozenset({"diary"})
    summary: ClassVar[str] = "notes its epochs"
    source: ClassVar[str] = "tests"
    diary: str
    mixes: bool = False

    @property
    def needs_pictures(self) -> bool:
        return self.mixes

    def start(self, setup: Setup) -> MethodRun:
        return super().start(setup) if is_check(setup) else _Diary(self, setup.seed)

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        return to_float(images) if pictures is None else (to_float(images) + to_float(pictures)) / 2


class SignalsAWorker(PixMix):
    """A signal to the process of one of the workers that train together, or of the only one, in the middle of an epoch.

    Each attempt leaves a note at its first loss; the first `times` attempts send the signal at their loss number `at`.
    """

    summary: ClassVar[str] = "ends a trainer"
    diary: str
    times: int
    at: int
    rank: int
    number: int

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        if rank == self.rank:
            calls = _losses.setdefault(id(network), [])
            if not calls:
                calls.append(note(self.diary) <= self.times)
            calls.append(True)
            if len(calls) == self.at + 1 and calls[0]:
                os.kill(os.getpid(), self.number)
        return super().loss(network, images, labels, rng)


_losses: dict[int, list[bool]] = {}  # by network: whether this attempt sends a signal, and an entry for each loss
