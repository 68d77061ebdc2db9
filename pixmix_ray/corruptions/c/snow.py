"""Snow: a whitened picture with flakes that are driven by the wind.

Source: hendrycks/robustness@8190fe3, snow. The flakes are a layer of normal numbers, enlarged, cut off below a
threshold, blurred by motion and laid on twice, the second time turned by 180 degrees. For a given layer and angle the
same bytes come out; the order of float32 and float64 steps is the original's, as is OpenCV's way to grey.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pixmix_ray.corruptions.c.motion import blurred_along
from pixmix_ray.corruptions.c.zoom import zoomed
from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

Floats = NDArray[np.float64]


def snow(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures in snow.

    `constants` are mean and standard deviation of the layer, its zoom, the threshold, radius and sigma of the motion
    blur (in pixels), and the share of the picture that is not whitened.
    """
    mean, std, *rest = constants
    height, width = images.shape[1:3]
    numbers = draws(height * width + 1)
    layers = mean + std * ndtri(numbers[:, :-1]).reshape(-1, height, width)
    return with_snow(images, flakes(layers, -135 + 90 * numbers[:, -1], *rest[:4]), rest[4])


def flakes(
    layers: Floats, angles: Floats, zoom: float, threshold: float, radius: float, sigma: float
) -> NDArray[np.uint8]:
    """Flakes (N, H, W, 1) uint8 made of layers (N, H, W) float64 and the angles of the wind (N,) in degrees."""
    enlarged = zoomed(layers, zoom)
    enlarged[enlarged < threshold] = 0
    return blurred_along(floor8(enlarged)[..., None], radius, sigma, angles)


def with_snow(images: Images, layers: NDArray[np.uint8], keep: float) -> Images:
    """Pictures (N, H, W, 3) uint8 with given flakes (N, H, W, 1) uint8, `keep` of each picture not whitened."""
    pixels = images.astype(np.float32) / np.float32(255)
    whitened = np.maximum(pixels, (grey_of(pixels) * np.float32(1.5) + np.float32(0.5))[..., None])
    pixels = np.float32(keep) * pixels + np.float32(1 - keep) * whitened
    fractions = layers / 255.0
    return floor8(pixels + fractions + fractions[:, ::-1, ::-1])


def grey_of(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grey of each pixel, (N, H, W) float32: green first, then red and blue added with one rounding each."""
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.float64)
    weights = np.array([0.299, 0.587, 0.114], np.float32).astype(np.float64)
    grey: NDArray[np.float32] = (green * weights[1]).astype(np.float32)
    for channel, weight in ((red, weights[0]), (blue, weights[2])):
        grey = (channel * weight + grey).astype(np.float32)
    return grey
