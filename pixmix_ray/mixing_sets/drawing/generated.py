"""What a generated mixing set is: a class with `draw`; drawing in chunks, reducing, caching and naming are here.

PixMix (Hendrycks et al., CVPR 2022), Table 4, compares its mixing set with generated ones (Kataoka et al., ACCV 2020;
Baradad et al., NeurIPS 2021). Those were files, so that they were resized as every picture file is; so are these.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from pixmix_ray.datasets.picture_files import resized
from pixmix_ray.hashing import short_hash
from pixmix_ray.mixing_sets.base import MixingSet, Pictures
from pixmix_ray.mixing_sets.drawing.shards import ShardLayout, sharded_pictures

Images = NDArray[np.uint8]
Indices = NDArray[np.int64]


class GeneratedSet(MixingSet, ABC):
    """Square pictures that a program draws, each a function of the settings and its index alone.

    Attributes:
        generator: what draws them; the set's version begins with it.
        generator_version: raised with any change of the pictures.
        chunk: how many pictures are drawn at once.
        count: how many; the first ones do not depend on it.
        seed: picks the pictures.
    """

    generator: ClassVar[str]
    generator_version: ClassVar[int] = 1
    chunk: ClassVar[int]

    count: int = Field(default=10_000, ge=1)
    seed: int = 0

    @abstractmethod
    def draw(self, indices: Indices, side: int) -> Images:
        """The pictures of some consecutive indices, (N, S, S, 3) uint8.

        Args:
            indices: at most `chunk` of them.
            side: in pixels, of what is asked for; pictures of another size S are reduced to it, as files are.
        """

    def content(self) -> Mapping[str, Any]:
        """All that the pictures depend on, as JSON values."""
        return self.identity()

    def layout(self) -> ShardLayout:
        """How the pictures are divided and drawn."""
        return ShardLayout()

    def version(self) -> str:
        """The generator, its version, and a hash of the settings."""
        return generated_version(self.generator, self.generator_version, self.content())

    def pictures(self, shorter_side: int) -> Pictures:
        """Square pictures; drawn once a machine, on all its cores, and a stopped process goes on where it was.

        Raises:
            DataError: `shorter_side` is below 1, or the cache cannot be written.
        """
        manifest = {
            "generator": self.generator,
            "generator_version": self.generator_version,
            "settings": self.content(),
            "count": self.count,
        }
        version, layout = self.version(), self.layout()
        return sharded_pictures(version, shorter_side, self.count, self.draw_reduced, manifest, layout=layout)

    def draw_reduced(self, indices: Indices, side: int) -> Images:
        """The pictures of some consecutive indices with sides of `side` pixels, (N, side, side, 3) uint8."""
        parts = (self.draw(indices[start : start + self.chunk], side) for start in range(0, len(indices), self.chunk))
        return np.concatenate([part if part.shape[1] == side else _reduced(part, side) for part in parts])


def generated_version(name: str, version: int, identity: Mapping[str, Any]) -> str:
    """The version of what is generated: its name, the version of the generator and a hash of the settings.

    >>> generated_version("dead_leaves", 1, {"count": 10})
    'dead_leaves-1-0ab664d50592'
    """
    return f"{name}-{version}-{short_hash(json.dumps(identity, sort_keys=True))}"


def _reduced(pictures: Images, side: int) -> Images:
    return np.stack([np.asarray(resized(Image.fromarray(picture), side)) for picture in pictures])
