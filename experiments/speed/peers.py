"""The peers: what others offer for the same augmentation, each as it is meant to be used.

All start from uint8 pictures in memory, flip, crop after padding, augment, and end with float32 (N, 3, S, S) normalised
by mean and standard deviation 0.5, as ours do. No data loader is timed. Their draws come from torch's global generator:
these libraries leave no choice about it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from experiments.speed.material import NUM_CLASSES, PADDING, Material
from experiments.speed.pillow_pixmix import OFFICIAL, PillowPixMix
from experiments.speed.timing import Pipeline
from pixmix_ray.seeding import rng

PICTURES_IN_TURN = 64  # of a batch, for what goes picture by picture: more take longer and tell no more
MEAN = STD = (0.5, 0.5, 0.5)
HALF_SQUARE: Final[dict[str, Any]] = {"p": 1.0, "scale": (0.25, 0.25), "ratio": (1.0, 1.0)}  # half the picture's side


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A pipeline of others.

    Attributes:
        name: for the table.
        start: makes the pipeline for one batch.
        needs_kornia: whether it is there only where kornia is installed.
    """

    name: str
    start: Callable[[Material], Pipeline]
    needs_kornia: bool = False


def torchvision_v1(
    *changes: Callable[[Image.Image], Image.Image], after: Callable[[Tensor], Tensor] | None = None
) -> Peer:
    """The classic transforms of torchvision: picture by picture on Pillow pictures, on one thread.

    Args:
        changes: transforms of Pillow pictures, after flip and crop.
        after: a transform of the normalised tensor.
    """
    rest = [*changes, transforms.ToTensor(), transforms.Normalize(MEAN, STD), *([after] if after else [])]
    return Peer(name="torchvision v1, Pillow", start=lambda material: _one_by_one(material, *rest))


def torchvision_v2(*each: nn.Module, batch: nn.Module | None = None) -> Peer:
    """The second transforms of torchvision, on tensors, picture by picture as its guide does it.

    Args:
        each: transforms of a normalised picture.
        batch: a transform of the stacked pictures and their labels.
    """

    def start(material: Material) -> Pipeline:
        images, labels = material.images[:PICTURES_IN_TURN], material.labels[:PICTURES_IN_TURN]
        whole = _second_transforms(material, *each)

        def run() -> Tensor:
            stacked = torch.stack([whole(image) for image in images])
            changed: Tensor = batch(stacked, labels)[0] if batch else stacked
            return changed

        return run

    return Peer(name="torchvision v2, one by one", start=start)


def torchvision_v2_alike(*changes: nn.Module) -> Peer:
    """The same on a whole batch at once, all of whose pictures are flipped, cropped and erased alike: less work.

    Args:
        changes: transforms of normalised pictures and labels.
    """

    def start(material: Material) -> Pipeline:
        whole = _second_transforms(material, *changes)

        def run() -> Tensor:
            changed: Tensor = whole(material.images, material.labels)[0]
            return changed

        return run

    return Peer(name="torchvision v2, batch*", start=start)


def torchvision_v2_change(change: nn.Module) -> Peer:
    """A change alone, of a whole batch: no flip and no crop before it.

    Args:
        change: a transform of normalised pictures and labels; squares and weights are drawn once for the batch.
    """

    def start(material: Material) -> Pipeline:
        whole = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), change])

        def run() -> Tensor:
            changed: Tensor = whole(material.images, material.labels)[0]
            return changed

        return run

    return Peer(name="torchvision v2, batch, without flip and crop", start=start)


def kornia(make: Callable[[ModuleType], Any], *, takes_labels: bool = False, is_alike: bool = False) -> Peer:
    """Augmentations of kornia on a whole batch, with parameters drawn for each picture.

    Args:
        make: from the module kornia.augmentation to an augmentation of pictures in [0, 1].
        takes_labels: whether it wants the labels too, and returns both.
        is_alike: whether it takes the same operations for the whole batch, which is less work.
    """

    def start(material: Material) -> Pipeline:
        module = import_module("kornia.augmentation")
        import_module("kornia.augmentation.auto")
        crop = module.RandomCrop((material.size, material.size), padding=PADDING)
        flip, change = module.RandomHorizontalFlip(p=0.5), make(module)
        normalise = module.Normalize(mean=torch.tensor(MEAN), std=torch.tensor(STD)).to(material.device)

        def run() -> Tensor:
            images = crop(flip(material.images.float().div_(255)))
            images = change(images, material.labels)[0] if takes_labels else change(images)
            normalised: Tensor = normalise(images)
            return normalised

        return run

    return Peer(name="kornia, batch*" if is_alike else "kornia, batch", start=start, needs_kornia=True)


def pillow_pixmix(pictures: str) -> Peer:
    """The official procedure of PixMix, picture by picture on one thread; see `experiments.speed.pillow_pixmix`.

    Args:
        pictures: "files", JPEGs that are opened for each image, or "memory", pictures of the right size already.
    """

    def start(material: Material) -> Pipeline:
        found = material.jpegs if pictures == "files" else material.pillow_pictures
        sides = (int(material.pictures.heights[0]), material.size)
        mix = PillowPixMix(OFFICIAL[material.size], found, sides, rng(0, "speed", "pillow pixmix"))
        return _one_by_one(material, mix, transforms.Normalize(MEAN, STD))

    return Peer(name=f"official, Pillow, pictures in {pictures}", start=start)


def peers_of(method: str) -> tuple[Peer, ...]:
    """What there is to compare `method` with on this machine; none for a method without a peer."""
    return tuple(peer for peer in PEERS.get(method, ()) if not peer.needs_kornia or has_kornia())


def has_kornia() -> bool:
    """Whether kornia is installed; it is no dependency of this package."""
    return find_spec("kornia") is not None


def _one_by_one(material: Material, *changes: Callable[..., Any]) -> Pipeline:
    """Flip, crop and `changes` of Pillow pictures, one by one, stacked to a batch as a data loader does."""
    first = material.images[:PICTURES_IN_TURN].permute(0, 2, 3, 1).cpu().numpy()
    crop = transforms.RandomCrop(material.size, padding=PADDING)
    whole = transforms.Compose([transforms.RandomHorizontalFlip(), crop, *changes])
    return lambda: torch.stack([whole(Image.fromarray(picture)) for picture in first])


def _second_transforms(material: Material, *changes: nn.Module) -> nn.Module:
    """Flip, crop, normalisation and `changes` of uint8 tensors."""
    crop = [v2.RandomHorizontalFlip(), v2.RandomCrop(material.size, padding=PADDING)]
    whole: nn.Module = v2.Compose([*crop, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), *changes])
    return whole


def _kornia_cutmix(module: ModuleType) -> Any:
    with warnings.catch_warnings():  # it announces another rule for the labels, which are not used here
        warnings.simplefilter("ignore", DeprecationWarning)
        return module.RandomCutMixV2(p=1.0, data_keys=["input", "class"])


_MIXUP, _CUTMIX = v2.MixUp(num_classes=NUM_CLASSES), v2.CutMix(num_classes=NUM_CLASSES)
PEERS: Final[dict[str, tuple[Peer, ...]]] = {
    "baseline": (torchvision_v1(), torchvision_v2(), torchvision_v2_alike(), kornia(lambda module: nn.Identity())),
    "cutout": (
        torchvision_v1(after=transforms.RandomErasing(**HALF_SQUARE)),
        torchvision_v2(v2.RandomErasing(**HALF_SQUARE)),
        torchvision_v2_alike(v2.RandomErasing(**HALF_SQUARE)),
        kornia(lambda module: module.RandomErasing(**HALF_SQUARE, value=0.5)),
    ),
    "mixup": (
        torchvision_v2(batch=_MIXUP),
        torchvision_v2_alike(_MIXUP),
        kornia(lambda module: module.RandomMixUpV2(p=1.0, data_keys=["input", "class"]), takes_labels=True),
    ),
    "cutmix": (
        torchvision_v2(batch=_CUTMIX),
        torchvision_v2_alike(_CUTMIX),
        kornia(_kornia_cutmix, takes_labels=True),
    ),
    "pixmix": (pillow_pixmix("files"), pillow_pixmix("memory")),
    "auto_augment": (
        torchvision_v1(transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)),
        kornia(lambda module: module.auto.AutoAugment("cifar10"), is_alike=True),
    ),
    "rand_augment": (  # N and M as in ours, M on their scale of 0 to 30
        torchvision_v1(transforms.RandAugment(num_ops=3, magnitude=15)),
        kornia(lambda module: module.auto.RandAugment(n=3, m=15), is_alike=True),
    ),
    "trivial_augment": (
        torchvision_v1(transforms.TrivialAugmentWide()),
        kornia(lambda module: module.auto.TrivialAugment(), is_alike=True),
    ),
    "augmix": (torchvision_v1(transforms.AugMix(all_ops=False)),),
}
"""Name of the method -> its peers."""

CHANGES_ALONE: Final = {
    "cutout": torchvision_v2_change(v2.RandomErasing(**HALF_SQUARE)),
    "mixup": torchvision_v2_change(_MIXUP),
    "cutmix": torchvision_v2_change(_CUTMIX),
}
"""Name of the method -> the same without flip and crop, which torchvision does alike for all pictures of a batch."""
