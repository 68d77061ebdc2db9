"""Pink noise maps under a slowly changing envelope, which the oriented StyleGAN adds to its features.

M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021.
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
