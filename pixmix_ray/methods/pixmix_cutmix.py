"""PixMix and CutMix together: pictures are mixed first, then boxes of the mixes are exchanged.

Reference: Hendrycks et al., "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures", CVPR 2022, Table 6:
on CIFAR-100 the pair is better calibrated than either. The paper gives no settings for CutMix; here they are those of
its authors for CIFAR (Yun et al., ICCV 2019).
"""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from pixmix_ray.methods.base import METHODS
from pixmix_ray.methods.cutmix import cutmix_loss
from pixmix_ray.methods.pixmix import PixMix


@METHODS.add("pixmix_cutmix")
class PixMixCutMix(PixMix):
    """PixMix's pictures with CutMix's loss: all settings of both.

    Source: Hendrycks et al., CVPR 2022, Table 6.

    Attributes:
        alpha: α > 0 of CutMix; 1 draws λ uniformly.
        probability: the share of batches that are cut.
    """

    summary: ClassVar[str] = "PixMix, then CutMix on the mixes"
    source: ClassVar[str] = "Hendrycks et al., CVPR 2022, Table 6"

    alpha: Annotated[float, Field(gt=0)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """CutMix's loss of the mixed pictures, a scalar; see `Method.loss`."""
        return cutmix_loss(network, images, labels, rng, alpha=self.alpha, probability=self.probability)
