"""Noise of C-bar made from a spectrum: blue noise that blacks pixels out, and brownish noise that is added.

Source: facebookresearch/augmentation-corruption@ba4d5a5, BlueNoiseSample and BrownishNoise (see `sampling.py`).
The phases of the spectrum are random and the same at a frequency and at its mirror image, where a real picture would
have opposite ones; the real part of what comes back is the noise. Given the phases, the result is the reference's.
"""

import math

import numpy as np
from scipy.fft import ifft2

from pixmix_ray.corruptions.cbar.sampling import Floats, truncated
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms


def blue_noise_sample(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with single pixels black: those where blue noise is not above 0.3 s - 2.5, s = `constants[0]`."""
    phases = math.tau * draws(_num_phases(images))
    return blackened(images, phases, constants[0] * 3.0 / 10 - 2.5)


def brownish_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with brownish noise added, of standard deviation 6.4 `constants[0]` grey levels in each channel."""
    count = _num_phases(images)
    phases = math.tau * draws(3 * count).reshape(len(images), 3, count)
    return with_brownish_noise(images, phases, constants[0] * 64 / 10)


def blackened(images: Images, phases: Floats, threshold: float) -> Images:
    """Pictures that are kept where blue noise is above `threshold`, and black elsewhere; `phases` (N, H W // 2)."""
    kept = spectral_noise(phases, _distance(images)) > threshold
    return images * kept[..., None]


def with_brownish_noise(images: Images, phases: Floats, intensity: float) -> Images:
    """Pictures plus `intensity` (in grey levels) times brownish noise; `phases` (N, 3, H W // 2), one a channel."""
    noise = spectral_noise(phases, 1 / (_distance(images) ** 2 + 1))
    noise *= intensity
    return truncated(noise.transpose(0, 2, 3, 1) + images)


def spectral_noise(phases: Floats, power: Floats) -> Floats:
    """Noise of standard deviation 1, (..., H, W); its mean is not removed.

    Args:
        phases: (..., H W // 2) in radians, column after column of the left half of the spectrum, frequency 0 in the
            middle; of an odd picture's middle column the upper half.
        power: (H, W), the amplitude at each frequency, frequency 0 at (H - H // 2, W - W // 2).
    """
    height, width = power.shape
    half = np.empty(phases.shape, np.complex128)
    half.real, half.imag = np.cos(phases), np.sin(phases)
    middle = np.ones((*phases.shape[:-1], height * width % 2))
    waves = np.concatenate((half, middle, half[..., ::-1]), axis=-1)
    spectrum = waves.reshape(*phases.shape[:-1], width, height).swapaxes(-1, -2) * power
    centred = np.roll(spectrum, (height // 2, width // 2), axis=(-2, -1))
    noise: Floats = np.ascontiguousarray(ifft2(centred, overwrite_x=True).real)
    spread = noise.reshape(*phases.shape[:-1], -1).std(axis=-1)  # flat, so that the order of adding is always the same
    noise /= np.where(spread == 0, 1.0, spread)[..., None, None]  # a picture of one pixel has no spread
    return noise


def _num_phases(images: Images) -> int:
    return math.prod(images.shape[1:3]) // 2


def _distance(images: Images) -> Floats:
    """How far each frequency is from frequency 0, (H, W)."""
    height, width = images.shape[1:3]
    rows, columns = np.arange(height)[:, None] - height / 2, np.arange(width) - width / 2
    distance: Floats = np.sqrt(columns**2 + rows**2)
    return distance
