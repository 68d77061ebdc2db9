"""The ways in which a run ends early: Ctrl-C and SIGTERM, cleanly, and a death without a word, told of by another."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

LONGEST_END = 8.0  # seconds: batch systems kill what has not ended some time after they asked it to


@dataclass
class Ending:
    """Which signal asked for the end, if one did."""

    number: int = 0

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for Ctrl-C, 143 for SIGTERM; 0 if nobody asked."""
        return 128 + self.number if self.number else 0

    def __str__(self) -> str:
        return "terminated" if self.number == signal.SIGTERM else "interrupted"


@contextmanager
def ending_cleanly() -> Iterator[Ending]:
    """Within this block the first Ctrl-C or SIGTERM raises KeyboardInterrupt, and no further one; yields which it was.

    The end itself takes some seconds; an impatient second Ctrl-C would break it off and leave processes behind. What is
    raised on the way may take the place of the interrupt, such as Ray's own errors as it goes down at the same moment.
    Where the end takes longer than `LONGEST_END`, as Ray takes 20 s to leave a cluster whose head is gone, the process
    ends at once: nothing is lost by that.
    """
    ending = Ending()
    limit: threading.Timer | None = None

    def end(number: int, _: FrameType | None) -> None:
        ending.number = number
        for ignored in before:
            signal.signal(ignored, signal.SIG_IGN)
        nonlocal limit
        limit = threading.Timer(LONGEST_END, os._exit, [ending.exit_code])
        limit.daemon = True
        limit.start()
        raise KeyboardInterrupt

    # an interrupt that is ignored from the start, as in a background job of a shell, stays so
    wanted = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in wanted}
    try:
        yield ending
    finally:
        if limit is not None:
            limit.cancel()
        else:
            for number, handler in before.items():
                signal.signal(number, handler)


_WAIT_FOR_DEATH = "import sys\nif not sys.stdin.buffer.read(1):\n    sys.stderr.write(sys.argv[1] + chr(10))"


@contextmanager
def last_words(text: str) -> Iterator[None]:
    """Have `text` written to stderr if this process dies within this block, whatever kills it.

    Ray ends the process of a driver at once when its cluster is gone, without an exception; the system does so where
    memory runs out. So a small process waits at the other end of a pipe.
    """
    command = [sys.executable, "-I", "-S", "-c", _WAIT_FOR_DEATH, text]
    # in a session of its own, so that Ctrl-C does not reach it
    listener = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert listener.stdin is not None
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            listener.stdin.write(b".")
            listener.stdin.close()
        listener.wait()
