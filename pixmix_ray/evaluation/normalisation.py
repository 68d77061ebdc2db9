"""Whether somebody else's weights were trained with another normalisation, or pictures of another size, than here."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixmix_ray.benchmarks import SMALL, finite_logits, passes, to_device
from pixmix_ray.datasets import evenly_spaced
from pixmix_ray.models import Normalise, resized

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

SAMPLE, SAMPLE_LARGE = 256, 64  # test pictures that are looked at, of more than `SMALL` pixels the latter
SAMPLE_SIZES = 24  # of other sizes, which take the longest: a difference to guessing shows in a few
CLEARLY = 0.02  # of them fewer are misread
NEAR_CHANCE = 0.8  # of the error of guessing: then other sizes are tried too
SIZES = (32, 64, 224)  # pixels that networks are usually trained with


def sample_size(side: int) -> int:
    """How many test pictures of so many pixels a side are looked at."""
    return SAMPLE if side <= SMALL else SAMPLE_LARGE


def better_input(network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device) -> str:
    """In words, with which other normalisation or size of pictures a network clearly misreads fewer; "" if with none.

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
    tried = _with_others(found[0], network, images, labels, device)
    near_chance = NEAR_CHANCE * (1 - 1 / (int(labels.max()) + 1))
    if own.mean() > near_chance and min(wrong.mean() for *_, wrong in tried) > near_chance:
        sample = evenly_spaced(len(labels), SAMPLE_SIZES)
        own, tried = own[sample], _with_sizes(network, images[sample], labels[sample], device)
    name, setting, best = min(tried, key=lambda one: one[2].sum(), default=("", "", own))
    if best.mean() > near_chance or not _is_clear(own, best):  # one guess may well be better than another
        return ""
    return (
        f"of {len(own)} test pictures the network misreads {own.mean():.1%} as it is, and {best.mean():.1%} {name}: "
        f"if it was trained that way, set {setting} (in an experiment file: the same keys in its entry, without model)"
    )


Tried = tuple[str, str, NDArray[np.bool_]]
"""What was tried, in words; the settings of it; and which pictures were misread."""


def _with_others(
    module: Normalise, network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device
) -> list[Tried]:
    tried = []
    for name, (mean, std) in NORMALISATIONS.items():
        with _replaced(module, mean, std):
            said = f"model.mean={list(mean)} and model.std={list(std)}"
            tried.append((name, said, _wrong(network, images, labels, device)))
    return tried


def _with_sizes(
    network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device
) -> list[Tried]:
    """What the network misreads of pictures of other usual sizes; nothing of sizes that it does not take."""
    tried = []
    for size in SIZES:
        if size == images.shape[1]:
            continue
        with suppress(RuntimeError, ValueError, AssertionError):  # other people's code, which takes one size alone
            wrong = _wrong(_Resized(network, size), images, labels, device)
            tried.append((f"of {size} pixels", f"model.input_size={size}", wrong))
    return tried


class _Resized(nn.Module):
    """A network before which pictures are resized."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(resized(images, self.size))
        return logits


def _is_clear(own: NDArray[np.bool_], best: NDArray[np.bool_]) -> bool:
    """Whether fewer pictures are misread by more than chance would have it."""
    gain = own.astype(np.float64) - best
    return bool(gain.mean() > max(CLEARLY, 2 * gain.std() / np.sqrt(len(gain))))


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
