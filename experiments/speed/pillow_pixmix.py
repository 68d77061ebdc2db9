"""PixMix as its official code does it: picture by picture, with Pillow, NumPy and torch.

Reference: Hendrycks et al., CVPR 2022, section 2.2, and its code of 2022-07-05, followed in its steps and written anew.
A mixing picture is opened, resized and cropped for every image, whether a round uses it or not. In the official code
for ImageNet the image comes from RandomResizedCrop; that is left to the caller.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision import transforms

from pixmix_ray.methods import PixMix

OFFICIAL: Final = {32: PixMix(), 224: PixMix(beta=4, severity=1)}
"""The official code's settings for pictures of CIFAR and of ImageNet, by their side."""

_BILINEAR = Image.Resampling.BILINEAR


def _moved(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=_BILINEAR)


def _factor(level: float) -> float:
    return 0.18 * level + 0.1


OPERATIONS: Final[tuple[Callable[[Image.Image, float, int], Image.Image], ...]] = (
    lambda image, level, sign: ImageOps.autocontrast(image),
    lambda image, level, sign: ImageOps.equalize(image),
    lambda image, level, sign: ImageOps.posterize(image, 4 - int(0.4 * level)),
    lambda image, level, sign: image.rotate(sign * int(3 * level), resample=_BILINEAR),
    lambda image, level, sign: ImageOps.solarize(image, 256 - int(25.6 * level)),
    lambda image, level, sign: _moved(image, 1, sign * 0.03 * level, 0, 0, 1, 0),
    lambda image, level, sign: _moved(image, 1, 0, 0, sign * 0.03 * level, 1, 0),
    lambda image, level, sign: _moved(image, 1, 0, sign * int(level * image.width / 30), 0, 1, 0),
    lambda image, level, sign: _moved(image, 1, 0, 0, 0, 1, sign * int(level * image.width / 30)),
    lambda image, level, sign: ImageEnhance.Color(image).enhance(_factor(level)),
    lambda image, level, sign: ImageEnhance.Contrast(image).enhance(_factor(level)),
    lambda image, level, sign: ImageEnhance.Brightness(image).enhance(_factor(level)),
    lambda image, level, sign: ImageEnhance.Sharpness(image).enhance(_factor(level)),
)
"""The thirteen operations of a picture, a level in (0, 10], and a sign for those that have a direction."""


class PillowPixMix:
    """A transform from a Pillow picture to its mix, float32 (3, S, S) in [0, 1]."""

    def __init__(
        self, settings: PixMix, pictures: Sequence[Path | Image.Image], sides: tuple[int, int], rng: np.random.Generator
    ) -> None:
        """Mix as `settings` say, with all thirteen operations and both kinds of partner.

        Args:
            settings: k, beta and severity.
            pictures: the mixing set, files or pictures in memory.
            sides: the shorter side that mixing pictures are resized to, and the side of their crops, in pixels.
            rng: where all draws come from but the crop's, which is torchvision's.
        """
        self._settings, self._pictures, self._rng = settings, pictures, rng
        self._as_tensor = transforms.ToTensor()
        self._crop = transforms.Compose([transforms.Resize(sides[0]), transforms.RandomCrop(sides[1])])

    def __call__(self, image: Image.Image) -> Tensor:
        """The mix of `image` with a picture of the mixing set and with copies of itself."""
        picture = self._fetched(self._pictures[int(self._rng.integers(len(self._pictures)))])
        mixed: Tensor = self._as_tensor(self._augmented(image) if self._is_chosen() else image)
        for _ in range(self._rng.integers(self._settings.k + 1)):
            partner: Tensor = self._as_tensor(self._augmented(image) if self._is_chosen() else picture)
            mixed = (self._sum if self._is_chosen() else self._product)(mixed, partner).clip(0, 1)
        return mixed

    def _fetched(self, picture: Path | Image.Image) -> Image.Image:
        if isinstance(picture, Path):
            with Image.open(picture) as opened:
                picture = opened.convert("RGB")
        cropped: Image.Image = self._crop(picture)
        return cropped

    def _augmented(self, image: Image.Image) -> Image.Image:
        operation = OPERATIONS[self._rng.integers(len(OPERATIONS))]
        return operation(image, self._rng.uniform(0.1, self._settings.severity), 1 if self._is_chosen() else -1)

    def _is_chosen(self) -> bool:
        return bool(self._rng.random() < 0.5)

    def _coefficients(self) -> tuple[float, float]:
        beta, draw = self._settings.beta, self._rng.beta
        if self._is_chosen():
            return draw(beta, 1), draw(1, beta)
        return 1 + draw(1, beta), -draw(1, beta)

    def _sum(self, mixed: Tensor, partner: Tensor) -> Tensor:
        a, b = self._coefficients()
        return (a * (2 * mixed - 1) + b * (2 * partner - 1) + 1) / 2

    def _product(self, mixed: Tensor, partner: Tensor) -> Tensor:
        a, b = self._coefficients()
        product: Tensor = (2 * mixed) ** a * (2 * partner).clip(1e-37) ** b / 2
        return product
