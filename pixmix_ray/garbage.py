"""Leaving out Python's searches for garbage while many objects are made that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
