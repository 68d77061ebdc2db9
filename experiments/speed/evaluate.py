"""The measurement: a network on its own, in turn with benchmarks that run it over the pictures that they make.

The network has fresh weights, which changes no speed, and gets the same float pictures over and over: that is as fast
as an evaluation can be. A benchmark runs as in an evaluation, through its `predict`: pictures as they lie in the test
set, corrupted on the spot, moved to the device, classified, and told as predictions.
"""

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, PlainValidator, field_validator
from torch import Tensor, nn

from experiments.speed.material import NUM_CLASSES, pictures_at_rest
from experiments.speed.timing import pictures_per_second, threads
from pixmix_ray.benchmarks import Benchmark, Clean, Corruptions, TestPictures
from pixmix_ray.benchmarks.base import passes, to_device
from pixmix_ray.corruptions import NAMES
from pixmix_ray.errors import RequestError, UnknownNameError
from pixmix_ray.experiment.file import override
from pixmix_ray.models import MODELS, Model, WideResNet
from pixmix_ray.plugins import Part
from pixmix_ray.settings import Settings

SECONDS = 0.3  # the least that one measurement takes
ALONE = "the network alone"


class EvaluationSpeedRequest(Settings):
    """What to measure, and how.

    Attributes:
        model: the network and its settings, as in an experiment file.
        size: side of the pictures in pixels.
        pictures: how many test pictures a benchmark gets; it makes them once for each corruption.
        corruptions: names; a slow and a fast one are enough.
        severity: of the corruptions.
        batch: pictures that the network alone gets at once; none means as many as in an evaluation.
        threads: of torch.
        repeats: measurements of each, of which the median counts.
        device: where the network runs.
    """

    model: Annotated[Part[Model], PlainValidator(MODELS.read)] = Part(name="wide_resnet", settings=WideResNet())
    size: Literal[32, 224] = 32
    pictures: Annotated[int, Field(ge=1)] = 128
    corruptions: Annotated[tuple[str, ...], Field(min_length=1)] = ("gaussian_noise", "glass_blur")
    severity: Annotated[int, Field(ge=1, le=5)] = 3
    batch: Annotated[int, Field(ge=1)] | None = None
    threads: Annotated[int, Field(ge=1)] = 1
    repeats: Annotated[int, Field(ge=1)] = 3
    device: Literal["cpu", "cuda"] = "cpu"

    @field_validator("device")
    @classmethod
    def _is_there(cls, device: str) -> str:
        if device == "cuda" and not torch.cuda.is_available():
            raise RequestError("device = 'cuda': there is no CUDA device here: use cpu")
        return device

    @field_validator("corruptions")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in NAMES:
                raise UnknownNameError("corruption", name, NAMES)
        return names

    @property
    def batch_alone(self) -> int:
        """How many pictures the network alone gets at once."""
        return self.batch or next(passes(self.pictures, self.size, torch.device(self.device))).stop

    @classmethod
    def asked(cls, values: Mapping[str, Any], overrides: Iterable[str]) -> Self:
        """The request of `values`, with `key.path=value` overrides such as `model.depth=16`.

        Raises:
            RequestError: a key or a value is wrong.
        """
        raw = dict(values)
        for text in overrides:
            raw = override(raw, text)
        return cls.read(raw, "speed evaluate")


@dataclass(frozen=True, kw_only=True)
class EvaluationRate:
    """What was measured for one benchmark.

    Attributes:
        benchmark: what it does.
        rate: pictures a second that it evaluates, each corrupted copy counted as one.
        alone: pictures a second through the network alone.
    """

    benchmark: str
    rate: float
    alone: float

    @property
    def share(self) -> float:
        """How much of the network's own speed is left, a fraction."""
        return self.rate / self.alone


def evaluation_rates(request: EvaluationSpeedRequest, tell: Callable[[str], None]) -> list[EvaluationRate]:
    """The rates of the benchmarks, each beside that of the network alone.

    Args:
        request: what to measure.
        tell: takes lines about what happens.

    Raises:
        DataError: a corruption lacks its files.
    """
    device, model = torch.device(request.device), request.model.settings
    images = pictures_at_rest(request.size, request.pictures)
    count = len(images)
    test = TestPictures(images=images, labels=np.zeros(count, np.int64), indices=np.arange(count))
    network = _ready(model, device)
    pipelines: dict[str, Callable[[], Sized]] = {ALONE: _alone(network, test, device, request.batch_alone)}
    for name, benchmark in benchmarks(request).items():
        pipelines[name] = partial(benchmark.predict, network, test, device)
    tell(f"{model.label()}: {'; '.join(pipelines)}")
    with threads(request.threads):
        measured = pictures_per_second(pipelines, device, repeats=request.repeats, seconds=SECONDS)
    alone = measured.pop(ALONE)
    return [EvaluationRate(benchmark=name, rate=rate, alone=alone) for name, rate in measured.items()]


def benchmarks(request: EvaluationSpeedRequest) -> dict[str, Benchmark]:
    """What is measured: description -> benchmark."""
    corrupted = Corruptions(names=request.corruptions, severities=(request.severity,), keep_gb=0)
    return {"clean": Clean(), f"corruptions: {', '.join(corrupted.names)}": corrupted}


def _ready(model: Model, device: torch.device) -> nn.Module:
    """The network as an evaluation has it: in evaluation mode, frozen, on the device."""
    with torch.random.fork_rng(devices=[]):  # fresh weights draw from the global generator: give it back as it was
        network = model.build(NUM_CLASSES)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stub
    return network.eval().requires_grad_(requires_grad=False)


def _alone(network: nn.Module, test: TestPictures, device: torch.device, batch: int) -> Callable[[], Tensor]:
    """The network over pictures that lie ready on the device; returns logits (N, K)."""
    parts = [to_device(test.images[start : start + batch], device) for start in range(0, len(test.images), batch)]

    def once() -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part) for part in parts])

    return once
