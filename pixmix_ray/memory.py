"""Whether an error means that memory ran out, on the CPU or on a GPU."""

SIGNS = (
    "DefaultCPUAllocator:",  # "can't allocate memory", "not enough memory": torch has no class of its own for it
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""In the texts of torch's RuntimeErrors, of which torch.OutOfMemoryError is one."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller batches, or another machine, may help against `error`.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes do not match"))
    (True, False)
    """
    if isinstance(error, MemoryError):  # numpy's own is one
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
