"""Pipelines timed in turn, so that a machine that slows down slows all of them down."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager

import torch
from torch import Tensor

Pipeline = Callable[[], Tensor]
"""Augments pictures once; the first dimension of what it returns is their number."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pictures_per_second(
    pipelines: Mapping[str, Callable[[], Sized]], device: torch.device, *, repeats: int, seconds: float
) -> dict[str, float]:
    """The median rate of each pipeline, in pictures a second.

    Each is run twice before, once to warm up and once to find how often it must be repeated.

    Args:
        pipelines: what to time, by name; the length of what they return is the number of pictures.
        device: what to wait for before and after each measurement.
        repeats: measurements of each, made in turn.
        seconds: the least that one measurement takes.
    """
    counts = {name: _measure(pipeline, device, 1)[0] for name, pipeline in pipelines.items()}
    calls = {
        name: max(1, math.ceil(seconds / _measure(pipeline, device, 1)[1])) for name, pipeline in pipelines.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(repeats):
        for name, pipeline in pipelines.items():
            rates[name].append(counts[name] * calls[name] / _measure(pipeline, device, calls[name])[1])
    return {name: statistics.median(measured) for name, measured in rates.items()}


def _measure(pipeline: Callable[[], Sized], device: torch.device, calls: int) -> tuple[int, float]:
    """How many pictures the last of `calls` calls made, and the seconds that all of them took."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(calls):
        made = pipeline()
    _wait(device)
    return len(made), time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
