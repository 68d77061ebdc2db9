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

from contextlib import nullcontext
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.attacks import Attack, as_at_224, pgd, random_noise
from pixmix_ray.methods.base import METHODS, Method, whole_batch
from pixmix_ray.models import evaluation_mode

Radius = Annotated[float, Field(gt=0)]
Steps = Annotated[int, Field(ge=1)]
Mode = Literal["evaluation", "training"]
"""Of the network while it is attacked: in the second each pass moves the statistics of batch normalisation."""


@METHODS.add("adversarial_linf")
class AdversarialLinf(Method):
    """Adversarial training where every pixel may change by up to ε.

    Source: Madry et al., ICLR 2018, section 5; ε = 8/255 as in the PixMix paper, appendix B.

    Attributes:
        steps: of the attack; each costs a pass forward and one back to the picture.
        step_size: length of a step, as `eps`; None is 2.5 eps / steps; 2/255 is Madry's for CIFAR-10.
        random_start: whether the attack starts anywhere in the ball, or at the clean picture.
        mode: of the network while it is attacked. In "evaluation" nothing but the pictures changes; in "training" each
            pass moves the statistics of batch normalisation.
        eps: ε, a fraction of the pixel range.
    """

    summary: ClassVar[str] = "trained on attacked pictures, every pixel changed by up to 8/255"
    source: ClassVar[str] = "Madry et al., ICLR 2018, section 5"

    steps: Steps = 7
    step_size: Radius | None = 2 / 255
    random_start: bool = True
    mode: Mode = "evaluation"
    eps: Annotated[float, Field(gt=0, le=1)] = 8 / 255

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy of the attacked pictures, a scalar; see `Method.loss`."""
        generator = _start(images, rng) if self.random_start else None
        return loss_of_attacked(network, images, labels, self.attack(images), generator, self.mode)

    def attack(self, images: Tensor) -> Attack:
        """The attack, the same on pictures of every size."""
        step = self.step_size or 2.5 * self.eps / self.steps
        return Attack(norm="linf", eps=self.eps, step=step, steps=self.steps)


@METHODS.add("adversarial_l2")
class AdversarialL2(Method):
    """Adversarial training where the whole picture may move by a distance of up to ε.

    Source: Madry et al., ICLR 2018, section 5 and appendix; ε as in Salman et al., NeurIPS 2020.

    Attributes:
        steps: of the attack; each costs a pass forward and one back to the picture.
        step_size: length of a step, as `eps`; None is 2.5 eps / steps.
        random_start: whether the attack starts anywhere in the ball, or at the clean picture.
        mode: of the network while it is attacked, as for adversarial_linf.
        eps: ε, the L2 norm with pixels in [0, 1]; None is 3 at 224 pixels, and 0.43 at 32.
    """

    summary: ClassVar[str] = "trained on attacked pictures, moved by a limited L2 distance"
    source: ClassVar[str] = "Madry et al., ICLR 2018, section 5"

    steps: Steps = 7
    step_size: Radius | None = None
    random_start: bool = True
    mode: Mode = "evaluation"
    eps: Radius | None = None

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy of the attacked pictures, a scalar; see `Method.loss`."""
        generator = _start(images, rng) if self.random_start else None
        return loss_of_attacked(network, images, labels, self.attack(images), generator, self.mode)

    def attack(self, images: Tensor) -> Attack:
        """The attack on pictures like `images` (N, 3, H, W), its radius as given, or as at 224 pixels."""
        eps = self.eps or as_at_224(3.0, images)
        return Attack(norm="l2", eps=eps, step=self.step_size or 2.5 * eps / self.steps, steps=self.steps)


def loss_of_attacked(
    network: nn.Module, images: Tensor, labels: Tensor, attack: Attack, generator: torch.Generator | None, mode: Mode
) -> Tensor:
    """The cross-entropy of pictures after an attack on them, a scalar.

    Args:
        network: from pictures (N, 3, H, W) to logits (N, K).
        images: float32 (N, 3, H, W) in [0, 1]; not changed.
        labels: int64 (N,).
        attack: its norm, radius and steps.
        generator: of the random start, on the device of `images`; None starts at the clean pictures.
        mode: of the network while it is attacked.
    """
    noise = torch.zeros_like(images)
    if generator is not None:
        batch = whole_batch(images, labels)
        noise = random_noise((batch.count, *images.shape[1:]), attack, generator)[batch.rows]
    with evaluation_mode(network) if mode == "evaluation" else nullcontext():
        attacked = pgd(network, images, labels, noise, attack)
    return F.cross_entropy(network(attacked), labels)


def _start(images: Tensor, rng: np.random.Generator) -> torch.Generator:
    """The draws of the random start of a batch."""
    return torch.Generator(images.device).manual_seed(int(rng.integers(2**63)))
