"""What every benchmark is: one pass of the network over its pictures, then metrics from the predictions alone.

A benchmark is split in two so that a metric invented later costs no forward pass: `predict` runs the network once and
returns predictions, `measure` is a pure function from predictions to measurements.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from pixmix_ray.benchmarks.extras import FromLogits
from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.errors import UnknownNameError, WorkError
from pixmix_ray.metrics import (
    DIRECTIONS,
    NO_EXTRAS,
    NO_METRICS,
    UNITS,
    Extra,
    Measurement,
    Metric,
    Predictions,
    declare,
)
from pixmix_ray.metrics.predictions import repeated
from pixmix_ray.models import checked_logits
from pixmix_ray.plugins import Table
from pixmix_ray.settings import Settings

if TYPE_CHECKING:
    from pixmix_ray.benchmarks.made_pictures import MadePictures

BATCH = 500  # pictures a forward pass, if small; it changes no result
SMALL = 64  # pixels a side: of larger pictures a forward pass takes as many values as of BATCH that large
CPU_PASS = 64  # pictures a forward pass at most on a processor: what the layers hand on stays in its cache
PROBES = (8, 24)  # pictures
MOST_CLASSES = 2**15  # numbers of classes are kept in 16 bits
GRADIENT_COST = 4  # a pass that also goes back keeps every layer: it takes that much fewer


@dataclass(frozen=True, kw_only=True)
class TestPictures:
    """The test pictures of a data set.

    Attributes:
        images: (N, H, W, 3) uint8.
        labels: (N,) int64.
        indices: (N,) int64, the position of each in the whole test set: it names the random draws of a picture.
    """

    __test__ = False  # the name is no test class

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def part(self, rows: slice) -> "TestPictures":
        """Some of them."""
        return TestPictures(images=self.images[rows], labels=self.labels[rows], indices=self.indices[rows])


class Benchmark(Settings, ABC):
    """Settings of one safety measure and how it is measured.

    Attributes:
        limit: use that many test pictures, spread evenly over the test set; none means all.
        precision: of the network's passes: float32, or bfloat16 autocast, which is faster on GPUs that have it and
            moves numbers a little.
        summary: one line for `pixmix-ray list benchmarks`.
        source: paper and section.
        headline: its aggregated metrics.
        metrics: those that are not in `pixmix_ray.metrics.DIRECTIONS`, by name, each with direction and unit.
        revision: raised when the same settings come to mean other pictures or metrics, so that cells are made again.
        extras: what it keeps of each prediction beside the class and its probability.
        passes: through the network for each test picture, roughly; orders the work before anything was measured.
        needs_gradients: whether it asks for gradients of the network, which not every format of networks gives.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    headline: ClassVar[tuple[str, ...]]
    metrics: ClassVar[Mapping[str, Metric]] = NO_METRICS
    extras: ClassVar[Mapping[str, Extra]] = NO_EXTRAS
    passes: ClassVar[float] = 1
    needs_gradients: ClassVar[bool] = False

    limit: int | None = Field(None, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        """Of each object, not of the class: one that was unpickled by value has its attributes later."""
        declare(self.metrics)
        for name in self.headline:
            if name not in DIRECTIONS:
                raise UnknownNameError(f"metric in the headline of {type(self).__name__}:", name, DIRECTIONS)
        return self

    def metric(self, name: str) -> Metric:
        """Direction and unit of one of its metrics, its own or one of ours.

        Raises:
            WorkError: it is neither.
        """
        if name in self.metrics:
            return self.metrics[name]
        if name not in DIRECTIONS:
            raise WorkError(
                f"{type(self).__name__} measured {name!r}, which is not a known metric: declare it in metrics, "
                f'as {{"{name}": Metric(direction="lower")}}'
            )
        return Metric(direction=DIRECTIONS[name], unit=UNITS.get(name, ""))

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome, as JSON values; a cell's name holds the revision beside them."""
        unsaid = {"revision"} | ({"precision"} if self.precision == "float32" else set())
        return {name: value for name, value in super().identity().items() if name not in unsaid}

    def version(self) -> str:
        """What beside the test set the numbers depend on, such as other folders; "" for nothing. Cheap.

        Raises:
            DataError: a folder that the benchmark needs is missing or empty.
        """
        return ""

    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers must know of the settings, such as what is left out; a line each."""
        return ()

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> Self:
        """The benchmark whose `identity` this is, fit for `measure` alone: where its files lie is not in there.

        A location that the settings require is taken to be a path.

        Raises:
            RequestError: `identity` holds a key or value that these settings do not know.
        """
        required = (name for name in cls.location if cls.model_fields[name].is_required())
        return cls.read({**dict.fromkeys(required, "unknown"), **identity}, "benchmark")

    def pictures(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> TestPictures:
        """The test pictures within `limit`, out of images (N, H, W, 3) and labels (N,)."""
        chosen = evenly_spaced(len(labels), self.limit)
        # all of them stay the memory map that they may be: a set of ImageNet's size is never held whole
        found = images if len(chosen) == len(labels) else images[chosen]
        return TestPictures(images=found, labels=labels[chosen], indices=chosen)

    def prepare(self, test: TestPictures) -> None:
        """Decode, into this machine's cache, what the benchmark reads beside the test pictures.

        Raises:
            DataError: something is missing or cannot be decoded (named).
        """

    def made(self, test: TestPictures) -> "MadePictures | None":
        """The pictures that it makes of the test pictures, or reads beside them, if it does."""
        return None

    def bytes_made(self, side: int) -> int:
        """How many bytes of pictures it makes, and keeps, of one test picture of `side` pixels; 0 for none."""
        return 0

    @abstractmethod
    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One pass of `network`, which is on `device` in evaluation mode with frozen parameters."""

    @abstractmethod
    def measure(self, predictions: Predictions) -> list[Measurement]:
        """The measurements that follow from predictions, whatever the order of their rows; a pure function."""


BENCHMARKS: Table[Benchmark] = Table("benchmark", Benchmark)


def to_device(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Pictures (N, H, W, 3) uint8 as float32 (N, 3, H, W) in [0, 1] on `device`."""
    # a memory map is read-only, of which torch warns: copied where it is one
    found = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if device.type == "cuda":  # from pinned memory, of which torch keeps what it has, a GPU is not waited for
        found = found.pin_memory(device)
    moved = found.to(device, non_blocking=True)
    return moved.permute(0, 3, 1, 2).to(torch.float32).div_(255)


@dataclass(kw_only=True)
class BatchLimit:
    """How large batches may be while memory is short.

    Attributes:
        at_most: pictures; none for as many as usual.
        forward: pictures of a forward pass on a GPU that its free memory holds; none where that is not known.
        last: the size of the batches that were asked for last: those at work when memory runs out.
    """

    at_most: int | None = None
    forward: int | None = None
    last: int = 0


_limit: ContextVar[BatchLimit | None] = ContextVar("_limit", default=None)


@contextmanager
def limited_batches(at_most: int | None, forward: int | None = None) -> Iterator[BatchLimit]:
    """Within this block no batch has more than `at_most` pictures, and a forward pass on a GPU has `forward`."""
    token = _limit.set(limit := BatchLimit(at_most=at_most, forward=forward))
    try:
        yield limit
    finally:
        _limit.reset(token)


def batches(
    count: int, side: int = 0, *, has_gradients: bool = False, at_most: int | None = None, at_once: int | None = None
) -> Iterator[slice]:
    """Slices that cover `count`, each as many pictures as go through a network at once.

    Args:
        count: of pictures.
        side: of a picture, in pixels.
        has_gradients: whether the pass goes back too.
        at_most: pictures, whatever their size; none for as many as fit.
        at_once: pictures where memory is not short; none for what a network takes of that side.
    """
    share = min(1.0, (SMALL / max(side, 1)) ** 2) / (GRADIENT_COST if has_gradients else 1)
    size = at_once or min(max(1, int(BATCH * share)), at_most or BATCH)
    if (limit := _limit.get()) is not None:
        size = min(size, limit.at_most or size)
        limit.last = min(size, count)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def passes(count: int, side: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover `count` pictures of `side` pixels, each as many as a forward pass on `device` takes best.

    Logits may differ in their last bits with the size of a pass, as they do between devices.
    """
    limit = _limit.get()
    if device.type == "cpu" or limit is None or limit.forward is None:
        return batches(count, side, at_most=CPU_PASS if device.type == "cpu" else None)
    size = min(limit.forward, limit.at_most or limit.forward)
    limit.last = min(size, count)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def pictures_that_fit(network: nn.Module, side: int, device: torch.device) -> int | None:
    """How many pictures of `side` pixels a forward pass may have in a quarter of a GPU's free memory.

    It is told from two small passes. Others may share the GPU, and what follows may need more. None on a processor,
    where what counts is its cache.
    """
    if device.type != "cuda":
        return None
    peaks = []
    for count in PROBES:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.no_grad():
            network(torch.zeros((count, 3, side, side), device=device))
        peaks.append(torch.cuda.max_memory_allocated(device) - before)
    each = max(1, (peaks[1] - peaks[0]) // (PROBES[1] - PROBES[0]))
    return int(max(1, torch.cuda.mem_get_info(device)[0] // 4 // each))


def finite_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, K) float32 of pictures (N, 3, H, W) in [0, 1], without a graph.

    Raises:
        WorkError: the network returns something else, or something that is not finite.
    """
    with torch.no_grad():
        returned: object = network(images)
    logits = checked_logits(returned, len(images)).float()
    if not (is_finite := torch.isfinite(logits)).all():
        broken = int((~is_finite).any(dim=1).sum())
        raise WorkError(
            f"the network returns NaN or infinite logits for {broken} of {len(logits)} pictures: the checkpoint is "
            "broken"
        )
    return logits


def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """Class probabilities (N, K) float32 for pictures (N, 3, H, W) in [0, 1].

    Raises:
        WorkError: as `finite_logits`.
    """
    return finite_logits(network, images).softmax(dim=1)


def predictions(
    probability: Tensor,
    *,
    condition: str,
    severity: int,
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    extras: Mapping[str, NDArray[np.generic]] | None = None,
) -> Predictions:
    """Predictions from class probabilities (N, K), for one condition and severity.

    Raises:
        WorkError: K is more than the numbers of classes are kept in.
    """
    if probability.shape[1] > MOST_CLASSES:
        raise WorkError(
            f"the network has {probability.shape[1]} outputs, and predictions hold at most {MOST_CLASSES}: say with "
            "classes which of them are meant"
        )
    confidence, predicted = probability.max(dim=1)
    count = len(indices)
    return Predictions(
        condition=repeated(condition, count),
        severity=np.full(count, severity, dtype=np.int8),
        index=indices.astype(np.int32),
        label=labels.astype(np.int16),
        predicted=predicted.cpu().numpy().astype(np.int16),
        confidence=confidence.cpu().numpy().astype(np.float32),
        extras=extras or {},
    )


def extras_of(logits: Tensor, labels: NDArray[np.int64], extras: Mapping[str, Extra]) -> dict[str, NDArray[np.generic]]:
    """Those of `extras` that follow from logits (N, K) and labels (N,), each (N,) of its own type.

    Raises:
        WorkError: a label beyond the classes of the network, or an extra that comes out not finite.
    """
    wanted = {name: extra for name, extra in extras.items() if isinstance(extra, FromLogits)}
    if wanted and len(labels) and labels.max() >= logits.shape[1]:
        raise WorkError(f"a picture has label {labels.max()}, but the network knows {logits.shape[1]} classes")
    true_classes = torch.from_numpy(np.require(labels, requirements="W")).to(logits.device)
    found: dict[str, NDArray[np.generic]] = {}
    for name, extra in wanted.items():
        found[name] = extra.of(logits, true_classes).cpu().numpy().astype(extra.dtype)
        if not np.isfinite(found[name]).all():
            raise WorkError(f"{name} is NaN or infinite, as the network's logits are too large: check the checkpoint")
    return found


def classify(
    network: nn.Module,
    test: TestPictures,
    device: torch.device,
    *,
    images: NDArray[np.uint8] | None = None,
    condition: str = "",
    severity: int = 0,
    extras: Mapping[str, Extra] = NO_EXTRAS,
) -> Predictions:
    """Predictions for the test pictures, or for `images` (N, H, W, 3) made from them, in the same order."""
    inputs = test.images if images is None else images
    slices = passes(len(inputs), inputs.shape[1], device)
    logits = torch.cat([finite_logits(network, to_device(inputs[rows], device)) for rows in slices])
    return predictions(
        logits.softmax(dim=1),
        condition=condition,
        severity=severity,
        indices=test.indices,
        labels=test.labels,
        extras=extras_of(logits, test.labels, extras),
    )
