"""The table of C-bar's corruptions, and what each takes, for each set and each severity from 1 to 5.

Source: Mintun, Kirillov and Xie, "On Interaction Between Augmentations and Corruptions in Natural Corruption
Robustness", NeurIPS 2021, and the two CSV files of its code facebookresearch/augmentation-corruption@ba4d5a5,
imagenet_c_bar: numbers, names, order and spelling are theirs. The numbers were chosen so that a severity of C-bar is
about as hard for a network as the same severity of C, so they neither start at 1 nor rise evenly; what a number means
is said by the corruption that takes it. A corruption belongs to the set of one size of picture, or to both: `BAR_NAMES`
says which. As with ImageNet-C, the last step of ImageNet-C-bar, a JPEG of quality 85, is not done here.
"""

from collections.abc import Mapping
from typing import Final

from pixmix_ray.corruptions.cbar.overlays import checkerboard_cutout, inverse_sparkles, lines, sparkles
from pixmix_ray.corruptions.cbar.patterns import (
    blue_noise_sample,
    brownish_noise,
    cocentric_sine_waves,
    perlin_noise,
    plasma_noise,
    single_frequency_greyscale,
)
from pixmix_ray.corruptions.cbar.warps import (
    caustic_refraction,
    circular_motion_blur,
    pinch_and_twirl,
    ripple,
    transverse_chromatic_abberation,
)
from pixmix_ray.corruptions.corruption import Constants, Corruption

BAR_CORRUPTIONS: Final[Mapping[str, Corruption]] = {
    "blue_noise_sample": blue_noise_sample,
    "brownish_noise": brownish_noise,
    "caustic_refraction": caustic_refraction,
    "checkerboard_cutout": checkerboard_cutout,
    "circular_motion_blur": circular_motion_blur,
    "cocentric_sine_waves": cocentric_sine_waves,
    "inverse_sparkles": inverse_sparkles,
    "lines": lines,
    "perlin_noise": perlin_noise,
    "pinch_and_twirl": pinch_and_twirl,
    "plasma_noise": plasma_noise,
    "ripple": ripple,
    "single_frequency_greyscale": single_frequency_greyscale,
    "sparkles": sparkles,
    "transverse_chromatic_abberation": transverse_chromatic_abberation,
}
"""The 15 corruptions of the two sets, of which five are in both."""


BAR_SEVERITIES: Final[Mapping[str, Mapping[str, tuple[Constants, ...]]]] = {
    "cifar": {
        "blue_noise_sample": ((0.7,), (1.4,), (2.1,), (3.5,), (4.2,)),
        "checkerboard_cutout": ((1,), (2,), (3,), (4,), (5,)),
        "inverse_sparkles": ((1,), (1.5,), (2.5,), (4.5,), (5,)),
        "pinch_and_twirl": ((5.5,), (6,), (6.5,), (8.5,), (10,)),
        "ripple": ((5.5,), (6,), (6.5,), (7.5,), (8,)),
        "brownish_noise": ((2.5,), (4,), (5.5,), (6.5,), (7,)),
        "circular_motion_blur": ((2.8,), (3.6,), (4.4,), (5.2,), (6,)),
        "lines": ((0.5,), (1,), (1.5,), (2,), (2.5,)),
        "sparkles": ((0.7,), (3.5,), (5.6,), (6.3,), (7,)),
        "transverse_chromatic_abberation": ((1,), (2,), (5,), (9,), (10,)),
    },
    "imagenet": {
        "caustic_refraction": ((2.35,), (3.2,), (4.9,), (6.6,), (9.15,)),
        "inverse_sparkles": ((1,), (2,), (4,), (9,), (10,)),
        "sparkles": ((1,), (2,), (3,), (5,), (6,)),
        "perlin_noise": ((4.6,), (5.2,), (5.8,), (7.6,), (8.8,)),
        "blue_noise_sample": ((0.8,), (1.6,), (2.4,), (4,), (5.6,)),
        "plasma_noise": ((4.75,), (7,), (8.5,), (9.25,), (10,)),
        "checkerboard_cutout": ((2,), (3,), (4,), (5,), (6,)),
        "cocentric_sine_waves": ((3,), (5,), (8,), (9,), (10,)),
        "single_frequency_greyscale": ((1,), (1.5,), (2,), (4.5,), (5,)),
        "brownish_noise": ((1,), (2,), (3,), (4,), (5,)),
    },
}
"""Variant -> corruption -> the one number of severity 1, 2, 3, 4, 5."""

BAR_NAMES: Final[Mapping[str, tuple[str, ...]]] = {variant: tuple(rows) for variant, rows in BAR_SEVERITIES.items()}
"""Variant -> its ten corruptions, in the files' order: "cifar" of CIFAR-10-C-bar, "imagenet" of ImageNet-C-bar."""
