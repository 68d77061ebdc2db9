"""Whether somebody else's weights were trained with another normalisation than the model here puts before them."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixmix_ray.benchmarks.base import finite_logits, passes, to_device
from pixmix_ray.models import Normalise

Colour = tuple[float, float, float]

NORMALISATIONS = MappingProxyType(
    {
        "without normalisation": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "normalised to [-1, 1]": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "with ImageNet's normalisation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "with CIFAR-10's normalisation": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "with the other normalisation of CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        "with CIFAR-100's normalisation": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    }
)
"""What networks are usually trained with: mean and standard deviation of each channel."""

SAMPLE = 256  # test pictures that are looked at
CLEARLY = 0.02  # of them fewer are misread


def better_normalisation(
    network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device
) -> str:
    """In words, with which other normalisation a network clearly misreads fewer pictures; "" if there is none.

    Args:
        network: in evaluation mode, on `device`; it is left as it is. One without a `Normalise` has nothing to say of.
        images: (N, H, W, 3) uint8.
        labels: (N,) their classes.
        device: where the network is.
    """
    found = [module for module in network.modules() if isinstance(module, Normalise)]
    if len(found) != 1 or not len(labels):
        return ""
    own = _wrong(network, images, labels, device)
    best, name = own, ""
    for other, (mean, std) in NORMALISATIONS.items():
        with _replaced(found[0], mean, std):
            wrong = _wrong(network, images, labels, device)
        if wrong.sum() < best.sum():
            best, name = wrong, other
    gain = own.astype(np.float64) - best
    if not name or gain.mean() <= max(CLEARLY, 2 * gain.std() / np.sqrt(len(gain))):
        return ""
    said = " and ".join(
        f"model.{key}={list(values)}" for key, values in zip(("mean", "std"), NORMALISATIONS[name], strict=True)
    )
    return (
        f"of {len(labels)} test pictures the network misreads {own.mean():.1%} as it is, and {best.mean():.1%} {name}: "
        f"if it was trained so, set {said}"
    )


@contextmanager
def _replaced(module: Normalise, mean: Colour, std: Colour) -> Iterator[None]:
    before = module.mean, module.std
    module.mean, module.std = (
        torch.tensor(values, device=old.device).view_as(old) for values, old in zip((mean, std), before, strict=True)
    )
    try:
        yield
    finally:
        module.mean, module.std = before


def _wrong(
    network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device
) -> NDArray[np.bool_]:
    rows_of = passes(len(images), images.shape[1], device)
    logits = [finite_logits(network, to_device(images[rows], device)) for rows in rows_of]
    return np.asarray(torch.cat(logits).argmax(dim=1).cpu().numpy() != labels)
