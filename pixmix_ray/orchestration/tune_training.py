"""Training on Ray: Ray Tune launches trainer actors, which train one trial after the other, one epoch a step.

Tune decides where a trial runs and keeps its actors alive; it is fed by a `Searcher`, its public way to take trials one
by one. Nothing that it remembers is used again: what is done is in our own store, and a trainer goes on from its
trial's last whole epoch. So a Tuner is ended and another one started whenever that is simplest:

- when nothing trains and nothing waits for some seconds, so that the actor that Tune keeps for the next trial gives its
  share back;
- after `TRIALS_A_TUNER`, as Tune looks at all its trials again and again, and its snapshot holds them all;
- when Ray's memory monitor has killed a trainer: Tune 2.60 knows the deaths of actors alone, takes that error for a
  fault of its own, and ends with all trials.
"""

import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune import Callback
from ray.tune.search import Searcher

from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.executor import EpochDone, Event, ShouldStop, TrialEnded, TrialStarted
from pixmix_ray.orchestration.nodes import bundle
from pixmix_ray.orchestration.retries import Cause, Problem
from pixmix_ray.orchestration.session import node_selector, problem_of
from pixmix_ray.orchestration.trainer import Trainer
from pixmix_ray.orchestration.work import Job
from pixmix_ray.storage.failures import Place
from pixmix_ray.training.trial import Progress

log = logging.getLogger(__name__)
TRIALS_A_TUNER = 1000
MOST_PENDING = 10_000  # Tune starts so many actors at once; `Training.limit` is what limits them
IDLE_SECONDS = 3.0  # that a Tuner waits for a further trial: another one would start its actors anew
STOP_SECONDS = 4.0  # that Tune takes once its trainers are killed; a second or less on an idle machine


@dataclass(kw_only=True)
class _Submitted:
    """A trial that was submitted.

    Attributes:
        ticket: of the loop.
        job: what it is.
        avoid: a node where it should not run, if there is another.
        is_again: whether it was begun before.
        actor: that trains it, once it has told.
        place: where that is.
    """

    ticket: int
    job: Job
    avoid: str | None = None
    is_again: bool = False
    actor: Any = None
    place: Place = field(default_factory=Place)


class Training:
    """The trials of a run on Ray Tune, in a thread of its own, as `Tuner.fit` returns when its last trial ends."""

    def __init__(self, events: "SimpleQueue[Event]", should_stop: ShouldStop | None) -> None:
        """Without trials.

        Args:
            events: where what happens is put.
            should_stop: asked after every epoch.
        """
        self._events, self._should_stop = events, should_stop
        self.limit = 0  # trials that may train at once; whoever knows the cluster sets it
        self._lock = threading.RLock()
        self._waiting: deque[_Submitted] = deque()
        self._running: dict[int, _Submitted] = {}  # by ticket
        self._begun: set[str] = set()  # trials
        self._is_to_hear = False  # of a trial that failed: the loop may want it tried again before another begins
        self._thread: threading.Thread | None = None
        self._idle_since: float | None = None  # when the Tuner that runs ran out of trials
        self.is_open = False  # whether the Tuner that runs takes further trials
        self.is_cancelled = False  # whether all trials are to end
        self.error: Exception | None = None  # that ended a Tuner, if one did

    def submit(self, ticket: int, job: Job, *, avoid: str | None = None) -> None:
        """Have a trial trained."""
        with self._lock:
            is_again = job.trial.id in self._begun
            submitted = _Submitted(ticket=ticket, job=job, avoid=avoid, is_again=is_again)
            if is_again:  # what was interrupted goes on before another begins
                self._waiting.appendleft(submitted)
            else:
                self._waiting.append(submitted)

    def shares(self) -> list[int]:
        """Which of the shares the trials take that train or wait here."""
        with self._lock:
            trials = [submitted.job.trial for submitted in (*self._running.values(), *self._waiting)]
        return [trial.share for trial in trials if isinstance(trial, Trial)]

    def keep_going(self) -> None:
        """Start a Tuner if there is something to train and none that takes it; called several times a second."""
        with self._lock:
            if self._events.empty():
                self._is_to_hear = False
            if not self._waiting or self.is_cancelled or (self._thread is not None and self._thread.is_alive()):
                return
            self.is_open = True
            self._thread = threading.Thread(target=self._train, name="Ray Tune", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """End all trials in the middle of their epochs: what an epoch has written is whole or not there at all."""
        with self._lock:
            self.is_cancelled, self.is_open = True, False
            self._waiting.clear()
            actors = [submitted.actor for submitted in self._running.values() if submitted.actor is not None]
        for actor in actors if ray.is_initialized() else ():
            ray.kill(actor)
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _train(self) -> None:
        """One Tuner, from its first trial to its last."""
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # we tell of deaths ourselves, without a traceback
        trials = _Trials(self)
        try:
            _fit(trials, [_Reporter(self)], _Stop(self))
        except Exception as error:  # the thread's outermost frame: told to the trials that it leaves behind
            log.debug("Ray Tune ended", exc_info=error)
            self.error = error
            if trials.count == 0:
                self._give_up(error)
            self._end_all(error)
        else:
            self._end_all(None)

    def next_trial(self) -> _Submitted | None:
        """A trial that may begin, if there is one; the Tuner is closed where none will come."""
        with self._lock:
            if self._waiting and not self._is_to_hear and len(self._running) < self.limit:
                submitted = self._waiting.popleft()
                self._running[submitted.ticket] = submitted
                self._begun.add(submitted.job.trial.id)
                return submitted
            if self._waiting or self._running:
                self._idle_since = None
            elif self._idle_since is None:
                self._idle_since = time.monotonic()
            elif time.monotonic() - self._idle_since > IDLE_SECONDS:
                self.is_open, self._idle_since = False, None
            return None

    def close(self) -> None:
        """The Tuner takes no further trials."""
        with self._lock:
            self.is_open = False

    def started(self, ticket: int, place: Place, actor: Any) -> None:
        """A trainer tells where it is."""
        with self._lock:
            submitted = self._running.get(ticket)
            if submitted is not None:
                submitted.place, submitted.actor = place, actor
        self._events.put(TrialStarted(ticket=ticket, place=place))

    def epoch_done(self, ticket: int, progress: Progress) -> None:
        """A trainer has one more epoch."""
        self._events.put(EpochDone(ticket=ticket, progress=progress))

    def is_to_stop(self, trial_id: str, progress: Progress) -> bool:
        """Whether a trial is stopped early after this epoch."""
        return progress.is_whole and self._should_stop is not None and self._should_stop(trial_id, progress)

    def ended(self, ticket: int, problem: Problem | None = None, *, is_stopped: bool = False) -> None:
        """A trial ended."""
        with self._lock:
            if self._running.pop(ticket, None) is None:
                return
            self._is_to_hear = self._is_to_hear or problem is not None
        self._events.put(TrialEnded(ticket=ticket, problem=problem, is_stopped=is_stopped))

    def place_of(self, ticket: int) -> Place:
        """Where a trial runs, as far as is known."""
        with self._lock:
            submitted = self._running.get(ticket)
        return Place() if submitted is None else submitted.place

    def _give_up(self, error: Exception) -> None:
        """Tell that trials cannot be trained, as Ray Tune does not even begin."""
        with self._lock:
            given_up = list(self._waiting)
            self._waiting.clear()
            self._running.update({submitted.ticket: submitted for submitted in given_up})
        for submitted in given_up:
            self.ended(submitted.ticket, Problem.of(error))

    def _end_all(self, error: Exception | None) -> None:
        """Tell the end of the trials that a Tuner left behind, without a word of its own to each."""
        kill = _memory_kill(error)
        with self._lock:
            left = list(self._running.values())
        # the error has no field for the process that it is about, but its text names it
        killed = [s for s in left if kill is not None and s.place.pid and f"pid={s.place.pid}," in str(kill)] or left
        for submitted in left:
            if kill is not None and submitted in killed:
                problem = problem_of(kill, submitted.place)
            else:
                reason = "Ray Tune ended with a trial of another process" if kill else f"Ray Tune ended: {error}"
                problem = Problem.because(Cause.MESSAGE_LOST, reason, submitted.place)
            self.ended(submitted.ticket, problem)


def _memory_kill(error: BaseException | None) -> OutOfMemoryError | None:
    """The memory monitor's error among those that led to `error`."""
    while error is not None and not isinstance(error, OutOfMemoryError):
        error = error.__cause__ or error.__context__
    return error


class _Trials(Searcher):
    """Hands Tune the trials that wait, one by one."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self._training, self.count = training, 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for `_Reporter`

    def suggest(self, trial_id: str) -> Any:
        """The config of the next trial; None where there is none now, FINISHED where none will come."""
        submitted = self._training.next_trial() if self.count < TRIALS_A_TUNER else None
        if submitted is not None:
            self.count += 1
            return {
                "job": submitted.job,
                "ticket": submitted.ticket,
                "avoid": submitted.avoid,
                "is_again": submitted.is_again,
            }
        if self.count >= TRIALS_A_TUNER:
            self._training.close()
        return None if self._training.is_open else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the loop is told by `_Reporter`."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: it is never restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing."""


class _Reporter(Callback):
    """Passes on what Tune's trials do. It must never raise: Tune would call the trial failed."""

    def __init__(self, training: Training) -> None:
        self._training = training

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never make

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A step has ended."""
        ticket = trial.config["ticket"]
        if "place" in result:
            self._training.started(ticket, result["place"], result["actor"])
        if "progress" in result:
            self._training.epoch_done(ticket, result["progress"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial has ended: by itself, or as `_Stop` said so."""
        last = trial.last_result or {}
        is_stopped = "problem" not in last and "is_finished" not in last
        self._training.ended(trial.config["ticket"], last.get("problem"), is_stopped=is_stopped)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trainer died, or did not answer."""
        ticket = trial.config["ticket"]
        self._training.ended(ticket, problem_of(_error_of(trial), self._training.place_of(ticket)))


class _Stop(tune.Stopper):
    """Stops trials that the run's early stopping gives up, and all of them once the run is cancelled."""

    def __init__(self, training: Training) -> None:
        self._training = training

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for `_Reporter`

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return "progress" in result and self._training.is_to_stop(result["trial"], result["progress"])

    def stop_all(self) -> bool:
        return self._training.is_cancelled


def _fit(trials: _Trials, callbacks: Sequence[Callback], stop: _Stop) -> None:
    with tempfile.TemporaryDirectory(prefix="pixmix_ray_tune_") as scratch:
        tune.Tuner(
            tune.with_resources(Trainer, _placement),
            tune_config=tune.TuneConfig(
                search_alg=trials,
                num_samples=-1,  # as many as there are
                max_concurrent_trials=MOST_PENDING,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_folder,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                callbacks=list(callbacks),
                stop=stop,
                failure_config=tune.FailureConfig(max_failures=0),  # the loop tries again
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()


def _error_of(trial: Any) -> BaseException | None:
    """What ended a trainer, with its type; Tune keeps it in a file of this process's own."""
    file = trial.pickled_error_file
    with suppress(OSError):
        return None if file is None else ray.cloudpickle.loads(Path(file).read_bytes())
    return None


def _trial_name(trial: Any) -> str:
    return str(trial.config["job"].trial.id)


def _trial_folder(trial: Any) -> str:
    return f"{trial.config['job'].trial.id}-{trial.config['ticket']}"


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial takes of the cluster, and on which nodes it may be: a bundle for each of its workers."""
    share = config["job"].share
    selector, count = node_selector(share, config["avoid"]), share.num_workers
    options: dict[str, Any] = {"bundle_label_selector": [selector] * count} if selector else {}
    return tune.PlacementGroupFactory([bundle(share.of_worker())] * count, **options)
