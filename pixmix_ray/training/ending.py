"""Whether this process was told that it will be ended soon.

A machine that is about to be taken away (a spot instance, a preempted job of a batch system, a pod that is evicted)
sends SIGTERM and waits for some seconds or minutes. A training then saves its state at the next batch and goes on
elsewhere; see `pixmix_ray.errors.PreemptedError`.
"""

import signal
import threading
from types import FrameType

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
