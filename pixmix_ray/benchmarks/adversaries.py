"""Adversarial robustness: projected gradient descent (Madry et al., ICLR 2018), as in the paper §3.1, and AutoAttack.

The paper's attack is untargeted, L-infinity, budget 2/255, 20 steps of 0.5/255 from a random start. Ours projects onto
the ball around the CLEAN picture. The official code (`PGD` in its cifar.py) adds the start noise in place to the tensor
around which it then projects, so its ball has the NOISED picture for a centre and its pictures lie up to 4/255 away.
Published errors may be higher than ours for that reason; `centre: noised` is that attack, to set beside them. There our
start is cut to [0, 1] before the first step, the official one only after it.

AutoAttack (Croce and Hein, ICML 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks"), the standard version of four attacks, is put together from those of the library torchattacks,
an optional extra: that library's own `AutoAttack` (3.5.1) gives them 10 steps each, the paper and its code 100.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import ndtri
from torch import Tensor, nn

from pixmix_ray.attacks import Attack, Norm, lengths, pgd
from pixmix_ray.benchmarks.base import (
    BENCHMARKS,
    Benchmark,
    TestPictures,
    batches,
    finite_logits,
    predictions,
    to_device,
)
from pixmix_ray.benchmarks.measures import error_of
from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.seeding import Purpose, stream_key, uniforms

LIBRARY = "torchattacks"
STEPS = 100  # of each of AutoAttack's attacks with gradients, as in its own code
QUERIES = 5000  # of the one without
TARGETS = 9  # classes that its targeted attacks try
FEWEST_CLASSES = 4  # its loss compares the four largest logits
RADIUS: Mapping[str | None, float] = MappingProxyType({"linf": 2 / 255, "l2": 0.5})
STEPS_IN_RADIUS = 4  # 0.5/255 in 2/255
OF_PGD = ("step_size", "steps", "restarts", "random_start", "centre")


@BENCHMARKS.add("adversaries")
class Adversaries(Benchmark):
    """Pictures changed within a ball so as to be misread.

    Attributes:
        attack: pgd, or autoattack, for which `norm`, `eps` and `seed` are all there is to set.
        norm: in which the ball is one.
        eps: radius of the ball, values of pixels being in [0, 1]. By default the paper's 2/255 for linf, and for l2
            the 0.5 that RobustBench (Croce et al., NeurIPS 2021) takes for pictures of 32 pixels.
        step_size: length of one step, likewise; by default a quarter of `eps`, as in the paper.
        steps: how many.
        restarts: of the attack, each from another start; a picture counts as misread if one of them succeeds.
        random_start: whether it starts anywhere in the ball, or at the clean picture.
        centre: of the ball: the clean picture, or, as in the official code, the one that start noise was added to.
        seed: of the random start.
    """

    summary: ClassVar[str] = "projected gradient descent, L-infinity 2/255, 20 steps; L2, AutoAttack"
    source: ClassVar[str] = "Madry et al., ICLR 2018; Croce and Hein, ICML 2020; PixMix §3.1"
    headline: ClassVar[tuple[str, ...]] = ("error",)
    passes: ClassVar[float] = 60  # twenty steps, forward and back
    needs_gradients: ClassVar[bool] = True

    attack: Literal["pgd", "autoattack"] = "pgd"
    norm: Norm = "linf"
    eps: float = Field(default_factory=lambda given: RADIUS.get(given.get("norm"), 2 / 255), gt=0)
    step_size: float = Field(default_factory=lambda given: given.get("eps", 2 / 255) / STEPS_IN_RADIUS, gt=0)
    steps: int = Field(20, ge=1)
    restarts: int = Field(1, ge=1)
    random_start: bool = True
    centre: Literal["clean", "noised"] = "clean"
    seed: int = 0

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        for name in ("eps", "step_size"):
            if self.norm == "linf" and (value := getattr(self, name)) > 1:
                raise ValueError(f"{name} must be in (0, 1], got {value}: give a fraction, such as {2 / 255:.5f}")
        if self.attack == "pgd" and self.step_size > 2 * self.eps * (1 + 1e-9):
            raise ValueError(
                f"step_size = {self.step_size:g} leads across the whole ball of radius eps = {self.eps:g}: set both "
                f"for norm {self.norm}, or leave step_size out, which makes it a quarter of eps"
            )
        if not self.random_start and self.restarts > 1:
            raise ValueError(
                f"restarts = {self.restarts} without random_start would all be the same: set random_start to true"
            )
        if self.centre == "noised" and (self.norm != "linf" or not self.random_start):
            raise ValueError(
                "centre = 'noised' is the official code's attack: it needs norm = linf and random_start = true, got "
                f"{self.norm} "
                f"and {str(self.random_start).lower()}"
            )
        return self

    @model_validator(mode="after")
    def _autoattack_has_no_settings_of_pgd(self) -> Self:
        unset = {
            **{name: field.default for name, field in type(self).model_fields.items()},
            "step_size": self.eps / STEPS_IN_RADIUS,
        }
        for name in OF_PGD if self.attack == "autoattack" else ():
            if getattr(self, name) != unset[name]:
                raise ValueError(f"{name} is a setting of pgd and not of autoattack: leave it out")
        return self

    def version(self) -> str:
        """The version of the library that attacks, if one does.

        Raises:
            RequestError: it is not installed.
        """
        if self.attack == "pgd":
            return ""
        try:
            return f"{LIBRARY} {installed(LIBRARY)}"
        except PackageNotFoundError:
            raise _not_installed() from None

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        """Attack every picture, then classify it."""
        parts = []
        for rows in batches(len(test.labels), test.images.shape[1], has_gradients=True):
            images = to_device(test.images[rows], device)
            labels = torch.from_numpy(np.require(test.labels[rows], requirements="W")).to(device)
            attacked = _autoattacked if self.attack == "autoattack" else _attacked
            logits = attacked(network, images, labels, test.indices[rows], self)
            parts.append(
                predictions(
                    logits.softmax(dim=1),
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


def _attacked(
    network: nn.Module, images: Tensor, labels: Tensor, indices: NDArray[np.int64], settings: Adversaries
) -> Tensor:
    """The logits (N, K) of the most harmful of all restarts, each picture for itself."""
    attack = Attack(norm=settings.norm, eps=settings.eps, step=settings.step_size, steps=settings.steps)
    worst = harm = torch.empty(0)
    for restart in range(settings.restarts):
        noise = start_noise(images, indices, settings, restart) if settings.random_start else torch.zeros_like(images)
        if settings.centre == "noised":
            attacked = pgd(network, images + noise, labels, torch.zeros_like(images), attack)
        else:
            attacked = pgd(network, images, labels, noise, attack)
        logits = finite_logits(network, attacked)
        # misread is worse than any loss of a picture that is read rightly
        loss = F.cross_entropy(logits, labels, reduction="none").masked_fill_(logits.argmax(dim=1) != labels, torch.inf)
        if restart:
            is_worse = loss > harm
            logits, loss = torch.where(is_worse[:, None], logits, worst), torch.maximum(loss, harm)
        worst, harm = logits, loss
    return worst


def start_noise(images: Tensor, indices: NDArray[np.int64], settings: Adversaries, restart: int = 0) -> Tensor:
    """Noise, uniform in the ball, for pictures (N, 3, H, W): float32 of the same shape, a function of seed and picture.

    Args:
        images: only shape and device matter.
        indices: (N,) positions in the whole test set.
        settings: norm, eps and seed.
        restart: each has noise of its own.
    """
    purpose: tuple[Purpose, ...] = ("adversaries", restart) if restart else ("adversaries",)
    values = images[0].numel()
    if settings.norm == "linf":
        draws = uniforms(settings.seed, *purpose, indices=indices, count=values)
        noise = torch.from_numpy(draws.astype(np.float32)).to(images.device).view_as(images)
        return (2 * noise - 1) * settings.eps
    draws = uniforms(settings.seed, *purpose, "l2", indices=indices, count=values + 1)
    direction = torch.from_numpy(ndtri(draws[:, :values]).astype(np.float32)).to(images.device).view_as(images)
    # the share of the ball within radius r of d dimensions is r^d
    radius = torch.from_numpy((draws[:, values] ** (1 / values)).astype(np.float32)).to(images.device)
    return direction * (settings.eps * radius[:, None, None, None] / lengths(direction))


def _autoattacked(
    network: nn.Module, images: Tensor, labels: Tensor, indices: NDArray[np.int64], settings: Adversaries
) -> Tensor:
    """The logits (N, K) of the pictures that AutoAttack leaves."""
    if (classes := finite_logits(network, images).shape[1]) < FEWEST_CLASSES:
        raise WorkError(f"autoattack needs {FEWEST_CLASSES} classes or more, the network knows {classes}: take pgd")
    # the library draws for a whole batch from the global generators: seed them for this call, and give them back
    seed = stream_key(settings.seed, "adversaries", "autoattack", int(indices[0])) % 2**31
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        attack = _four_attacks(network, classes, seed, settings)
        attacked: Tensor = attack(images.contiguous(), labels)  # channels last it cannot take
    return finite_logits(network, attacked)


def _four_attacks(network: nn.Module, classes: int, seed: int, settings: Adversaries) -> Any:
    """AutoAttack's standard version: each attack tries the pictures that those before it have left."""
    try:
        library: Any = import_module(LIBRARY)
    except ImportError:
        raise _not_installed() from None
    common = {"norm": {"linf": "Linf", "l2": "L2"}[settings.norm], "eps": settings.eps, "seed": seed}
    targets = min(classes - 1, TARGETS) + 1  # counted with the true class
    return library.MultiAttack(
        [
            library.APGD(network, loss="ce", steps=STEPS, **common),
            library.APGDT(network, steps=STEPS, n_classes=targets, **common),
            library.FAB(network, steps=STEPS, multi_targeted=True, n_classes=targets, **common),
            library.Square(network, n_queries=QUERIES, **common),
        ]
    )


def _not_installed() -> RequestError:
    return RequestError(f"attack = 'autoattack' needs {LIBRARY}: pip install 'pixmix_ray[autoattack]', or take pgd")
