"""Trainers that Ray's memory monitor ends, told to Ray Tune as deaths of their workers.

Ray 2.60's monitor fails what a worker was at with OutOfMemoryError, which is no RayActorError. Tune knows deaths alone;
that one it takes for a fault of its own, and ends with all trials.
"""

import re
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller

from pixmix_ray.storage.failures import Place

_KILLED = re.compile(r"low on memory.*?\(IP: (?P<host>[^,]+), ID: (?P<node>\w+)\).*?\bpid=(?P<pid>\d+)", re.DOTALL)


class _ActorManager(RayActorManager):
    """Tune's own, which knows one more way to die."""

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


def count_as_deaths() -> None:
    """Have Tune, in this process, try a trial again whose trainer was ended for memory."""
    tune_controller.RayActorManager = _ActorManager  # type: ignore[attr-defined]  # Tune has no other way in


def place_of_kill(message: str) -> Place | None:
    """Where that monitor ended a worker; none if the message is about something else."""
    found = _KILLED.search(message)
    return Place(host=found["host"], pid=int(found["pid"]), node=found["node"]) if found else None
