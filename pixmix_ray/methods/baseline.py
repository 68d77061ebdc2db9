"""The baseline: crop and flip alone, cross-entropy (PixMix paper, appendix A)."""

from typing import ClassVar

from pixmix_ray.methods.base import METHODS, Method


@METHODS.add("baseline")
class Baseline(Method):
    """Standard training, the first column of the paper's tables.

    Source: Hendrycks et al., CVPR 2022, appendix A: random crops with zero padding and random flips, which the training
    loop makes for every method.
    """

    summary: ClassVar[str] = "random crop and flip alone"
    source: ClassVar[str] = "Hendrycks et al., CVPR 2022, appendix A"
