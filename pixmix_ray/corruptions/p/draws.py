"""The random numbers of a perturbation sequence: one stream for each picture, as uniform numbers or as raw words.

They are a function of (seed, "perturbations", name, difficulty, picture index) alone. Words are for the noises, which
want some ninety thousand numbers a picture: each takes a fifth of the time of a float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.seeding import stream_key, uniforms

NUMBERS_A_STEP = 4  # of 64 bits: Philox 4x64


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The random numbers of N pictures for one perturbation.

    Attributes:
        seed: the seed.
        name: of the perturbation.
        difficulty: 1, 2 or 3.
        indices: (N,) int64, the places of the pictures in their set.
    """

    seed: int
    name: str
    difficulty: int
    indices: NDArray[np.int64]

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """(N, count) uniform numbers in (0, 1); the same count gives the same numbers."""
        purpose = ("perturbations", self.name, self.difficulty)
        return uniforms(self.seed, *purpose, indices=self.indices, count=count)

    def words(self, parts: int, count: int) -> Iterator[NDArray[np.uint32]]:
        """`parts` arrays (N, count) of whole numbers, each from 0 to 2**32 - 1 with equal probability.

        The same request gives the same numbers. The arrays come one at a time, so that they are used while they lie in
        the processor's cache.
        """
        key = stream_key(self.seed, "perturbations", self.name, self.difficulty, "words", parts, count)
        pairs = -(-count // 2)
        steps = -(-parts * pairs // NUMBERS_A_STEP)
        generators = [np.random.Philox(key=key, counter=index * steps) for index in self.indices.tolist()]
        for _ in range(parts):
            raw = np.array([generator.random_raw(pairs) for generator in generators], "<u8").reshape(-1, pairs)
            yield raw.view("<u4")[:, :count]
