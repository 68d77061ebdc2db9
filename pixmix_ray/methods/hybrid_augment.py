"""HybridAugment++: low frequencies of one picture with high ones of another, amplitudes of one with phases of another.

Reference: Yucel, Cinbis and Duygulu, "HybridAugment++: Unified Frequency Spectra Perturbations for Model Robustness",
ICCV 2023, section 3, and its code (MKYucel/hybrid_augment 4759a53), from which the numbers here are. A low pass is a
Gaussian blur of 3 x 3 pixels with σ = 0.5, a high pass is the picture less that.

    single   x = operation(x); with probability 1/2 that is all, else y = operation(x) and each of the low passes of
             x and y, as 8 bit, goes through: z = operation(z); with probability 1/2 that is all, else z' = operation(z)
             and the amplitudes of one of both with the phases of the other. Then low(x) + high(y), or low(y) + high(x)
    paired   with probability 0.6 for the whole batch: low(x_i) + high(x_π(i)), π a permutation of the batch; before, in
             60 % of the batches, low(x_i) keeps its phases and gets the amplitudes of low(x_π'(i))

Operations are AugMix's nine at a level from U(0.1, 3), each drawn anew; spectra are those over channels, rows and
columns together. The loss is the cross-entropy of the single-augmented batch plus that of its paired mixture: two views
a step. HybridAugment, without ++, leaves the amplitudes and phases as they are. The code trains for 200 epochs.

Where values leave the range of 8 bits, the code's conversions wrap around modulo 256, by accident; so does `overflow:
wrap`, the default. We differ in that crop and flip come first, as with all methods here, not after `single`.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmix_ray.methods.base import METHODS, Method, WholeBatch, whole_batch
from pixmix_ray.methods.chains import at_level
from pixmix_ray.transforms import NINE, apply_each, to_float

SIGMA = 0.5  # of the low pass, in pixels
LEVELS = (0.1, 3.0)
PAIRED, RECOMBINED = 0.6, 0.6  # shares of the batches


@METHODS.add("hybrid_augment")
class HybridAugment(Method):
    """Training on pictures and on mixtures of their frequencies with those of others in the batch.

    Source: Yucel et al., ICCV 2023, section 3; the defaults are HybridAugment++ in both forms.

    Attributes:
        single: whether each picture is changed by itself.
        paired: whether the batch is also mixed, and its mixture trained on as well: twice the work.
        recombine: whether amplitudes and phases are exchanged (HybridAugment++) or not (HybridAugment).
        overflow: of values beyond 8 bits in `single`: they "wrap", as in the code, or one may "clip" them.
    """

    summary: ClassVar[str] = "low frequencies of one picture with high ones of another, amplitudes with phases"
    source: ClassVar[str] = "Yucel et al., ICCV 2023, section 3"

    single: bool = True
    paired: bool = True
    recombine: bool = True
    overflow: Literal["wrap", "clip"] = "wrap"

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The pictures after `single`: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`."""
        if not self.single:
            return to_float(images)
        first = operated(images, generator)
        mixed = _halves(len(images), generator).nonzero().squeeze(1)
        chosen = first.index_select(0, mixed)
        halves = [to_float(chosen), to_float(operated(chosen, generator))]
        low = [low_pass(half) for half in halves]
        high = [half - blurred for half, blurred in zip(halves, low, strict=True)]
        if self.recombine:
            low = [to_float(self._recombined(self.to_bytes(255 * blurred), generator)) for blurred in low]
        is_first = _halves(len(mixed), generator).view(-1, 1, 1, 1)
        hybrid = torch.where(is_first, low[0] + high[1], low[1] + high[0])
        return to_float(first.index_copy(0, mixed, self.to_bytes(255 * hybrid)))

    def _recombined(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What becomes of each low pass, uint8 (N, 3, H, W)."""
        first = operated(images, generator)
        second = operated(first, generator)
        is_reversed = _halves(len(images), generator).view(-1, 1, 1, 1)
        amplitudes, phases = torch.where(is_reversed, second, first), torch.where(is_reversed, first, second)
        exchanged = self.to_bytes(recombined(amplitudes.double(), phases.double()))
        return torch.where(_halves(len(images), generator).view(-1, 1, 1, 1), exchanged, first)

    def to_bytes(self, values: Tensor) -> Tensor:
        """Values in grey levels truncated to uint8; beyond that range as `overflow` says."""
        return (values.clamp(0, 255) if self.overflow == "clip" else values).to(torch.int32).to(torch.uint8)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        """The cross-entropy of the pictures, with `paired` plus that of their mixtures, a scalar; see `Method.loss`."""
        if not self.paired:
            return super().loss(network, images, labels, rng)
        logits = network(torch.cat([images, self.mixed(images, whole_batch(images, labels), rng)]))
        return F.cross_entropy(logits[: len(labels)], labels) + F.cross_entropy(logits[len(labels) :], labels)

    @torch.no_grad()
    def mixed(self, images: Tensor, batch: WholeBatch, rng: np.random.Generator) -> Tensor:
        """The paired mixture of a batch, float32 (N, 3, H, W), not clipped; 40 % of the batches as they are."""
        if rng.random() >= PAIRED:
            return images
        all_images, _ = batch.fetch()
        all_low = low_pass(all_images)
        low, high = all_low[batch.rows], (all_images - all_low).index_select(0, batch.shuffled(rng, images.device))
        if self.recombine and rng.random() < RECOMBINED:
            low = recombined(all_low.index_select(0, batch.shuffled(rng, images.device)), low)
        return low + high


def low_pass(images: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) after a Gaussian blur of 3 x 3 pixels, mirrored at the border; H and W 2 or more."""
    side = float(np.exp(-0.5 / SIGMA**2))
    taps = images.new_tensor([side, 1, side]) / (1 + 2 * side)
    kernel = torch.outer(taps, taps).expand(images.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), kernel, groups=images.shape[1])


def recombined(amplitudes: Tensor, phases: Tensor) -> Tensor:
    """Pictures with the amplitudes of the first and the phases of the second, both (N, 3, H, W) of one float dtype.

    The spectrum of a picture is that over channels, rows and columns; what is left of imaginary parts is dropped.
    """
    axes = (1, 2, 3)
    spectrum = torch.polar(torch.fft.fftn(amplitudes, dim=axes).abs(), torch.fft.fftn(phases, dim=axes).angle())
    made: Tensor = torch.fft.ifftn(spectrum, dim=axes).real
    return made


def operated(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture, uint8 (N, 3, H, W), after one of AugMix's nine operations, at a level from U(0.1, 3)."""
    count, device = len(images), generator.device
    choice = torch.randint(len(NINE), (count,), generator=generator, device=device)
    size, sign = torch.rand(2, count, dtype=torch.float64, generator=generator, device=device)
    level = LEVELS[0] + (LEVELS[1] - LEVELS[0]) * size
    return apply_each([at_level(name) for name in NINE], choice, images, torch.where(sign < 0.5, -level, level))


def _halves(count: int, generator: torch.Generator) -> Tensor:
    """Bool (N,), each true with probability 1/2."""
    return torch.rand(count, generator=generator, device=generator.device) < 0.5
