"""How exactly a GPU computes: said by settings, and not left to PyTorch's defaults of the day."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Tf32 = Literal["nowhere", "convolutions", "everywhere"]
"""Where float32 is computed with 10 bits of mantissa, on GPUs that can; matrix products are beside convolutions."""


@contextmanager
def arithmetic(tf32: Tf32 = "convolutions", *, deterministic: bool = False) -> Iterator[None]:
    """Compute like this within the block, and then as before.

    Args:
        tf32: the default is what PyTorch did by itself up to 2.15.
        deterministic: take algorithms that give the same bits each time; an operation that has none is an error.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    before = _state()
    try:
        _set((tf32 != "nowhere", tf32 == "everywhere", False, deterministic, deterministic))
        yield
    finally:
        _set(before)


_State = tuple[bool, bool, bool, bool, bool]


def _state() -> _State:
    cudnn = torch.backends.cudnn
    return (
        cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )


def _set(wanted: _State) -> None:
    if wanted == _state():  # as mostly; to set it takes longer
        return
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = wanted[:2]
    cudnn.benchmark, cudnn.deterministic = wanted[2:4]  # benchmark picks algorithms by the clock
    torch.use_deterministic_algorithms(wanted[4])
