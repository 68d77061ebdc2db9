"""What runs used of their cluster, as kept in `runs/RUN.json`: hours by method and benchmark, and how much was idle."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pixmix_ray.experiment.resources import Share
from pixmix_ray.storage.store import Store, run_file

Kind = Literal["training", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What went into the trials of one method, or the cells of one benchmark.

    Attributes:
        kind: training or evaluation.
        name: of the method or benchmark.
        count: of pieces of work: trials or cells, each time that one was begun.
        seconds: wall time of all of them, summed.
        cpu_seconds: seconds × share of CPUs.
        gpu_seconds: seconds × share of GPUs.
    """

    kind: Kind
    name: str
    count: int = 0
    seconds: float = 0
    cpu_seconds: float = 0
    gpu_seconds: float = 0

    def plus(self, seconds: float, share: Share, count: int = 1) -> "Spent":
        """With more work of this kind."""
        return replace(
            self,
            count=self.count + count,
            seconds=self.seconds + seconds,
            cpu_seconds=self.cpu_seconds + seconds * share.cpus,
            gpu_seconds=self.gpu_seconds + seconds * share.gpus,
        )


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one run, or several together, used.

    Attributes:
        seconds: wall time of the run.
        cpu_seconds: that the nodes had to offer meanwhile.
        gpu_seconds: likewise.
        spent: on each method and benchmark.
        expected_seconds: what the run's wall time was estimated at before it began; None: not known then.
        expected_work: likewise for the seconds of all its trials and cells.
    """

    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    spent: tuple[Spent, ...]
    expected_seconds: float | None = None
    expected_work: float | None = None

    @property
    def work(self) -> float:
        """Seconds of all trials and cells."""
        return sum(part.seconds for part in self.spent)

    @property
    def idle_cpus(self) -> float | None:
        """The share of the CPUs' time that no trial or cell had, in [0, 1]; None without CPUs."""
        return _idle(self.cpu_seconds, sum(part.cpu_seconds for part in self.spent))

    @property
    def idle_gpus(self) -> float | None:
        """Likewise for the GPUs."""
        return _idle(self.gpu_seconds, sum(part.gpu_seconds for part in self.spent))


def _idle(offered: float, taken: float) -> float | None:
    return None if offered <= 0 else max(0.0, 1 - taken / offered)


def write_usage(store: Store, run: str, usage: Usage) -> None:
    """Keep what the run called `run` used so far."""
    store.write_json(run_file(run), asdict(usage))


def read_usage(store: Store, run: str) -> Usage | None:
    """What the run called `run` used; None if there was no such run.

    Raises:
        ResultsError: its file is damaged.
    """
    path = run_file(run)
    values = store.read_json(path)
    try:
        return None if values is None else _usage(values)
    except (KeyError, TypeError) as error:
        raise store.damaged(path, error) from None


def _usage(values: Mapping[str, Any]) -> Usage:
    return Usage(**{**values, "spent": tuple(Spent(**part) for part in values["spent"])})


def last_usage(store: Store) -> Usage | None:
    """What the run that began last used; None if none was accounted for.

    Raises:
        ResultsError: its file is damaged.
    """
    names = _runs(store)
    return read_usage(store, names[-1]) if names else None


def total_usage(store: Store) -> Usage | None:
    """What all runs into this results folder used together; None if none was accounted for.

    Raises:
        ResultsError: the file of a run is damaged.
    """
    found = [usage for usage in (read_usage(store, name) for name in _runs(store)) if usage is not None]
    return _together(found) if found else None


def _runs(store: Store) -> list[str]:
    """The names of the runs in the order in which they began."""
    return sorted(path.rpartition("/")[2].removesuffix(".json") for path in store.files("runs"))


def _together(usages: Iterable[Usage]) -> Usage:
    sums: dict[str, float] = defaultdict(float)
    spent: dict[tuple[Kind, str], Spent] = {}
    for usage in usages:
        for name in ("seconds", "cpu_seconds", "gpu_seconds"):
            sums[name] += getattr(usage, name)
        for part in usage.spent:
            before = spent.get((part.kind, part.name), Spent(kind=part.kind, name=part.name))
            spent[part.kind, part.name] = replace(
                before,
                count=before.count + part.count,
                seconds=before.seconds + part.seconds,
                cpu_seconds=before.cpu_seconds + part.cpu_seconds,
                gpu_seconds=before.gpu_seconds + part.gpu_seconds,
            )
    return Usage(**sums, spent=tuple(spent[key] for key in sorted(spent)))
