"""The batch of which a loss is given a part: where several workers train together, or one takes a batch in parts.

A loss that draws for all pictures of a batch, such as which of them are mixed with each other, draws for the whole of
it here and takes what concerns its part. So the losses of all parts add up to that of one worker who sees the batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class WholeBatch:
    """A batch, and which of its pictures a loss is given.

    Attributes:
        count: how many pictures it has.
        rows: those of them that the loss is given.
        fetch: returns all its pictures (N, ...) and labels (N,). The pictures of other workers come over the network,
            so all parts ask for them or none does.
    """

    count: int
    rows: slice
    fetch: Callable[[], tuple[Tensor, Tensor]]

    def shuffled(self, rng: np.random.Generator, device: torch.device) -> Tensor:
        """For each picture that the loss is given, int64 (n,), its place in a random order of the batch."""
        order = torch.from_numpy(rng.permutation(self.count)[self.rows])
        return order.to(device, non_blocking=True)


_current: ContextVar[WholeBatch | None] = ContextVar("_current", default=None)


@contextmanager
def part_of(batch: WholeBatch) -> Iterator[None]:
    """Within this block a loss is given a part of `batch`."""
    token = _current.set(batch)
    try:
        yield
    finally:
        _current.reset(token)


def whole_batch(images: Tensor, labels: Tensor) -> WholeBatch:
    """The batch that the pictures (n, ...) and labels (n,) of a loss are a part of; or all of, if nothing says more."""
    found = _current.get()
    if found is None:
        return WholeBatch(count=len(labels), rows=slice(0, len(labels)), fetch=lambda: (images, labels))
    return found
