"""Random histories of a run, without Ray, processes, files or waiting: the real loop on a simulated cluster.

One seed decides a history: how long work takes; which messages are late, doubled, out of order or lost; which workers,
nodes and drivers die, and when; when the disk is full; when nodes come and go; when the clock jumps; which checkpoints
are damaged and which work fails by itself. An auditor then looks at what lies in the store and at what was done:

- all is done, but for what fails by itself and what died too often without a step of progress, and the run ends;
- every file holds what it should; nothing that is done is done again, but where a message was lost, and a trainer that
  dies loses no more than the epoch that it was at;
- the watcher hears of each end once, and every failed attempt is recorded with its number.

Does it find faults? Planted ones (`tests/orchestration/test_simulation.py`): no retry, an event forgotten, a cell counted
twice, attempts that are not reset by progress, storage not looked at after a death, tickets not looked at, a checkpoint
not made again. Each is found within a few hundred histories, most within ten.

A history that fails is one number:  python -m tests.orchestration.simulation 1234
Many of them, on two cores:          python -m tests.orchestration.simulation --histories 10000
"""

import heapq
import itertools
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial

from pixmix_ray.errors import StorageError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration.executor import (
    Capacity,
    EpochDone,
    Event,
    TaskEnded,
    TaskStarted,
    TrialEnded,
    TrialStarted,
)
from pixmix_ray.orchestration.loop import Failure, Loop
from pixmix_ray.orchestration.retries import POLICIES, Cause, Problem
from pixmix_ray.orchestration.work import Evaluated
from pixmix_ray.planning.cell_names import cell_names
from pixmix_ray.planning.plan import Cell, Plan, Prices, plan_of
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import DAMAGED, FileStamp, Store, cell_file, trial_file
from pixmix_ray.training.trial import Progress

TRIALS, CELLS, EPOCHS = 20, 5, 3
MOST_POLLS = 40_000  # of one driver; a history takes some hundreds
NO_PRICES = Prices(epochs={}, cells={})
DYING = (Cause.WORKER_DIED, Cause.NODE_DIED, Cause.KILLED_FOR_MEMORY)


class FaultError(AssertionError):
    """The auditor found something."""


class DriverKilled(BaseException):
    """The driver is gone in the middle of whatever it did."""


class MemoryStore(Store):
    """A store in memory, whose disk may be full."""

    def __init__(self) -> None:
        self.uri, self.is_local, self.is_full = "memory", True, False
        self.content: dict[str, bytes] = {}
        self.records: Counter[str] = Counter()  # of failures, by path

    def write(self, path: str, content: bytes) -> None:
        if self.is_full:
            raise StorageError("no space left on the simulated disk")
        self.content[path] = content
        if path.endswith("failed.json"):
            self.records[path] += 1

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


@dataclass(frozen=True, kw_only=True)
class Odds:
    """How often what goes wrong, drawn anew for every history."""

    death: float  # of a worker, in each epoch or cell
    lost: float  # of a message
    doubled: float
    driver: float  # a kill, in each call
    node: float  # one that comes or goes, in each look at the capacity
    full: float  # a disk, in each look
    jump: float  # of the clock, in each look
    damaged: float  # of a checkpoint, when it is opened
    own: float  # of a trial or cell that fails by itself

    @staticmethod
    def drawn(draw: random.Random) -> "Odds":
        def some(most: float) -> float:
            return draw.choice([0.0, 0.0, most / 10, most])

        return Odds(
            death=some(0.15), lost=some(0.15), doubled=some(0.3), driver=some(0.002), node=some(0.05),
            full=some(0.005), jump=some(0.02), damaged=some(0.05), own=some(0.05),
        )  # fmt: skip


@dataclass(kw_only=True, eq=False)
class Worker:
    """A trainer or a task at work."""

    ticket: int
    node: str
    trial: Trial
    cells: Sequence[Cell] = ()
    is_heard: bool = True  # whether anybody listens: not after a message of it was lost, or its driver is gone
    is_alive: bool = True
    results: list[Evaluated] = field(default_factory=list)


@dataclass
class Ledger:
    """What was done, for the auditor."""

    epochs: Counter[str] = field(default_factory=Counter)  # that ended, by trial
    measured: Counter[str] = field(default_factory=Counter)  # by trial and benchmark
    redone: Counter[str] = field(default_factory=Counter)  # begun though it was there, likewise
    excused: Counter[str] = field(default_factory=Counter)  # faults after which something may be done twice, by trial
    deaths: Counter[str] = field(default_factory=Counter)  # told to the driver since the last step of progress, by name
    hopeless: set[str] = field(default_factory=set)  # names of what died too often
    charged: int = 0  # problems that must have been recorded
    heard: Counter[str] = field(default_factory=Counter)  # ends that the watcher heard of in this driver's life


class Cluster:
    """The simulated executor, and the machines behind it: they outlive a driver."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.odds = Odds.drawn(self.draw)
        self.store, self.ledger = MemoryStore(), Ledger()
        self.clock, self.count = 0.0, itertools.count()
        self.nodes = {"node0": 2}
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.inbox: list[Event] = []
        self.driver = 0  # how many drivers there were: messages to one that is gone reach nobody
        self.queue: list[Worker] = []
        self.workers: list[Worker] = []
        trials, runs = material()
        names = [trial.id for trial in trials] + [_key(t, r) for t in trials for r in runs]
        self.failing = {name for name in names if self.draw.random() < self.odds.own}
        self.short_of_memory = {name for name in names if self.draw.random() < self.odds.own}

    # the executor ------------------------------------------------------------------------------------------------

    def start(self, setup: object) -> None:
        """Nothing."""

    def capacity(self, trials: int, cells: int, *, keeps_share: bool = True) -> Capacity:
        """What the nodes hold; now and then one comes or goes, the clock jumps, or the disk is full."""
        self._maybe_kill_driver()
        draw = self.draw
        if draw.random() < self.odds.jump:
            self.clock += draw.expovariate(1 / 3600)
        if draw.random() < self.odds.full:
            self.store.is_full = True
        if draw.random() < self.odds.node:
            name = f"node{next(self.count)}"
            if len(self.nodes) > 1 and draw.random() < 0.5:
                self._lose_node(draw.choice(sorted(self.nodes)))
            else:
                self.nodes[name] = draw.randint(1, 3)
        slots = sum(self.nodes.values())
        return Capacity(trials=slots, trials_alone=slots, tasks=slots, cpus=slots)

    def submit_trial(self, ticket: int, trial: Trial, *, avoid: str | None = None) -> None:
        self._maybe_kill_driver()
        if self.store.exists(trial_file(trial.id, "done.json")) and not self.ledger.excused[trial.id]:
            raise FaultError(f"{trial.id} is done and was submitted again")
        self.queue.append(Worker(ticket=ticket, node="", trial=trial))

    def submit_cells(self, ticket: int, cells: Sequence[Cell], *, avoid: str | None = None) -> None:
        self._maybe_kill_driver()
        self.queue.append(Worker(ticket=ticket, node="", trial=cells[0].trial, cells=cells))

    def poll(self, seconds: float) -> list[Event]:
        """Let time pass, until something is told or the seconds are over."""
        self._maybe_kill_driver()
        deadline = self.clock + seconds
        self._place_workers()
        while not self.inbox and self.agenda and self.agenda[0][0] <= deadline:
            self.clock, _, action = heapq.heappop(self.agenda)
            action()
            self._place_workers()
        if not self.inbox:
            self.clock = max(self.clock, deadline)
        told, self.inbox = self.inbox, []
        for event in told:
            self._note_told(event)
        return told

    def cancel(self) -> None:
        """All workers are killed; one or another may write a last file before it dies."""
        self.queue.clear()
        for worker in self.workers:
            worker.is_heard = False
            worker.is_alive = worker.is_alive and self.draw.random() < 0.2
            self.ledger.excused[worker.trial.id] += 1
        self.inbox.clear()
        self.driver += 1

    def now(self) -> float:
        return self.clock

    def in_use(self) -> Mapping[str, tuple[float, float]]:
        return {}

    # the machines ------------------------------------------------------------------------------------------------

    def _maybe_kill_driver(self) -> None:
        if self.draw.random() < self.odds.driver:
            raise DriverKilled

    def _later(self, action: Callable[[], None], most: float = 10.0) -> None:
        heapq.heappush(self.agenda, (self.clock + self.draw.uniform(0.01, most), next(self.count), action))

    def _place_workers(self) -> None:
        """Start what waits, where a slot is free."""
        while self.queue:
            used = Counter(worker.node for worker in self.workers if worker.is_heard)
            free = [node for node, slots in sorted(self.nodes.items()) if used[node] < slots]
            if not free:
                return
            worker = self.queue.pop(0)
            worker.node = self.draw.choice(free)
            self.workers.append(worker)
            place = Place(host="simulated", pid=worker.ticket, node=worker.node)
            started = TaskStarted if worker.cells else TrialStarted
            self._tell(worker, started(ticket=worker.ticket, place=place))
            step = self._next_cell if worker.cells else self._next_epoch
            self._later(partial(step, worker))

    def _lose_node(self, node: str) -> None:
        del self.nodes[node]
        for worker in [worker for worker in self.workers if worker.node == node]:
            self._die(worker, Cause.NODE_DIED)

    def _die(self, worker: Worker, cause: Cause) -> None:
        if not worker.is_alive:
            return
        worker.is_alive = False
        self._end(worker, Problem.because(cause, "simulated", Place(node=worker.node)))

    def _dies(self, worker: Worker) -> bool:
        if worker.is_alive and self.draw.random() < self.odds.death:
            self._die(worker, self.draw.choice(DYING))
        return not worker.is_alive

    def _end(self, worker: Worker, problem: Problem | None = None, results: Sequence[Evaluated] = ()) -> None:
        """The worker is through; what it tells last may be lost, which an executor notices."""
        if worker in self.workers:
            self.workers.remove(worker)
        is_lost = problem is None and self.draw.random() < self.odds.lost
        if is_lost:
            self.ledger.excused[worker.trial.id] += 1
            problem = Problem.because(Cause.MESSAGE_LOST, "simulated")
            results = ()
        if worker.cells:
            self._tell(worker, TaskEnded(ticket=worker.ticket, results=results, problem=problem), is_sure=True)
        else:
            self._tell(worker, TrialEnded(ticket=worker.ticket, problem=problem), is_sure=True)

    def _tell(self, worker: Worker, event: Event, *, is_sure: bool = False) -> None:
        """Send a message: late, perhaps twice, perhaps never."""
        if not worker.is_heard or (not is_sure and self.draw.random() < self.odds.lost):
            return

        driver = self.driver

        def arrive() -> None:
            if driver == self.driver:
                self.inbox.append(event)

        self._later(arrive, most=0.5)
        if self.draw.random() < self.odds.doubled:
            self._later(arrive, most=5.0)

    def _lose_contact(self, worker: Worker) -> bool:
        """Whether a message to the worker is lost: the driver is told so, while it goes on for a step or two."""
        if not worker.is_heard or self.draw.random() >= self.odds.lost / 4:
            return False
        self.ledger.excused[worker.trial.id] += 1
        self._end(worker, Problem.because(Cause.MESSAGE_LOST, "simulated"))
        arrived = worker.is_heard
        ghost = Worker(ticket=worker.ticket, node="", trial=worker.trial, cells=worker.cells, is_heard=not arrived)
        step = self._next_cell if worker.cells else self._next_epoch
        ghost.results = list(worker.results)
        self._later(partial(step, ghost))
        worker.is_alive = False
        return True

    def _next_epoch(self, worker: Worker) -> None:
        """One more epoch of a trial, as `train_trial` does it."""
        store, trial = self.store, worker.trial
        if self._dies(worker) or not worker.is_alive or self._lose_contact(worker):
            return
        if store.exists(trial_file(trial.id, "done.json")):
            self._end(worker)
            return
        if problem := self._own_problem(trial.id):
            self._end(worker, problem)
            return
        path = trial_file(trial.id, "progress.safetensors")
        epoch = int(store.read(path) or b"0") + 1
        try:
            if epoch <= EPOCHS:
                store.write(path, str(epoch).encode())
                self.ledger.epochs[trial.id] += 1
                progress = Progress(epoch=epoch, epochs=EPOCHS, loss=1.0, seconds=1.0)
                self._tell(worker, EpochDone(ticket=worker.ticket, progress=progress))
            else:
                store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": f"weights of {trial.id}"})
                store.delete(path)
                store.delete(trial_file(trial.id, "failed.json"))
                self._end(worker)
                return
        except StorageError as error:
            self._end(worker, Problem.of(error))
            return
        if worker.is_heard or self.draw.random() < 0.5:
            self._later(lambda: self._next_epoch(worker))

    def _next_cell(self, worker: Worker) -> None:
        """One more cell of a task, as `measure_cells` does it."""
        store, trial = self.store, worker.trial
        if self._dies(worker) or not worker.is_alive or self._lose_contact(worker):
            return
        if len(worker.results) == len(worker.cells):
            self._end(worker, results=worker.results)
            return
        cell = worker.cells[len(worker.results)]
        name, problem = _key(trial, cell.run), None
        try:
            if worker.is_heard and not worker.results and self.draw.random() < self.odds.damaged:
                for file in ("done.json", "model.safetensors"):
                    store.set_aside(trial_file(trial.id, file))
                self.ledger.excused[trial.id] += 1
            if not store.exists(trial_file(trial.id, "done.json")):
                problem = Problem.because(Cause.DAMAGED, "simulated")
            else:
                problem = self._own_problem(name)
                path = cell_file(cell_names(store, [trial], [cell.run])[trial.id, cell.run.key])
                if problem is None and store.exists(path):
                    self.ledger.redone[name] += 1
                elif problem is None:
                    store.write(path, name.encode())
                    self.ledger.measured[name] += 1
        except StorageError as error:
            problem = Problem.of(error)
        worker.results.append(Evaluated(seconds=self.draw.uniform(0.01, 3), problem=problem))
        if problem is not None and problem.cause is Cause.DAMAGED:
            self._end(worker, results=worker.results)
        elif worker.is_heard or self.draw.random() < 0.5:
            self._later(lambda: self._next_cell(worker))

    def _own_problem(self, name: str) -> Problem | None:
        if name in self.failing:
            return Problem.because(Cause.OWN, f"{name} fails by itself")
        if name in self.short_of_memory:
            self.short_of_memory.discard(name)
            return Problem.because(Cause.OUT_OF_MEMORY, "simulated")
        return None

    # what the driver was told --------------------------------------------------------------------------------------

    def _note_told(self, event: Event) -> None:
        """Nothing by default; an `Audit` looks closer."""


def _key(trial: Trial, run: BenchmarkRun) -> str:
    return f"{trial.id}/{run.key}"


@lru_cache(maxsize=1)
def material() -> tuple[list[Trial], list[BenchmarkRun]]:
    """The trials and benchmarks of all histories."""
    experiment = an_experiment()
    return experiment.trials(), experiment.benchmark_runs()


@lru_cache(maxsize=1)
def an_experiment() -> Experiment:
    """Of `TRIALS` x `CELLS`."""
    values = {
        "results": "memory",
        "dataset": "digits",
        "methods": ["baseline"],
        "training": {"epochs": EPOCHS, "flip": False},
        "seeds": list(range(TRIALS)),
        "benchmarks": [{"name": "clean", "limit": limit} for limit in range(10, 10 + CELLS)],
    }
    return Experiment.read(values, "simulation")


class Audience:
    """The watcher and the accountant of a run: counts the ends."""

    def __init__(self, ledger: Ledger) -> None:
        self.heard = ledger.heard
        self.heard.clear()
        self.advanced: list[str] = []

    def planned(self, plan: Plan) -> None: ...
    def epoch_done(self, trial: Trial, progress: Progress) -> None: ...
    def trial_done(self, trial: Trial) -> None: ...
    def trial_stopped(self, trial: Trial, epoch: int) -> None: ...
    def cell_started(self, cell: Cell) -> None: ...
    def trial_started(self, trial: Trial, at: float) -> None: ...
    def epoch_ended(self, trial: Trial, seconds: float) -> None: ...
    def trial_ended(self, trial: Trial, at: float, *, is_whole: bool) -> None: ...
    def cell_ended(self, cell: Cell, seconds: float, *, has_failed: bool) -> None: ...

    def tick(self, *_: object) -> None: ...

    def trial_failed(self, trial: Trial, reason: str) -> None:
        self.heard[trial.id] += 1

    def cell_done(self, cell: Cell, seconds: float) -> None:
        self.heard[_key(cell.trial, cell.run)] += 1

    def cell_failed(self, cell: Cell, reason: str) -> None:
        self.heard[_key(cell.trial, cell.run)] += 1


def play(seed: int, loop: type[Loop] = Loop) -> Cluster:
    """One history, from its first driver to the one that comes to the end.

    Raises:
        FaultError: the auditor found something; its text begins with the seed.
    """
    cluster = Cluster(seed)
    try:
        for _ in range(100):
            cluster.store.is_full = False
            if _drive(cluster, loop):
                return cluster
        raise FaultError("a hundred drivers did not come to the end")
    except FaultError as error:
        raise FaultError(f"seed {seed}: {error}") from error.__cause__


def _drive(cluster: Cluster, loop: type[Loop]) -> bool:
    """One driver; whether it came to the end."""
    trials, runs = material()
    plan = plan_of(an_experiment(), trials, runs, cluster.store)
    audience = Audience(cluster.ledger)
    wanted = {_key(cell.trial, cell.run) for cell in plan.cells_to_run()}
    try:
        polls = itertools.count()

        def housekeeping() -> None:
            if next(polls) > MOST_POLLS:
                raise FaultError("the run does not end")

        failures = loop(plan, cluster, audience, audience, prices=NO_PRICES, housekeeping=housekeeping).run()
    except DriverKilled:
        cluster.cancel()
        return False
    except StorageError as error:
        if not cluster.store.is_full:
            raise FaultError("the run ended for its storage, which is there") from error
        return False
    audit(cluster, plan_of(an_experiment(), trials, runs, cluster.store), failures, wanted)
    return True


def audit(cluster: Cluster, after: Plan, failures: Sequence[Failure], wanted: set[str]) -> None:
    """Raise FaultError if a history did not go as it should."""
    ledger, store = cluster.ledger, cluster.store
    failed = {failure.label.rpartition("(")[2].rstrip(")") for failure in failures}
    reasons = Counter(failure.reason for failure in failures)
    for cell, state in after.cells.items():
        name = _key(cell.trial, cell.run)
        if state == "done":
            assert cell.name is not None
            if store.content[cell_file(cell.name)] != name.encode():
                raise FaultError(f"{name} holds what is another's")
        elif not (name in cluster.failing or cell.trial.id in failed):
            raise FaultError(f"{name} is {state}, and no failure says why")
        heard = ledger.heard[name]
        if name in wanted and heard != 1 and not ledger.heard[cell.trial.id]:
            raise FaultError(f"the watcher heard {heard} times of the end of {name}")
        again = ledger.measured[name] + ledger.redone[name] - 1
        if again > ledger.excused[cell.trial.id]:
            raise FaultError(f"{name} was measured {again} times too often")
    for trial in after.trials:
        extra = ledger.epochs[trial.id] - EPOCHS * (1 + ledger.excused[trial.id])
        if extra > 0:
            raise FaultError(f"{extra} epochs of {trial.id} were trained too often")
    for reason, count in reasons.items():
        if reason == "simulated" and count and not _died_too_often(store):
            raise FaultError("work was given up that had not died often enough")


def _died_too_often(store: MemoryStore) -> bool:
    """Whether some record tells of as many attempts as are allowed."""
    found = [json.loads(content) for path, content in store.content.items() if path.endswith("failed.json")]
    most = min(policy.retries for policy in POLICIES.values() if policy.is_charged and policy.retries)
    return any(not record["retried"] and record["attempt"] > most for record in found)


def _played(seed: int) -> str:
    logging.getLogger("pixmix_ray").setLevel(logging.CRITICAL)
    try:
        play(seed)
    except FaultError as error:
        return str(error)
    return ""


def main(arguments: Sequence[str]) -> int:
    """Play one seed, or many; the exit code is 1 if a fault was found."""
    logging.getLogger("pixmix_ray").setLevel(logging.CRITICAL)
    if arguments and arguments[0] != "--histories":
        play(int(arguments[0]))
        return 0
    count = int(arguments[1]) if arguments else 1000
    started = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        faults = [text for text in pool.map(_played, range(count), chunksize=50) if text]
    for text in faults[:10]:
        print(text)  # noqa: T201  # a program of its own
    print(f"{count} histories, {len(faults)} faults, {time.monotonic() - started:.0f} s")  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
