"""Freed memory is kept."""

import platform
import resource

import pytest
import torch

from pixmix_ray.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_arrays_of_a_batch_are_not_mapped_afresh_each_time() -> None:
    keep_freed_memory()
    faults = []
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [torch.zeros(512, 3, 32, 32) for _ in range(3)]
        del arrays
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert max(faults[6:]) < 500  # 4,608 pages of 4 kB
