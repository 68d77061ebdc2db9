"""The 300K Random Images as a mixing set: natural pictures of 32 x 32 pixels out of one published array file.

Outlier Exposure (Hendrycks et al., ICLR 2019) publishes them as 300K_random_images.npy, uint8 (300000, 32, 32, 3), the
successor of 80 Million Tiny Images; PixMix (Hendrycks et al., CVPR 2022), Appendix B.2 and Table 4, mixes with them.
Its reference code crops these pictures as it crops the training pictures, RandomCrop(32, padding=4) with black and a
flip, and not as it crops fractals.

Here the black frame is part of the stored pictures, so that a crop of a framed picture is such a crop. Crops of another
size than the file's are cut from resized pictures (bilinear with antialiasing), in a frame of an eighth of that size.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.cache import Arrays, Streamed
from pixmix_ray.datasets.picture_source import Images, source_images, source_version
from pixmix_ray.errors import DataError
from pixmix_ray.mixing_sets.base import MIXING_SETS, MixingSet, Pictures, cached_pictures, crop_size_for
from pixmix_ray.settings import DataPath

_AT_ONCE = 4096


@MIXING_SETS.add("random_images_300k")
class RandomImages(MixingSet):
    """All pictures of the published file, or of another array file.

    Attributes:
        file: 300K_random_images.npy, or another .npy or .npz of uint8 (N, H, W, 3).
    """

    summary: ClassVar[str] = "the 300K Random Images of Outlier Exposure, cropped as the reference code crops them"
    source: ClassVar[str] = "Hendrycks et al., ICLR 2019: people.eecs.berkeley.edu/~hendrycks/300K_random_images.npy"
    location: ClassVar[frozenset[str]] = frozenset({"file"})
    file: DataPath

    def version(self) -> str:
        """`array-padded-` and a hash of the file."""
        if self.file.is_dir():
            raise DataError(f"{self.file} is a folder: give the file 300K_random_images.npy, or use the set folder")
        return f"array-padded-{source_version(self.file)}"

    def pictures(self, shorter_side: int) -> Pictures:
        """The pictures in their frames, of 40 x 40 pixels for the crops of 32 for which 36 are asked for.

        Raises:
            DataError: there is no such file, or it holds no such array.
        """
        size = crop_size_for(shorter_side)
        return cached_pictures(self.version(), shorter_side, lambda: _framed(source_images(self.file, size)))


def _framed(images: Images) -> Arrays:
    """The arrays of `Pictures`: (N, S, S, 3) uint8 in black frames of an eighth of S."""
    count, size = images.shape[:2]
    padding = size // 8
    sides = np.full(count, size + 2 * padding, dtype=np.int64)
    pixels = Streamed(shape=(int((sides**2).sum()), 3), dtype=np.uint8, pieces=_pieces(images, padding))
    return {"pixels": pixels, "heights": sides, "widths": sides, "mirrored": np.ones(count, dtype=np.bool_)}


def _pieces(images: Images, padding: int) -> Iterator[NDArray[np.generic]]:
    frame = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    for start in range(0, len(images), _AT_ONCE):
        yield np.pad(images[start : start + _AT_ONCE], frame).reshape(-1, 3)
