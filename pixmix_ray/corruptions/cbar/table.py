"""The table of C-bar's corruptions (Mintun, Kirillov and Xie, NeurIPS 2021): name -> function.

Source and differences are in each family's file; the constants in `severities.py`. A corruption belongs to the set
of one size of picture, or to both: `BAR_NAMES` says which. ImageNet-C-bar's last step, saving each result as a JPEG of
quality 85, is not done here, as with ImageNet-C.
"""

from collections.abc import Mapping
from typing import Final

from pixmix_ray.corruptions.cbar.cutout import checkerboard_cutout, lines
from pixmix_ray.corruptions.cbar.lens import circular_motion_blur, transverse_chromatic_abberation
from pixmix_ray.corruptions.cbar.patterns import (
    cocentric_sine_waves,
    perlin_noise,
    plasma_noise,
    single_frequency_greyscale,
)
from pixmix_ray.corruptions.cbar.sparkles import inverse_sparkles, sparkles
from pixmix_ray.corruptions.cbar.spectral import blue_noise_sample, brownish_noise
from pixmix_ray.corruptions.cbar.warps import caustic_refraction, pinch_and_twirl, ripple
from pixmix_ray.corruptions.corruption import Corruption

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
