"""What runs used, for people: hours by method and benchmark, idle shares, and the estimate beside what it took."""

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
