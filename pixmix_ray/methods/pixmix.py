"""PixMix: pictures are mixed, round by round, with a complex picture and with augmented copies of themselves.

Reference: Hendrycks et al., "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures", CVPR 2022,
section 2.2 and figure 2, and its code of 2022-07-05. One picture goes like this:

    mixed = augment(image) or image                             each with probability 1/2
    repeat r times, r uniform on 0..k:
        partner = augment(image) or the mixing picture          each with probability 1/2, the copy a fresh one
        mixed = additive or multiplicative mix with partner     each with probability 1/2, clipped to [0, 1]

`augment` is one operation, drawn uniformly, at a level from U(0.1, severity). Augmented copies are uint8, `mixed` stays
float32. The clip and the levels are the code's; the figure leaves them out.

Here a whole batch goes at once: `PixMix.draw` makes all random choices, `mix` carries them out. Copies of one operation
are made together, and so are the mixes of one round and kind; the sizes of these groups are the one thing for which the
host waits for the device. On a processor large pictures go one after the other: what is made of one stays in its cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from pixmix_ray.methods.base import METHODS, Method, MethodRun, Setup, matching
from pixmix_ray.mixing_sets import PictureBank, Pictures, shorter_side_for
from pixmix_ray.mixing_sets.feature_visualizations.feature_visualization import visualize
from pixmix_ray.seeding import torch_generator
from pixmix_ray.transforms import ALL, NINE, OPERATIONS, UNCHANGED, blending, operation_parameter
from pixmix_ray.transforms.choice import chunk_slices, sort_into_groups

_SETS = {"all": ALL, "nine": NINE}
_NAMES_BY_SIZE: dict[object, str] = {13: "all", 9: "nine"}
_CHUNK = 2**21  # values; on a processor, the states of more pictures than this leave the caches
_LARGE = 2**16  # values; on a processor, pictures of more go one after the other: a quarter faster at 224 pixels
_COPY_SHARE = {"both": 0.5, "augmented": 1.0, "pictures": 0.0, "iterative": 0.5}


def _name_of_set(value: object) -> object:
    return _NAMES_BY_SIZE.get(value, value) if isinstance(value, int) else value


@dataclass(frozen=True, kw_only=True)
class Draws:
    """All random choices for N pictures and k rounds, as tensors on one device.

    Column 0 of the copies (N, 1 + k) is what `mixed` starts from, column 1 + j the partner of round j. Choices are
    drawn for every round, whether it takes place or not.
    """

    rounds: Tensor
    """int64 (N,), 0 to k: how many rounds take place."""
    is_copy: Tensor
    """bool (N, 1 + k): an augmented copy instead of the image (column 0) or the mixing picture (the others)."""
    operation: Tensor
    """int64 (N, 1 + k): which operation makes the copy."""
    level: Tensor
    """float64 (N, 1 + k): the operation's level."""
    is_negative: Tensor
    """bool (N, 1 + k): whether a geometric operation goes the other way."""
    is_product: Tensor
    """bool (N, k): multiplicative instead of additive."""
    a: Tensor
    """float32 (N, k): the coefficient of `mixed`."""
    b: Tensor
    """float32 (N, k): the coefficient of the partner."""

    def of(self, pictures: slice) -> "Draws":
        """The choices for some of the pictures."""
        return Draws(**{field.name: getattr(self, field.name)[pictures] for field in fields(self)})


@METHODS.add("pixmix")
class PixMix(Method):
    """Training on mixes with fractals, feature visualizations or other pictures.

    Source: Hendrycks et al., CVPR 2022, section 2.2; the defaults are the paper's for CIFAR. For ImageNet its code uses
    beta 4 and severity 1.

    Attributes:
        k: the largest number of rounds; it is drawn from 0 to k.
        beta: β > 0; the larger, the closer to the image.
        severity: levels are drawn up to this, at most 10.
        operations: "all" thirteen (the paper's recipe), or the "nine" that CIFAR-C does not contain; also as numbers.
        partner: "both" augmented copies of the image and pictures of the mixing set; or one of the paper's table 5:
            "augmented" copies alone (Mix Input), "pictures" alone (Mix Aug), or "iterative", which is both, with
            feature visualizations of the network in training for the pictures.
        visualizations: for "iterative": how many, new ones each epoch.
        visualization_steps: for "iterative": steps of gradient ascent for each; 128 times 32 of them cost as much as
            training on 4,096 pictures.
    """

    summary: ClassVar[str] = "mixed in rounds with complex pictures and augmented copies"
    source: ClassVar[str] = "Hendrycks et al., CVPR 2022, section 2.2"

    k: Annotated[int, Field(ge=0)] = 4
    beta: Annotated[float, Field(gt=0)] = 3.0
    severity: Annotated[float, Field(gt=0, le=10)] = 3.0
    operations: Annotated[Literal["all", "nine"], BeforeValidator(_name_of_set)] = "all"
    partner: Literal["both", "augmented", "pictures", "iterative"] = "both"
    visualizations: Annotated[int, Field(ge=1)] = 128
    visualization_steps: Annotated[int, Field(ge=1)] = 32

    def identity(self) -> dict[str, Any]:
        """The settings that change an outcome; those of "iterative" change that variant's alone."""
        unused = set() if self.partner == "iterative" else {"visualizations", "visualization_steps"}
        return {name: value for name, value in super().identity().items() if name not in unused}

    @property
    def needs_pictures(self) -> bool:
        """Whether pictures of a mixing set are mixed in."""
        return self.partner in ("both", "pictures")

    @property
    def has_memory(self) -> bool:
        """Whether it makes its own pictures, of the network in training."""
        return self.partner == "iterative"

    def start(self, setup: Setup) -> MethodRun:
        """The method at work, which for "iterative" makes its own pictures; see `Method.start`."""
        if self.partner != "iterative":
            return super().start(setup)
        return IterativeRun(self, setup, count=self.visualizations, steps=self.visualization_steps)

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The mixed pictures: float32 (N, 3, H, W) in [0, 1]; see `Method.augment`.

        Raises:
            RequestError: `pictures` are missing or not of the same shape as `images`.
        """
        partners, operations = images, _SETS[self.operations]
        if pictures is not None or self.partner != "augmented":
            partners = matching("pixmix", images, pictures, "give a mixing set, or partner: augmented")
        return mix(images, partners, self.draw(len(images), generator), operations)

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """The random choices for `count` pictures, on the device of `generator`."""
        copies = 1 + self.k
        widths = [1, copies, copies, copies, copies, self.k, self.k, self.k, self.k]
        uniforms = torch.rand(count, sum(widths), dtype=torch.float64, generator=generator, device=generator.device)
        number, copy, operation, level, sign, product, beyond, for_a, for_b = torch.split(uniforms, widths, dim=1)
        copy_share = torch.full((copies,), _COPY_SHARE[self.partner], device=generator.device)
        copy_share[0] = 0.5
        a, b = blending.coefficients(for_a, for_b, beyond < 0.5, self.beta)
        return Draws(
            rounds=(number.squeeze(1) * copies).long(),
            is_copy=copy < copy_share,
            operation=(operation * len(_SETS[self.operations])).long(),
            level=0.1 + (self.severity - 0.1) * level,
            is_negative=sign < 0.5,
            is_product=product < 0.5,
            a=a,
            b=b,
        )


class IterativeRun(MethodRun):
    """The "iterative" variant at work: the mixing pictures are visualizations of the network in training.

    Table 5: "Iterative mixes with feature visualizations computed on the fly for the current network". How often and
    how many the paper does not say. Here `count` new ones are made before each epoch, from the network as it is then,
    so that a training that goes on from a checkpoint makes the same ones.
    """

    def __init__(self, method: Method, setup: Setup, *, count: int, steps: int) -> None:
        super().__init__(method)
        self._seed, self._device, self._size = setup.seed, setup.device, setup.size
        self._count, self._steps = count, steps
        self._bank: PictureBank | None = None
        self._made: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The pictures of this epoch, from which it goes on in its middle."""
        return {} if self._made is None else {"visualizations": self._made}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with the pictures of `tensors`."""
        if "visualizations" in tensors:
            self._take(tensors["visualizations"])

    def begin_epoch(self, network: nn.Module, number: int) -> None:
        """Make the pictures of this epoch."""
        generator = torch_generator(self._seed, "visualizations", number, device=self._device)
        side = shorter_side_for(self._size)
        self._take(visualize(network, count=self._count, size=side, steps=self._steps, generator=generator))

    def _take(self, made: Tensor) -> None:
        """Mix with crops of `made`, uint8 (N, 3, H, H)."""
        self._made, count, side = made, len(made), made.shape[2]
        sides = np.full(count, side, dtype=np.int64)
        self._bank = Pictures(
            pixels=made.permute(0, 2, 3, 1).reshape(-1, 3).cpu().numpy(),
            offsets=np.arange(count, dtype=np.int64) * side * side,
            heights=sides,
            widths=sides,
            version="",
        ).to(self._device)

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        """The images mixed with crops of this epoch's pictures; see `Method.augment`."""
        if self._bank is not None:
            pictures = self._bank.crops(len(images), images.shape[3], generator)
        return super().augment(images, pictures, generator)


def mix(images: Tensor, pictures: Tensor, draws: Draws, operations: tuple[str, ...]) -> Tensor:
    """The mixes that `draws` stand for: float32 (N, 3, H, W) in [0, 1].

    Args:
        images: uint8 (N, 3, H, W).
        pictures: uint8 (N, 3, H, W), the mixing picture of each image.
        draws: the random choices, on the same device.
        operations: the names that `draws.operation` counts through.
    """
    if images.device.type == "cpu" and images.shape[1:].numel() > _LARGE:
        return _mix_one_by_one(images, pictures, draws, operations)
    chunks = chunk_slices(slice(0, len(images)), images, _CHUNK) or [slice(0, 0)]
    mixed = [_mix_in_groups(images[chunk], pictures[chunk], draws.of(chunk), operations) for chunk in chunks]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def _mix_one_by_one(images: Tensor, pictures: Tensor, draws: Draws, operations: tuple[str, ...]) -> Tensor:
    """What `mix` returns, a picture after the other."""
    mixed = torch.empty(images.shape)
    rounds, is_product = draws.rounds.tolist(), draws.is_product.tolist()
    is_copy, operation = draws.is_copy.tolist(), draws.operation.tolist()
    parameters = [operation_parameter(name, draws.level, draws.is_negative, images.shape[3]) for name in operations]

    def partner(row: slice, column: int) -> Tensor:
        """The augmented copy or the mixing picture of a round, uint8 (1, 3, H, W); for 0 what is begun with."""
        if not is_copy[row.start][column]:
            return pictures[row] if column else images[row]
        number = operation[row.start][column]
        name, parameter = operations[number], parameters[number][row, column]
        return images[row] if parameter.item() == UNCHANGED.get(name) else OPERATIONS[name](images[row], parameter)

    for number in range(len(images)):
        row = slice(number, number + 1)
        state = mixed[row].copy_(partner(row, 0)).div_(255)
        for round_ in range(rounds[number]):
            blend_ = blending.multiply_ if is_product[number][round_] else blending.add_
            blend_(state, partner(row, round_ + 1), draws.a[row, round_], draws.b[row, round_])
    return mixed


def _mix_in_groups(images: Tensor, pictures: Tensor, draws: Draws, operations: tuple[str, ...]) -> Tensor:
    """What `mix` returns, copies of one operation and mixes of one round and kind together, on any device."""
    count, k = draws.is_product.shape
    num_operations, num_groups = len(operations), len(operations) + 2 * k
    takes_place = torch.arange(k, device=images.device) < draws.rounds.unsqueeze(1)
    is_wanted = draws.is_copy.clone()
    is_wanted[:, 1:] &= takes_place
    copy = torch.where(is_wanted, draws.operation, num_groups)
    step = torch.arange(num_operations, num_groups, 2, device=images.device) + draws.is_product
    step = torch.where(takes_place, step, num_groups)
    order, parts = sort_into_groups(torch.cat([copy.flatten(), step.flatten()]), num_groups)
    copy_parts, num_copies = parts[:num_operations], parts[num_operations - 1].stop
    copies, steps = order[:num_copies], order[num_copies : parts[-1].stop] - copy.numel()
    step_parts = [slice(part.start - num_copies, part.stop - num_copies) for part in parts[num_operations:]]

    # all that is mixed: images, mixing pictures, augmented copies in the order of `copies`
    sources = images.new_empty((2 * count + num_copies, *images.shape[1:]))
    sources[:count], sources[count : 2 * count] = images, pictures
    _augment(sources, copies, draws, dict(zip(operations, copy_parts, strict=True)))
    source = torch.arange(count, device=images.device).unsqueeze(1).repeat(1, 1 + k)
    source[:, 1:] += count
    source.view(-1)[copies] = torch.arange(2 * count, len(sources), device=images.device)
    return _blend(sources, source, draws, steps, step_parts)


def _blend(sources: Tensor, source: Tensor, draws: Draws, steps: Tensor, parts: list[slice]) -> Tensor:
    """The mixes, of one round after the other.

    Args:
        sources: uint8 (S, 3, H, W), all that is mixed.
        source: int64 (N, 1 + k), which of these a mix starts from, and its partner in each round.
        draws: the random choices.
        steps: int64, places in (N, k), flattened: the sums of the first round, its products, the sums of the second...
        parts: which of `steps` each of these groups is.
    """
    (count, k), device = draws.is_product.shape, sources.device
    # the states: first what the mixes start from, then what each round makes of those that it changes
    states = torch.empty((count + len(steps), *sources.shape[1:]), device=device)
    states[:count].copy_(sources.index_select(0, source[:, 0])).div_(255)
    row, column = steps // max(k, 1), steps % max(k, 1)
    partner, a, b = source[row, column + 1], draws.a[row, column], draws.b[row, column]
    state = torch.arange(count, device=device)  # where that of each picture is
    for sums, products in zip(parts[::2], parts[1::2], strict=True):
        before = states[: count + sums.start]
        for whole, blend_ in ((sums, blending.add_), (products, blending.multiply_)):
            for part in chunk_slices(whole, sources):
                mixed = states[count + part.start : count + part.stop]
                torch.index_select(before, 0, state[row[part]], out=mixed)
                blend_(mixed, sources.index_select(0, partner[part]), a[part], b[part])
        state[row[sums.start : products.stop]] = torch.arange(len(before), count + products.stop, device=device)
    return states.index_select(0, state)


def _augment(sources: Tensor, copies: Tensor, draws: Draws, parts: dict[str, slice]) -> None:
    """Fill the end of `sources` with augmented copies of its first rows, those of one operation at a time."""
    count, slots = draws.is_copy.shape
    row, level, is_negative = copies // slots, draws.level.flatten()[copies], draws.is_negative.flatten()[copies]
    made = sources[2 * count :]
    for name, whole in parts.items():
        for part in chunk_slices(whole, sources):
            parameter = operation_parameter(name, level[part], is_negative[part], sources.shape[3])
            made[part] = OPERATIONS[name](sources.index_select(0, row[part]), parameter)
