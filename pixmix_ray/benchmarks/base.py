"""What every benchmark is: one pass of the network over its pictures, then metrics from the predictions alone.

A benchmark is split in two so that a metric invented later costs no forward pass: `predict` runs the network once and
returns predictions, `measure` is a pure function from predictions to measurements.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.errors import WorkError
from pixmix_ray.settings import Settings

BATCH = 500  # pictures a forward pass; it changes no result


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


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the network said, a row a picture.

    Attributes:
        condition: (N,) str, such as "gaussian_noise"; "" where a benchmark has one condition only.
        severity: (N,) int8, 0 where there are no severities.
        index: (N,) int32, position in the whole test set.
        label: (N,) int16, -1 for out-of-distribution pictures.
        predicted: (N,) int16, the class with the largest probability.
        confidence: (N,) float32, that probability.
    """

    condition: NDArray[np.str_]
    severity: NDArray[np.int8]
    index: NDArray[np.int32]
    label: NDArray[np.int16]
    predicted: NDArray[np.int16]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the prediction is the label."""
        equal: NDArray[np.bool_] = self.predicted == self.label
        return equal

    def select(self, rows: NDArray[np.bool_]) -> "Predictions":
        """The rows where the mask (N,) is true."""
        return Predictions(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @staticmethod
    def join(parts: list["Predictions"]) -> "Predictions":
        """All rows of all parts, in order."""
        return Predictions(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Predictions)})


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number of a benchmark.

    Attributes:
        metric: its name, a key of `pixmix_ray.metrics.DIRECTIONS`.
        value: a fraction.
        n: pictures behind it.
        condition: what it holds for; "" means over all conditions.
        severity: 1 to 5, or none for over all severities.
        standard_error: of the value, over draws of pictures; none where no formula is trusted.
    """

    metric: str
    value: float
    n: int
    condition: str = ""
    severity: int | None = None
    standard_error: float | None = None


class Benchmark(Settings, ABC):
    """Settings of one safety measure and how it is measured.

    Attributes:
        limit: use that many test pictures, spread evenly over the test set; none means all.
        summary: one line for `pixmix-ray list benchmarks`.
        source: paper and section.
        headline: its aggregated metrics.
        revision: raised when the same settings come to mean other pictures or metrics, so that cells are made again.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    headline: ClassVar[tuple[str, ...]]
    revision: ClassVar[int] = 1

    limit: int | None = Field(None, ge=1)

    def version(self) -> str:
        """What beside the test set the numbers depend on, such as other folders; "" for nothing. Cheap.

        Raises:
            DataError: a folder that the benchmark needs is missing or empty.
        """
        return ""

    def pictures(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> TestPictures:
        """The test pictures within `limit`, out of images (N, H, W, 3) and labels (N,)."""
        chosen = evenly_spaced(len(labels), self.limit)
        return TestPictures(images=images[chosen], labels=labels[chosen], indices=chosen)

    def prepare(self, test: TestPictures) -> None:
        """Decode, into this machine's cache, what the benchmark reads beside the test pictures.

        Raises:
            DataError: something is missing or cannot be decoded (named).
        """

    @abstractmethod
    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One pass of `network`, which is on `device` in evaluation mode with frozen parameters."""

    @abstractmethod
    def measure(self, predictions: Predictions) -> list[Measurement]:
        """The measurements that follow from predictions; a pure function."""


def to_device(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Pictures (N, H, W, 3) uint8 as float32 (N, 3, H, W) in [0, 1] on `device`."""
    # a memory map is read-only, of which torch warns: copied where it is one
    moved = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(device)
    return moved.permute(0, 3, 1, 2).to(torch.float32).div_(255)


def batches(count: int) -> Iterator[slice]:
    """Slices of at most BATCH that cover `count`."""
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """Class probabilities (N, K) float32 for pictures (N, 3, H, W) in [0, 1].

    Raises:
        WorkError: the network returns something that is not finite.
    """
    with torch.no_grad():
        logits: Tensor = network(images).float()
    if not torch.isfinite(logits).all():
        raise WorkError("the network returns NaN or infinite logits: the checkpoint is broken")
    return logits.softmax(dim=1)


def predictions(
    probability: Tensor, *, condition: str, severity: int, indices: NDArray[np.int64], labels: NDArray[np.int64]
) -> Predictions:
    """Predictions from class probabilities (N, K), for one condition and severity."""
    confidence, predicted = probability.max(dim=1)
    count = len(indices)
    return Predictions(
        condition=np.full(count, condition),
        severity=np.full(count, severity, dtype=np.int8),
        index=indices.astype(np.int32),
        label=labels.astype(np.int16),
        predicted=predicted.cpu().numpy().astype(np.int16),
        confidence=confidence.cpu().numpy().astype(np.float32),
    )


def classify(
    network: nn.Module,
    test: TestPictures,
    device: torch.device,
    *,
    images: NDArray[np.uint8] | None = None,
    condition: str = "",
    severity: int = 0,
) -> Predictions:
    """Predictions for the test pictures, or for `images` (N, H, W, 3) made from them, in the same order."""
    shown = test.images if images is None else images
    parts = [probabilities(network, to_device(shown[rows], device)) for rows in batches(len(shown))]
    return predictions(
        torch.cat(parts), condition=condition, severity=severity, indices=test.indices, labels=test.labels
    )
