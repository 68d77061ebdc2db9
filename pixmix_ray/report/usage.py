"""What runs used, for people: hours by method and benchmark, idle shares; and what a machine is used for right now."""

import shutil
import subprocess
from dataclasses import dataclass

import psutil
from rich.table import Table
from rich.text import Text

from pixmix_ray.planning.usage import Usage


def usage_table(usage: Usage) -> Table:
    """A row for the trials of each method and the cells of each benchmark: how many, and CPU and GPU hours."""
    table = Table(title=Text("cost so far, including failed work"), title_justify="left")
    for header in ("work", "of", "begun", "CPU hours", "GPU hours"):
        table.add_column(header, justify="left" if header in ("work", "of") else "right", no_wrap=True)
    for part in sorted(usage.spent, key=lambda part: (part.kind != "training", part.name)):
        hours = (f"{part.cpu_seconds / 3600:.3f}", f"{part.gpu_seconds / 3600:.3f}")
        table.add_row(part.kind, Text(part.name), str(part.count), *hours)
    return table


def idle_line(usage: Usage) -> str:
    """How much of the cluster no trial or cell had."""
    shares = {"CPUs": usage.idle_cpus, "GPUs": usage.idle_gpus}
    idle = ", ".join(f"{what} {share:.0%}" for what, share in shares.items() if share is not None)
    return f"idle: {idle or 'not known'} of {duration(usage.seconds)}"


def took_line(usage: Usage) -> str:
    """What the run was expected to take, beside what it took."""
    took = f"took {duration(usage.seconds)}, {duration(usage.work)} of work"
    if usage.expected_seconds is None or usage.expected_work is None:
        return f"{took}; there was no estimate, as nothing similar had been measured"
    return f"estimated {duration(usage.expected_seconds)}, {duration(usage.expected_work)} of work; {took}"


def duration(seconds: float) -> str:
    """Seconds, from ten minutes on hours."""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, from an hour on with hours.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


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
