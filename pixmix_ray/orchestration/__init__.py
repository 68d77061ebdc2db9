"""Running a sweep on Ray: the only room that imports ray."""

import os

ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results go to our own store; the loggers cost 5 files a trial
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else Tune starts another cluster when an interrupt has closed ours
    # else the worker that waits for the first checkpoint is ended after a second, and its imports are paid again
    "RAY_idle_worker_killing_time_threshold_ms": "3600000",
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own progress tables
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # nor made but at the end: each one writes all trials anew
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",  # its snapshots are never used
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of a coming change for tasks without a GPU
}
for _name, _value in ENVIRONMENT.items():  # Ray reads some of them when it is imported
    os.environ.setdefault(_name, _value)

from pixmix_ray.orchestration.pictures import prepare  # noqa: E402
from pixmix_ray.orchestration.run import Failure, Watcher, run_plan  # noqa: E402
from pixmix_ray.orchestration.session import cluster_use, probe, session  # noqa: E402

__all__ = ["Failure", "Watcher", "cluster_use", "prepare", "probe", "run_plan", "session"]
