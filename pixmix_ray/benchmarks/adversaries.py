"""Adversarial robustness: projected gradient descent (Madry et al., ICLR 2018), as in the paper §3.1.

Untargeted, L-infinity, budget 2/255, 20 steps of 0.5/255 from a random start, projected onto the ball around the CLEAN
picture. The official code differs by accident: its start noise moves the centre of the ball, so its pictures lie up to
4/255 away. Published errors may be higher than ours for that reason.
"""

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pixmix_ray.benchmarks.base import (
    Benchmark,
    Measurement,
    Predictions,
    TestPictures,
    batches,
    predictions,
    probabilities,
    to_device,
)
from pixmix_ray.benchmarks.clean import error_of
from pixmix_ray.seeding import uniforms


class Adversaries(Benchmark):
    """PGD in the L-infinity ball.

    Attributes:
        eps: radius of the ball, a fraction of the pixel range.
        step: length of one step, likewise.
        steps: how many.
        seed: of the random start.
    """

    summary: ClassVar[str] = "projected gradient descent, L-infinity 2/255, 20 steps"
    source: ClassVar[str] = "Madry et al., ICLR 2018; PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("error",)

    eps: float = Field(2 / 255, gt=0, le=1)
    step: float = Field(0.5 / 255, gt=0, le=1)
    steps: int = Field(20, ge=1)
    seed: int = 0

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """Attack every picture, then classify it."""
        parts = []
        for rows in batches(len(test.labels)):
            images = to_device(test.images[rows], device)
            labels = torch.from_numpy(np.require(test.labels[rows], requirements="W")).to(device)
            draws = uniforms(self.seed, "adversaries", indices=test.indices[rows], count=images[0].numel())
            noise = torch.from_numpy(draws.astype(np.float32)).to(device).view_as(images)
            attacked = pgd(network, images, labels, (2 * noise - 1) * self.eps, self)
            parts.append(
                predictions(
                    probabilities(network, attacked),
                    condition="",
                    severity=0,
                    indices=test.indices[rows],
                    labels=test.labels[rows],
                )
            )
        return Predictions.join(parts)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        """The error on the attacked pictures."""
        return [error_of(predictions)]


def pgd(network: nn.Module, images: Tensor, labels: Tensor, noise: Tensor, attack: Adversaries) -> Tensor:
    """Adversarial pictures within `attack.eps` of `images`.

    Args:
        network: in evaluation mode.
        images: (N, 3, H, W) float32 in [0, 1].
        labels: (N,) int64.
        noise: (N, 3, H, W) in [-eps, eps], the random start.
        attack: eps, step and steps.

    Returns:
        (N, 3, H, W) float32 in [0, 1].
    """
    lowest = (images - attack.eps).clamp_(min=0)
    highest = (images + attack.eps).clamp_(max=1)
    attacked = torch.min(torch.max(images + noise, lowest), highest)
    for _ in range(attack.steps):
        attacked.requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(network(attacked), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, attacked)
        moved = attacked.detach() + attack.step * gradient.sign()
        attacked = torch.min(torch.max(moved, lowest), highest)
    return attacked
