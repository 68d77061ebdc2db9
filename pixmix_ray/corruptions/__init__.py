"""Corruptions of whole batches, as in CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich, ICLR 2019).

`corrupt` applies one, `NAMES` lists those that are here and `OFFICIAL` the 15 of the published sets. A new one is a
function in its family's file, a line in `table.py` and a line for each variant in `severities.py`.
"""

from pixmix_ray.corruptions.severities import OFFICIAL
from pixmix_ray.corruptions.table import NAMES, Variant, corrupt

__all__ = ["NAMES", "OFFICIAL", "Variant", "corrupt"]
