"""Training half: Ray Tune launches trainer actors, one trial each at a time, and reports what they do.

Tune decides where and when a trial runs. What is done is in our own store: Tune is handed only the missing trials, a
trainer goes on from its trial's last whole epoch, and nothing that Tune remembers is used again.
"""

import logging
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from ray import tune
from ray.tune import Callback

from pixmix_ray.results.store import Store, trial_file
from pixmix_ray.sweep import Share
from pixmix_ray.trial import Trial
from pixmix_ray.work import Progress, reason, record_failure, train_trial

RESTARTS = 3  # of a trial whose worker died; a trial that fails by itself is not restarted


@dataclass(frozen=True, kw_only=True)
class TrialEvent:
    """Something that happened to a trial.

    Attributes:
        trial_id: which.
        progress: one more epoch is safe.
        is_done: the trial ended.
        failure: why it ended without a checkpoint.
    """

    trial_id: str
    progress: Progress | None = None
    is_done: bool = False
    failure: str | None = None


class Trainer(tune.Trainable):
    """One actor; it trains one trial after the other, one epoch a step."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the trial that `config` describes."""
        self._job = config["job"]
        self._epochs = _epochs(self._job)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up the next trial in the same process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; the result is what `_Reporter` reads."""
        try:
            progress = next(self._epochs, None)
        except Exception as error:  # the worker's outermost frame: recorded, and reported as this trial's end
            record_failure(Store(self._job["results"]), trial_file(self._job["id"], "failed.json"), error)
            return {"failure": reason(error), "done": True}
        if progress is None:
            return {"done": True}
        return {"progress": progress.__dict__, "done": False}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trial's checkpoints are in our own store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, likewise."""


def _epochs(job: dict[str, Any]) -> Iterator[Progress]:
    torch.set_num_threads(max(1, round(job["cpus"])))
    device = torch.device("cuda" if job["gpus"] > 0 else "cpu")
    yield from train_trial(Trial.load(job["trial"]), Store(job["results"]), device)


class _Reporter(Callback):
    """Passes on what Tune's trials do. It must never raise: Tune would call the trial failed."""

    def __init__(self, events: "SimpleQueue[TrialEvent]") -> None:
        self._events = events

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never make

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "progress" in result:
            progress = Progress(**result["progress"])
            self._events.put(TrialEvent(trial_id=trial.config["job"]["id"], progress=progress))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        failure = (trial.last_result or {}).get("failure")
        self._events.put(TrialEvent(trial_id=trial.config["job"]["id"], is_done=True, failure=failure))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        last = str(trial.get_error() or "").strip().splitlines()
        failure = f"its worker died {RESTARTS + 1} times, at last with: {last[-1] if last else 'no message'}"
        self._events.put(TrialEvent(trial_id=trial.config["job"]["id"], is_done=True, failure=failure))


class Jobs(list[dict[str, Any]]):
    """The configurations of all trials, as Tune's grid wants them.

    Tune copies the whole grid deeply for every trial that it makes of it, so that 10,000 trials would cost an hour
    before the last one starts. Nobody changes these, so a copy is the same object.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "Jobs":
        return self


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


def train_all(
    trials: list[Trial],
    store: Store,
    share: Share,
    at_once: int,
    events: "SimpleQueue[TrialEvent]",
    stop: threading.Event,
) -> None:
    """Train the trials, `at_once` at a time, until all have ended or `stop` is set.

    Args:
        trials: what to train.
        store: where the checkpoints go.
        share: of the cluster, for each trial.
        at_once: how many train at the same time.
        events: where what happens is put.
        stop: set it to end within seconds; the epochs that are safe stay so.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    configs = Jobs(
        {"id": trial.id, "trial": trial.dump(), "results": store.uri, "cpus": share.cpus, "gpus": share.gpus}
        for trial in trials
    )
    with tempfile.TemporaryDirectory(prefix="pixmix_ray_tune_") as scratch:
        tune.Tuner(
            tune.with_resources(Trainer, {"CPU": share.cpus, "GPU": share.gpus}),
            param_space={"job": tune.grid_search(configs)},
            tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=scratch,
                callbacks=[_Reporter(events)],
                stop=_Stop(stop),
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
