"""The actor that trains, as Ray Tune starts it, and the other workers of a trial that several train together.

Several are actors in the placement group of the trial, joined by torch: Tune's own actor is the first worker, and has
the first bundle; each other one has a bundle, on whatever node has room. Ray Train's TorchTrainer was tried in its
place: that of 2.60 makes a placement group of its own beside the trial's and so takes its share twice, does not hand
over between two epochs, as early stopping needs, and keeps checkpoints of its own.
"""

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is there where torch can distribute

from pixmix_ray.errors import PreemptedError
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.hardware import free_memory
from pixmix_ray.orchestration.retries import Problem
from pixmix_ray.orchestration.session import place_here, problem_of
from pixmix_ray.orchestration.work import Job, train_epochs
from pixmix_ray.planning.durations import epoch_key
from pixmix_ray.storage.failures import Place
from pixmix_ray.training.batches import BatchShare
from pixmix_ray.training.trial import Progress
from pixmix_ray.training.workers import ConnectedWorkers, is_told_to_end, watch_for_end

SHORT_SECONDS = 1.0  # of a trial: what is told earlier would cost a good part of that
ANSWER_SECONDS = 20.0  # in which a worker that failed has told why, once the first one cannot go on


class Trainer(tune.Trainable):
    """One actor; each step trains one epoch, but the first of a trial, which only tells where it runs.

    Once a trial of some kind took less than `SHORT_SECONDS` here, the next ones of that kind tell it with their first
    epoch. A trial that is tried again does not: a worker that dies before it has told where it is counts as one that
    was never reached, and that is not charged.
    """

    _epochs: Generator[Progress, None, None] | None = None
    _group: "WorkerGroup | None" = None  # that trains the trial with this actor

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the trial of the config."""
        watch_for_end()
        self._short: set[tuple[str, int]] = set()  # kinds of trials of which the last one was
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
        self._is_again: bool = config["is_again"]
        self._begun = time.monotonic()

    def _kind(self) -> tuple[str, int]:
        """What tells how long a trial takes."""
        trial = self._job.trial
        assert isinstance(trial, Trial)
        return epoch_key(trial.settings, trial.method.name), trial.training.epochs

    def step(self) -> dict[str, Any]:
        """What `_Reporter` reads: `place` at first; `progress` with the `trial` of it, `problem` and `is_finished`."""
        place = place_here()
        if self._epochs is not None:
            return self._train(self._epochs, place)
        if self._job.share.num_workers > 1:
            self._group = WorkerGroup(self._job)
        self._epochs = train_epochs(self._job, place) if self._group is None else self._group.train(place)
        told = {"place": place, "actor": ray.get_runtime_context().current_actor}
        if self._is_again or self._kind() not in self._short:
            return {**told, "done": False}
        return {**told, **self._train(self._epochs, place)}

    def _train(self, epochs: Generator[Progress, None, None], place: Place) -> dict[str, Any]:
        """Train one epoch, and keep the checkpoint behind the last one: a step of its own would cost more."""
        problem, progress = None, None
        try:
            progress = next(epochs, None)
            is_last = progress is None or (progress.is_whole and progress.epoch == progress.epochs)
            if progress is not None and is_last:
                next(epochs, None)
        except PreemptedError:
            raise  # Tune ends the actor then, and does not use it again
        except Exception as error:  # the worker's outermost frame: reported as this attempt's end
            problem = Problem.of(error, place) if self._group is None else self._group.problem(error, place)
        told = {} if progress is None else {"progress": progress, "trial": self._job.trial.id}
        if problem is not None:
            free_memory(self._job.device)  # after the error and all that its frames held
            return {**told, "problem": problem, "done": True}
        if not is_last:
            return {**told, "done": False}
        if time.monotonic() - self._begun < SHORT_SECONDS:
            self._short.add(self._kind())
        else:
            self._short.discard(self._kind())
        return {**told, "is_finished": True, "done": True}

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: Tune would send the whole config with each result, and keep statistics of all numbers in it."""
        return {}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trial's checkpoints are in our own store."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, likewise."""


class WorkerGroup:
    """The other workers of a trial, seen from the first one."""

    def __init__(self, job: Job) -> None:
        """Start them, and wait until they run.

        Raises:
            RayError: one died on the way.
        """
        self._job, self._of = job, job.share.num_workers
        group = ray.util.get_current_placement_group()
        assert group is not None, "a trial of several workers has a placement group"
        share = job.share.of_worker()
        self._actors: list[Any] = [  # Ray's handles have no types
            ray.remote(_Worker)
            .options(
                num_cpus=share.cpus,
                num_gpus=share.gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number),
            )
            .remote()
            for number in range(1, self._of)
        ]
        self._places: list[Place] = ray.get([actor.place.remote() for actor in self._actors])
        self._runs: list[Any] = []

    def train(self, place: Place) -> Generator[Progress, None, None]:
        """Train the trial together, yielding each state once it is safe in the store; raises what the work raises."""
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # it has no types
        meeting = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        self._runs = [
            actor.train.remote(self._job, BatchShare(rank=rank, of=self._of), host, meeting.port)
            for rank, actor in enumerate(self._actors, start=1)
        ]
        workers = ConnectedWorkers(BatchShare(rank=0, of=self._of), is_told_to_end, meeting, self._job.device)
        try:
            yield from train_epochs(self._job, place, workers)
        finally:
            workers.close()

    def problem(self, error: Exception, place: Place) -> Problem:
        """Why the training failed: what another worker failed of goes before what the first one then met."""
        ended, _ = ray.wait(self._runs, timeout=ANSWER_SECONDS) if self._runs else ([], [])
        for run in ended:
            try:
                ray.get(run)
            except ray.exceptions.RayError as first:
                return problem_of(first, self._places[self._runs.index(run)])
        return Problem.of(error, place)

    def close(self) -> None:
        """End them."""
        for actor in self._actors:
            with suppress(Exception):  # one that has gone already
                ray.kill(actor)


class _Worker:
    """Another worker than the first."""

    def __init__(self) -> None:
        watch_for_end()

    def place(self) -> Place:
        """Where it is."""
        return place_here()

    def train(self, job: Job, share: BatchShare, host: str, port: int) -> None:
        """Train with the others to the end."""
        store = TCPStore(host, port, is_master=False)
        workers = ConnectedWorkers(share, is_told_to_end, store, job.device)
        try:
            for _ in train_epochs(job, place_here(), workers):
                pass
        finally:  # the others would wait for one that failed
            workers.close()
