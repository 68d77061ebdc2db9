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
from torch import Tensor, nn

from pixmix_ray.benchmarks import Clean, Predictions, TestPictures
from pixmix_ray.methods import Method, MethodRun, Setup


def note(folder: str) -> int:
    """Leave a note of this attempt; how many there are, with it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{time.time_ns()}-{os.getpid()}-{uuid.uuid4().hex[:6]}").touch()
    return len(list(Path(folder).iterdir()))


def exhaust_memory() -> None:
    """Ask for more memory than any machine has."""
    torch.empty(1 << 50, dtype=torch.uint8)


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


class RaisesInTraining(Method):
    """An exception in somebody's own method."""

    summary: ClassVar[str] = "raises"
    source: ClassVar[str] = "tests"
    diary: str

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        note(self.diary)
        raise KeyError("a slip in my method")


class _Diary(MethodRun):
    def __init__(self, method: "Diary") -> None:
        super().__init__(method)
        self._method = method

    def begin_epoch(self, network: nn.Module, number: int) -> None:
        note(f"{self._method.diary}/{number}")
        time.sleep(self._method.seconds)
        while number > 1 and Path(self._method.diary, "hold").exists():  # a test has something to do meanwhile
            time.sleep(0.05)


class Diary(Method):
    """Plain training that notes each epoch that it begins, and takes its time over it, or a test its own."""

    location: ClassVar[frozenset[str]] = frozenset({"diary", "seconds"})
    summary: ClassVar[str] = "notes its epochs"
    source: ClassVar[str] = "tests"
    diary: str
    seconds: float = 0.0

    def start(self, setup: Setup) -> MethodRun:
        return _Diary(self)
