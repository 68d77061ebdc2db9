"""Gaussian smoothing of whole batches, as the blurs and the random layers of other corruptions use it.

Source: hendrycks/robustness@8190fe3 smooths with scikit-image's `gaussian`, which is `scipy.ndimage.gaussian_filter`.
So do we, with taps that are the same on every machine, and results agree to the last bit (but for the last bit of a
tap): flat areas lie on whole grey levels, and the last bit decides which way they are truncated.
"""

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]

Edge = Literal["edge", "symmetric"]
"""What lies beyond the edge: the outermost pixel again ("edge"), or the picture mirrored ("symmetric")."""

BEYOND: Final = {"edge": "nearest", "symmetric": "reflect"}
"""SciPy's names of the same."""


def smoothed(values: Floats, sigma: float, *, truncate: float = 4.0, mode: Edge = "edge") -> Floats:
    """Values (N, H, W, ...) smoothed along the rows and the columns by a Gaussian of `sigma` pixels, float64.

    Args:
        values: (N, H, W, ...) float64; not changed.
        sigma: of the Gaussian, in pixels; 0 changes nothing.
        truncate: where the Gaussian ends, in multiples of `sigma`.
        mode: what lies beyond the edge.
    """
    if sigma == 0:
        return values.copy()
    taps = gaussian_taps(sigma, truncate)
    return smoothed_along(smoothed_along(values, taps, 1, mode), taps, 2, mode)


def gaussian_taps(sigma: float, truncate: float = 4.0) -> Floats:
    """One half of a Gaussian whose taps sum to 1, from the centre outwards: (R + 1,), R = int(truncate sigma + 1/2)."""
    reach = int(truncate * sigma + 0.5)
    scale = -0.5 / (sigma * sigma)
    # math.exp: that of NumPy differs in the last bit between its versions and processors
    taps = np.array([math.exp(scale * offset**2) for offset in range(-reach, reach + 1)])
    taps /= taps.sum()
    return taps[reach:]


def smoothed_along(values: Floats, taps: Floats, axis: int, mode: Edge = "edge") -> Floats:
    """Values correlated along one axis with the symmetric kernel of which `taps` is one half, float64."""
    kernel = np.concatenate([taps[:0:-1], taps])
    correlated: Floats = ndimage.correlate1d(values, kernel, axis, mode=BEYOND[mode])
    return correlated
