"""What a corruption is: the types at the seam, and the truncation that every corruption ends with.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019, and its code hendrycks/robustness@8190fe3. A corruption there is a function of one picture x in [0, 1] and a
severity, which draws fresh random numbers from unseeded generators. Here it is a function of a batch, and its random
numbers are those of the picture's index (`pixmix_ray.seeding`), so a picture comes out the same alone or in any batch.

Those of a perturbation sequence are a function of (seed, "perturbations", name, difficulty, picture index) alone, as
uniform numbers or as raw words. Words are for the noises, which want some ninety thousand numbers a picture: each takes
a fifth of the time of a float64.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.seeding import stream_key, uniforms

NUMBERS_A_STEP = 4  # of 64 bits: Philox 4x64

Images = NDArray[np.uint8]
"""A batch of pictures, (N, H, W, 3) uint8."""

Constants = tuple[float, ...]
"""The numbers that one corruption takes at one severity."""

Uniforms = Callable[[int], NDArray[np.float64]]
"""`draws(count)` gives (N, count) uniform numbers in (0, 1), a row a picture; the same count gives the same numbers."""

Corruption = Callable[[Images, Constants, Uniforms], Images]
"""A corruption: pictures, constants and draws in, new pictures of the same shape out; its input is not changed."""


def floor8(fractions: NDArray[np.float64]) -> Images:
    """Pixels in [0, 1] as bytes: clipped, times 255, truncated.

    Truncation, not rounding: the published sets were made so, and are half a grey level darker for it.
    """
    clipped = np.clip(fractions, 0.0, 1.0)
    clipped *= 255
    return clipped.astype(np.uint8)


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
