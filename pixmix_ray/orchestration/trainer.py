"""The actor that trains, as Ray Tune starts it."""

from collections.abc import Generator
from typing import Any

import ray
from ray import tune

from pixmix_ray.errors import PreemptedError
from pixmix_ray.memory import free_memory
from pixmix_ray.orchestration.retries import Problem
from pixmix_ray.orchestration.session import place_here
from pixmix_ray.orchestration.work import Job, train_epochs
from pixmix_ray.orchestration.worker_group import WorkerGroup
from pixmix_ray.training.ending import watch_for_end
from pixmix_ray.training.trial import Progress


class Trainer(tune.Trainable):
    """One actor; each step trains one epoch, but the first of a trial, which only tells where it runs."""

    _epochs: Generator[Progress, None, None] | None = None
    _group: WorkerGroup | None = None  # that trains the trial with this actor

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the trial of the config."""
        watch_for_end()
        self._take_up(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up the next trial in the same process."""
        self._take_up(new_config)
        return True

    def cleanup(self) -> None:
        """End the trial that is trained, wherever it is."""
        if self._epochs is not None:
            self._epochs.close()
        self._epochs = None
        if self._group is not None:
            self._group.close()
        self._group = None

    def _take_up(self, config: dict[str, Any]) -> None:
        self.cleanup()  # of a trial that was stopped early
        self._job: Job = config["job"]

    def step(self) -> dict[str, Any]:
        """What `_Reporter` reads: `place`, `progress`, `problem` or `is_finished`."""
        place, problem = place_here(), None
        if self._epochs is None:
            if self._job.share.num_workers > 1:
                self._group = WorkerGroup(self._job)
            self._epochs = train_epochs(self._job, place) if self._group is None else self._group.train(place)
            return {"place": place, "actor": ray.get_runtime_context().current_actor, "done": False}
        try:
            progress = next(self._epochs, None)
        except PreemptedError:
            raise  # Tune ends the actor then, and does not use it again
        except Exception as error:  # the worker's outermost frame: reported as this attempt's end
            problem = Problem.of(error, place) if self._group is None else self._group.problem(error, place)
        if problem is not None:
            free_memory(self._job.device)  # after the error and all that its frames held
            return {"problem": problem, "done": True}
        if progress is None:
            return {"is_finished": True, "done": True}
        curves = {
            "loss": progress.loss,
            "validation_error": progress.validation_error,
            "epoch_seconds": progress.seconds,
        }
        # the step of loggers, also after a trial went on
        told = {**curves, "timesteps_total": progress.epoch} if progress.is_whole else {}
        return {"progress": progress, **told, "done": False}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trial's checkpoints are in our own store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, likewise."""
