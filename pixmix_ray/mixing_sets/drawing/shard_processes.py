"""Shards drawn by other processes of this machine, as many at once as there are cores for us."""

import time
from collections.abc import Sequence

import torch

from pixmix_ray.child_processes import end_children, start_children
from pixmix_ray.hardware import usable_cores
from pixmix_ray.mixing_sets.drawing.shard_work import Progress, ShardedWork

MOST_PROCESSES = 32


def draw_in_processes(work: ShardedWork, numbers: Sequence[int], progress: Progress) -> None:
    """Have other processes draw shards, but where one GPU draws, or one core, or what draws them cannot be sent."""
    processes = min(len(numbers), usable_cores(), MOST_PROCESSES)
    if processes < 2 or (work.uses_network and torch.cuda.is_available()):
        return
    children = start_children(work.make, numbers, processes)
    try:
        while any(child.poll() is None for child in children):
            time.sleep(0.1)
            progress.tell()
    finally:
        end_children(children)
    failed = [child.returncode for child in children if child.returncode != 0]
    if failed:
        progress.report(f"drawing {work.name}: {len(failed)} of {processes} processes ended with code {failed[0]}")
