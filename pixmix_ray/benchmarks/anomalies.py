"""Anomaly detection: tell pictures of other distributions from test pictures (paper §3.1 and Appendix C).

The score is one minus the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017): higher is stranger, and
out-of-distribution is the positive class. Out-of-distribution pictures are one fifth as many as test pictures
(Hendrycks et al., ICLR 2019, Outlier Exposure). Gaussian, Rademacher and Blobs are generated and not rounded to 8 bit;
folders of pictures are resized (shorter side) and cropped to the size of the test pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri
from torch import nn

from pixmix_ray import metrics
from pixmix_ray.benchmarks.base import (
    Benchmark,
    Measurement,
    Predictions,
    TestPictures,
    batches,
    classify,
    predictions,
    probabilities,
)
from pixmix_ray.datasets import evenly_spaced, folder_images, folder_version
from pixmix_ray.errors import UnknownNameError
from pixmix_ray.seeding import uniforms
from pixmix_ray.settings import DataPath

Noise = NDArray[np.float32]
INSIDE = "in_distribution"  # the condition of the test pictures
SHARE = 5  # test pictures for one out-of-distribution picture


def gaussian(draws: NDArray[np.float64]) -> Noise:
    """Normal noise of standard deviation 0.5 clipped to [-1, 1], from uniforms (N, H, W, 3); in [0, 1]."""
    return _from_signed(np.clip(0.5 * ndtri(draws), -1, 1))


def rademacher(draws: NDArray[np.float64]) -> Noise:
    """Every value -1 or +1 with equal probability, from uniforms (N, H, W, 3); in [0, 1]."""
    return _from_signed(np.where(draws < 0.5, -1.0, 1.0))


def blobs(draws: NDArray[np.float64]) -> Noise:
    """Bernoulli(0.7) noise blurred and thresholded, from uniforms (N, H, W, 3); in [0, 1].

    The blur (sigma 1.5, 4 sigma wide, edges replicated) runs over the colour axis too, as in the reference.
    """
    blurred = gaussian_filter((draws < 0.7).astype(np.float64), sigma=(0, 1.5, 1.5, 1.5), mode="nearest", truncate=4.0)
    return _from_signed(2 * np.where(blurred < 0.75, 0, blurred) - 1)


GENERATED: dict[str, Callable[[NDArray[np.float64]], Noise]] = {
    "gaussian": gaussian,
    "rademacher": rademacher,
    "blobs": blobs,
}


class Anomalies(Benchmark):
    """Detection of out-of-distribution pictures.

    Attributes:
        generated: which of gaussian, rademacher and blobs.
        folders: name -> folder of pictures, such as textures: data/dtd/images.
        seed: of the generated sets.
    """

    summary: ClassVar[str] = "telling Gaussian, Rademacher, Blobs and any folders of pictures from test pictures"
    source: ClassVar[str] = "Hendrycks and Gimpel, ICLR 2017; PixMix §3.1, Appendix C"
    headline: ClassVar[tuple[str, ...]] = ("auroc", "aupr", "fpr95")
    location: ClassVar[frozenset[str]] = frozenset({"folders"})  # version() holds their names and content

    generated: tuple[str, ...] = tuple(GENERATED)
    folders: dict[str, DataPath] = Field(default_factory=dict)
    seed: int = 0

    @field_validator("generated")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in GENERATED:
                raise UnknownNameError("generated set", name, GENERATED)
        return tuple(name for name in GENERATED if name in names)

    @field_validator("folders")
    @classmethod
    def _are_other_names(cls, folders: dict[str, DataPath]) -> dict[str, DataPath]:
        if bad := [name for name in folders if name in (*GENERATED, INSIDE, "")]:
            raise ValueError(f"{bad[0]!r} has a meaning of its own, call the folder something else")
        return folders

    @model_validator(mode="after")
    def _has_a_set(self) -> Self:
        if not self.generated and not self.folders:
            raise ValueError("no set at all: name generated ones, folders, or both")
        return self

    def version(self) -> str:
        """Names and content of the folders."""
        return ",".join(f"{name}:{folder_version([folder])}" for name, folder in sorted(self.folders.items()))

    def prepare(self, test: TestPictures) -> None:
        """Decode the folders; raises DataError as the base class says."""
        for folder in self.folders.values():
            _shown(folder, test)

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """One forward pass over the test pictures and each out-of-distribution set."""
        height, width = test.images.shape[1:3]
        count = _count(test)
        parts = [classify(network, test, device, condition=INSIDE)]
        for name in self.generated:
            for rows in batches(count):
                indices = np.arange(rows.start, rows.stop)
                draws = uniforms(self.seed, "anomalies", name, indices=indices, count=height * width * 3)
                noise = GENERATED[name](draws.reshape(-1, height, width, 3))
                shown = torch.from_numpy(noise).to(device).permute(0, 3, 1, 2)
                parts.append(_strange(probabilities(network, shown), name, indices))
        for name, folder in sorted(self.folders.items()):
            images = _shown(folder, test)
            found = TestPictures(
                images=images, labels=np.full(len(images), -1, dtype=np.int64), indices=np.arange(len(images))
            )
            parts.append(classify(network, found, device, condition=name))
        return Predictions.join(parts)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """AUROC, AUPR and FPR95 for each set and averaged over the sets."""
        inside = 1 - predictions.confidence[predictions.condition == INSIDE]
        rows = []
        for name in [*self.generated, *sorted(self.folders)]:
            outside = 1 - predictions.confidence[predictions.condition == name]
            # a folder may hold too few: fewer test pictures then keep the share, on which AUPR depends
            is_short = len(outside) < len(inside) // SHARE
            among = inside[evenly_spaced(len(inside), SHARE * len(outside) if is_short else None)]
            scores = np.concatenate([among, outside])
            strange = np.arange(len(scores)) >= len(among)
            area = metrics.auroc(scores, strange)
            error = metrics.auroc_standard_error(area, len(outside), len(among))
            n = len(scores)
            rows += [
                Measurement(metric="auroc", value=area, n=n, condition=name, standard_error=error),
                Measurement(metric="aupr", value=metrics.aupr(scores, strange), n=n, condition=name),
                Measurement(metric="fpr95", value=metrics.fpr_at_recall(scores, strange), n=n, condition=name),
            ]
        return rows + [_mean([row for row in rows if row.metric == metric]) for metric in self.headline]


def _count(test: TestPictures) -> int:
    """How many pictures of an out-of-distribution set there are at most."""
    return max(1, len(test.labels) // SHARE)


def _shown(folder: Path, test: TestPictures) -> NDArray[np.uint8]:
    return folder_images(folder, test.images.shape[1], limit=_count(test))


def _mean(rows: list[Measurement]) -> Measurement:
    value = float(np.mean([row.value for row in rows]))
    return Measurement(metric=rows[0].metric, value=value, n=sum(row.n for row in rows))


def _strange(probability: torch.Tensor, name: str, indices: NDArray[np.int64]) -> Predictions:
    labels = np.full(len(indices), -1, dtype=np.int64)
    return predictions(probability, condition=name, severity=0, indices=indices, labels=labels)


def _from_signed(values: NDArray[np.float64]) -> Noise:
    """From [-1, 1], the scale on which the reference defines these sets, to [0, 1]."""
    return ((values + 1) / 2).astype(np.float32)
