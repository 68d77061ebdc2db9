"""What the generators of Table 4's mixing sets share: pictures drawn in chunks at their own size, reduced, and cached.

PixMix (Hendrycks et al., CVPR 2022), Table 4, compares its mixing set with generated ones (Kataoka et al., ACCV 2020;
Baradad et al., NeurIPS 2021). Those were files, so that they were resized as every picture file is; so are these.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.datasets.picture_files import resized
from pixmix_ray.mixing_sets.base import Pictures
from pixmix_ray.mixing_sets.drawing.shards import Layout, sharded_pictures

Images = NDArray[np.uint8]
Draw = Callable[[NDArray[np.int64]], Images]


@dataclass(frozen=True, kw_only=True)
class Generator:
    """What draws the pictures of a set, and what the set's version and manifest say of it.

    Attributes:
        name: of the generator.
        version: raised with any change of its pictures.
        identity: all that its pictures depend on beside, as JSON values.
        chunk: how many are drawn at once.
        draw: returns the pictures of some consecutive indices, (n, S, S, 3) uint8, each a function of its index alone.
    """

    name: str
    version: int
    identity: Mapping[str, Any]
    chunk: int
    draw: Draw

    def set_version(self) -> str:
        """The version of the set."""
        return generated_version(self.name, self.version, self.identity)

    def drawn(self, indices: NDArray[np.int64], side: int) -> Images:
        """The pictures of some consecutive indices, reduced to sides of `side` pixels, (n, side, side, 3) uint8."""
        parts = (self.draw(indices[start : start + self.chunk]) for start in range(0, len(indices), self.chunk))
        return np.stack([np.asarray(resized(Image.fromarray(picture), side)) for part in parts for picture in part])


def generated_version(name: str, version: int, identity: Mapping[str, Any]) -> str:
    """The version of a generated set: its name, the version of the generator and a hash of the settings.

    >>> generated_version("dead_leaves", 1, {"count": 10})
    'dead_leaves-1-0ab664d50592'
    """
    text = json.dumps(identity, sort_keys=True)
    return f"{name}-{version}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def generated_pictures(
    generator: Generator,
    count: int,
    shorter_side: int,
    layout: Layout = Layout(),  # noqa: B008  # frozen
) -> Pictures:
    """`count` square pictures with sides of `shorter_side` pixels; drawn once a machine, in shards, on all its cores.

    Raises:
        DataError: `shorter_side` is below 1, or the cache cannot be written.
    """
    manifest = {
        "generator": generator.name,
        "generator_version": generator.version,
        "settings": generator.identity,
        "count": count,
    }
    return sharded_pictures(generator.set_version(), shorter_side, count, generator.drawn, manifest, layout=layout)
