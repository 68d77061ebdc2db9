"""The loop of a run: it hands trials and cells to an executor, and takes what comes back.

As soon as a trial has its checkpoint its cells wait to be measured, longest first. What is done is read from storage:
work whose end was not heard of is looked for there before it is done again. An event may come twice, late or not at
all for work that was lost; it is known by its ticket, and only what was submitted and has not ended is listened to.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pixmix_ray.errors import StorageError
from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.executor import (
    Capacity,
    EpochDone,
    Event,
    Executor,
    TaskEnded,
    TaskStarted,
    TrialEnded,
    TrialStarted,
)
from pixmix_ray.orchestration.retries import Attempts, Cause, Failure, Problem, WorkItem, note_failure
from pixmix_ray.orchestration.watcher import Watcher
from pixmix_ray.orchestration.work import CellResult
from pixmix_ray.planning.halving import keep_stopped
from pixmix_ray.planning.order import LongestFirst
from pixmix_ray.planning.usage import Account
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import cell_failure_file, log_file, trial_file
from pixmix_ray.training.trial import Progress

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Cell, Plan

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
NO_ROOM_SECONDS = 60.0  # without room for an evaluation: then it is said
MOST_TOGETHER = 12  # cells in a task: with more, what a task costs is a small part of what they cost themselves
AHEAD = 2  # tasks that are submitted before there is room, so that a free slot never waits for the loop
TRIALS_AHEAD = 20  # likewise: Ray Tune 2.60 sleeps for two seconds where none waits, and trials may be short


@dataclass(kw_only=True)
class _InFlight:
    """A trial that trains, or a task that measures cells of one, or of a checkpoint that was there already."""

    trial: Source
    cells: Sequence[Cell] = ()
    place: Place | None = None
    submitted: float = 0.0
    errors: dict[int, float] = field(default_factory=dict)  # of validation, by epoch
    epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class _Delayed:
    """Work that waits before it is tried again."""

    until: float
    resume: Callable[[], None]


class Loop:
    """The state of one run: what waits, what is in flight, what failed."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        watcher: Watcher,
        account: Account,
        *,
        keeps_share: bool = True,
        more: Callable[[], Plan] | None = None,
        housekeeping: Callable[[], None] = lambda: None,
    ) -> None:
        """Get ready to do all that a plan lacks.

        Args:
            plan: what is wanted, and what of it is done.
            executor: does the work; it was started.
            watcher: is told what happens.
            account: adds up what is used; by its `durations` what takes longest comes first.
            keeps_share: whether one evaluation's share is kept free while trials train.
            more: of a search: the plan as it is now, with the trials suggested since; asked as trials end.
            housekeeping: called several times a second; what it raises ends the run.
        """
        self.plan, self.executor, self.watcher, self.account = plan, executor, watcher, account
        self.keeps_share, self.more, self.housekeeping = keeps_share, more, housekeeping
        self.durations = account.durations
        self.waiting_cells = LongestFirst(self.durations.relative(plan.cells_to_run()))
        self.waiting_trials: deque[Trial] = deque()
        self.cells_of: dict[str, list[Cell]] = {}  # that wait for their trial
        self.trials: dict[int, _InFlight] = {}  # by ticket
        self.tasks: dict[int, _InFlight] = {}  # likewise
        self.tasks_of: Counter[str] = Counter()  # in flight, by trial
        self.delayed: list[_Delayed] = []
        self.known: set[tuple[str, str]] = set()  # every cell that was ever taken up, by trial and benchmark
        self.left: Counter[str] = Counter()  # cells that have not ended, by trial
        self.attempts = Attempts()
        self.avoid: dict[str, str] = {}  # by the name of the work: a node
        self.failures: list[Failure] = []
        self.ticket = 0
        self.looked = float("-inf")
        self.capacity = Capacity(trials=0, trials_alone=0, tasks=0)
        self.waits_for, self.has_told_of_no_room = "", False
        self._take_up(plan)

    def run(self) -> list[Failure]:
        """Do all of it; what failed, empty if all is done.

        Raises:
            ClusterError: the cluster cannot hold a trial or an evaluation.
            StorageError: results can no longer be written.
        """
        try:
            while self.waiting_trials or self.waiting_cells or self.trials or self.tasks or self.delayed:
                self._look_around()
                self._submit_trials()
                self._submit_cells()
                for event in self.executor.poll(POLL_SECONDS):
                    self._take(event)
        finally:
            self.executor.cancel()
        return self.failures

    def _take_up(self, plan: Plan) -> None:
        """Have the cells of a plan wait that were never taken up: for their turn, or for their trial."""
        fresh = [cell for cell in plan.cells_to_run() if (cell.trial.id, cell.run.key) not in self.known]
        self.known |= {(cell.trial.id, cell.run.key) for cell in fresh}
        untrained = {trial.id: trial for trial in plan.trials_to_run()}
        self.left.update(cell.trial.id for cell in fresh)
        wanted = {cell.trial.id for cell in fresh}
        for cell in fresh:
            if cell.trial.id in untrained:
                self.cells_of.setdefault(cell.trial.id, []).append(cell)
            else:
                self.waiting_cells.append(cell)
        trials = [trial for trial_id, trial in untrained.items() if trial_id in wanted]
        # the largest shares first: while one of them is in flight, room is counted in it
        self.waiting_trials.extend(sorted(self.durations.longest_first(trials), key=lambda trial: trial.share))

    def _look_around(self) -> None:
        """What need not be done for each of many short cells."""
        now = self.executor.now()
        if now - self.looked < POLL_SECONDS:
            return
        self.looked = now
        self.housekeeping()
        measuring = sum(len(task.cells) for task in self.tasks.values())
        self.capacity = self.executor.capacity(
            len(self.waiting_trials) + len(self.trials),
            len(self.waiting_cells) + measuring,
            keeps_share=self.keeps_share,
        )
        if self.capacity.waits_for not in ("", self.waits_for):
            log.warning("%s", self.capacity.waits_for)
        self.waits_for = self.capacity.waits_for
        due = [work for work in self.delayed if work.until <= now]
        self.delayed = [work for work in self.delayed if work.until > now]
        for work in due:
            work.resume()
        self._tell_of_no_room(now)
        self.account.tick(self.capacity.cpus, self.capacity.gpus, now)
        self.watcher.tick()

    def _tell_of_no_room(self, now: float) -> None:
        """Say once, until one starts, that no evaluation has found room for a while beside the trials that train."""
        waits = [task for task in self.tasks.values() if task.place is None]
        if not waits or len(waits) < len(self.tasks):
            self.has_told_of_no_room = False
        elif self.trials and not self.has_told_of_no_room and now - min(of.submitted for of in waits) > NO_ROOM_SECONDS:
            self.has_told_of_no_room = True
            shares = self.plan.experiment.resources
            log.warning(
                "no node has room for an evaluation (%s) beside the trials in training (%s each): cells wait until a "
                "trial ends; with smaller resources.trial or resources.evaluation both would fit",
                shares.evaluation.described(),
                shares.trial.described(),
            )

    def _submit_trials(self) -> None:
        room = self.capacity.trials if self.keeps_share else self.capacity.trials_alone
        bound = room + TRIALS_AHEAD if room else 0
        for _ in range(min(len(self.waiting_trials), bound - len(self.trials))):
            trial = self.waiting_trials.popleft()
            if self.tasks_of[trial.id]:  # it is trained again, as its checkpoint was damaged: they may still look at it
                self.waiting_trials.append(trial)
                continue
            self.ticket += 1
            self.trials[self.ticket] = _InFlight(trial=trial)
            self.executor.submit_trial(self.ticket, trial, avoid=self.avoid.get(trial.id))

    def _submit_cells(self) -> None:
        room = self.capacity.tasks
        bound = room + max(AHEAD, room // 2) if room else 0
        while self.waiting_cells and len(self.tasks) < bound:
            # several in a task only where there are so many that none of the other slots goes without
            cells = self.waiting_cells.take_together(
                self._known_seconds, min(MOST_TOGETHER, len(self.waiting_cells) // room)
            )
            self.ticket += 1
            trial = cells[0].trial
            self.tasks[self.ticket] = _InFlight(trial=trial, cells=cells, submitted=self.executor.now())
            self.tasks_of[trial.id] += 1
            self.executor.submit_cells(self.ticket, cells, avoid=self.avoid.get(_name(cells[0])))

    def _known_seconds(self, cell: Cell) -> float | None:
        """How long a cell takes; not known of one that has failed, so that it is tried again alone."""
        return None if self.attempts.has_failed(_name(cell)) else self.durations.cell(cell)

    def _take(self, event: Event) -> None:
        """Take an event; one of work that has ended, or was given up, says nothing new."""
        in_flight = (self.trials if isinstance(event, TrialStarted | EpochDone | TrialEnded) else self.tasks).get(
            event.ticket
        )
        if in_flight is None:
            return
        trial = in_flight.trial
        match event:
            case TrialStarted():
                assert isinstance(trial, Trial)
                in_flight.place = event.place
                self.account.trial_started(trial, self.executor.now())
            case EpochDone():
                assert isinstance(trial, Trial)
                self._epoch_done(trial, in_flight, event.progress)
            case TrialEnded():
                assert isinstance(trial, Trial)
                del self.trials[event.ticket]
                self._trial_ended(trial, in_flight, event)
            case TaskStarted():
                if in_flight.place is None:  # not before: what waits for its share is not measured yet
                    for cell in in_flight.cells:
                        self.watcher.cell_started(cell)
                in_flight.place = event.place
            case TaskEnded():
                del self.tasks[event.ticket]
                self.tasks_of[trial.id] -= 1
                self._task_ended(in_flight, event)

    def _epoch_done(self, trial: Trial, in_flight: _InFlight, progress: Progress) -> None:
        if progress.epoch <= in_flight.epoch:
            return  # heard before
        self.attempts.advanced(trial.id)
        if progress.notice:
            log.warning("%s: %s", trial.label, progress.notice)
        if not progress.is_whole:
            return
        in_flight.epoch = progress.epoch
        if progress.validation_error is not None:
            in_flight.errors[progress.epoch] = progress.validation_error
        self.account.epoch_ended(trial, progress.seconds)
        self.watcher.epoch_done(trial, progress)

    def _trial_ended(self, trial: Trial, in_flight: _InFlight, event: TrialEnded) -> None:
        checkpoint = self.plan.checkpoint_of(trial)  # what storage says counts, whatever the event says
        self.account.trial_ended(trial, self.executor.now(), is_whole=checkpoint is not None)
        if checkpoint is not None:
            self._trial_done(trial)
        elif event.is_stopped and in_flight.errors:
            asked = self.plan.experiment.scheduler
            assert asked is not None
            keep_stopped(self.plan.store, trial, asked, in_flight.errors)
            self._leave(trial)
            self.watcher.trial_stopped(trial, in_flight.epoch)
        else:
            lost = Problem.because(Cause.MESSAGE_LOST, "the trial ended without leaving a checkpoint")
            self._trial_failed(trial, event.problem or lost)

    def _trial_done(self, trial: Trial) -> None:
        self.attempts.advanced(trial.id)
        self.watcher.trial_done(trial)
        has_cells = bool(self.plan.store.files(f"cells/{trial.id}"))  # of before its checkpoint was lost
        for cell in self.cells_of.pop(trial.id, []):
            if has_cells and self.plan.is_measured(cell):
                self._cell_done(cell, 0.0)
            else:
                self.waiting_cells.append(cell)

    def _trial_failed(self, trial: Trial, problem: Problem) -> None:
        work = WorkItem(
            name=trial.id,
            label=trial.label,
            record=trial_file(trial.id, "failed.json"),
            log=log_file(trial.id),
        )
        if self._is_retried(work, problem, lambda: self.waiting_trials.appendleft(trial)):
            self.watcher.waits_again(trial)
        else:
            self.failures.append(Failure.of(f"{trial.label} ({trial.id})", problem, self.plan.store, work.log))
            self._leave(trial)
            self.watcher.trial_failed(trial, problem.report.reason)

    def _leave(self, trial: Trial) -> None:
        """The trial has no checkpoint and gets none: its cells cannot be measured."""
        for _ in self.cells_of.pop(trial.id, ()):
            self._leave_cell(trial)

    def _task_ended(self, task: _InFlight, event: TaskEnded) -> None:
        ended: Mapping[Cell, CellResult] = dict(zip(task.cells, event.results, strict=False))
        if event.problem is not None:
            ended = self._results_from_dead_worker(task.cells, event.problem)
        for cell in task.cells:
            if cell not in ended:  # it was not begun
                self._wait(cell)
                self.watcher.waits_again(cell)
                continue
            seconds, problem = ended[cell].seconds, ended[cell].problem
            self.account.cell_ended(cell, seconds, has_failed=problem is not None)
            if ended[cell].notice:
                log.warning("%s: %s", cell.trial.label, ended[cell].notice)
            if problem is None:
                self._cell_done(cell, seconds)
            else:
                self._cell_failed(cell, problem)

    def _results_from_dead_worker(self, cells: Sequence[Cell], problem: Problem) -> dict[Cell, CellResult]:
        """What storage says of the cells of a task that told nothing: some are done, and at the next one it ended."""
        done = [cell for cell in cells if self.plan.is_measured(cell)]
        results = {cell: CellResult(seconds=0.0) for cell in done}
        if left := [cell for cell in cells if cell not in results]:
            results[left[0]] = CellResult(seconds=0.0, problem=problem)
        return results

    def _cell_done(self, cell: Cell, seconds: float) -> None:
        self.attempts.advanced(_name(cell))
        self.watcher.cell_done(cell, seconds)
        self._leave_cell(cell.trial)

    def _cell_failed(self, cell: Cell, problem: Problem) -> None:
        work = WorkItem(
            name=_name(cell),
            label=cell.label,
            record=cell_failure_file(cell.trial.id, cell.run.key),
            log=log_file(cell.trial.id, cell.run.key),
        )
        again = self._train_again if problem.cause is Cause.DAMAGED else self._wait
        if self._is_retried(work, problem, lambda: again(cell)):
            self.watcher.waits_again(cell)
        else:
            self.failures.append(Failure.of(f"{cell.label} ({cell.trial.id})", problem, self.plan.store, work.log))
            self.watcher.cell_failed(cell, problem.report.reason)
            self._leave_cell(cell.trial)

    def _wait(self, cell: Cell) -> None:
        """Have a cell wait for its turn, or for its trial where that is being trained again."""
        if cell.trial.id in self.cells_of:
            self.cells_of[cell.trial.id].append(cell)
        else:
            self.waiting_cells.append(cell)

    def _train_again(self, cell: Cell) -> None:
        """Have the checkpoint of a cell made again, and all cells wait for it that need it."""
        trial = cell.trial
        assert isinstance(trial, Trial)  # what was there already is never damaged, but another
        cells = [cell, *self.waiting_cells.take_those_of(trial)]
        if trial.id not in self.cells_of:
            self.waiting_trials.append(trial)
        self.cells_of.setdefault(trial.id, []).extend(cells)

    def _is_retried(self, work: WorkItem, problem: Problem, resume: Callable[[], None]) -> bool:
        """Whether work that has failed is tried again: then it waits. A failure that is charged is recorded."""
        if problem.cause is Cause.STORAGE:
            raise StorageError(problem.report.reason)
        verdict = self.attempts.failed(work.name, problem)
        note_failure(self.plan.store, work, problem, verdict)
        if not verdict.is_retried:
            return False
        if (node := problem.avoided_node()) is not None:
            self.avoid[work.name] = node
        if verdict.delay:
            self.delayed.append(_Delayed(until=self.executor.now() + verdict.delay, resume=resume))
        else:
            resume()
        return True

    def _leave_cell(self, trial: Source) -> None:
        """A cell of the trial has ended; after its last one a search may suggest others."""
        self.left[trial.id] -= 1
        if self.more is not None and self.left[trial.id] == 0:
            plan = self.more()
            self._take_up(plan)
            self.watcher.planned(plan)


def _name(cell: Cell) -> str:
    return f"{cell.trial.id}/{cell.run.key}"
