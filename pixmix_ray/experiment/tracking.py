"""Where trials are shown while they grow: TensorBoard, MLflow, Weights & Biases.

They show settings, losses by epoch and the headline measures of every cell. Secrets stay out of experiment files:
MLflow and Weights & Biases take theirs from the environment (MLFLOW_TRACKING_TOKEN, WANDB_API_KEY).
"""

from importlib.util import find_spec
from typing import Self

from pydantic import Field, model_validator

from pixmix_ray.settings import Settings


class Mlflow(Settings):
    """An MLflow server or database, such as http://host:5000 or sqlite:///mlflow.db; one run a trial."""

    tracking_uri: str | None = Field(None, description="None: $MLFLOW_TRACKING_URI, else what MLflow takes by itself")
    experiment: str = "pixmix_ray"


class Wandb(Settings):
    """A project of Weights & Biases; one run a trial."""

    project: str = "pixmix_ray"
    offline: bool = Field(False, description="write to RESULTS/wandb alone, to be synced with `wandb sync`")


class Tracking(Settings):
    """Which of them are on.

    Attributes:
        tensorboard: event files in RESULTS/tensorboard/TRIAL, for results in a local folder.
        mlflow: settings, or an empty mapping for the defaults.
        wandb: likewise.
    """

    tensorboard: bool = False
    mlflow: Mlflow | None = None
    wandb: Wandb | None = None

    @model_validator(mode="after")
    def _are_installed(self) -> Self:
        for name in ("mlflow", "wandb"):
            if getattr(self, name) is not None and find_spec(name) is None:
                raise ValueError(f"tracking.{name} needs the package {name}: pip install {name}")
        return self

    @property
    def is_on(self) -> bool:
        """Whether trials are shown anywhere."""
        return self.tensorboard or self.mlflow is not None or self.wandb is not None
