"""Blur: Gaussian blur, and defocus blur, a disk with a softened rim.

Source: hendrycks/robustness@8190fe3, gaussian_blur (see `smoothing.py`), and defocus_blur and disk, which call
OpenCV's GaussianBlur and filter2D; neither is needed here. Weights are float32 and pixels float64 as there: the tiny
error of a float32 weight decides which way sums fall that lie on a whole grey level, and an exact 1/5 or 1/9 would
change 5 to 10 % of the values by one. Beside OpenCV 4.12 and 5.0 the result is the same in every value, but for
"imagenet" severity 4: three in a million differ by one.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.corruption import Constants, Draws, Images, floor8
from pixmix_ray.corruptions.smoothing import smoothed


AT_ONCE = 2**13  # values of a picture that are worked on at a time: they stay in the processor's nearest cache
MOST = 257  # pixels whose sum fits into 16 bits


def defocus_blur(images: Images, constants: Constants, draws: Draws) -> Images:
    """Pictures out of focus: `constants` are the radius of the disk and the sigma that softens its rim, in pixels."""
    return floor8(_correlate(images, disk(*constants)))


def gaussian_blur(images: Images, constants: Constants, draws: Draws) -> Images:
    """Pictures smoothed by a Gaussian of sigma `constants[0]`, in pixels."""
    return floor8(smoothed(images / 255.0, constants[0]))


@lru_cache
def disk(radius: float, sigma: float) -> NDArray[np.float32]:
    """The kernel of a defocused lens, (K, K) float32 with K odd and without empty rims.

    On the 32x32 constants it is small: a 3x3 Gaussian, a plus sign (with faint arms), a 3x3 box. Its sum is 1 but for
    the 224x224 severities 4 and 5, where the disk touches the edge of its grid and the mirror there adds 1 % of light.

    Args:
        radius: of the disk, in pixels.
        sigma: of the Gaussian that softens the disk, in pixels.
    """
    reach, width = (8, 3) if radius <= 8 else (int(radius), 5)
    grid = np.arange(-reach, reach + 1)
    inside = (grid**2 + grid[:, None] ** 2 <= radius**2).astype(np.float32)
    taps = _gaussian_taps(width, sigma)
    kernel: NDArray[np.float32] = _along_rows(_along_rows(inside / inside.sum(), taps).T, taps).T
    kernel[kernel < 1e-15] = 0  # too little to be felt, and many: a small kernel stays small
    used = np.flatnonzero(kernel.any(axis=0))
    kernel = kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1]
    kernel.setflags(write=False)  # it is shared by all callers
    return kernel


def _gaussian_taps(width: int, sigma: float) -> NDArray[np.float32]:
    """A Gaussian of `width` taps, (width,): computed in float64, then float32, as OpenCV does."""
    taps = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * sigma**2))
    normalised: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normalised


def _along_rows(kernel: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """`kernel` (K, K) correlated with `taps` along its rows in float32, mirrored at the edge (without repeating it).

    In OpenCV's order: mirrored neighbours are added first, then multiplied and added to the sum with one rounding.
    """
    reach, size = len(taps) // 2, len(kernel)
    padded = np.pad(kernel, ((0, 0), (reach, reach)), mode="reflect")
    total: NDArray[np.float32] = kernel * taps[reach]
    for offset in range(1, reach + 1):
        left, right = reach - offset, reach + offset
        pairs = padded[:, left : left + size] + padded[:, right : right + size]
        total = (pairs * np.float64(taps[right]) + total).astype(np.float32)
    return total


def _correlate(images: Images, kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pictures in [0, 1] correlated with `kernel`, (N, H, W, 3); mirrored at the edge (without repeating it).

    The pixels under equal weights are first added as whole numbers: exact, hence the same in every batch, and faster.
    """
    reach = len(kernel) // 2
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect").astype(np.uint16)
    blurred = np.empty(images.shape)
    places = [(float(weight), np.argwhere(kernel == weight)) for weight in np.unique(kernel[kernel > 0])]
    _, height, width, _ = images.shape
    step = max(1, AT_ONCE // (width * 3))
    for picture, into in zip(padded, blurred, strict=True):
        for start in range(0, height, step):
            into[start : start + step] = _weighed(picture[start : start + step + 2 * reach], places, reach)
    return blurred


def _weighed(
    lines: NDArray[np.uint16], places: Sequence[tuple[float, NDArray[np.intp]]], reach: int
) -> NDArray[np.float64]:
    """Some lines of one picture, (L, W, 3) in [0, 1], from them and `reach` more on all sides.

    Args:
        lines: (L + 2 reach, W + 2 reach, 3), pixels from 0 to 255.
        places: the weights from the least to the largest, and where each of them is in the kernel, (P, 2) each.
        reach: of the kernel.
    """
    height, width = lines.shape[0] - 2 * reach, lines.shape[1] - 2 * reach
    blurred, share = np.zeros((2, height, width, 3))
    for weight, spots in places:
        for some in range(0, len(spots), MOST):
            total = np.zeros(blurred.shape, np.uint16)
            for row, column in spots[some : some + MOST].tolist():
                total += lines[row : row + height, column : column + width]
            share[:] = total if not some else share + total
        share *= weight
        blurred += share
    blurred /= 255
    return blurred


