"""Shards drawn by other processes of this machine, as many at once as there are cores for us.

They are programs of their own, started by their command line and not by `multiprocessing`, whose way of starting would
run a user's script a second time, into the lock that is held here. They end when this process does.
"""

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import torch

from pixmix_ray.hardware import usable_cores
from pixmix_ray.mixing_sets.drawing.shard_work import Progress, ShardedWork

MOST_PROCESSES = 32
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.stdin.buffer.readline())
from pixmix_ray.mixing_sets.drawing.shard_processes import serve
serve()
"""


def draw_in_processes(work: ShardedWork, numbers: Sequence[int], progress: Progress) -> None:
    """Have other processes draw shards, but where one GPU draws, or one core, or what draws them cannot be sent."""
    processes = min(len(numbers), usable_cores(), MOST_PROCESSES)
    if processes < 2 or (work.uses_network and torch.cuda.is_available()):
        return
    try:
        sent = pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError):  # a closure, or a class of a script
        return
    if b"__main__" in sent:
        return
    children = [_started(sent, numbers[first::processes]) for first in range(processes)]
    try:
        while any(child.poll() is None for child in children):
            time.sleep(0.1)
            progress.tell()
    finally:
        for child in children:
            child.kill()
            child.wait()
    failed = [child.returncode for child in children if child.returncode != 0]
    if failed:
        progress.report(f"drawing {work.name}: {len(failed)} of {processes} processes ended with code {failed[0]}")


def _started(sent: bytes, numbers: Sequence[int]) -> "subprocess.Popen[bytes]":
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
        pickle.dump((sent, list(numbers), os.getpid()), stream)
    return child


def serve() -> None:
    """Draw the shards that the process that started this one asks for on stdin, and end with it."""
    # safe: the pipe is private, and what comes through it our own parent wrote; no file is ever unpickled
    sent, numbers, parent = pickle.load(sys.stdin.buffer)
    work: ShardedWork = pickle.loads(sent)
    for number in numbers:
        if os.getppid() != parent:  # it was killed
            return
        work.make(number)
