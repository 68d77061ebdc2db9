"""Random histories of a run, without Ray, processes, files or waiting: the real loop on a simulated cluster.

One seed decides a history: how long work takes; which messages are late, doubled, out of order or lost; which workers,
nodes and drivers die, and when; when the disk is full; when nodes come and go; when the clock jumps; which checkpoints
are damaged and which work fails by itself. An auditor (`auditor`) looks at what was told, what was done and what
lies in the store:

- the run ends, and all is done but for what a second count of the attempts gives up: what fails by itself, and what
  died too often between two steps of progress;
- every file holds what it should, and nothing that is done is done again, but beside a worker that is out of reach and
  goes on; no work is in flight twice, and a trainer that dies loses no more than the epoch that it was at;
- the watcher hears of each end once, and each failed attempt is recorded once, with its number.

Does it find faults? `tests/orchestration/test_simulation.py` plants some: no retry, an event forgotten, a cell counted
twice, attempts that are not reset by progress, storage not looked at after a death, tickets not looked at, a damaged
checkpoint not made again, failures not recorded. All are found within twenty histories.

A history that fails is one number:  python -m tests.orchestration.simulation 1234
Many of them, on two cores:          python -m tests.orchestration.simulation --histories 10000
"""

import heapq
import itertools
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
from pixmix_ray.experiment.external import External, Source
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
from pixmix_ray.orchestration.loop import Loop
from pixmix_ray.orchestration.retries import Cause, Problem
from pixmix_ray.orchestration.work import CellResult
from pixmix_ray.planning.durations import Durations, Forecast
from pixmix_ray.planning.plan import Cell, plan_of
from pixmix_ray.planning.usage import Account
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import trial_file
from pixmix_ray.training.trial import Progress
from tests.orchestration.auditor import (
    Audience,
    FaultError,
    Ledger,
    MemoryStore,
    Told,
    audit_attempts,
    audit_ends,
    audit_work,
    key_of,
    path_of,
)

TRIALS, CHECKPOINTS, CELLS, EPOCHS = 20, 4, 5, 3
MOST_POLLS = 40_000  # of one driver; a history takes some hundreds
MOST_IDLE = 1_000  # polls in a row that tell nothing while nothing runs: more than five times the longest delay
DYING = (Cause.WORKER_DIED, Cause.NODE_DIED, Cause.KILLED_FOR_MEMORY)


class DriverKilled(BaseException):
    """The driver is gone in the middle of whatever it did."""


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
    trial: Source
    cells: Sequence[Cell] = ()
    is_heard: bool = True  # whether anybody listens: not after a message of it was lost, or its driver is gone
    is_alive: bool = True
    results: list[CellResult] = field(default_factory=list)


class Cluster:
    """The simulated executor, and the machines behind it: they outlive a driver."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.odds = Odds.drawn(self.draw)
        self.store, self.ledger = MemoryStore(), Ledger()
        self.told, self.idle = Told(self.store), 0
        self.clock, self.count = 0.0, itertools.count()
        self.nodes = {"node0": 2}
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.inbox: list[Event] = []
        self.driver = 0  # how many drivers there were: messages to one that is gone reach nobody
        self.queue: list[Worker] = []
        self.workers: list[Worker] = []
        self.may_have_room = True  # not again until a worker ends or a node comes
        trials, runs = material()
        names = [trial.id for trial in trials] + [key_of(t, r) for t in trials for r in runs]
        self.failing = {name for name in names if self.draw.random() < self.odds.own}
        self.short_of_memory = {name for name in names if self.draw.random() < self.odds.own}

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
                self.may_have_room = True
        slots = sum(self.nodes.values())
        return Capacity(trials=slots, trials_alone=slots, tasks=slots, cpus=slots)

    def submit_trial(self, ticket: int, trial: Trial, *, avoid: str | None = None) -> None:
        self._maybe_kill_driver()
        if self.store.exists(trial_file(trial.id, "done.json")) and not self.ledger.out_of_reach[trial.id]:
            raise FaultError(f"{trial.id} is done and was submitted again")
        self.told.submitted(ticket, trial)
        self.queue.append(Worker(ticket=ticket, node="", trial=trial))

    def submit_cells(self, ticket: int, cells: Sequence[Cell], *, avoid: str | None = None) -> None:
        self._maybe_kill_driver()
        self.told.submitted(ticket, cells[0].trial, cells)
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
        events, self.inbox = self.inbox, []
        self.idle = 0 if events or self.agenda or self.queue else self.idle + 1
        if self.idle > MOST_IDLE:
            raise FaultError("the run does not end: it waits, and nothing is in flight")
        for event in events:
            self.told.take(event)
        return events

    def cancel(self) -> None:
        """All workers are killed; one or another may write a last file before it dies."""
        self.queue.clear()
        for worker in self.workers:
            worker.is_heard = False
            worker.is_alive = worker.is_alive and self.draw.random() < 0.2
            self.ledger.out_of_reach[worker.trial.id] += worker.is_alive
        self.workers.clear()
        self.may_have_room = True
        self.inbox.clear()
        self.driver += 1

    def now(self) -> float:
        return self.clock

    def in_use(self) -> Mapping[str, tuple[float, float]]:
        return {}

    def _maybe_kill_driver(self) -> None:
        if self.draw.random() < self.odds.driver:
            raise DriverKilled

    def _later(self, action: Callable[[], None], most: float = 3.0) -> None:
        heapq.heappush(self.agenda, (self.clock + self.draw.uniform(0.01, most), next(self.count), action))

    def _place_workers(self) -> None:
        """Start what waits, where a slot is free."""
        while self.queue and self.may_have_room:
            used = Counter(worker.node for worker in self.workers if worker.is_heard)
            free = [node for node, slots in sorted(self.nodes.items()) if used[node] < slots]
            if not free:
                self.may_have_room = False
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

    def _end(self, worker: Worker, problem: Problem | None = None, results: Sequence[CellResult] = ()) -> None:
        """The worker is through; what it tells last may be lost, which an executor notices."""
        if worker in self.workers:
            self.workers.remove(worker)
            self.may_have_room = True
        if problem is None and self.draw.random() < self.odds.lost:
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
        self.ledger.out_of_reach[worker.trial.id] += 1
        self._end(worker, Problem.because(Cause.MESSAGE_LOST, "simulated"))
        worker.is_heard = False
        self._later(partial(self._next_cell if worker.cells else self._next_epoch, worker))
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
        name, problem = key_of(trial, cell.run), None
        try:
            is_trained = isinstance(trial, Trial)
            if is_trained and worker.is_heard and not worker.results and self.draw.random() < self.odds.damaged:
                for file in ("done.json", "model.safetensors"):
                    store.set_aside(trial_file(trial.id, file))
                self.ledger.damaged[trial.id] += 1
            if is_trained and not store.exists(trial_file(trial.id, "done.json")):
                problem = Problem.because(Cause.DAMAGED, "simulated")
            else:
                problem = self._own_problem(name)
                path = path_of(store, cell)
                if problem is None and path is not None and store.exists(path):
                    self.ledger.redone[name] += 1
                elif problem is None and path is not None:
                    store.write(path, name.encode())
                    self.ledger.measured[name] += 1
        except StorageError as error:
            problem = Problem.of(error)
        worker.results.append(CellResult(seconds=self.draw.uniform(0.01, 3), problem=problem))
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


@lru_cache(maxsize=1)
def material() -> tuple[list[Source], list[BenchmarkRun]]:
    """The trials, checkpoints that are there already, and benchmarks of all histories."""
    experiment = an_experiment()
    trials = experiment.trials()
    there = [
        External(
            id=f"external-{number}",
            label=f"theirs {number}",
            dataset=trials[0].dataset,
            model=trials[0].model,
            checkpoint_id=f"weights {number}",
        )
        for number in range(CHECKPOINTS)
    ]
    return [*trials, *there], experiment.benchmark_runs()


@lru_cache(maxsize=1)
def an_experiment() -> Experiment:
    """Of `TRIALS` x `CELLS`, without the checkpoints."""
    values = {
        "results": "memory",
        "dataset": "digits",
        "methods": ["baseline"],
        "training": {"epochs": EPOCHS, "flip": False},
        "seeds": list(range(TRIALS)),
        "benchmarks": [{"name": "clean", "limit": limit} for limit in range(10, 10 + CELLS)],
    }
    return Experiment.read(values, "simulation")


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
    audience, polls = Audience(), itertools.count()
    account = Account(
        cluster.store, plan.experiment.resources, cluster.now(), durations=Durations(), expected=Forecast()
    )
    cluster.told, cluster.idle = Told(cluster.store), 0
    cluster.store.records.clear()

    def housekeeping() -> None:
        if next(polls) > MOST_POLLS:
            raise FaultError("the run does not end")

    try:
        failures = loop(plan, cluster, audience, account, housekeeping=housekeeping).run()
    except DriverKilled:
        cluster.cancel()
        audit_attempts(cluster.told, cluster.store, audience)
        return False
    except StorageError as error:
        if not cluster.store.is_full:
            raise FaultError("the run ended for its storage, which is there") from error
        return False
    audit_attempts(cluster.told, cluster.store, audience)
    if len(failures) != len(audience.given_up):
        raise FaultError(f"{len(failures)} failures were returned, and the watcher heard of {len(audience.given_up)}")
    audit_ends(audience, plan)
    after = plan_of(an_experiment(), trials, runs, cluster.store)
    audit_work(cluster.ledger, cluster.store, after, audience, epochs=EPOCHS)
    return True


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
