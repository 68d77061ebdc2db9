"""Blur: Gaussian blur, and defocus blur, a disk with a softened rim.

Source: hendrycks/robustness@8190fe3, gaussian_blur (see `smoothing.py`), and defocus_blur and disk, which call
OpenCV's GaussianBlur and filter2D; neither is needed here. Weights are float32 and pixels float64 as there: the tiny
error of a float32 weight decides which way sums fall that lie on a whole grey level, and an exact 1/5 or 1/9 would
change 5 to 10 % of the values by one. Beside OpenCV 4.12 and 5.0 the result is the same in every value, but for
"imagenet" severity 4: three in a million differ by one.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pixmix_ray.corruptions.c.smoothing import smoothed
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

LARGEST = 7  # taps a side of a kernel that is summed up pixel by pixel; spectra are faster beyond


def defocus_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures out of focus: `constants` are the radius of the disk and the sigma that softens its rim, in pixels."""
    return floor8(_correlate(images, disk(*constants)))


def gaussian_blur(images: Images, constants: Constants, draws: Uniforms) -> Images:
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

    Under a small kernel the pixels of equal weights are first added as whole numbers: exact, and faster.
    """
    reach = len(kernel) // 2
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    if len(kernel) > LARGEST:
        return np.stack([_through_spectrum(image, kernel)[:height, :width] for image in padded])
    whole = padded.astype(np.int32)
    blurred = np.zeros(images.shape)
    for weight in np.unique(kernel[kernel > 0]):
        total = np.zeros(images.shape, np.int32)
        for row, column in np.argwhere(kernel == weight):
            total += whole[:, row : row + height, column : column + width]
        blurred += float(weight) * total
    blurred /= 255
    return blurred


def _through_spectrum(image: NDArray[np.uint8], kernel: NDArray[np.float32]) -> NDArray[np.float64]:
    """A picture (H, W, 3) in [0, 1] correlated with `kernel`, each place with what lies below and to its right of it.

    What is less than the kernel away from the lower and right edges is of no use. Errors are of 1e-16: they change no
    byte, since the weights do not add up to a whole grey level by so little.
    """
    sides = [fft.next_fast_len(side, real=True) for side in image.shape[:2]]
    spectrum = fft.rfft2(image.transpose(2, 0, 1) / 255.0, sides)
    spectrum *= fft.rfft2(kernel.astype(np.float64), sides).conj()
    correlated: NDArray[np.float64] = fft.irfft2(spectrum, sides).transpose(1, 2, 0)
    return correlated
