"""Patterns of C-bar: a wave, rings, plasma and Perlin noise, and noise made from a spectrum.

Source: facebookresearch/augmentation-corruption@ba4d5a5, SingleFrequencyGreyscale, CocentricSineWaves, PlasmaNoise and
PerlinNoise (see `sampling.py`). Given the draws, the result is the reference's. Its lattice for Perlin noise is
shuffled by swaps that make some orders a little more likely than others; ours are all as likely.

Blue noise blacks pixels out, and brownish noise is added; source: BlueNoiseSample and BrownishNoise.
The phases of the spectrum are random and the same at a frequency and at its mirror image, where a real picture would
have opposite ones; the real part of what comes back is the noise. Given the phases, the result is the reference's.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft2

from pixmix_ray.corruptions.cbar.sampling import Floats, offsets, truncated
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms

LATTICE = 256  # after so many points the lattice of Perlin noise repeats

OCTAVES = 5

MOST_WARPS = 6


def single_frequency_greyscale(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures plus a grey sine wave of 19.6 `constants[0]` grey levels, of any direction, up to the finest."""
    numbers = draws(4)
    fast = math.pi * (2 * numbers[:, 0] - 1)
    slow = np.abs(fast) * (2 * numbers[:, 1] - 1)
    is_swapped = numbers[:, 3] < 0.5
    frequencies = np.stack((np.where(is_swapped, slow, fast), np.where(is_swapped, fast, slow)), axis=1)
    return with_wave(images, frequencies, math.tau * numbers[:, 2], constants[0] * 196 / 10)


def cocentric_sine_waves(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures plus wavy rings around a point, of 12.8 `constants[0]` grey levels from one side to the other."""
    numbers = draws(5)
    height, width = images.shape[1:3]
    amplitudes, rings = (numbers[:, 3:] * (min(height, width) / 10)).T
    origins = numbers[:, :2] * (width, height)
    return with_rings(images, origins[:, ::-1], 10 * numbers[:, 2], amplitudes, rings, constants[0] * 128 / 10)


def plasma_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures blended with coloured plasma, of which they keep 1 - I/255 and add I, I = 6.4 `constants[0]`."""
    numbers = draws(4)
    size = min(images.shape[1:3])
    warps = (4 + 3 * numbers[:, 1]).astype(np.intp)
    scale = (0.075 + 0.125 * numbers[:, 3]) * size
    noise = plasma(images.shape, 6 * math.pi * numbers[:, 0], warps, 0.5 + numbers[:, 2] / 2, scale)
    intensity = constants[0] * 64 / 10
    noise *= intensity
    noise += (1 - intensity / 255) * images
    return truncated(noise)


def perlin_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures blended with turbulence, of which there is the share `constants[0]` / 20."""
    order, directions = np.split(draws(3 * LATTICE), (LATTICE,), axis=1)
    steps = np.floor(2 * LATTICE * directions).reshape(-1, LATTICE, 2) - LATTICE
    lengths = np.sqrt((steps**2).sum(axis=2, keepdims=True))
    gradients = steps / np.maximum(lengths, 1)  # a step of (0, 0), one in 262144, stays so; the original divides by 0
    size = min(images.shape[1:3])
    noise = turbulence(images.shape, order.argsort(axis=1), gradients, 1 / (32 * size / 224))
    alpha = constants[0] * 0.5 / 10
    kept = np.float32(1 - alpha) * images.astype(np.float32)
    return truncated(kept + (255 * alpha * np.clip(0.5 * noise + 0.5, 0, 1))[..., None])


def with_wave(images: Images, frequencies: Floats, phases: Floats, intensity: float) -> Images:
    """Pictures plus `intensity` times a sine wave; frequencies (N, 2), columns first, and phases (N,) in radians."""
    along, down = frequencies.T[:, :, None, None]
    rows, columns = np.arange(images.shape[1])[:, None], np.arange(images.shape[2])
    waves = np.sin(columns * along + rows * down + phases[:, None, None])
    return truncated(images + (intensity * waves)[..., None])


def with_rings(
    images: Images, origins: Floats, frequencies: Floats, amplitudes: Floats, rings: Floats, intensity: float
) -> Images:
    """Pictures plus `intensity` times rings that rise evenly from -0.5 to 0.5 and fall back at once.

    Args:
        images: (N, H, W, 3) uint8.
        origins: (N, 2), row and column.
        frequencies: (N,), how many bulges a ring has.
        amplitudes: (N,) of the bulges, in pixels.
        rings: (N,), the width of a ring in pixels.
        intensity: in grey levels.
    """
    rows, columns = offsets(images.shape, origins)
    frequency, amplitude, ring = (values[:, None, None] for values in (frequencies, amplitudes, rings))
    distance = np.sqrt(columns**2 + rows**2)
    distance += np.sin(np.arctan2(columns, rows) * frequency) * amplitude
    height = distance % ring / ring - 0.5
    return truncated(images + (intensity * height)[..., None])


def plasma(shape: tuple[int, ...], time: Floats, warps: NDArray[np.intp], sharpness: Floats, scale: Floats) -> Floats:
    """Coloured plasma, (N, H, W, 3) in [-1, 1]: the sine of coordinates that have been warped again and again.

    Args:
        shape: of the pictures, (N, H, W, 3).
        time: (N,), at which the moving pattern is seen.
        warps: (N,), how often, up to 6.
        sharpness: (N,), from 0 to 1: how little each warp is weaker than the one before.
        scale: (N,), the size of the pattern in pixels.
    """
    t, s, scales = (values[:, None, None] for values in (time, sharpness, scale))
    x, y = np.broadcast_arrays(np.arange(shape[2]) / scales, np.arange(shape[1])[:, None] / scales)
    frequency, delay, weakness = 1.0, 1.0, np.ones_like(s)
    for step in range(MOST_WARPS):
        first, second = np.cos(y * frequency + t / delay) / weakness, np.sin(x * frequency + t / delay) / weakness
        is_warped = (step < warps)[:, None, None]
        turned = first - second * 0.3
        x = x + is_warped * turned
        # the second is turned by the first as it was before its own turn
        y = y + is_warped * (second + first * 0.3)
        frequency, delay, weakness = frequency * 1.93, delay * 1.15, weakness * (2.25 - s)
    return np.stack((np.sin(x - t), np.sin((x + y + np.sin(t)) * 0.5), np.sin(y + t)), axis=-1)


def turbulence(shape: tuple[int, ...], permutation: NDArray[np.intp], gradients: Floats, frequency: float) -> Floats:
    """Perlin's turbulence, (N, H, W), 0 or more: noise of each octave f = 1, 2, 4, 8, 16 without its sign, over f.

    Args:
        shape: of the pictures, (N, H, W, 3).
        permutation: (N, 256), an order of 0 to 255 a picture.
        gradients: (N, 256, 2), of length 1: along the rows' axis and along the columns'.
        frequency: cells of the coarsest lattice a pixel.
    """
    total = np.zeros(shape[:3])
    for octave in range(OCTAVES):
        rows, columns = (np.arange(size) * frequency * 2**octave for size in shape[1:3])
        total += np.abs(gradient_noise(rows, columns, permutation, gradients)) / 2**octave
    return total


def gradient_noise(rows: Floats, columns: Floats, permutation: NDArray[np.intp], gradients: Floats) -> Floats:
    """Perlin's noise of 1985 times 1.5, (N, H, W), at `rows` (H,) and `columns` (W,) of its lattice."""
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    lattice = _lattice(int(top[-1]) + 2, int(left[-1]) + 2, permutation, gradients)
    down, across = (rows - top)[:, None], columns - left
    smooth_down, smooth_across = (part**2 * (3 - 2 * part) for part in (down, across))

    def corner(below: int, beside: int) -> Floats:
        slopes = lattice.take(top + below, axis=2).take(left + beside, axis=3)
        slope: Floats = (down - below) * slopes[0] + (across - beside) * slopes[1]
        return slope

    upper, lower = corner(0, 0), corner(0, 1)
    upper += smooth_down * (corner(1, 0) - upper)
    lower += smooth_down * (corner(1, 1) - lower)
    noise: Floats = 1.5 * (upper + smooth_across * (lower - upper))
    return noise


def _lattice(height: int, width: int, permutation: NDArray[np.intp], gradients: Floats) -> Floats:
    """The gradients at the points of the lattice, (2, N, height, width)."""
    rows = permutation.take(np.arange(height) % LATTICE, axis=1)[:, :, None]
    points = (rows + np.arange(width) % LATTICE) % LATTICE
    picture = np.arange(len(permutation))[:, None, None] * LATTICE
    chosen = picture + permutation.take(picture + points)
    lattice: Floats = gradients.reshape(-1, 2).T.take(chosen, axis=1)
    return lattice


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
