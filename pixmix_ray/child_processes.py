"""Work done by other processes of this machine: a function that is called with one item after the other.

They are programs of their own, started by their command line and not by `multiprocessing`, whose way of starting would
run a user's script a second time, into whatever lock is held here. They end when this process does.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.stdin.buffer.readline())
from pixmix_ray.child_processes import serve
serve()
"""


def start_children(
    function: Callable[[T], object], items: Sequence[T], processes: int, *, niceness: int = 0
) -> "list[subprocess.Popen[bytes]]":
    """Have processes call a function with items, the first with the first one and so on; `end_children` ends them.

    Args:
        function: of a module, or an object of such a class that can be called.
        items: each is done by one process; what the function returns is dropped.
        processes: at most so many, each of one thread.
        niceness: by which they let others go first, 0 to 19.

    Returns:
        The processes, that exit with 0 once their items are done; none where the work cannot be sent, such as a closure
        or a class of a script.
    """
    try:
        sent = pickle.dumps((function, list(items)))
    except (pickle.PicklingError, AttributeError, TypeError):
        return []
    if b"__main__" in sent:
        return []
    count = max(0, min(processes, len(items)))
    return [_started(sent, slice(first, None, count), niceness) for first in range(count)]


def end_children(children: "Sequence[subprocess.Popen[bytes]]") -> None:
    """End processes wherever they are."""
    for child in children:
        child.kill()
    for child in children:
        child.wait()


def _started(sent: bytes, which: slice, niceness: int) -> "subprocess.Popen[bytes]":
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **single},
    )
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin as stream:  # one that ended at once is found by its exit code
        stream.write(json.dumps(sys.path).encode() + b"\n")
        pickle.dump((sent, which, os.getpid(), niceness), stream)
    return child


def serve() -> None:
    """Do the items that the process that started this one asks for on stdin, and end with it."""
    # safe: the pipe is private, and what comes through it our own parent wrote; no file is ever unpickled
    sent, which, parent, niceness = pickle.load(sys.stdin.buffer)
    os.nice(niceness)
    function, items = pickle.loads(sent)
    for item in items[which]:
        if os.getppid() != parent:  # it was killed
            return
        function(item)
