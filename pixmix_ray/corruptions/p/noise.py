"""Perturbations by noise: a clean frame, then thirty times independent noise upon it.

Source: hendrycks/robustness@8190fe3, make_cifar_p.py and make_imagenet_p.py. For x in [0, 1] and the constant c of the
difficulty: Gaussian clip(x + N(0, c)); shot clip(Poisson(x c) / c); speckle clip(x + x N(0, c)); truncated to bytes.

A byte goes in and a byte comes out, so the noise is a table of probabilities, and a random word w of 32 bits picks the
smallest k with P(out <= k) > w / 2**32. A guide answers for most words by their first bits; the few whose cell holds a
border are searched for. Gaussian noise adds the same whole number of levels to any byte, so one row is all it needs.
The original draws from unseeded generators, so its frames can be met in distribution only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, pdtr

from pixmix_ray.corruptions.corruption import Images, Stream, floor8
from pixmix_ray.corruptions.p.geometry import Frames

Words = NDArray[np.uint32]

NOISY_FRAMES = 30

GREYS = np.arange(256)

WORD_BITS = 32

IS_UNDECIDED = 1 << 14  # a bit that no level needs


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """R distributions over K whole numbers, made ready for sampling.

    Attributes:
        borders: (R * K,) uint64, increasing: round(2**32 P(k or less)) + 2**32 r at place K r + k.
        guide: (R * 2**bits,) int16: the outcome for the words that begin with these bits, marked where it is not one.
        bits: how many.
    """

    borders: NDArray[np.uint64]
    guide: NDArray[np.int16]
    bits: int

    @classmethod
    def of(cls, distributions: NDArray[np.float64], bits: int) -> "Quantiles":
        """From cumulated probabilities (R, K); what is above the last of them counts as the last."""
        rows = np.arange(len(distributions), dtype=np.uint64)[:, None] << np.uint64(WORD_BITS)
        borders = np.rint(distributions * 2.0**WORD_BITS).astype(np.uint64) + rows
        borders[:, -1] = rows[:, 0] + np.uint64(2**WORD_BITS)
        width = 2 ** (WORD_BITS - bits)
        firsts = np.arange(2**bits, dtype=np.uint64) * np.uint64(width) + rows
        flat = borders.ravel()
        low, high = (np.searchsorted(flat, ends, side="right") for ends in (firsts, firsts + np.uint64(width - 1)))
        guide = low % distributions.shape[1] + np.where(low == high, 0, IS_UNDECIDED)
        return cls(borders=flat, guide=guide.astype(np.int16).ravel(), bits=bits)

    def pick(self, words: Words, rows: NDArray[np.intp] | int = 0) -> NDArray[np.int16]:
        """The outcome for each word, from the distribution of its row: two arrays of one shape, int16 of that shape."""
        cells = (words >> np.uint32(WORD_BITS - self.bits)).astype(np.intp)
        if not isinstance(rows, int):
            cells += rows << self.bits
        picked = self.guide.take(cells)
        undecided = np.flatnonzero(picked >= IS_UNDECIDED)
        if len(undecided):
            row = 0 if isinstance(rows, int) else rows.ravel()[undecided].astype(np.uint64) << np.uint64(WORD_BITS)
            places = np.searchsorted(self.borders, words.ravel()[undecided].astype(np.uint64) + row, side="right")
            size = len(self.borders) * 2**self.bits // len(self.guide)
            picked.ravel()[undecided] = places % size
        return picked


def gaussian_noise(images: Images, stream: Stream, *, std: float) -> Frames:
    """The pictures, and thirty times with Gaussian noise of this standard deviation (white is 1)."""
    levels = _added(std)
    reach = len(levels.borders) // 2
    values = images.reshape(len(images), -1).astype(np.int16) - np.int16(reach)
    return _sequence(images, stream, lambda words: np.clip(levels.pick(words) + values, 0, 255))


def shot_noise(images: Images, stream: Stream, *, photons: float) -> Frames:
    """The pictures, and thirty times as if counted from photons, so many of them from a white pixel."""
    rows = images.reshape(len(images), -1).astype(np.intp)
    return _sequence(images, stream, lambda words: _counted(photons).pick(words, rows))


def speckle_noise(images: Images, stream: Stream, *, std: float) -> Frames:
    """The pictures, and thirty times with each value multiplied by 1 + noise of this standard deviation."""
    rows = images.reshape(len(images), -1).astype(np.intp)
    return _sequence(images, stream, lambda words: _multiplied(std).pick(words, rows))


def _sequence(images: Images, stream: Stream, noisy: Callable[[Words], NDArray[np.int16]]) -> Frames:
    """The pictures, and NOISY_FRAMES frames that `noisy` makes of words (N, H W 3): (N, 1 + NOISY_FRAMES, H, W, 3)."""
    count, size = len(images), images[0].size
    frames = np.empty((count, 1 + NOISY_FRAMES, *images.shape[1:]), np.uint8)
    frames[:, 0] = images
    values = frames.reshape(count, -1, size)
    for number, words in enumerate(stream.words(NOISY_FRAMES, size), start=1):
        values[:, number] = noisy(words)
    return frames


@lru_cache(maxsize=3)
def _added(std: float) -> Quantiles:
    """The levels that Gaussian noise adds, from -reach to reach: floor(255 std z) for a normal z."""
    reach = int(np.ceil(7 * 255 * std))  # 32 bits end at 6.3 standard deviations
    levels = np.arange(-reach, reach + 1)
    return Quantiles.of(ndtr((levels + 1) / (255 * std))[None], bits=16)


@lru_cache(maxsize=3)
def _counted(photons: float) -> Quantiles:
    """The level that is counted, for each level that goes in."""
    values = floor8(np.arange(photons + 1) / photons)
    most_photons = np.searchsorted(values, GREYS, side="right") - 1  # that still truncate to k
    return Quantiles.of(pdtr(most_photons, photons * (GREYS[:, None] / 255)), bits=12)


@lru_cache(maxsize=3)
def _multiplied(std: float) -> Quantiles:
    """The level that comes out of g (1 + std z) for a normal z, for each level g that goes in."""
    spread = np.maximum(GREYS, 1e-9)[:, None] * std  # black stays black
    return Quantiles.of(ndtr((GREYS + 1 - GREYS[:, None]) / spread), bits=12)
