"""Corruptions of whole batches, as in CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich, ICLR 2019) and their C-bar.

`corrupt` applies one. `NAMES` lists those of C: `OFFICIAL`, the 15 of the published sets, and `EXTRA`, the 4 meant for
validation. A new one is a function in its family's file, a line in `table.py` and a line for each variant in
`severities.py`. `BAR_NAMES` lists the ten of CIFAR-10-C-bar and the ten of ImageNet-C-bar (Mintun et al., NeurIPS 2021)
by variant; they are in the files `bar_*` and have tables of their own.

`perturb` makes the sequences of CIFAR-10-P and ImageNet-P; `PERTURBATIONS` lists the ten of each that are scored and
`EXTRA_PERTURBATIONS` the others. They are in the files `perturbations*`, with a table of their own.
"""

from pixmix_ray.corruptions.frost import frost_pictures, has_installed_photographs
from pixmix_ray.corruptions.perturbations import (
    EXTRA_PERTURBATIONS,
    PERTURBATIONS,
    compares_with_first,
    frames,
    perturb,
)
from pixmix_ray.corruptions.severities import EXTRA, OFFICIAL
from pixmix_ray.corruptions.severities_bar import BAR_NAMES
from pixmix_ray.corruptions.table import NAMES, Variant, corrupt

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
]
