"""Adversarial training: the loss of pictures that were attacked a moment ago (Madry et al., ICLR 2018).

Reference: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, sections 2.1 and 5;
in the PixMix paper appendix B and table 10, "ℓ∞ Adversarial" (ε = 8/255, as it says) and "ℓ2 Adversarial". Defaults are
Madry's for CIFAR-10: seven steps from a random start, of 2/255 for L-infinity.

For L2 neither paper gives ε. Table 10's clean error of 37.2 % is that of the public ResNet-50 with ε = 3 at 224 pixels
(62.83 % right; Salman et al., NeurIPS 2020, trained with the `robustness` library), and ε = 3 it is here, in proportion
to the root of the number of values: 0.43 at 32 pixels, near the 0.5 of that library's CIFAR model. The step is 2.5 ε /
steps, with which that library evaluates.

Where the codes disagree: Madry's (cifar10_challenge) attacks the network in training mode, so that every step of the
attack also moves the statistics of batch normalisation; `robustness`, which made the models just named, attacks in
evaluation mode. The latter is the default, the former the setting `mode` (dropout is then drawn anew for each step).
Madry's code takes ten steps, the paper seven. By default `robustness` starts at the clean picture and keeps the worst
picture that it met; here the start is random and the last picture counts, as in the paper.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.attacks.pgd import Attack, Norm, as_at_224, pgd, random_noise
from pixmix_ray.methods.base import METHODS, Method
from pixmix_ray.methods.whole_batch import whole_batch
from pixmix_ray.models import evaluation_mode

Radius = Annotated[float, Field(gt=0)]


class Adversarial(Method, ABC):
    """Training on attacked pictures alone, in one norm.

    Attributes:
        norm: in which the distance from the clean picture is measured.
        steps: of the attack; each costs a pass forward and one back to the picture.
        step_size: length of a step, in the norm; None is 2.5 eps / steps.
        random_start: whether the attack starts anywhere in the ball, or at the clean picture.
        mode: of the network while it is attacked. In "evaluation" nothing but the pictures changes; in "training" each
            pass moves the statistics of batch normalisation.
    """

    norm: ClassVar[Norm]

    steps: Annotated[int, Field(ge=1)] = 7
    step_size: Radius | None = None
    random_start: bool = True
    mode: Literal["evaluation", "training"] = "evaluation"

    @abstractmethod
    def radius(self, images: Tensor) -> float:
        """ε for pictures like `images` (N, 3, H, W)."""

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy of the attacked pictures, a scalar; see `Method.loss`."""
        eps = self.radius(images)
        attack = Attack(norm=self.norm, eps=eps, step=self.step_size or 2.5 * eps / self.steps, steps=self.steps)
        noise = torch.zeros_like(images)
        if self.random_start:
            generator = torch.Generator(images.device).manual_seed(int(rng.integers(2**63)))
            batch = whole_batch(images, labels)
            noise = random_noise((batch.count, *images.shape[1:]), attack, generator)[batch.rows]
        if self.mode == "training":
            attacked = pgd(network, images, labels, noise, attack)
        else:
            with evaluation_mode(network):
                attacked = pgd(network, images, labels, noise, attack)
        return F.cross_entropy(network(attacked), labels)


@METHODS.add("adversarial_linf")
class AdversarialLinf(Adversarial):
    """Adversarial training where every pixel may change by up to ε.

    Source: Madry et al., ICLR 2018, section 5; ε = 8/255 as in the PixMix paper, appendix B.

    Attributes:
        eps: ε, a fraction of the pixel range.
        step_size: as above; 2/255 is Madry's for CIFAR-10.
    """

    summary: ClassVar[str] = "trained on attacked pictures, every pixel changed by up to 8/255"
    source: ClassVar[str] = "Madry et al., ICLR 2018, section 5"
    norm: ClassVar[Norm] = "linf"

    eps: Annotated[float, Field(gt=0, le=1)] = 8 / 255
    step_size: Radius | None = 2 / 255

    def radius(self, images: Tensor) -> float:
        """ε, the same for every size of picture."""
        return self.eps


@METHODS.add("adversarial_l2")
class AdversarialL2(Adversarial):
    """Adversarial training where the whole picture may move by a distance of up to ε.

    Source: Madry et al., ICLR 2018, section 5 and appendix; ε as in Salman et al., NeurIPS 2020.

    Attributes:
        eps: ε, the L2 norm with pixels in [0, 1]; None is 3 at 224 pixels, and 0.43 at 32.
    """

    summary: ClassVar[str] = "trained on attacked pictures, moved by a limited L2 distance"
    source: ClassVar[str] = "Madry et al., ICLR 2018, section 5"
    norm: ClassVar[Norm] = "l2"

    eps: Radius | None = None

    def radius(self, images: Tensor) -> float:
        """ε as given, or as at 224 pixels."""
        return self.eps or as_at_224(3.0, images)
