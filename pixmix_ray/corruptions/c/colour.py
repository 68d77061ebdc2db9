"""Colour: brightness, contrast and saturation.

Source: hendrycks/robustness@8190fe3, brightness and saturate (through scikit-image's rgb2hsv and hsv2rgb) and contrast.
All take their steps in the original's order, in float64, and give the same bytes (seen beside scikit-image 0.26).
"""

import numpy as np
from numpy.typing import NDArray

from pixmix_ray.corruptions.corruption import Constants, Images, Uniforms, floor8

Floats = NDArray[np.float64]


def brightness(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures with `constants[0]` added to the value V of HSV; hue and saturation stay."""
    hue, saturation, value = hsv(images / 255.0)
    return floor8(rgb(hue, saturation, np.clip(value + constants[0], 0, 1)))


def contrast(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures drawn towards the mean of each channel: (x - mean) c + mean, with c = `constants[0]`."""
    pixels = images / 255.0
    means = pixels.mean(axis=(1, 2), keepdims=True)
    pixels -= means
    pixels *= constants[0]
    pixels += means
    return floor8(pixels)


def saturate(images: Images, constants: Constants, draws: Uniforms) -> Images:
    """Pictures whose saturation S of HSV becomes f S + o, with `constants` f and o; hue and value stay."""
    factor, offset = constants
    hue, saturation, value = hsv(images / 255.0)
    return floor8(rgb(hue, np.clip(saturation * factor + offset, 0, 1), value))


def hsv(pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Hue in [0, 6), saturation and value in [0, 1] (hexcone: S = (max - min) / max), each (N, H, W)."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.where(chroma == 0, 1.0, chroma)  # grey has no hue; 0 stands for it
    hue = np.where(
        blue == value,
        4 + (red - green) / divisor,
        np.where(green == value, 2 + (blue - red) / divisor, (green - blue) / divisor),
    )
    hue = np.where(chroma == 0, 0.0, hue / 6 % 1)
    return hue * 6, chroma / np.where(value == 0, 1.0, value), value


def rgb(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """The inverse of `hsv`, (N, H, W, 3) in [0, 1]."""
    sector = np.floor(hue)
    rest = hue - sector
    low = value * (1 - saturation)
    falling = value * (1 - rest * saturation)
    rising = value * (1 - (1 - rest) * saturation)
    sextant = sector.astype(np.intp) % 6
    red = np.choose(sextant, (value, falling, low, low, rising, value))
    green = np.choose(sextant, (rising, value, value, falling, low, low))
    blue = np.choose(sextant, (low, low, rising, value, value, falling))
    return np.stack((red, green, blue), axis=-1)
