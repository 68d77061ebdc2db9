"""Training curves for TensorBoard, MLflow and Weights & Biases, through Ray's own integrations."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune import Callback
from tensorboardX import SummaryWriter

from pixmix_ray.errors import one_line
from pixmix_ray.experiment.tracking import Tracking

log = logging.getLogger(__name__)
CURVES = ("loss", "validation_error")


def loggers(tracking: Tracking, results: str) -> list[Callback]:
    """A callback for each that is on; `results` is the folder of the results."""
    makers: dict[str, Callable[[], Callback]] = {}
    if tracking.tensorboard:
        makers["TensorBoard"] = lambda: _TensorBoard(f"{results}/tensorboard")
    if (mlflow := tracking.mlflow) is not None:
        makers["MLflow"] = lambda: MLflowLoggerCallback(mlflow.tracking_uri, experiment_name=mlflow.experiment)
    if (wandb := tracking.wandb) is not None:
        options: dict[str, Any] = {}
        if wandb.offline:  # Ray asks for a key unless the environment says so; its process may have another environment
            os.environ["WANDB_MODE"] = options["mode"] = "offline"
        if Path(results).is_dir():  # by itself it writes among Ray's temporary files, which are lost
            options["dir"] = results
        makers["Weights & Biases"] = lambda: WandbLoggerCallback(project=wandb.project, **options)
    return [_Guarded(name, maker) for name, maker in makers.items()]


class _TensorBoard(Callback):
    """Writes to a folder that outlives the run, under the trial's own name."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        name = str(trial)
        writer = self._writers.get(name) or self._writers.setdefault(
            name, SummaryWriter(f"{self._folder}/{name}", flush_secs=5)
        )
        for key in CURVES:
            if result.get(key) is not None:
                writer.add_scalar(key, result[key], result["timesteps_total"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        writer = self._writers.pop(str(trial), None)
        if writer is not None:
            writer.close()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)


class _Guarded(Callback):
    """Passes on the events until one raises: a server that is away must not fail a trial, as Tune would have it."""

    def __init__(self, name: str, make: Callable[[], Callback]) -> None:
        self._name, self._make = name, make
        self._inner: Callback | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that we never make

    def setup(self, *given: Any, **named: Any) -> None:
        try:
            self._inner = self._make()
        except Exception as error:
            self._give_up(error)
        self._pass_on("setup", *given, **named)

    def on_trial_start(self, *given: Any, **named: Any) -> None:
        self._pass_on("on_trial_start", *given, **named)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if "progress" in result:  # the others say nothing of an epoch
            shown = {key: value for key, value in result.items() if isinstance(value, str | int | float)}
            self._pass_on("on_trial_result", iteration=iteration, trials=trials, trial=trial, result=shown)

    def on_trial_complete(self, *given: Any, **named: Any) -> None:
        self._pass_on("on_trial_complete", *given, **named)

    def on_trial_error(self, *given: Any, **named: Any) -> None:
        self._pass_on("on_trial_error", *given, **named)

    def on_experiment_end(self, *given: Any, **named: Any) -> None:
        self._pass_on("on_experiment_end", *given, **named)

    def _pass_on(self, event: str, *given: Any, **named: Any) -> None:
        if self._inner is not None:
            try:
                getattr(self._inner, event)(*given, **named)
            except Exception as error:  # other people's code, and a network
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._inner = None
        told = one_line(error)
        log.warning("%s is left out from now on: %s: %s", self._name, type(error).__name__, told)
