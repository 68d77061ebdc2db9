"""Ctrl-C and SIGTERM: both end a run cleanly, once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as batch systems do before they kill it."""


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Within this block the first Ctrl-C raises KeyboardInterrupt, the first SIGTERM Terminated, and no further one.

    The end itself takes some seconds; an impatient second Ctrl-C would break it off and leave processes behind.
    """

    def end(number: int, _: FrameType | None) -> None:
        for ignored in before:
            signal.signal(ignored, signal.SIG_IGN)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    # an interrupt that is ignored from the start, as in a background job of a shell, stays so
    wanted = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in wanted}
    ended = False
    try:
        yield
    except KeyboardInterrupt:
        ended = True
        raise
    finally:
        if not ended:
            for number, handler in before.items():
                signal.signal(number, handler)
