"""The hardware that trains and measures: its name, its cores, its memory given back, and how exactly it computes.

That is said by settings, and not left to PyTorch's defaults of the day.
"""

import gc
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")  # where this process is in there; a container may show its own as the root
CPU_ROOTS = (".", "unified", "cpu", "cpu,cpuacct")  # of version 2, of both side by side, and of version 1


def hardware(device: torch.device) -> str:
    """The device in words, such as "NVIDIA H200" or "AMD EPYC, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def usable_cores() -> int:
    """The cores that this process may use, 1 or more: those of its CPU affinity, within the quota of its cgroup."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *map(_quota, _groups())])))


def _groups() -> set[Path]:
    """The folders of the cgroups that this process is in: its own, and those around it up to the root."""
    paths = {Path()}
    with suppress(OSError):
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                own = Path(path.lstrip("/"))
                paths |= {own, *own.parents}
    return {CGROUP / root / path for root in CPU_ROOTS for path in paths}


def _quota(group: Path) -> float:
    """The cores that the files of a cgroup of either version grant; inf where it has none, or grants all."""
    texts = {}
    for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"):
        with suppress(OSError):
            texts[name] = (group / name).read_text(encoding="ascii").split()
    quota, period = texts.get("cpu.max") or [
        *texts.get("cpu.cfs_quota_us", ["-1"]),
        *texts.get("cpu.cfs_period_us", ["1"]),
    ]
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def free_memory(device: torch.device) -> None:
    """Give back what failed work still holds on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@lru_cache(maxsize=1)
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


Tf32 = Literal["nowhere", "convolutions", "everywhere"]
"""Where float32 is computed with 10 bits of mantissa, on GPUs that can; matrix products are beside convolutions."""


@contextmanager
def arithmetic(tf32: Tf32 = "convolutions", *, deterministic: bool = False) -> Iterator[None]:
    """Compute like this within the block, and then as before.

    Args:
        tf32: the default is what PyTorch did by itself up to 2.15.
        deterministic: take algorithms that give the same bits each time; an operation that has none is an error.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    before = _state()
    try:
        _set((tf32 != "nowhere", tf32 == "everywhere", False, deterministic, deterministic))
        yield
    finally:
        _set(before)


_State = tuple[bool, bool, bool, bool, bool]


def _state() -> _State:
    cudnn = torch.backends.cudnn
    return (
        cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )


def _set(wanted: _State) -> None:
    if wanted == _state():  # as mostly; to set it takes longer
        return
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = wanted[:2]
    cudnn.benchmark, cudnn.deterministic = wanted[2:4]  # benchmark picks algorithms by the clock
    torch.use_deterministic_algorithms(wanted[4])
