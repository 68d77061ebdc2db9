"""Adversarial noise training: a small network learns the noise that the classifier reads worst (Rusak et al., 2020).

Reference: Rusak et al., "A simple way to make neural networks robust against diverse image corruptions", ECCV 2020,
section 3, and its code (bethgelab/game-of-noise), from which the numbers here are; in the PixMix paper table 10. The
noise generator sees no picture: four convolutions of 20 channels turn white noise z into z + g(z), one pixel at a time
(ANT1x1, the default) or with a neighbourhood of 3 × 3 (ANT3x3). The noise is scaled so that what is added after the
clip to [0, 1] has the L2 norm ε. For each batch:

    generator    one step of Adam up the classifier's cross-entropy, all pictures noisy
    classifier   one step of its own, half of the pictures clean, 30 % with the generator's noise, and 10 % each with
                 that of two earlier generators (experience replay)

A new generator, trained from scratch against the classifier as it is, takes the old one's place again and again. The
code does so every epoch and keeps for replay what each new one is once it was trained; so do the defaults. The
defaults of our versions before were `renew_every: 10` and `history: present`, the present generator of every epoch.

As in the code the classifier is in evaluation mode while the generator learns, so that step leaves its statistics of
batch normalisation, like its weights, as they are. The activations are the code's ReLU. Where we differ:

- ε is 135 at 224 pixels, the code's; for other sizes we take it in proportion to the root of the number of values.
- The code halts the classifier while a new generator learns (1000 batches). Here that generator learns beside the old
  one, from the same batches as they come, and replaces it after as many steps; the next one is begun at the first epoch
  after that, so in epochs of fewer batches than that a renewal takes several.
- The code starts from a pre-trained classifier; what a training starts from is not the method's to say here.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.attacks import as_at_224
from pixmix_ray.methods.base import METHODS, Method, MethodRun, Setup
from pixmix_ray.models import evaluation_mode
from pixmix_ray.seeding import torch_generator

Weights = dict[str, Tensor]

FEATURES = 20
_ROUNDS = 10  # of the search for the scale: 5 are enough for Gaussian noise, 8 for its fifth power
_TINY = 1e-12  # keeps quotients finite where nothing is left to scale

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


@METHODS.add("ant")
class Ant(Method):
    """Training on noise from a generator that learns against the classifier.

    Source: Rusak et al., ECCV 2020, section 3.

    Attributes:
        kernel: how far the generator looks: 1 is ANT1x1, 3 is ANT3x3.
        eps: ε, the L2 norm of the noise with pixels in [0, 1]; None is 135 at 224 pixels, and 19.3 at 32.
        lr: learning rate of the generator.
        clean: the share of a batch that stays clean.
        current: the share with the present generator's noise; the rest goes to earlier ones.
        replayed: how many earlier generators share the rest of a batch; 0 gives the rest to the present one.
        renew_every: epochs after which a new generator is trained from scratch; None never does.
        renew_steps: batches that it learns from before it replaces the old one.
        renew_lr: its learning rate until then.
        history: which generators are kept for replay: each as it was once retrained, or the present one at the start of
            every epoch.
    """

    summary: ClassVar[str] = "half of the pictures get noise from a generator that learns against the network"
    source: ClassVar[str] = "Rusak et al., ECCV 2020, section 3"

    kernel: Literal[1, 3] = 1
    eps: Positive | None = None
    lr: Positive = 1e-4
    clean: Share = 0.5
    current: Share = 0.3
    replayed: Annotated[int, Field(ge=0)] = 2
    renew_every: Annotated[int, Field(ge=1)] | None = 1
    renew_steps: Annotated[int, Field(ge=1)] = 1000
    renew_lr: Positive = 5e-4
    history: Literal["retrained", "present"] = "retrained"

    @model_validator(mode="after")
    def _is_one_batch(self) -> Self:
        if self.clean + self.current > 1 + 1e-9:
            raise ValueError(
                f"clean and current must be 1 or less together, got {self.clean} and {self.current}: lower one of them"
            )
        return self

    def radius(self, images: Tensor) -> float:
        """ε for pictures like `images` (N, 3, H, W)."""
        return self.eps or as_at_224(135.0, images)

    def start(self, setup: Setup) -> "AntRun":
        """The classifier's opponent, untrained."""
        return AntRun(self, setup)


class AntRun(MethodRun):
    """Adversarial noise training at work: the present generator, the earlier ones, and the next while it learns."""

    def __init__(self, method: Ant, setup: Setup) -> None:
        super().__init__(method)
        self.ant, self.setup = method, setup
        self.opponent = self._new(0, method.lr)
        self.successor: Opponent | None = None
        self.earlier: list[Weights] = []

    def begin_epoch(self, network: nn.Module, number: int) -> None:
        """Keep the present generator if the history is of these, and every `renew_every` epochs begin a new one."""
        if self.ant.history == "present":
            self._keep(self.opponent.weights)
        is_due = self.ant.renew_every is not None and number > 1 and (number - 1) % self.ant.renew_every == 0
        if is_due and self.successor is None:
            self.successor = self._new(number, self.ant.renew_lr)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The classifier's cross-entropy on clean and noisy pictures, a scalar, after one step of the generator."""
        generator, eps = torch.Generator(images.device).manual_seed(int(rng.integers(2**63))), self.ant.radius(images)
        self.opponent.learn(network, images, labels, eps, generator)
        if self.successor is not None:
            self.successor.learn(network, images, labels, eps, generator)
            if self.successor.steps >= self.ant.renew_steps:
                if self.ant.history == "retrained":
                    self._keep(self.successor.weights)
                self.opponent, self.successor = Opponent(self.successor.weights, self.ant.lr), None
        return F.cross_entropy(network(self.noisy(images, rng, generator)), labels)

    @torch.no_grad()
    def noisy(self, images: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """The batch as the classifier gets it: noisy pictures first, then the clean ones; float32 (N, 3, H, W)."""
        mixed, eps = images.clone(), self.ant.radius(images)
        sources, counts = [self.opponent.weights], [round(len(images) * (1 - self.ant.clean))]
        # in the first epoch the only earlier one of "present" is the generator before its first step
        if self.ant.replayed and len(self.earlier) > (self.ant.history == "present"):
            chosen = rng.choice(len(self.earlier), min(self.ant.replayed, len(self.earlier)), replace=False)
            sources += [self.earlier[index] for index in chosen]
            first = min(round(len(images) * self.ant.current), counts[0])
            counts = np.linspace(first, counts[0], len(sources)).round().astype(int).tolist()
        start = 0
        for weights, end in zip(sources, counts, strict=True):
            mixed[start:end] = add_noise(images[start:end], make_noise(weights, images[start:end], generator), eps)
            start = end
        return mixed

    def tensors(self) -> dict[str, Tensor]:
        """The generators, with what their optimisers remember, and the earlier ones stacked by epoch."""
        tensors = {f"opponent.{name}": tensor for name, tensor in self.opponent.tensors().items()}
        if self.successor is not None:
            tensors |= {f"successor.{name}": tensor for name, tensor in self.successor.tensors().items()}
        for name in self.opponent.weights if self.earlier else ():
            tensors[f"earlier.{name}"] = torch.stack([weights[name] for weights in self.earlier])
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""

        def part(prefix: str) -> Weights:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.opponent.restore(part("opponent."))
        self.successor = None
        if successor := part("successor."):
            self.successor = self._new(0, self.ant.renew_lr)
            self.successor.restore(successor)
        earlier = {name: t.to(self.setup.device).unbind() for name, t in part("earlier.").items()}
        self.earlier = [dict(zip(earlier, weights, strict=True)) for weights in zip(*earlier.values(), strict=True)]

    def _keep(self, weights: Weights) -> None:
        self.earlier.append({name: weight.detach().clone() for name, weight in weights.items()})

    def _new(self, number: int, lr: float) -> "Opponent":
        generator = torch_generator(self.setup.seed, "ant", number, device=self.setup.device)
        return Opponent(new_weights(self.ant.kernel, generator), lr)


class Opponent:
    """A noise generator and its optimiser.

    Attributes:
        weights: of the four convolutions, by name.
    """

    def __init__(self, weights: Weights, lr: float) -> None:
        self.weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        self.optimizer = torch.optim.Adam(self.weights.values(), lr, maximize=True)

    @property
    def steps(self) -> int:
        """How many steps the generator has learned."""
        return int(self.optimizer.state[self.weights["1.bias"]].get("step", 0))  # Adam counts on the host

    def learn(
        self, network: nn.Module, images: Tensor, labels: Tensor, eps: float, generator: torch.Generator
    ) -> Tensor:
        """One step up the cross-entropy of `network` on noisy `images`, which is returned as it was before the step."""
        noisy = add_noise(images, make_noise(self.weights, images, generator), eps)
        with evaluation_mode(network):
            loss = F.cross_entropy(network(noisy), labels)
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        for weight, gradient in zip(self.weights.values(), gradients, strict=True):
            weight.grad = gradient
        self.optimizer.step()
        return loss.detach()

    def tensors(self) -> Weights:
        """The weights, and for each what Adam remembers."""
        moments = {
            f"{name}.{key}": tensor
            for name, weight in self.weights.items()
            for key, tensor in self.optimizer.state[weight].items()
        }
        return {name: weight.detach() for name, weight in self.weights.items()} | moments

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        for name, weight in self.weights.items():
            weight.copy_(tensors[name])
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if f"{name}.{key}" in tensors:  # not before the first step
                    saved = tensors[f"{name}.{key}"].to("cpu" if key == "step" else weight.device)
                    self.optimizer.state[weight][key] = saved.clone()


def new_weights(kernel: int, generator: torch.Generator) -> Weights:
    """An untrained noise generator, on the device of `generator`: N(0, 0.01) and no bias, so almost white noise.

    Args:
        kernel: side of the second convolution's kernel, 1 or 3; that of the others is 1.
        generator: where the draws come from.
    """
    sides, channels = [1, kernel, 1, 1], [3, FEATURES, FEATURES, FEATURES, 3]
    weights: Weights = {}
    for layer, side in enumerate(sides, start=1):
        shape = (channels[layer], channels[layer - 1], side, side)
        drawn = torch.randn(shape, generator=generator, device=generator.device)
        weights |= {f"{layer}.weight": drawn.mul_(0.01), f"{layer}.bias": drawn.new_zeros(channels[layer])}
    return weights


def make_noise(weights: Weights, images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of the generator `weights` for `images`, of any length: float32 (N, 3, H, W).

    Args:
        weights: as made by `new_weights`.
        images: (N, 3, H, W); only shape and device matter.
        generator: where the white noise comes from, on the same device.
    """
    border = weights["2.weight"].shape[-1] // 2  # drawn as well, so that the noise is the same up to the picture's edge
    count, channels, height, width = images.shape
    shape = (count, channels, height + 2 * border, width + 2 * border)
    white = torch.empty(shape, device=images.device, memory_format=torch.channels_last)  # convolved 5 times as fast
    white.normal_(generator=generator)
    # not under autocast: its cache would still hold the weights from before the generator's step
    with torch.autocast(images.device.type, enabled=False):
        features = white
        for layer in (1, 2, 3):
            features = F.conv2d(features, weights[f"{layer}.weight"], weights[f"{layer}.bias"]).relu_()
        added = F.conv2d(features, weights["4.weight"], weights["4.bias"])
    return white[:, :, border : border + height, border : border + width] + added


def add_noise(images: Tensor, noise: Tensor, eps: float) -> Tensor:
    """clip(images + η noise) with η ≥ 0 such that each moves by `eps`, float32 (N, 3, H, W) in [0, 1].

    A value moves by min(η |noise|, the space it has), so the squared distance is concave in η² and linear where no
    further value reaches the border: Newton's method comes from below and meets the root exactly. Where even η = ∞ is
    not enough, every value goes to the border. The gradient reaches `noise` also by way of η.

    Args:
        images: float32 (N, 3, H, W) in [0, 1]; not changed.
        noise: (N, 3, H, W).
        eps: the L2 distance.
    """
    space, power = torch.where(noise >= 0, 1 - images, images).square(), noise.square()
    is_cut = torch.zeros_like(power, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(_ROUNDS):
            is_cut = power * _squared_scale(space, power, is_cut, eps) > space
    return (images + noise * _squared_scale(space, power, is_cut, eps).sqrt()).clamp(0, 1)


def _squared_scale(space: Tensor, power: Tensor, is_cut: Tensor, eps: float) -> Tensor:
    """η², (N, 1, 1, 1), if the values of `is_cut` move by all the space they have and the others by η |noise|."""
    used = (space * is_cut).sum((1, 2, 3), keepdim=True)
    free = (power * ~is_cut).sum((1, 2, 3), keepdim=True)
    return (eps**2 - used).clamp_min(_TINY) / free.clamp_min(_TINY)
