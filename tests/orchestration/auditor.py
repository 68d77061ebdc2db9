"""The auditor of the simulation: what was done, what each driver was told, and what must follow from that."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from pixmix_ray.errors import StorageError
from pixmix_ray.experiment.external import Source, cell_names
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration.executor import EpochDone, Event, TaskEnded, TrialEnded
from pixmix_ray.orchestration.retries import POLICIES, Cause, Problem
from pixmix_ray.planning.plan import Cell, Plan
from pixmix_ray.storage.local_files import FileStamp
from pixmix_ray.storage.store import DAMAGED, Store, cell_failure_file, cell_file, trial_file
from pixmix_ray.training.trial import Progress


class FaultError(AssertionError):
    """The auditor found something."""


class MemoryStore(Store):
    """A store in memory, whose disk may be full."""

    def __init__(self) -> None:
        self.uri, self.is_local, self.is_full = "memory", True, False
        self.content: dict[str, bytes] = {}
        self.records: dict[str, list[int]] = defaultdict(list)  # attempts that this driver recorded, by path

    def write(self, path: str, content: bytes) -> None:
        if self.is_full:
            raise StorageError("no space left on the simulated disk")
        self.content[path] = content
        if path.endswith("failed.json"):
            self.records[path].append(json.loads(content)["attempt"])

    def read(self, path: str) -> bytes | None:
        return self.content.get(path)

    def exists(self, path: str) -> bool:
        return path in self.content

    def delete(self, path: str) -> None:
        self.content.pop(path, None)

    def set_aside(self, path: str) -> str:
        if path in self.content:
            self.content[f"{path}{DAMAGED}"] = self.content.pop(path)
        return f"{path}{DAMAGED}"

    def files(self, prefix: str) -> set[str]:
        return {path for path in self.content if path.startswith(f"{prefix}/")}

    def stamps(self, prefix: str) -> dict[str, FileStamp]:
        return {path: FileStamp(modified=0, size=len(self.content[path])) for path in self.files(prefix)}


@dataclass
class Ledger:
    """What was done under all drivers, for the auditor."""

    epochs: Counter[str] = field(default_factory=Counter)  # that ended, by trial
    measured: Counter[str] = field(default_factory=Counter)  # by trial and benchmark
    redone: Counter[str] = field(default_factory=Counter)  # begun though it was there, likewise
    out_of_reach: Counter[str] = field(default_factory=Counter)  # workers that go on unheard, by trial
    damaged: Counter[str] = field(default_factory=Counter)  # checkpoints, by trial


class Told:
    """What one driver was told, and what must follow from it: a second count of the attempts."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.live: dict[int, tuple[Source, Sequence[Cell]]] = {}  # submissions that have not ended
        self.epoch: Counter[int] = Counter()  # the last one, by ticket
        self.causes: dict[str, list[Cause]] = defaultdict(list)  # since the last step of progress, by name
        self.records: dict[str, list[int]] = defaultdict(list)  # attempts that must be recorded, by path
        self.given_up: set[str] = set()
        self.to_be_made_again: set[str] = set()  # trials whose checkpoint was damaged

    def submitted(self, ticket: int, trial: Source, cells: Sequence[Cell] = ()) -> None:
        trains = [other for other, its_cells in self.live.values() if not its_cells]
        measured = {cell for _, its_cells in self.live.values() for cell in its_cells}
        if trial in trains or measured & set(cells):
            raise FaultError(f"work of {trial.id} was submitted while it was in flight")
        if cells and trial.id in self.to_be_made_again:
            raise FaultError(f"cells of {trial.id} were submitted before its damaged checkpoint was made again")
        self.live[ticket] = trial, cells

    def take(self, event: Event) -> None:
        """Count an event, if it is of a submission that has not ended."""
        trial, cells = self.live.get(event.ticket, (None, ()))
        if trial is None:
            return
        if isinstance(event, EpochDone) and event.progress.epoch > self.epoch[event.ticket]:
            self.epoch[event.ticket] = event.progress.epoch
            self.causes.pop(trial.id, None)
        elif isinstance(event, TrialEnded):
            del self.live[event.ticket]
            is_done = self.store.exists(trial_file(trial.id, "done.json"))
            cause = event.problem.cause if event.problem else Cause.MESSAGE_LOST
            self.to_be_made_again -= {trial.id} if is_done else set()
            self._ended(trial.id, trial_file(trial.id, "failed.json"), None if is_done else cause)
        elif isinstance(event, TaskEnded):
            del self.live[event.ticket]
            for cell, problem in self._ends(cells, event):
                path = cell_failure_file(trial.id, cell.run.key)
                self._ended(key_of(trial, cell.run), path, problem.cause if problem else None)

    def _ends(self, cells: Sequence[Cell], event: TaskEnded) -> list[tuple[Cell, Problem | None]]:
        if event.problem is None:
            return [(cell, result.problem) for cell, result in zip(cells, event.results, strict=False)]
        paths = [path_of(self.store, cell) for cell in cells]
        done = [path is not None and self.store.exists(path) for path in paths]
        first_left = [(cell, event.problem) for cell, is_done in zip(cells, done, strict=True) if not is_done][:1]
        return [*((cell, None) for cell, is_done in zip(cells, done, strict=True) if is_done), *first_left]

    def _ended(self, name: str, path: str, cause: Cause | None) -> None:
        if cause is None or cause is Cause.STORAGE:  # done, or the end of the run
            self.causes.pop(name, None)
            return
        self.causes[name].append(cause)
        policy, count = POLICIES[cause], self.causes[name].count(cause)
        if policy.is_charged:
            self.records[path].append(sum(POLICIES[earlier].is_charged for earlier in self.causes[name]))
        if count > policy.retries:
            self.given_up.add(name)
        elif cause is Cause.DAMAGED:
            self.to_be_made_again.add(name.partition("/")[0])


def key_of(trial: Source, run: BenchmarkRun) -> str:
    return f"{trial.id}/{run.key}"


def path_of(store: Store, cell: Cell) -> str | None:
    """Where a cell lies; none while its trial has no checkpoint."""
    return _path_of(cell.trial, cell.run, store.read(trial_file(cell.trial.id, "done.json")))


@cache
def _path_of(trial: Source, run: BenchmarkRun, checkpoint: bytes | None) -> str | None:
    store = MemoryStore()
    if checkpoint is not None:
        store.write(trial_file(trial.id, "done.json"), checkpoint)
    name = cell_names(store, [trial], [run]).get((trial.id, run.key))
    return None if name is None else cell_file(name)


class Audience:
    """The watcher of one driver: counts the ends."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()  # ends, by name
        self.given_up: Counter[str] = Counter()
        self.measuring: set[Cell] = set()

    def planned(self, plan: Plan) -> None: ...
    def epoch_done(self, trial: Trial, progress: Progress) -> None: ...
    def trial_done(self, trial: Trial) -> None: ...
    def trial_stopped(self, trial: Trial, epoch: int) -> None: ...
    def tick(self) -> None: ...

    def cell_started(self, cell: Cell) -> None:
        if cell in self.measuring:
            raise FaultError(f"{key_of(cell.trial, cell.run)} was started twice, and not said to wait in between")
        self.measuring.add(cell)

    def waits_again(self, work: Trial | Cell) -> None:
        self.measuring -= {work} if isinstance(work, Cell) else set()

    def trial_failed(self, trial: Trial, reason: str) -> None:
        self.given_up[trial.id] += 1

    def cell_done(self, cell: Cell, seconds: float) -> None:
        if seconds < 0:
            raise FaultError(f"{key_of(cell.trial, cell.run)} took {seconds} s")
        self.measuring.discard(cell)
        self.heard[key_of(cell.trial, cell.run)] += 1

    def cell_failed(self, cell: Cell, reason: str) -> None:
        self.measuring.discard(cell)
        self.heard[key_of(cell.trial, cell.run)] += 1
        self.given_up[key_of(cell.trial, cell.run)] += 1


def audit_attempts(told: Told, store: MemoryStore, audience: Audience) -> None:
    """Raise FaultError if other work was given up, or other attempts were recorded, than follows from the events."""
    if different := audience.given_up - Counter(told.given_up):
        raise FaultError(f"given up too early or twice: {sorted(different)}")
    if different := Counter(told.given_up) - audience.given_up:
        raise FaultError(f"not given up: {sorted(different)}")
    for path in told.records.keys() | store.records.keys():
        expected, found = told.records.get(path, []), store.records.get(path, [])
        if expected != found:
            raise FaultError(f"{path} was written for the attempts {found} instead of {expected}")


def audit_ends(audience: Audience, before: Plan) -> None:
    """Raise FaultError if the watcher did not hear of the end of each cell once."""
    for cell in before.cells_to_run():
        heard = audience.heard[key_of(cell.trial, cell.run)]
        if heard > 1 or (heard == 0 and not audience.given_up[cell.trial.id]):
            raise FaultError(f"the watcher heard {heard} times of the end of {key_of(cell.trial, cell.run)}")


def audit_work(ledger: Ledger, store: MemoryStore, after: Plan, audience: Audience, *, epochs: int) -> None:
    """Raise FaultError if something is not done, or wrong, or was done too often."""
    given_up = {name.partition("/")[0] for name in audience.given_up}
    without_checkpoint = {id_ for id_ in given_up if not store.exists(trial_file(id_, "done.json"))}
    for cell, state in after.cells.items():
        name = key_of(cell.trial, cell.run)
        if state == "done":
            assert cell.name is not None
            if store.content[cell_file(cell.name)] != name.encode():
                raise FaultError(f"{name} holds what is another's")
        elif not (audience.given_up[name] or cell.trial.id in without_checkpoint):
            raise FaultError(f"{name} is {state} and was not given up")
        again = ledger.measured[name] + ledger.redone[name] - 1
        if again > ledger.out_of_reach[cell.trial.id]:
            raise FaultError(f"{name} was measured {again} times too often")
    for trial in after.trials:
        extra = ledger.epochs[trial.id] - epochs * (1 + ledger.damaged[trial.id])
        if extra > 0:
            raise FaultError(f"{extra} epochs of {trial.id} were trained too often")
