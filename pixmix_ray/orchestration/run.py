"""The loop that joins the two halves: while Tune trains, each finished checkpoint is evaluated at once."""

import logging
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Protocol

import ray

from pixmix_ray.errors import StorageError, WorkError
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration import evaluator, trainer
from pixmix_ray.orchestration.accounting import Account
from pixmix_ray.orchestration.evaluator import Evaluated, InFlight, answers_of_the_dead, submit, warm_up
from pixmix_ray.orchestration.halving import scheduler
from pixmix_ray.orchestration.loggers import loggers
from pixmix_ray.orchestration.order import CellSeconds, LongestFirst, expected_cell_seconds, longest_trials_first
from pixmix_ray.orchestration.reserve import forecast
from pixmix_ray.orchestration.retries import Cause, Problem, Tries
from pixmix_ray.orchestration.session import how_many_fit, node_resources
from pixmix_ray.orchestration.trainer import TrialEvent, train_all
from pixmix_ray.orchestration.work import Work
from pixmix_ray.planning.plan import Cell, Plan, prices
from pixmix_ray.storage.failures import Place, reason, record_failure
from pixmix_ray.storage.provenance import code_version
from pixmix_ray.storage.run_lock import RunLock, running
from pixmix_ray.storage.store import cell_failure_file, trial_file
from pixmix_ray.training.trial import Progress

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
MOST_TOGETHER = 12  # cells in a task: with more, what a task costs is a small part of what they cost themselves
STOP_SECONDS = 4.0  # takes Tune a second or less once its trainers are killed


class Watcher(Protocol):
    """Is told what happens, to show it. The names of the methods are the events."""

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """One more epoch of a trial is safe."""

    def trial_done(self, trial: Trial) -> None:
        """A trial has its checkpoint."""

    def trial_stopped(self, trial: Trial, epoch: int) -> None:
        """A scheduler stopped a trial after `epoch`; its cells are not measured."""

    def trial_failed(self, trial: Trial, reason: str) -> None:
        """A trial ended without one; its cells cannot be measured."""

    def cell_started(self, cell: Cell) -> None:
        """A cell was handed to Ray."""

    def cell_done(self, cell: Cell, seconds: float) -> None:
        """A cell's rows are in the store."""

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """A cell could not be measured."""

    def tick(self) -> None:
        """Called several times a second."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial or cell that failed by itself, and why."""

    label: str
    reason: str


def run_plan(plan: Plan, watcher: Watcher, *, work: Work | None = None, lock: RunLock | None = None) -> list[Failure]:
    """Train and evaluate all that the plan lacks, on the connected Ray cluster; what failed, empty if all is done.

    Args:
        plan: what is wanted, and what of it is done.
        watcher: is told what happens.
        work: what trains and evaluates; default: the real work.
        lock: of the results folder, if the caller has taken it already.

    Raises:
        HeldError: another run is at work on the results folder.
        ClusterError: the cluster cannot hold a trial or an evaluation.
        StorageError: results can no longer be written.
    """
    with ExitStack() as until_end:
        lock = lock or until_end.enter_context(running(plan.store))
        return _Run(plan, watcher, work or Work()).to_the_end(lock)


class _Run:
    """The state of one run: what waits, what is in flight, what failed."""

    def __init__(self, plan: Plan, watcher: Watcher, work: Work) -> None:
        self.plan, self.watcher = plan, watcher
        resources, self.nodes = plan.experiment.resources, node_resources()
        known = prices(plan.store, resources)
        expected = forecast(plan, known, self.nodes)
        self.training = trainer.Terms(
            store=plan.store,
            share=resources.trial,
            at_once=expected.at_once,
            work=work,
            scheduler=scheduler(plan),
            loggers=loggers(plan.experiment.tracking, plan.store.uri),
        )
        self.losses: dict[str, dict[int, float]] = {}  # of the trials that train, by epoch
        self.evaluation = evaluator.Terms(
            store=plan.store, share=resources.evaluation, code_version=code_version(), work=work
        )
        self.account = Account(plan, expected)
        self.events: SimpleQueue[TrialEvent] = SimpleQueue()
        self.trials = longest_trials_first(plan.trials_to_run(), known)
        training = {trial.id for trial in self.trials}
        self.by_id = {trial.id: trial for trial in plan.trials}
        self.by_trial: dict[str, list[Cell]] = {}
        for cell in plan.cells_to_run():
            if cell.trial.id in training:
                self.by_trial.setdefault(cell.trial.id, []).append(cell)
        self.waiting = LongestFirst(expected_cell_seconds(plan.cells_to_run(), known))
        self.waiting.extend(cell for cell in plan.cells_to_run() if cell.trial.id not in training)
        self.node_of: dict[str, str] = {}  # where a trial ran: its node has the data and the checkpoint in its caches
        self.cell_seconds = CellSeconds(known)
        self.in_flight: dict[ray.ObjectRefGenerator, InFlight] = {}
        self.stop = threading.Event()
        self.failures: list[Failure] = []
        self.looked = float("-inf")
        self.is_warm = False
        self.breakdown = "Ray Tune stopped before the trial ended"
        self.tries = Tries()
        self.again: dict[str, Trial] = {}  # trials that are tried once more when Tune is through with the others
        self.avoid: dict[str, str] = {}  # by the name of the work: a node

    def to_the_end(self, lock: RunLock) -> list[Failure]:
        """Run until nothing is left."""
        training = self._start_training(self.trials)
        try:
            while training.is_alive() or not self.events.empty() or self.waiting or self.in_flight or self.again:
                lock.check()
                self._look_around()
                self._take_events()
                if not training.is_alive() and (trials := self._trials_again()):
                    training = self._start_training(trials)
                self._submit()
                self._collect()
        finally:  # also when interrupted: Tune must be done with Ray before the session ends
            self.stop.set()
            training.join(STOP_SECONDS)
            self.account.close()
        self._fail_lost_trials()
        return self.failures

    def _start_training(self, trials: list[Trial]) -> threading.Thread:
        # Tune blocks until its last trial ends, so it has its own thread; the thread ends with the process
        thread = threading.Thread(target=self._train, args=(trials,), daemon=True)
        thread.start()
        return thread

    def _train(self, trials: list[Trial]) -> None:
        if not trials:
            return
        try:
            train_all(trials, self.training, self.events, self.stop, self.avoid)
        except Exception as error:  # the thread's outermost frame: told to the trials that it leaves behind
            self.breakdown = reason(error)

    def _look_around(self) -> None:
        """What need not be done for each of many short cells."""
        now = time.monotonic()
        if now - self.looked < POLL_SECONDS:
            return
        self.looked = now
        self.nodes = node_resources()
        self.account.tick(self.nodes)
        self.watcher.tick()

    def _trials_again(self) -> list[Trial]:
        """The trials to be tried once more, but for those with a cell that is still being evaluated."""
        busy = {task.cells[0].trial.id for task in self.in_flight.values()}
        return [self.again.pop(trial_id) for trial_id in set(self.again) - busy]

    def _take_events(self) -> None:
        while True:
            try:
                event = self.events.get_nowait()
            except Empty:
                return
            trial = self.by_id[event.trial_id]
            if event.is_started:
                self.account.trial_started(trial, event.at)
                continue
            if event.is_done:
                self.account.trial_ended(trial, event.at, is_whole=event.problem is None and not event.is_stopped)
            if event.progress is not None:
                self._warm_up_once()
                if event.progress.notice:
                    log.warning("%s: %s", trial.label, event.progress.notice)
                self.account.epoch_ended(trial, event.progress.seconds)
                self.losses.setdefault(trial.id, {})[event.progress.epoch] = event.progress.loss
                self.watcher.epoch_done(trial, event.progress)
            elif event.problem is not None:
                self._trial_problem(trial, event.problem, is_done=event.is_done)
            elif event.is_stopped:
                self._keep_stopped(trial)
            elif event.is_done:
                self.watcher.trial_done(trial)
                if event.node is not None:
                    self.node_of[trial.id] = event.node
                self.waiting.extend(self.by_trial.pop(trial.id, []))

    def _warm_up_once(self) -> None:
        """Have a worker ready for the first checkpoint; only now, or a trainer actor would take it."""
        if not self.is_warm:
            self.is_warm = True
            warm_up(self.plan.experiment.resources.evaluation)

    def _trial_problem(self, trial: Trial, problem: Problem, *, is_done: bool) -> None:
        path = trial_file(trial.id, "failed.json")
        is_retried = self._record(trial.id, path, trial.label, problem) or not is_done  # Tune has begun the next itself
        if not is_retried:
            self._fail_trial(trial, problem.report.reason)
        elif is_done:
            self.again[trial.id] = trial

    def _record(self, name: str, path: str, label: str, problem: Problem) -> bool:
        """Write down a failed attempt at the work of that name; whether it is tried again."""
        if problem.cause is Cause.STORAGE:
            raise StorageError(problem.report.reason)
        attempt, is_retried = self.tries.count(name, problem), self.tries.allow(name, problem)
        try:
            record_failure(self.plan.store, path, problem.report, attempt=attempt, retried=is_retried)
        except OSError as error:
            why = error.strerror or str(error)
            raise StorageError(
                f"cannot write to results {self.plan.store.uri}: {why}, when {label} had failed"
            ) from None
        if is_retried:
            told = problem.report
            log.warning("%s: attempt %d failed on %s: %s; trying again", label, attempt, told.place, told.reason)
            if (node := problem.avoided_node()) is not None:
                self.avoid[name] = node
        return is_retried

    def _keep_stopped(self, trial: Trial) -> None:
        asked, losses = self.plan.experiment.scheduler, self.losses.get(trial.id, {})
        if asked is None or not losses:
            return  # ended with Tune itself, and is told as lost
        epoch = max(losses)
        record = {
            "epoch": epoch,
            "epochs": trial.training.epochs,
            "losses": losses,
            "scheduler": asked.identity(),
            "stopped_at": datetime.now(UTC).isoformat(),
        }
        self.plan.store.write_json(trial_file(trial.id, "stopped.json"), record)
        self.by_trial.pop(trial.id, None)
        self.watcher.trial_stopped(trial, epoch)

    def _fail_trial(self, trial: Trial, why: str) -> None:
        self.failures.append(Failure(label=f"{trial.label} ({trial.id})", reason=why))
        self.by_trial.pop(trial.id, None)
        self.watcher.trial_failed(trial, why)

    def _fail_lost_trials(self) -> None:
        """Trials that ended without an event: Tune itself broke down."""
        for trial in self.plan.trials:
            if trial.id in self.by_trial:
                why = f"{self.breakdown}; run the same command again"
                with suppress(OSError):
                    record_failure(self.plan.store, trial_file(trial.id, "failed.json"), WorkError(why))
                self._fail_trial(trial, why)

    def _submit(self) -> None:
        # some more than can run, so that a freed slot never waits for this loop, but not so many that a long cell of
        # the next checkpoint waits behind short ones of the last
        fitting = how_many_fit(self.nodes, self.plan.experiment.resources.evaluation)
        bound = fitting + max(2, fitting // 2)
        while self.waiting and len(self.in_flight) < bound:
            # several in a task only where there are so many that none of the other slots goes without
            cells = self.waiting.take_together(self._known_seconds, min(MOST_TOGETHER, len(self.waiting) // fitting))
            near, avoid = self.node_of.get(cells[0].trial.id), self.avoid.get(_name(cells[0]))
            self.in_flight[submit(cells, self.evaluation, near, avoid)] = InFlight(cells=cells)
            for cell in cells:
                if not self.tries.failed(_name(cell)):
                    self.watcher.cell_started(cell)

    def _known_seconds(self, cell: Cell) -> float | None:
        """How long a cell takes; not known of one that has failed, so that it is tried again alone."""
        return None if self.tries.failed(_name(cell)) else self.cell_seconds.known(cell)

    def _collect(self) -> None:
        if not self.in_flight:
            threading.Event().wait(POLL_SECONDS)
            return
        tasks = list(self.in_flight)
        ray.wait(tasks, timeout=POLL_SECONDS)  # for one, then all that are there
        told, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0)
        for task in told:
            self._hear(task)

    def _hear(self, task: ray.ObjectRefGenerator) -> None:
        """Take what a task tells: where it runs, or how its cells ended."""
        known = self.in_flight[task]
        try:
            told = ray.get(next(task))
        except ray.exceptions.RayError as error:  # its worker or node died
            told = answers_of_the_dead(known.cells, self.plan.store, Problem.of_death(error, known.place))
        if isinstance(told, Place):
            known.place = told
            return
        del self.in_flight[task]
        self.waiting.extend(known.cells[len(told) :])
        for cell, answer in zip(known.cells, told, strict=False):
            self._cell_ended(cell, answer)

    def _cell_ended(self, cell: Cell, answer: Evaluated) -> None:
        self.account.cell_ended(cell, answer.seconds, has_failed=answer.problem is not None)
        if answer.problem is None:
            self.cell_seconds.add(cell, answer.seconds)
            self.watcher.cell_done(cell, answer.seconds)
        else:
            self._cell_problem(cell, answer.problem)

    def _cell_problem(self, cell: Cell, problem: Problem) -> None:
        path = cell_failure_file(cell.trial.id, cell.run.key)
        if not self._record(_name(cell), path, cell.label, problem):
            self.failures.append(Failure(label=f"{cell.label} ({cell.trial.id})", reason=problem.report.reason))
            self.watcher.cell_failed(cell, problem.report.reason)
        elif problem.cause is Cause.DAMAGED:  # first its checkpoint
            self._train_anew(cell)
        else:
            self.waiting.append(cell)

    def _train_anew(self, cell: Cell) -> None:
        """Have the checkpoint of a cell made again, and with it all cells that wait for it."""
        trial = cell.trial
        self.again[trial.id] = trial
        self.by_trial.setdefault(trial.id, []).extend([cell, *self.waiting.take_those_of(trial)])


def _name(cell: Cell) -> str:
    return f"{cell.trial.id}/{cell.run.key}"
