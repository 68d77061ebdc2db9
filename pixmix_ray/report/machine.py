"""What this machine's memory and GPUs are used for right now, for the live view of a run."""

import shutil
import subprocess
from dataclasses import dataclass

import psutil

SECONDS = 2.0  # nvidia-smi takes a tenth; a driver in trouble may take for ever
QUERY = "utilization.gpu,memory.used,memory.total"


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """One GPU: `busy` is the share of the last second in which it computed, in [0, 1]; memory in bytes."""

    busy: float
    memory_used: int
    memory_total: int


@dataclass(frozen=True, kw_only=True)
class MachineUse:
    """This machine: memory in bytes, and its GPUs in the order of the driver; none where there is no nvidia-smi."""

    memory_used: int
    memory_total: int
    gpus: tuple[GpuUse, ...]

    def line(self) -> str:
        """For people, such as "memory 9.1 of 24.0 GB; GPU 0: 87 %, 12.0 of 80.0 GB"."""
        gpus = [
            f"GPU {number}: {100 * gpu.busy:.0f} %, {_of(gpu.memory_used, gpu.memory_total)}"
            for number, gpu in enumerate(self.gpus)
        ]
        return "; ".join([f"memory {_of(self.memory_used, self.memory_total)}", *gpus])


def machine_use() -> MachineUse:
    """What is in use now."""
    memory = psutil.virtual_memory()
    return MachineUse(memory_used=memory.total - memory.available, memory_total=memory.total, gpus=_gpus())


def _gpus() -> tuple[GpuUse, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # the view goes on without them
        return ()
    return parse_gpus(shown)


def parse_gpus(shown: str) -> tuple[GpuUse, ...]:
    """The GPUs in what nvidia-smi prints, a line each: percent, MiB used, MiB in all; lines of another form are none.

    >>> parse_gpus("87, 12288, 81920")
    (GpuUse(busy=0.87, memory_used=12884901888, memory_total=85899345920),)
    """
    found = []
    for line in shown.splitlines():
        numbers = line.split(",")
        if len(numbers) == 3 and all(number.strip().isdigit() for number in numbers):
            busy, used, total = map(int, numbers)
            found.append(GpuUse(busy=busy / 100, memory_used=used * 2**20, memory_total=total * 2**20))
    return tuple(found)


def _of(used: int, total: int) -> str:
    return f"{used / 2**30:.1f} of {total / 2**30:.1f} GB"
