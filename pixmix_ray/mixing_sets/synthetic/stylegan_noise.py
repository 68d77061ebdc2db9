"""What the oriented StyleGAN convolves with, 40 wavelets of 3x3 pixels, and adds to its features, pink noise maps.

M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021: the wavelets are edges and lines in eight
orientations, four symmetric patterns, and the negatives of all; the noise lies under a slowly changing envelope.
"""

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image

from pixmix_ray.seeding import uniforms

SIDE = 512
ENVELOPE_SIDE = 4


def pink_noise(seed: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """A map for each picture, (N, SIDE, SIDE), of standard deviation 1.

    The amplitudes of the noise fall with the frequency f as f**-alpha, alpha uniform in [0.5, 1.5]. The envelope is
    4x4 numbers of a Laplace distribution, enlarged with Pillow's Lanczos filter.
    """
    columns = SIDE // 2 + 1
    phases, alpha, envelope = (
        uniforms(seed, "pink_noise", purpose, indices=indices, count=count)
        for purpose, count in (("phases", SIDE * columns), ("alpha", 1), ("envelope", ENVELOPE_SIDE**2))
    )
    angles = (2 * np.pi * phases).astype(np.float32).reshape(-1, SIDE, columns)
    frequency = np.hypot(scipy.fft.fftfreq(SIDE)[:, None], scipy.fft.rfftfreq(SIDE)).astype(np.float32)
    frequency[0, 0] = np.inf  # no constant part
    amplitude = np.exp(-(alpha[:, :, None] + 0.5).astype(np.float32) * np.log(frequency))
    spectrum = np.empty(angles.shape, dtype=np.complex64)
    spectrum.real, spectrum.imag = amplitude * np.cos(angles), amplitude * np.sin(angles)
    noise = scipy.fft.irfft2(spectrum, s=(SIDE, SIDE), norm="ortho")
    noise *= _enlarged(_laplace(envelope).reshape(-1, ENVELOPE_SIDE, ENVELOPE_SIDE))
    scaled: NDArray[np.float32] = noise / noise.std(axis=(1, 2), keepdims=True)
    return scaled


def _laplace(u: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.sign(u - 0.5) * -np.log1p(-2 * np.abs(u - 0.5))
    return values


def _enlarged(small: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps (N, 4, 4) enlarged to (N, SIDE, SIDE)."""
    unit = Image.fromarray(np.eye(ENVELOPE_SIDE, dtype=np.float32))
    filters = np.asarray(unit.resize((ENVELOPE_SIDE, SIDE), Image.Resampling.LANCZOS))  # a column for each number
    large: NDArray[np.float32] = filters @ small.astype(np.float32) @ filters.T
    return large


ORIENTATIONS = 8
TEMPLATE = 11  # pixels; the wavelets are cut from the middle, where turning it does not show its borders


def wavelet_bank() -> NDArray[np.float64]:
    """The wavelets, (40, 3, 3): 8 edges, 8 lines, a point, centre against surround, a plus, its sign; the negatives."""
    middle = TEMPLATE // 2
    edge, line = np.ones((2, TEMPLATE, TEMPLATE), dtype=np.float32)
    edge[:, middle], edge[:, middle + 1 :] = 0, -1
    line[:, middle] = -1
    point = np.zeros((3, 3))
    point[1, 1] = 1
    plus = np.ones((3, 3))
    plus[::2, ::2] = 0
    symmetric = np.stack([point, 2 * point - 1, plus, 2 * plus - 1])
    bank = np.concatenate([_turned(edge), _turned(line), symmetric])
    return np.concatenate([bank, -bank])


def _turned(template: NDArray[np.float32]) -> NDArray[np.float64]:
    """The middle 3x3 pixels of the template in each orientation, (ORIENTATIONS, 3, 3), of mean 0."""
    image, middle = Image.fromarray(template), slice(TEMPLATE // 2 - 1, TEMPLATE // 2 + 2)
    angles = np.arange(ORIENTATIONS) * 180 / ORIENTATIONS
    turned = np.stack([np.asarray(image.rotate(angle, Image.Resampling.BILINEAR), np.float64) for angle in angles])
    cut = turned[:, middle, middle]
    centred: NDArray[np.float64] = cut - cut.mean(axis=(1, 2), keepdims=True)
    return centred
