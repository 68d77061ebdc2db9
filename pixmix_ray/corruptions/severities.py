"""The one table of severities: what each corruption takes, for each set and each severity from 1 to 5.

Source: the constants of hendrycks/robustness@8190fe3, of Hendrycks and Dietterich, ICLR 2019. The two columns belong to
two sizes of picture, 32x32 ("cifar") and 224x224 ("imagenet"), and are no rescaling of each other.
"""

from collections.abc import Mapping
from typing import Final

from pixmix_ray.corruptions.corruption import Constants

OFFICIAL: Final = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions of CIFAR-10-C, CIFAR-100-C and ImageNet-C, in their order; `NAMES` holds those built so far."""

SEVERITIES: Final[Mapping[str, Mapping[str, tuple[Constants, ...]]]] = {
    "cifar": {
        "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),  # standard deviation
        "shot_noise": ((500,), (250,), (100,), (75,), (50,)),  # photons of a white pixel
        "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),  # share of the values replaced
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),  # radius, alias sigma, in pixels
        "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),  # added to the value of HSV
        "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),  # factor about the mean
        "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),  # side of the small picture, as a share
        "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),  # quality
    },
    "imagenet": {
        "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
        "shot_noise": ((60,), (25,), (12,), (5,), (3,)),
        "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
        "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
        "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
        "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
    },
}
"""Variant -> corruption -> the constants of severity 1, 2, 3, 4, 5."""
