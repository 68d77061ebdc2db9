"""The workers of a trial that several train together: actors in the placement group of the trial, joined by torch.

Tune's own actor is the first worker, and has the first bundle; each other one has a bundle, on whatever node has room.
Ray Train's TorchTrainer was tried in its place: that of 2.60 makes a placement group of its own beside the trial's and
so takes its share twice, does not hand over between two epochs, as early stopping needs, and keeps checkpoints of its
own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is there where torch can distribute

from pixmix_ray.orchestration.retries import Problem
from pixmix_ray.orchestration.session import place_here, problem_of
from pixmix_ray.orchestration.work import train_epochs
from pixmix_ray.storage.failures import Place
from pixmix_ray.training.batches import Share
from pixmix_ray.training.ending import is_told_to_end, watch_for_end
from pixmix_ray.training.trial import Progress
from pixmix_ray.training.workers import ConnectedWorkers

if TYPE_CHECKING:
    from pixmix_ray.orchestration.work import Job

ANSWER_SECONDS = 20.0  # in which a worker that failed has told why, once the first one cannot go on


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
            actor.train.remote(self._job, Share(rank=rank, of=self._of), host, meeting.port)
            for rank, actor in enumerate(self._actors, start=1)
        ]
        workers = ConnectedWorkers(Share(rank=0, of=self._of), is_told_to_end, meeting, self._job.device)
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

    def train(self, job: Job, share: Share, host: str, port: int) -> None:
        """Train with the others to the end."""
        store = TCPStore(host, port, is_master=False)
        workers = ConnectedWorkers(share, is_told_to_end, store, job.device)
        try:
            for _ in train_epochs(job, place_here(), workers):
                pass
        finally:  # the others would wait for one that failed
            workers.close()
