"""Running a sweep on Ray: the only room that imports ray."""

from pixmix_ray.distributed.run import Outcome, Watcher, run_plan
from pixmix_ray.distributed.session import probe, session

__all__ = ["Outcome", "Watcher", "probe", "run_plan", "session"]
