"""Noise: Gaussian, shot, impulse and speckle noise, independent for every pixel and channel.

Source: hendrycks/robustness@8190fe3, gaussian_noise, shot_noise, impulse_noise, speckle_noise. For x in [0, 1]:
    Gaussian: clip(x + N(0, c));  shot: clip(Poisson(x c) / c);  impulse: black or white with probability c/2 each;
    speckle: clip(x + x N(0, c)).

A value that goes in is one of 256 and so is the one that comes out. Each noise but impulse is therefore a table of
P(out <= k | in = g), and one uniform number u a value picks the smallest k whose entry reaches u. This is exactly
truncating x + c Φ⁻¹(u) or Poisson⁻¹(u; x c) / c, without computing a quantile function for every value. The original
draws from unseeded generators, so its pictures can be met in distribution only.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, pdtr

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

BINS = 2048  # divisions of [0, 1] in the guide; more of them cost memory and save little

GREYS = np.arange(256)


def gaussian_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with Gaussian noise of standard deviation `constants[0]` (white is 1)."""
    return _sample(_gaussian(*constants), images, draws)


def shot_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures as if counted from photons, `constants[0]` of them from a white pixel."""
    return _sample(_shot(*constants), images, draws)


def impulse_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with the share `constants[0]` of the values replaced by 0 or 255, evenly."""
    numbers, half = draws(images[0].size).reshape(images.shape), constants[0] / 2
    noisy = images.copy()
    np.copyto(noisy, 0, where=numbers <= half)
    np.copyto(noisy, 255, where=numbers > 1 - half)
    return noisy


def speckle_noise(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with Gaussian noise of standard deviation `constants[0]` times the value itself; black stays black."""
    return _sample(_speckle(*constants), images, draws)


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """The distribution of the value that comes out, for each value that goes in, made ready for sampling.

    Attributes:
        steps: (65536,) float64, increasing: P(out <= k | in = g) + 2 g at 256 g + k. The 2 g keeps the rows apart.
        guide: (256 * BINS,) uint16: the value k that comes out for u at the lower end of each bin, plus OR_NEXT where
            u at its upper end gives k + 1, plus OR_BEYOND where it gives more.
    """

    steps: NDArray[np.float64]
    guide: NDArray[np.uint16]


OR_NEXT, OR_BEYOND = 256, 512


def _noise(distribution: NDArray[np.float64]) -> _Noise:
    """Made ready for sampling: (256, 256) float64, P(out <= k | in = g) in row g and column k."""
    steps = distribution + 2.0 * GREYS[:, None]
    steps[:, 255] = 2.0 * GREYS + 1  # all that would be brighter than white is clipped to white
    edges = np.arange(BINS + 1) / BINS + 2.0 * GREYS[:, None]
    values = np.searchsorted(steps.ravel(), edges) - 256 * GREYS[:, None]
    more = np.diff(values, axis=1)
    guide = (values[:, :-1] + np.where(more > 1, OR_BEYOND, OR_NEXT * more)).astype(np.uint16)
    return _Noise(steps=steps.ravel(), guide=guide.ravel())


@lru_cache(maxsize=5)
def _gaussian(std: float) -> _Noise:
    return _noise(ndtr((GREYS + 1 - GREYS[:, None]) / (255 * std)))  # out <= k means 255 (x + noise) < k + 1


@lru_cache(maxsize=5)
def _shot(photons: float) -> _Noise:
    values = floor8(np.arange(photons + 1) / photons)
    most_photons = np.searchsorted(values, GREYS, side="right") - 1  # that still truncate to k
    return _noise(pdtr(most_photons, photons * (GREYS[:, None] / 255)))


@lru_cache(maxsize=5)
def _speckle(std: float) -> _Noise:
    bright = np.maximum(GREYS, 1)[:, None]  # black, which stays as it is, is put in below
    distribution = ndtr(((GREYS + 1) / bright - 1) / std)  # out <= k means 255 x (1 + noise) < k + 1
    distribution[0] = 1.0
    return _noise(distribution)


def _sample(noise: _Noise, images: Images, draws: Uniforms) -> Images:
    """Pictures whose every value is drawn from the row of `noise` that belongs to it."""
    values = images.reshape(-1).astype(np.intp)
    numbers = draws(images[0].size).reshape(-1)
    guided = noise.guide.take(values * BINS + (numbers * BINS).astype(np.intp))
    noisy = guided.astype(np.uint8)  # the value without what is said beside it
    undecided = np.flatnonzero(guided >= OR_NEXT)
    rows, reached = 256 * values[undecided], numbers[undecided] + 2.0 * values[undecided]
    noisy[undecided] += noise.steps.take(rows + noisy[undecided]) < reached
    beyond = np.flatnonzero(guided >= OR_BEYOND)
    exact = np.searchsorted(noise.steps, numbers[beyond] + 2.0 * values[beyond])
    noisy[beyond] = exact.astype(np.uint8)  # the position modulo 256
    return noisy.reshape(images.shape)
