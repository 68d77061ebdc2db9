"""Memory: keeping what is freed, telling that it ran out, and not looking for garbage where many objects are made."""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h

SIGNS = (
    "DefaultCPUAllocator:",  # "can't allocate memory", "not enough memory": torch has no class of its own for it
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DataLoader worker (pid",  # "is killed by signal", "exited unexpectedly": of a process that reads pictures
)
"""In the texts of torch's RuntimeErrors, of which torch.OutOfMemoryError is one."""


@cache  # it holds for the process
def keep_freed_memory() -> None:
    """Let the C library keep freed arrays of up to 32 MB, 256 MB in all.

    By default glibc gives arrays of a batch's size back to the system, and each new one is mapped page by page: half of
    the time that flip, crop and normalisation take.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest that it takes
        library.mallopt(M_TRIM_THRESHOLD, 2**28)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller batches, or another machine, may help against `error`.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not match"))
    (True, False)
    """
    if isinstance(error, MemoryError):  # numpy's own is one
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For the time of a block, or of a function decorated with it, that makes hundreds of thousands of objects to stay.

    Python looks through all of them again and again as they become more: more than half of the time of such a block.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
