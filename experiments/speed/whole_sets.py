"""The measurement: how long the whole of CIFAR-C, C-bar and P takes to make, on some processes at once.

Every corruption at all five severities and every sequence of P at its first difficulty, as a benchmark makes them when
nothing is read from files: in batches, each thrown away before the next. The pictures are generated fractals, since
nothing but their size and number matters.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from experiments.speed.corruptions import VARIANTS, Family
from experiments.speed.document import Grid, processors, today, versions
from experiments.speed.material import pictures_at_rest
from pixmix_ray.benchmarks.base import batches
from pixmix_ray.corruptions import BAR_NAMES, OFFICIAL, PERTURBATIONS, corrupt, frost_pictures, perturb
from pixmix_ray.errors import DataError
from pixmix_ray.settings import Settings

SEVERITIES = range(1, 6)
SHARE = 1000  # pictures that a process makes of one condition before it asks for more
TITLES = {"c": "C", "c_bar": "C-bar", "p": "P"}
SLOWEST = 3  # names that the report ends a row with


class WholeSetsRequest(Settings):
    """What to make.

    Attributes:
        family: C, C-bar or P; none means all three.
        size: side of the pictures in pixels, which decides between the sets of CIFAR and of ImageNet.
        pictures: test pictures.
        processes: that make them at once, one thread each.
    """

    family: Family | None = None
    size: Literal[32, 224] = 32
    pictures: Annotated[int, Field(ge=1)] = 10_000
    processes: Annotated[int, Field(ge=1)] = 2

    @property
    def families(self) -> tuple[Family, ...]:
        """Those that are made."""
        return ("c", "c_bar", "p") if self.family is None else (self.family,)


@dataclass(frozen=True, kw_only=True)
class WholeSetTime:
    """What one family took.

    Attributes:
        family: which.
        made: pictures, or sequences of P.
        seconds: from the first to the last, of all processes at once.
        work: name -> seconds of processor time for it, summed over the processes.
    """

    family: Family
    made: int
    seconds: float
    work: dict[str, float]


def whole_set_times(request: WholeSetsRequest, tell: Callable[[str], None]) -> list[WholeSetTime]:
    """The times of the families, one after the other; `tell` takes lines about what happens."""
    found = []
    with ProcessPoolExecutor(request.processes, get_context("spawn"), partial(torch.set_num_threads, 1)) as pool:
        list(pool.map(_warm_up, range(request.processes)))  # imports are no part of it
        for family in request.families:
            jobs = list(_jobs(request, family, tell))
            started, work, made = time.perf_counter(), dict[str, float](), 0
            for job, seconds in zip(jobs, pool.map(_make, jobs), strict=True):
                work[job.name] = work.get(job.name, 0) + seconds
                made += job.stop - job.start
            found.append(WholeSetTime(family=family, made=made, seconds=time.perf_counter() - started, work=work))
            tell(f"{TITLES[family]}: {found[-1].seconds:.0f} s")
    return found


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Some pictures of one condition: severity 0 for a sequence."""

    name: str
    severity: int
    size: int
    start: int
    stop: int


def _jobs(request: WholeSetsRequest, family: Family, tell: Callable[[str], None]) -> Iterator[_Job]:
    variant = VARIANTS[request.size]
    names: Sequence[str] = {"c": OFFICIAL, "c_bar": BAR_NAMES[variant], "p": PERTURBATIONS[variant]}[family]
    for name in names:
        if name == "frost":
            try:
                frost_pictures()
            except DataError as error:
                tell(f"left out: {error}")
                continue
        for severity in (0,) if family == "p" else SEVERITIES:
            for start in range(0, request.pictures, SHARE):
                stop = min(start + SHARE, request.pictures)
                yield _Job(name=name, severity=severity, size=request.size, start=start, stop=stop)


def _make(job: _Job) -> float:
    """Make pictures and throw them away; returns the seconds of processor time."""
    images = _pictures(job.size, job.stop - job.start)
    indices = np.arange(job.start, job.stop)
    started = time.process_time()
    for rows in batches(len(indices), job.size):
        if job.severity:
            corrupt(images[rows], job.name, job.severity, indices=indices[rows], variant=VARIANTS[job.size])
        else:
            perturb(images[rows], job.name, indices=indices[rows], variant=VARIANTS[job.size])
    return time.process_time() - started


_pictures = lru_cache(maxsize=2)(pictures_at_rest)  # drawing them is no part of it


def _warm_up(_: int) -> None:
    corrupt(_pictures(32, SHARE), "contrast", 1)


def whole_sets_heading(request: WholeSetsRequest) -> str:
    """How the times were measured, in Markdown."""
    words = [] if request.family is None else ["--family", request.family]
    words += ["--size", str(request.size), "--pictures", str(request.pictures), "--processes", str(request.processes)]
    return (
        f"`python -m experiments.speed whole-sets {' '.join(words)}`: {processors('cpu', 1)}, "
        f"{request.processes} processes; {versions(('numpy', 'scipy'))}; {today()}. Five severities of each corruption "
        f"and the sequences of P, of {request.pictures:,} pictures, made in batches and thrown away."
    )


def whole_sets_grid(times: Sequence[WholeSetTime]) -> Grid:
    """A row for each family, and one for all."""
    rows = [
        (TITLES[one.family], f"{one.made:,}", f"{one.seconds:.0f}", f"{sum(one.work.values()):.0f}", _slowest(one.work))
        for one in times
    ]
    if len(times) > 1:
        seconds, work = (sum(one.seconds for one in times), sum(sum(one.work.values()) for one in times))
        rows.append(("all", f"{sum(one.made for one in times):,}", f"{seconds:.0f}", f"{work:.0f}", ""))
    return Grid(
        columns=("set", "made", "seconds", "processor seconds", "most of them"),
        numbers=frozenset({1, 2, 3}),
        rows=tuple(rows),
    )


def _slowest(work: dict[str, float]) -> str:
    total = sum(work.values())
    first = sorted(work.items(), key=lambda one: -one[1])[:SLOWEST]
    return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in first)
