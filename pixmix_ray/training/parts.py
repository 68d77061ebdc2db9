"""The parts of a batch that losses are given, and how what is drawn for the whole of it is the same in all of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pixmix_ray.methods.whole_batch import WholeBatch, part_of
from pixmix_ray.training.workers import Workers, laid_out_like


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
