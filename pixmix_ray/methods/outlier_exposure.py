"""Outlier Exposure: pictures of other things are shown too, on which the network is to be undecided.

Reference: Hendrycks, Mazeika and Dietterich, "Deep Anomaly Detection with Outlier Exposure", ICLR 2019, sections 3 and
4.3, and its code for CIFAR, from scratch. The loss of a batch is

    cross-entropy of the training pictures + λ · mean over the outliers of H(uniform; softmax(z)),
    H(uniform; softmax(z)) = logsumexp(z) - mean(z),  λ = 0.5,

with two outliers for each training picture (128 and 256). Both go through the network together, so its batch
statistics are of both, as in the code; the outliers get the flip and the crop of the training pictures.

The code walks through 80 million pictures in order, from a random start in each epoch, and never meets one twice in an
epoch. Here each step draws its outliers uniformly, with replacement: the expected loss is the same, a set of any size
will do, and a step depends on nothing before it. Of the 300,000 pictures that succeeded those 80 million, a batch of
256 then holds one twice in every tenth step.
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.datasets import ImageData
from pixmix_ray.datasets.picture_source import source_images, source_version, to_device
from pixmix_ray.methods.base import METHODS, Method, MethodRun, Setup
from pixmix_ray.settings import DataPath

MOST_ON_DEVICE = 4_000_000_000  # bytes


@METHODS.add("outlier_exposure")
class OutlierExposure(Method):
    """Training to be undecided on outliers, for the detection of anomalies.

    Source: Hendrycks, Mazeika and Dietterich, ICLR 2019, sections 3 and 4.3.

    Attributes:
        outliers: a folder or array file of pictures that show none of the classes, nor the anomalies of the evaluation.
        weight: λ, of the outliers' part of the loss.
        ratio: outliers for each training picture.
    """

    summary: ClassVar[str] = "undecided on outliers of yours, such as 300K Random Images"
    source: ClassVar[str] = "Hendrycks, Mazeika and Dietterich, ICLR 2019, sections 3 and 4.3"
    location: ClassVar[frozenset[str]] = frozenset({"outliers"})  # version() holds their content

    outliers: DataPath = Field(
        description="a folder of pictures, or an array file .npy or .npz of uint8 (N, H, W, 3), such as "
        "300K_random_images.npy"
    )
    weight: Annotated[float, Field(ge=0)] = 0.5
    ratio: Annotated[int, Field(ge=1)] = 2

    def version(self) -> str:
        """The content of the outliers; raises DataError as `source_version` does."""
        return source_version(self.outliers)

    def prepare(self, data: ImageData) -> None:
        """Decode the outliers in the size of the training pictures; raises DataError as `source_images` does."""
        source_images(self.outliers, data.train_images.shape[1])

    def start(self, setup: Setup) -> MethodRun:
        """The method with its outliers on the device of the training."""
        return OutlierExposureRun(self, setup)


class OutlierExposureRun(MethodRun):
    """Outlier Exposure in one training; it learns nothing, so there is nothing to save."""

    method: OutlierExposure

    def __init__(self, method: OutlierExposure, setup: Setup) -> None:
        super().__init__(method)
        outliers = source_images(method.outliers, setup.height)
        # as many as 300,000 of 224 pixels are 45 GB: they stay in their memory map, on the host
        self._outliers = to_device(outliers, setup.device if outliers.nbytes <= MOST_ON_DEVICE else "cpu")
        self._crop = setup.crop

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy of `images` plus the weighed one of fresh outliers to the uniform distribution."""
        generator = torch.Generator(images.device).manual_seed(int(rng.integers(2**63)))
        outliers = self.draw(self.method.ratio * len(images), generator).float().div_(255)
        if images.is_contiguous(memory_format=torch.channels_last):  # as the recipe may want it, and `cat` keeps it
            outliers = outliers.contiguous(memory_format=torch.channels_last)
        inside, outside = network(torch.cat([images, outliers])).tensor_split([len(images)])
        return F.cross_entropy(inside, labels) + self.method.weight * uniform_cross_entropy(outside)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` outliers drawn uniformly, flipped and cropped: uint8 (count, 3, H, W)."""
        rows = torch.randint(len(self._outliers), (count,), generator=generator, device=generator.device)
        drawn = self._outliers.index_select(0, rows.to(self._outliers.device)).to(generator.device)
        return self._crop(drawn.permute(0, 3, 1, 2).contiguous(), generator)


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """The mean cross-entropy from the uniform distribution to softmax(logits), a scalar, of logits (N, K)."""
    logits = logits.float()  # bfloat16 has too few digits for a difference
    return (logits.logsumexp(dim=1) - logits.mean(dim=1)).mean()
