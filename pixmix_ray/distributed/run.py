"""The loop that joins the two halves: while Tune trains, each finished checkpoint is evaluated at once."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Protocol

import ray

from pixmix_ray.distributed import evaluator, trainer
from pixmix_ray.distributed.accounting import Account
from pixmix_ray.distributed.evaluator import Evaluated, submit, warm_up
from pixmix_ray.distributed.halving import scheduler
from pixmix_ray.distributed.order import LongestFirst, expected_cell_seconds, longest_trials_first
from pixmix_ray.distributed.reserve import forecast
from pixmix_ray.distributed.session import how_many_fit, node_resources
from pixmix_ray.distributed.trainer import TrialEvent, train_all
from pixmix_ray.errors import WorkError
from pixmix_ray.results.plan import Cell, Plan, prices
from pixmix_ray.results.provenance import code_version
from pixmix_ray.results.store import cell_failure_file, trial_file
from pixmix_ray.trial import Trial
from pixmix_ray.work import Progress, Work, reason, record_failure

POLL_SECONDS = 0.2
STOP_SECONDS = 9.0  # Tune waits up to 5 for its actors, then kills them


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


def run_plan(plan: Plan, watcher: Watcher, work: Work | None = None) -> list[Failure]:
    """Train and evaluate all that the plan lacks, on the connected Ray cluster; what failed, empty if all is done.

    Args:
        plan: what to do.
        watcher: is told what happens.
        work: what trains and evaluates; default: the real work.

    Raises:
        ClusterError: the cluster cannot hold a trial or an evaluation.
    """
    return _Run(plan, watcher, work or Work()).to_the_end()


class _Run:
    """The state of one run: what waits, what is in flight, what failed."""

    def __init__(self, plan: Plan, watcher: Watcher, work: Work) -> None:
        self.plan, self.watcher = plan, watcher
        resources, self.nodes = plan.sweep.resources, node_resources()
        known = prices(plan.store, resources)
        expected = forecast(plan, known, self.nodes)
        self.training = trainer.Terms(
            store=plan.store,
            share=resources.trial,
            at_once=expected.at_once,
            work=work,
            scheduler=scheduler(plan),
        )
        self.losses: dict[str, dict[int, float]] = {}  # of the trials that train, by epoch
        self.evaluation = evaluator.Terms(
            store=plan.store, share=resources.evaluation, code_version=code_version(), work=work
        )
        self.account = Account(plan, expected)
        self.events: SimpleQueue[TrialEvent] = SimpleQueue()
        self.trials = longest_trials_first(plan.trials_to_run(), known)
        self.by_id = {trial.id: trial for trial in self.trials}
        self.by_trial: dict[str, list[Cell]] = {}
        for cell in plan.cells_to_run():
            self.by_trial.setdefault(cell.trial.id, []).append(cell)
        self.waiting = LongestFirst(expected_cell_seconds(plan.cells_to_run(), known))
        self.waiting.extend(cell for cell in plan.cells_to_run() if cell.trial.id not in self.by_id)
        self.node_of: dict[str, str] = {}  # where a trial ran: its node has the data and the checkpoint in its caches
        self.in_flight: dict[ray.ObjectRef[Evaluated], Cell] = {}
        self.stop = threading.Event()
        self.failures: list[Failure] = []
        self.is_warm = False
        self.breakdown = "Ray Tune stopped before the trial ended"

    def to_the_end(self) -> list[Failure]:
        """Run until nothing is left."""
        training = self._start_training()
        try:
            while training.is_alive() or not self.events.empty() or self.waiting or self.in_flight:
                self._look_at_nodes()
                self._take_events()
                self._submit()
                self._collect()
                self.watcher.tick()
        finally:  # also when interrupted: Tune must be done with Ray before the session ends
            self.stop.set()
            training.join(STOP_SECONDS)
            self.account.close()
        self._fail_lost_trials()
        return self.failures

    def _start_training(self) -> threading.Thread:
        # Tune blocks until its last trial ends, so it has its own thread; the thread ends with the process
        thread = threading.Thread(target=self._train, daemon=True)
        thread.start()
        return thread

    def _train(self) -> None:
        if not self.trials:
            return
        try:
            train_all(self.trials, self.training, self.events, self.stop)
        except Exception as error:  # the thread's outermost frame: told to the trials that it leaves behind
            self.breakdown = reason(error)

    def _look_at_nodes(self) -> None:
        self.nodes = node_resources()
        self.account.tick(self.nodes)

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
                self.account.trial_ended(trial, event.at, is_whole=event.failure is None and not event.is_stopped)
            if event.progress is not None:
                self._warm_up_once()
                self.account.epoch_ended(trial, event.progress.seconds)
                self.losses.setdefault(trial.id, {})[event.progress.epoch] = event.progress.loss
                self.watcher.epoch_done(trial, event.progress)
            elif event.failure is not None:
                self._fail_trial(trial, event.failure)
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
            warm_up(self.plan.sweep.resources.evaluation)

    def _keep_stopped(self, trial: Trial) -> None:
        asked, losses = self.plan.sweep.scheduler, self.losses.get(trial.id, {})
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
        path = trial_file(trial.id, "failed.json")
        if self.plan.store.read(path) is None:  # its worker died before it could say why
            record_failure(self.plan.store, path, WorkError(why))
        self.by_trial.pop(trial.id, None)
        self.watcher.trial_failed(trial, why)

    def _fail_lost_trials(self) -> None:
        """Trials that ended without an event: Tune itself broke down."""
        for trial in self.trials:
            if trial.id in self.by_trial:
                self._fail_trial(trial, f"{self.breakdown}; run the same command again")

    def _submit(self) -> None:
        # some more than can run, so that a freed slot never waits for this loop, but not so many that a long cell of
        # the next checkpoint waits behind short ones of the last
        fitting = how_many_fit(self.nodes, self.plan.sweep.resources.evaluation)
        bound = fitting + max(2, fitting // 2)
        while self.waiting and len(self.in_flight) < bound:
            cell = self.waiting.popleft()
            reference = submit(cell, self.evaluation, self.node_of.get(cell.trial.id))
            self.in_flight[reference] = cell
            self.watcher.cell_started(cell)

    def _collect(self) -> None:
        finished: Sequence[ray.ObjectRef[Evaluated]] = []
        if self.in_flight:
            finished, _ = ray.wait(list(self.in_flight), num_returns=len(self.in_flight), timeout=POLL_SECONDS)
        else:
            threading.Event().wait(POLL_SECONDS)
        for reference in finished:
            cell = self.in_flight.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayError as error:  # the worker or its node died, more often than we retry
                record_failure(self.plan.store, cell_failure_file(cell.trial.id, cell.run.key), error)
                result = Evaluated(seconds=0, failure=" ".join(str(error).split())[:500])
            self.account.cell_ended(cell, result.seconds, has_failed=result.failure is not None)
            if result.failure is None:
                self.watcher.cell_done(cell, result.seconds)
            else:
                self.failures.append(Failure(label=f"{cell.label} ({cell.trial.id})", reason=result.failure))
                self.watcher.cell_failed(cell, result.failure)
