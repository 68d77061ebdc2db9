"""What a corruption is: the types at the seam, and the truncation that every corruption ends with.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019, and its code hendrycks/robustness@8190fe3. A corruption there is a function of one picture x in [0, 1] and a
severity, which draws fresh random numbers from unseeded generators. Here it is a function of a batch, and its random
numbers are those of the picture's index (`pixmix_ray.seeding`), so a picture comes out the same alone or in any batch.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
