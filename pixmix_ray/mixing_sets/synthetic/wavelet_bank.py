"""The 40 wavelets of 3x3 pixels that the oriented StyleGAN has for its convolutions.

M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021: edges and lines in eight orientations, four
symmetric patterns, and the negatives of all.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
