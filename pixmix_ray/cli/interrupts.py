"""The ways in which a run ends early: Ctrl-C and SIGTERM, cleanly, and a death without a word, told of by another."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
