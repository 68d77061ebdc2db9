"""The training loop: a plain function that yields epochs and knows neither Ray nor files.

Nothing waits for the device within an epoch but what a method itself needs. Where batches come from is in `batches`:
they are functions of (seed, epoch, number), so a run that goes on from a checkpoint, after an epoch or in the middle of
one, ends in the same weights as one that was never interrupted.

A loss is given a batch in parts, and what is drawn for the whole of it is the same in all of them.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pixmix_ray.errors import TrainingDivergedError
from pixmix_ray.experiment.recipe import Recipe, cosine
from pixmix_ray.hardware import arithmetic
from pixmix_ray.memory import keep_freed_memory
from pixmix_ray.methods import Method, MethodRun, Setup
from pixmix_ray.methods.base import WholeBatch, part_of
from pixmix_ray.models import evaluation_mode
from pixmix_ray.seeding import seed_globally
from pixmix_ray.training.batches import Batches, TrainingSource
from pixmix_ray.training.epoch_state import EpochState
from pixmix_ray.training.workers import ALONE, Workers, add_gradients, laid_out_like, normalised_together


def parts_of(
    images: Tensor, labels: Tensor, count: int, parts: int, workers: Workers
) -> Iterator[tuple[Tensor, Tensor, WholeBatch]]:
    """A worker's share of a batch in so many parts: pictures and labels, and where in the batch they are.

    Args:
        images: the share, (N, ...).
        labels: (N,).
        count: pictures of the whole batch.
        parts: at most N.
        workers: who have the other shares.
    """
    fetch = cache(lambda: (workers.joined(images, count), workers.joined(labels, count)))
    start = workers.share.slice(count).start
    for some, theirs in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        yield some, theirs, WholeBatch(count=count, rows=slice(start, start + len(theirs)), fetch=fetch)
        start += len(theirs)


@contextmanager
def together(batch: WholeBatch, workers: Workers) -> Iterator[None]:
    """Within this block the loss of a part of `batch` draws as that of the whole would."""
    with ExitStack() as stack:
        stack.enter_context(part_of(batch))
        if workers.share.of > 1:
            stack.enter_context(_DrawnTogether(batch))
        yield


class _DrawnTogether(TorchFunctionMode):
    """Within it, what a network drops is drawn for the batch of all workers, from generators of one state.

    Each takes what concerns its pictures, so that these lose what they lose where one worker sees the batch. It holds
    for dropout and for layers that are left out of some pictures (stochastic depth, which draws by `bernoulli_`), not
    within torch's fused attention. A pass over several views has one after the other, each of all pictures.
    """

    def __init__(self, batch: WholeBatch) -> None:
        super().__init__()
        self._count, self._rows = batch.count, batch.rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The function of torch, or the share of what it draws for all."""
        named = kwargs or {}
        if func in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d):
            return self._dropped(func, *args, **named)
        if func is torch.Tensor.bernoulli_ and self._divides(args[0]):
            return args[0].copy_(self._own(func(self._whole(args[0]), *args[1:], **named)))
        return func(*args, **named)

    def _dropped(
        self,
        dropout: Callable[..., Tensor],
        input: Tensor,  # torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or not p or not self._divides(input):
            return dropout(input, p, training, inplace)
        return input * self._own(dropout(self._whole(input), p))

    def _divides(self, values: Tensor) -> bool:
        return values.ndim > 0 and len(values) % (self._rows.stop - self._rows.start) == 0

    def _whole(self, values: Tensor) -> Tensor:
        """Ones in the place of all pictures' values, laid out like those of the share, (n, ...)."""
        views = len(values) // (self._rows.stop - self._rows.start)
        return laid_out_like(values, values.new_ones((views * self._count, *values.shape[1:])))

    def _own(self, values: Tensor) -> Tensor:
        return values.view(-1, self._count, *values.shape[1:])[:, self._rows].flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A state to go on from: after an epoch, or in the middle of one.

    Attributes:
        number: counted from 1.
        loss: mean training loss of the pictures that were shown in it.
        validation_error: on the pictures held out, a fraction in [0, 1]; none without any, or in the middle.
        seconds: wall time so far, with validation.
        tensors: all that the rest starts from, by name; the living tensors, so save them before going on.
        is_whole: whether the epoch has ended.
    """

    number: int
    loss: float
    validation_error: float | None
    seconds: float
    tensors: Mapping[str, Tensor]
    is_whole: bool = True


def train(
    network: nn.Module,
    method: Method,
    data: TrainingSource,
    recipe: Recipe,
    *,
    seed: int,
    after: tuple[int, Mapping[str, Tensor]] | None = None,
    workers: Workers = ALONE,
) -> Iterator[Epoch]:
    """Train `network` in place and yield each epoch as it ends; and its state in between, as the recipe says.

    Args:
        network: on the device of `data`.
        method: augments the batches and computes the loss.
        data: the training pictures.
        recipe: epochs, learning rate and so on.
        seed: names all random draws of the run.
        after: number of the last whole epoch (0: none), and `tensors` of the state to go on from.
        workers: that train it together; each calls this and yields the same, and when one is to be ended, its state.

    Raises:
        TrainingDivergedError: the loss of an epoch is not finite.
    """
    keep_freed_memory()
    normalised_together(network, workers)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
    decay = method.weight_decay if recipe.weight_decay is None else recipe.weight_decay
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.lr, recipe.momentum, weight_decay=decay, nesterov=True, fused=True
    )
    setup = Setup(
        device=data.device,
        height=data.height,
        data_version=data.version,
        seed=seed,
        size=recipe.side(data.height),
        crop=recipe.cropped,
        images=data.images,
    )
    run = method.start(setup)
    training = _Training(
        network=network,
        run=run,
        batches=data.batches(run, recipe, seed=seed, share=workers.share),
        recipe=recipe,
        optimizer=optimizer,
        seed=seed,
        is_due=recipe.checkpoint_due(),
        workers=workers,
    )
    done, begun = (0, {}) if after is None else after
    if after is not None:
        _restore(network, optimizer, run, begun)
    for number in range(done + 1, recipe.epochs + 1):
        yield from training.epoch(number, begun)
        begun = {}


@dataclass(frozen=True, kw_only=True)
class _Training:
    """One training at work: what `train` was given and made of it."""

    network: nn.Module
    run: MethodRun
    batches: Batches
    recipe: Recipe
    optimizer: torch.optim.SGD
    seed: int
    is_due: Callable[[int], bool]
    workers: Workers

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self.batches.num_pictures / self.recipe.batch_size)

    def _arithmetic(self) -> AbstractContextManager[None]:
        return arithmetic(self.recipe.tf32, deterministic=self.recipe.deterministic)

    def _half(self) -> AbstractContextManager[None]:
        is_half = self.recipe.precision == "bfloat16"
        return torch.autocast(self.batches.device.type, torch.bfloat16, enabled=is_half)

    def epoch(self, number: int, begun: Mapping[str, Tensor]) -> Iterator[Epoch]:
        """The states of an epoch, the last one after its end; `begun` may hold a place in it to go on from."""
        state = EpochState.first(self.batches.device, self.seed, number)
        state.restore(begun, self.workers.share)
        self.network.train()
        remaining = self.batches.batches(number, state.batches)
        while state.batches < self.steps:
            with state.at_work(), self._arithmetic():
                if not state.batches:
                    self.run.begin_epoch(self.network, number)
                self._train_on(remaining, state)
            yield self._state(state)

    def _train_on(self, remaining: Iterator[tuple[Tensor, Tensor]], state: EpochState) -> None:
        """Train on batches up to the end of the epoch, or until a state is due."""
        first, all_steps, recipe = state.batches, self.recipe.epochs * self.steps, self.recipe
        for images, labels in remaining:
            step = (state.number - 1) * self.steps + state.batches
            for group in self.optimizer.param_groups:
                group["lr"] = cosine(step, all_steps, recipe.lr, recipe.final_lr)
            self._differentiate(images, labels, state)
            self.optimizer.step()
            state.batches += 1
            if state.batches < self.steps and self._is_to_be_saved(state.batches - first):
                return

    def _differentiate(self, images: Tensor, labels: Tensor, state: EpochState) -> None:
        """Put the gradients of a batch's mean loss on the network: of the shares of all workers, part after part."""
        workers, parameters = self.workers, list(self.network.parameters())
        count = min(self.recipe.batch_size, self.batches.num_pictures - state.batches * self.recipe.batch_size)
        each, workers.copies = count // workers.share.of or 1, workers.share.of if count < workers.share.of else 1
        shown = count * workers.copies
        parts = min(self.recipe.accumulation, each)  # as many at every worker, however long its share
        summed: list[Tensor | None] = [None] * len(parameters)
        drawn_from = state.scalars.bit_generator.state
        for some, theirs, batch in parts_of(images, labels, count, parts, workers):
            if parts > 1:  # what is drawn for a batch is the same for all of its parts
                state.scalars.bit_generator.state = drawn_from
            with self._half(), together(batch, workers):
                loss = self.run.loss(self.network, some, theirs, state.scalars)
            self.optimizer.zero_grad(set_to_none=True)  # after the loss, which may have run the network backwards
            weighted = loss if len(theirs) == shown else loss * (len(theirs) / shown)
            weighted.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            state.loss_sum += loss.detach() * (len(theirs) * count / shown)
            if parts > 1:
                summed = [_plus(before, of.grad) for before, of in zip(summed, parameters, strict=True)]
        if parts > 1:
            for parameter, gradient in zip(parameters, summed, strict=True):
                parameter.grad = gradient
        if workers.share.of > 1:
            add_gradients(workers, parameters)

    def _is_to_be_saved(self, batches: int) -> bool:
        """Whether a state is due, so many batches after the last: by the first worker's clock, or as one will end."""
        is_due = self.workers.is_first and self.is_due(batches)
        return self.workers.is_any(is_due) or self.workers.are_ending()

    def _state(self, state: EpochState) -> Epoch:
        """What is yielded at a state: an epoch, or a part of one, to go on from."""
        is_whole = state.batches == self.steps
        shown = self.batches.num_pictures if is_whole else state.batches * self.recipe.batch_size
        total = self.workers.total(state.loss_sum.clone())
        state.loss_sum = total if self.workers.is_first else torch.zeros_like(total)
        mean_loss, error, started = total.item() / shown, None, time.perf_counter()
        if not math.isfinite(mean_loss):
            raise TrainingDivergedError(state.number, mean_loss)
        if is_whole and self.batches.num_held_out:
            with self._arithmetic():
                error = _error(self.network, self.batches, self.seed, self.workers)
        return Epoch(
            number=state.number,
            loss=mean_loss,
            validation_error=error,
            seconds=state.seconds + time.perf_counter() - started,
            tensors=_tensors(self.network, self.optimizer, self.run)
            | ({} if is_whole else state.tensors(self.workers)),
            is_whole=is_whole,
        )


@torch.no_grad()
def _error(network: nn.Module, batches: Batches, seed: int, workers: Workers) -> float:
    """The fraction of the pictures held out that the network takes for another class; it is not changed."""
    device = batches.device
    found = torch.zeros(2, dtype=torch.int64, device=device)  # wrong, and looked at
    # for networks that draw even in evaluation mode: as for dropout
    with evaluation_mode(network), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_globally(seed, "validation", device=device)
        for images, labels in batches.held_out():
            found[0] += (network(images).argmax(dim=1) != labels).sum()
            found[1] += len(labels)
    wrong, count = workers.total(found).tolist()
    return float(wrong / count)


def _plus(before: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    if before is None or gradient is None:
        return gradient if before is None else before
    return before.add_(gradient)


def _tensors(network: nn.Module, optimizer: torch.optim.SGD, run: MethodRun) -> dict[str, Tensor]:
    momentum = {
        f"momentum.{name}": optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in network.named_parameters()
        if "momentum_buffer" in optimizer.state[parameter]
    }
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    return weights | momentum | {f"method.{name}": tensor for name, tensor in run.tensors().items()}


def _restore(network: nn.Module, optimizer: torch.optim.SGD, run: MethodRun, tensors: Mapping[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    network.load_state_dict(part("network."))
    run.restore(part("method."))
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in tensors:
            saved = tensors[f"momentum.{name}"].to(parameter)
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(saved)
