"""Corruptions of whole batches, as in CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich, ICLR 2019) and their C-bar.

`corrupt` applies one. `NAMES` lists those of C: `OFFICIAL`, the 15 of the published sets, and `EXTRA`, the 4 meant for
validation. `BAR_NAMES` lists the ten of CIFAR-10-C-bar and the ten of ImageNet-C-bar (Mintun et al., NeurIPS 2021) by
variant. `perturb` makes the sequences of CIFAR-10-P and ImageNet-P; `PERTURBATIONS` lists the ten of each that are
scored and `EXTRA_PERTURBATIONS` the others. Each of the three has a folder, `c`, `cbar` and `p`, with a table: a new
corruption is a function in its family's file and a line in that table.
"""

from pixmix_ray.corruptions.c.severities import EXTRA, OFFICIAL
from pixmix_ray.corruptions.c.weather import frost_pictures, has_installed_photographs
from pixmix_ray.corruptions.cbar.table import BAR_NAMES
from pixmix_ray.corruptions.dispatch import NAMES, Variant, corrupt, through_jpeg
from pixmix_ray.corruptions.p.sequences import (
    EXTRA_PERTURBATIONS,
    PERTURBATIONS,
    compares_with_first,
    frames,
    perturb,
)

__all__ = [
    "BAR_NAMES",
    "EXTRA",
    "EXTRA_PERTURBATIONS",
    "NAMES",
    "OFFICIAL",
    "PERTURBATIONS",
    "Variant",
    "compares_with_first",
    "corrupt",
    "frames",
    "frost_pictures",
    "has_installed_photographs",
    "perturb",
    "through_jpeg",
]
