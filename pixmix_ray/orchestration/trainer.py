"""Training half: Ray Tune launches trainer actors, one trial each at a time, and reports what they do.

Tune decides where and when a trial runs. What is done is in our own store: Tune is handed only the missing trials, a
trainer goes on from its trial's last whole epoch, and nothing that Tune remembers is used again.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import OutOfMemoryError
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search.sample import Domain

from pixmix_ray.errors import WorkError
from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.memory import free_memory
from pixmix_ray.orchestration.halving import EPOCH, LOSS
from pixmix_ray.orchestration.memory_kills import count_as_deaths, place_of_kill
from pixmix_ray.orchestration.retries import POLICIES, Cause, Problem, here
from pixmix_ray.orchestration.session import node_beside
from pixmix_ray.orchestration.work import Work
from pixmix_ray.storage.failures import ErrorReport, Place
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress


@dataclass(frozen=True, kw_only=True)
class TrialEvent:
    """Something that happened to a trial.

    Attributes:
        trial_id: which.
        is_started: it has its share of the cluster from now on.
        progress: one more epoch is safe.
        is_done: the trial ended, or, with a problem, this attempt at it.
        problem: what went wrong; without `is_done` Tune has already begun the next attempt.
        is_stopped: it ended because others of its method train better.
        node: the id of the node where it ran.
        at: when, by `time.monotonic`.
    """

    trial_id: str
    is_started: bool = False
    progress: Progress | None = None
    is_done: bool = False
    problem: Problem | None = None
    is_stopped: bool = False
    node: str | None = None
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How the trials of a run are trained.

    Attributes:
        store: where the checkpoints go.
        share: of the cluster, for each trial.
        at_once: how many train at the same time.
        work: what trains a trial.
        scheduler: says whose turn it is, and stops trials early.
        loggers: shown what Tune's trials do, beside us.
    """

    store: Store
    share: Share
    at_once: int
    work: Work
    scheduler: TrialScheduler
    loggers: Sequence[Callback] = ()


class Trainer(tune.Trainable):
    """One actor; it trains one trial after the other, one epoch a step."""

    def setup(self, config: dict[str, Any], **parameters: Any) -> None:
        """Take up the trial that `config` describes; `parameters` are those of all trials, given with the first."""
        self._work: Work = parameters["work"]
        self._where = here().node
        self._take_up(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up the next trial in the same process."""
        self._take_up(new_config)  # `setup` is by now that of Tune's wrapper, which takes no parameters
        return True

    def _take_up(self, config: dict[str, Any]) -> None:
        self._job = config["job"]
        self._epochs = _epochs(self._job, self._work)
        self._last: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        """Train one epoch; the result is what `_Reporter` reads."""
        problem = None
        try:
            progress = next(self._epochs, None)
        except Exception as error:  # the worker's outermost frame: reported as this attempt's end
            problem = Problem.of(error)
        if problem is not None:
            free_memory(_device(self._job))  # after the error and all that its frames held
            return {"problem": problem, "done": True}
        if progress is None:
            return {**self._last, "node": self._where, "is_finished": True, "done": True}
        self._last = {EPOCH: progress.epoch, LOSS: progress.loss}
        # after its last epoch a trial is not to be stopped: a result without its loss is passed over by a scheduler
        judged = self._last if progress.epoch < progress.epochs else {}
        return {
            **judged,
            "progress": progress.__dict__,
            "node": self._where,
            "timesteps_total": progress.epoch,  # the step of loggers, also after a trial went on
            "done": False,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trial's checkpoints are in our own store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, likewise."""


def _epochs(job: dict[str, Any], work: Work) -> Iterator[Progress]:
    torch.set_num_threads(max(1, round(job["cpus"])))
    yield from work.train(Trial.load(job["trial"]), Store(job["results"]), _device(job))


def _device(job: dict[str, Any]) -> torch.device:
    return torch.device("cuda" if job["gpus"] > 0 else "cpu")


class _Reporter(Callback):
    """Passes on what Tune's trials do. It must never raise: Tune would call the trial failed."""

    def __init__(self, events: "SimpleQueue[TrialEvent]") -> None:
        self._events = events

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never make

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._events.put(TrialEvent(trial_id=trial.config["job"]["id"], is_started=True))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "progress" in result:
            progress = Progress(**result["progress"])
            self._events.put(TrialEvent(trial_id=trial.config["job"]["id"], progress=progress))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        last = trial.last_result or {}
        event = TrialEvent(
            trial_id=trial.config["job"]["id"],
            is_done=True,
            problem=last.get("problem"),
            is_stopped="problem" not in last and "is_finished" not in last,
            node=last.get("node"),
        )
        self._events.put(event)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        problem, job = _death(trial), trial.config["job"]
        self._events.put(TrialEvent(trial_id=job["id"], problem=problem))
        if (node := problem.avoided_node()) is not None:  # Tune has the trial wait again, so its place can be changed
            job["beside"] = node_beside(node, Share(cpus=job["cpus"], gpus=job["gpus"]))
            trial.update_resources(_placement(trial.config))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._events.put(TrialEvent(trial_id=trial.config["job"]["id"], is_done=True, problem=_death(trial)))


def _death(trial: Any) -> Problem:
    """What Tune says of the worker of a trial that died; what it last did tells where it was."""
    file, result = trial.error_file, trial.last_result or {}
    told = Path(file).read_text(encoding="utf-8", errors="replace") if file else ""  # of each of its deaths
    last = told.rpartition("Failure # ")[2].partition("\n")[2].strip()
    if (place := place_of_kill(last)) is not None:
        return Problem.of_death(OutOfMemoryError(last), place)  # type: ignore[no-untyped-call]
    error = WorkError(f"its worker died: {last.splitlines()[-1] if last else 'no message'}")
    place = Place(host=result.get("hostname"), pid=result.get("pid"), node=result.get("node"))
    return Problem(report=ErrorReport.of(error, place), cause=Cause.WORKER_DIED)


class Jobs(Domain):
    """The configurations of all trials, which Tune draws one by one in their order.

    A grid would do but for its costs: Tune copies the whole of it deeply for every trial, so that 2,000 trials cost
    three minutes before the first one starts and 10,000 would cost over an hour.
    """

    def __init__(self, configs: Iterable[dict[str, Any]]) -> None:
        self._configs = list(configs)
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._configs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Jobs":
        return self  # copied for every trial, too; nobody changes the configurations

    def sample(self, config: object = None, size: int = 1, random_state: object = None) -> dict[str, Any]:
        """The next one."""
        self._drawn += 1
        return self._configs[self._drawn - 1]


class _Stop(tune.Stopper):
    """Ends all trials once an event of the driver is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for `_Reporter`

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._stop.is_set()


class _StopAtOnce(Callback):
    """Ends the trainers in the middle of their epochs then; Tune by itself waits up to 15 seconds for each.

    What an epoch has written is whole or not there at all, so nothing is gained by waiting for its end.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for `_Reporter`

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if self._stop.is_set():
            for actor in filter(None, (trial.temporary_state.ray_actor for trial in trials)):
                ray.kill(actor)


class _ForgetEnded(Callback):
    """Takes trials that have ended off Tune's list of all, and out of the snapshot that it writes at its end.

    Between two trials it goes through the whole list. The snapshot, which we never read, would cost 6 ms and 100 kB of
    memory a trial.
    """

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        ended = [trial for trial in trials if trial.is_finished()]
        for trial in ended:
            trial.get_json_state = _nothing
        if ended:
            trials[:] = [trial for trial in trials if trial not in ended]


def _nothing() -> tuple[str, str]:
    """In place of the state and the metadata of a trial, as JSON."""
    return "{}", "{}"


def train_all(
    trials: list[Trial],
    terms: Terms,
    events: "SimpleQueue[TrialEvent]",
    stop: threading.Event,
    avoid: Mapping[str, str],
) -> None:
    """Train the trials, in this order, until all have ended or `stop` is set.

    Args:
        trials: what to train.
        terms: how.
        events: where what happens is put.
        stop: set it to end within seconds; the epochs that are safe stay so.
        avoid: by trial id, Ray's id of a node where it failed and should not run again, if there is another.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # we tell of deaths ourselves, without a traceback
    count_as_deaths()
    share = terms.share
    jobs = Jobs(
        {
            "id": trial.id,
            "trial": trial.dump(),
            "results": terms.store.uri,
            "cpus": share.cpus,
            "gpus": share.gpus,
            "beside": node_beside(avoid.get(trial.id), share),
        }
        for trial in trials
    )
    with tempfile.TemporaryDirectory(prefix="pixmix_ray_tune_") as scratch:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(Trainer, work=terms.work), _placement),
            param_space={"job": jobs},
            tune_config=tune.TuneConfig(
                num_samples=len(jobs),
                max_concurrent_trials=terms.at_once,
                reuse_actors=True,
                scheduler=terms.scheduler,
                trial_name_creator=_name,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                callbacks=[_StopAtOnce(stop), _Reporter(events), _ForgetEnded(), *terms.loggers],
                stop=_Stop(stop),
                failure_config=tune.FailureConfig(max_failures=POLICIES[Cause.WORKER_DIED].retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()


def _name(trial: Any) -> str:
    name: str = trial.config["job"]["id"]
    return name


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What a trial takes of the cluster, and on which node it had better be."""
    job = config["job"]
    bundle = {"CPU": job["cpus"], "GPU": job["gpus"]}
    if job["beside"] is None:
        return tune.PlacementGroupFactory([bundle])
    # a wish, not a condition: a trial that insisted on a node would wait for ever once that node is gone
    return tune.PlacementGroupFactory([bundle], strategy="STRICT_PACK", _soft_target_node_id=job["beside"])
