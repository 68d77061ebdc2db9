"""What benchmarks on other pictures of ImageNet's classes share: some of a network's 1,000 outputs."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixmix_ray.benchmarks.base import TestPictures, batches, finite_logits, to_device
from pixmix_ray.benchmarks.corrupted_sets import IMAGENET_SIDE
from pixmix_ray.datasets.imagenet_classes import WNIDS
from pixmix_ray.errors import DataError, WorkError
from pixmix_ray.metrics import Predictions
from pixmix_ray.metrics.predictions import repeated

NUMBERS = {wnid: number for number, wnid in enumerate(WNIDS)}


def check_side(what: str, test: TestPictures) -> None:
    """Raise DataError where test pictures are too small to be ImageNet's; `what` needs a network that knows them."""
    if test.images.shape[1] < IMAGENET_SIDE:
        raise DataError(
            f"{what} are for networks with ImageNet's 1,000 classes, and the test pictures have "
            f"{test.images.shape[1]} pixels: use the data set imagenet, or leave {what} out"
        )


def predict_among(
    network: nn.Module,
    device: torch.device,
    images: NDArray[np.uint8],
    outputs: NDArray[np.int64],
    what: str,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which of some outputs is the largest for each picture, a number in 0..999 (N,), and its probability (N,).

    Args:
        network: on `device`, with the 1,000 outputs of ImageNet.
        device: where the network is.
        images: (N, H, W, 3) uint8.
        outputs: (K,) those that are looked at; probabilities are over them.
        what: the benchmark, in messages.

    Raises:
        WorkError: the network has another number of outputs.
    """
    chosen = torch.from_numpy(outputs).to(device)
    predicted, confidence = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for rows in batches(len(images), images.shape[1]):
        logits = _logits(network, to_device(images[rows], device), what)
        most, place = logits[:, chosen].softmax(dim=1).max(dim=1)
        predicted.append(outputs[place.cpu().numpy()])
        confidence.append(most.cpu().numpy())
    return np.concatenate(predicted), np.concatenate(confidence)


def predictions_of(
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float32],
    *,
    labels: NDArray[np.int64],
    indices: NDArray[np.int64],
    condition: str = "",
) -> Predictions:
    """Rows of predictions, (N,) each."""
    count = len(indices)
    return Predictions(
        condition=repeated(condition, count),
        severity=np.zeros(count, dtype=np.int8),
        index=indices.astype(np.int32),
        label=labels.astype(np.int16),
        predicted=predicted.astype(np.int16),
        confidence=confidence.astype(np.float32),
        extras={},
    )


def _logits(network: nn.Module, images: Tensor, what: str) -> Tensor:
    logits = finite_logits(network, images)
    if logits.shape[1] != len(WNIDS):
        raise WorkError(
            f"{what} need a network with the {len(WNIDS)} outputs of ImageNet, this one has {logits.shape[1]}"
        )
    return logits
