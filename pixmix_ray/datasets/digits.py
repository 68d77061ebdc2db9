"""Handwritten digits that come with scikit-learn: a real data set without a download, for a first look and for tests.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998;
the 1,797 pictures of its test part. The original ones are 8x8 with values 0..16; we scale them to 0..255 and enlarge
them to 32x32 with Pillow's bilinear filter, so that every method, model and benchmark for CIFAR runs on them unchanged.
It is an easy data set: its numbers say that the pipeline works, not how good a method is.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.datasets.base import DATASETS, Dataset, ImageData, load_cached

VERSION = "digits-1"  # to be raised with any change of the pictures or of the split
SIDE = 32
NUM_TRAIN = 1433


@DATASETS.add("digits")
class Digits(Dataset):
    """Scikit-learn's digits at 32x32: 1,433 pictures to train on, 364 to test on.

    The split needs no seed: in each class, every fifth picture in the order of the source is a test picture. Pictures
    of one writer are on both sides of it.
    """

    summary: ClassVar[str] = "handwritten digits, 10 classes, 1,433 + 364 pictures of 32x32, comes with scikit-learn"

    def version(self) -> str:
        """The version of this code's pictures, since the source never changes."""
        return VERSION

    def num_train_images(self) -> int:
        """1,433."""
        return NUM_TRAIN

    def height(self) -> int:
        """32."""
        return SIDE

    def load(self) -> ImageData:
        """The digits; images (N, 32, 32, 3) uint8, grey."""
        return load_cached(self.version(), self.train_limit, _decode)


def _decode() -> ImageData:
    from sklearn.datasets import load_digits  # here: scikit-learn takes a second to import

    values, labels = load_digits(return_X_y=True)
    images, labels = _enlarged(values.reshape(-1, 8, 8)), labels.astype(np.int64)
    is_test = _every_fifth_of_its_class(labels)
    return ImageData(
        train_images=images[~is_test],
        train_labels=labels[~is_test],
        test_images=images[is_test],
        test_labels=labels[is_test],
        class_names=tuple("0123456789"),
        version=VERSION,
    )


def _enlarged(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(N, 8, 8) values 0..16 as (N, 32, 32, 3) uint8."""
    small = np.rint(values * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for picture in small]
    return np.repeat(np.stack(large)[..., None], 3, axis=-1)


def _every_fifth_of_its_class(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    order = np.argsort(labels, kind="stable")
    first_of_class = np.searchsorted(labels[order], labels[order])
    chosen = np.empty(len(labels), dtype=bool)
    chosen[order] = (np.arange(len(labels)) - first_of_class) % 5 == 0
    return chosen
