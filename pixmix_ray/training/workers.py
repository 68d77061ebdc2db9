"""Several workers that train one network together, each on its share of every batch: what they tell each other.

Gradients are summed here, one exchange a batch, and not by torch's DistributedDataParallel: that takes one pass forward
and one back, through its own wrapper, and shares of equal size, and some losses here pass a network several times, an
attack goes back through it first, and the last batch of an epoch may not divide.

A machine that is about to be taken away (a spot instance, a preempted job of a batch system, a pod that is evicted)
sends SIGTERM and waits for some seconds or minutes. A training then saves its state at the next batch and goes on
elsewhere; see `pixmix_ray.errors.PreemptedError`.
"""

import signal
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pixmix_ray.errors import WorkError
from pixmix_ray.training.batches import BatchShare

_end_is_announced = threading.Event()


def watch_for_end() -> None:
    """Take SIGTERM as that notice from now on; to be called in the main thread of a process that trains.

    A second SIGTERM does what the first one did before.
    """
    before = signal.getsignal(signal.SIGTERM)

    def announced(number: int, frame: FrameType | None) -> None:
        _end_is_announced.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

    signal.signal(signal.SIGTERM, announced)


def is_told_to_end() -> bool:
    """Whether the notice has come."""
    return _end_is_announced.is_set()


WHOLE = BatchShare()
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TIMEOUT = timedelta(minutes=10)  # without an answer of the others: then one is taken to be lost


class Workers:
    """A training by one worker alone: everything that is told comes back as it is.

    Attributes:
        share: which of them this is.
        copies: how many of them have each picture of the batch that they are at: all, where there are fewer pictures.
    """

    def __init__(self, share: BatchShare = WHOLE, is_ending: Callable[[], bool] = is_told_to_end) -> None:
        """The worker of a share.

        Args:
            share: which of them this is.
            is_ending: whether this process was told that it will be ended soon.
        """
        self.share, self.copies, self._is_ending = share, 1, is_ending

    def are_ending(self) -> bool:
        """Whether one of them was told that it will be ended soon."""
        return self.is_any(self._is_ending())

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that reads and writes files."""
        return self.share.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of the tensors that all workers give, of one shape and type; it may be `values`, changed."""
        return values

    def content(self, of_first: bytes | None) -> bytes | None:
        """What the first worker gives; the others give nothing."""
        return of_first

    def is_any(self, flag: bool) -> bool:
        """Whether a worker says so."""
        return flag if self.share.of == 1 else bool(self.total(torch.tensor(int(flag))).item())

    def gathered(self, values: Tensor) -> Tensor:
        """The tensors that all workers give, of one shape and type, one after the other: (of, *shape)."""
        return self.joined(values.unsqueeze(0), self.share.of)

    def joined(self, values: Tensor, count: int) -> Tensor:
        """All rows (count, ...) of a batch, of which each worker gives its share, (n, ...)."""
        if self.share.of == 1 or count < self.share.of:  # it has them all
            return values
        rows = torch.zeros((count, *values.shape[1:]), dtype=values.dtype, device=values.device)
        rows[self.share.slice(count)] = values
        return laid_out_like(values, self.total(rows))


ALONE = Workers()
"""The only worker of a training."""


class ConnectedWorkers(Workers):
    """Workers in processes of their own, on one machine or several, joined by torch.distributed."""

    def __init__(self, share: BatchShare, is_ending: Callable[[], bool], store: Any, device: torch.device) -> None:
        """Wait until all have joined.

        Args:
            share: which of them this is.
            is_ending: as for one worker alone.
            store: where they meet, one of torch.distributed's stores.
            device: where this one trains.
        """
        super().__init__(share, is_ending)
        # tensors on the host, such as flags, go by gloo: a GPU need not be waited for
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=share.rank, world_size=share.of, timeout=TIMEOUT)

    def total(self, values: Tensor) -> Tensor:
        """See `Workers.total`."""
        distributed.all_reduce(values)
        return values

    def content(self, of_first: bytes | None) -> bytes | None:
        """See `Workers.content`."""
        size = self.total(torch.tensor(-1 if of_first is None and self.is_first else len(of_first or b"")))
        if size < 0:
            return None
        received = torch.zeros(int(size), dtype=torch.uint8)
        if of_first:
            received[:] = torch.frombuffer(bytearray(of_first), dtype=torch.uint8)
        distributed.broadcast(received, src=0)
        return received.numpy().tobytes()

    def close(self) -> None:
        """Leave; the others can no longer tell anything."""
        distributed.destroy_process_group()


def laid_out_like(values: Tensor, rows: Tensor) -> Tensor:
    """`rows`, channels last in memory where `values` are pictures that are."""
    is_last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return rows.contiguous(memory_format=torch.channels_last) if is_last else rows


def add_gradients(workers: Workers, parameters: Iterable[nn.Parameter]) -> None:
    """Make the gradients of all parameters that have some the sums of those of all workers."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = workers.total(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    for gradient, summed in zip(
        gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(summed.view_as(gradient))


class _Total(torch.autograd.Function):
    """`Workers.total` with gradients: what reaches the sum at any worker reaches what each of them gave."""

    @staticmethod
    def forward(ctx: Any, workers: Workers, values: Tensor) -> Tensor:
        ctx.workers = workers
        return workers.total(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, ctx.workers.total(gradients[0].clone(memory_format=torch.contiguous_format))


class _WholeBatchNorm(nn.Module):
    """Batch normalisation over the shares of all workers, with the tensors of the module in whose place it stands.

    Not torch's SyncBatchNorm, which refuses processors, so that no test would be of what is run.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, plain: _BatchNorm, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self.weight, self.bias, self.eps, self.momentum = plain.weight, plain.bias, plain.eps, plain.momentum
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(plain, name))

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (N, C, ...) with mean `bias` and standard deviation `weight` in each channel."""
        shape, whole = (1, -1, *[1] * (images.ndim - 2)), torch.promote_types(images.dtype, torch.float32)
        if not self.training and self.running_mean is not None and self.running_var is not None:
            mean, variance = self.running_mean, self.running_var
        else:
            mean, variance = self._statistics(images.to(whole), shape)
        scale = (variance + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        centred = (images.to(whole) - mean.view(shape)) * scale.view(shape)
        return (centred if self.bias is None else centred + self.bias.view(shape)).to(images.dtype)

    def _statistics(self, images: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) over the batches of all workers, by which the running ones go on."""
        axes = [axis for axis in range(images.ndim) if axis != 1]
        count = self._workers.total(torch.tensor(images.numel() // images.shape[1])).item()
        mean = _total(self._workers, images.sum(axes)) / count
        variance = _total(self._workers, (images - mean.view(shape)).square().sum(axes)) / count
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None, "it comes with the other two"
            with torch.no_grad():
                self.num_batches_tracked += 1
                rate = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()
                self.running_mean.lerp_(mean, rate)
                seen = count // self._workers.copies
                self.running_var.lerp_(variance * (seen / max(1, seen - 1)), rate)
        return mean, variance


def _total(workers: Workers, values: Tensor) -> Tensor:
    summed: Tensor = _Total.apply(workers, values)
    return summed


def normalised_together(network: nn.Module, workers: Workers) -> nn.Module:
    """The network, with batches normalised over all workers' shares: its tensors stay the same, by the same names.

    Raises:
        WorkError: a module normalises batches in a way of its own.
    """
    for parent in list(network.modules()) if workers.share.of > 1 else ():
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and type(child) in PLAIN:
                setattr(parent, name, _WholeBatchNorm(child, workers).train(child.training))
            elif isinstance(child, _BatchNorm):
                raise WorkError(
                    f"{type(child).__name__} normalises batches in its own way, which several workers cannot "
                    "share: set resources.trial.workers=1"
                )
    return network
