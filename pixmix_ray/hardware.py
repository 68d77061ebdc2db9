"""The hardware that trains and measures, in words."""

import math
import os
import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")  # of this process, as a container or batch system shows it


def hardware(device: torch.device) -> str:
    """The device in words, such as "NVIDIA H200" or "AMD EPYC, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def usable_cores() -> int:
    """The cores that this process may use, 1 or more: those of its CPU affinity, within the quota of its cgroup."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, _quota(CGROUP))))


def _quota(groups: Path) -> float:
    """The cores that containers and batch systems grant by the files of a cgroup of either version; inf for all."""
    texts = {}
    for name in ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"):
        with suppress(OSError):
            texts[name] = (groups / name).read_text(encoding="ascii").split()
    quota, period = texts.get("cpu.max") or [
        *texts.get("cpu/cpu.cfs_quota_us", ["-1"]),
        *texts.get("cpu/cpu.cfs_period_us", ["1"]),
    ]
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


@lru_cache(maxsize=1)
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
