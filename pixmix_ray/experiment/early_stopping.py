"""Stopping trials early that do worse than others: what an experiment file says of it.

Asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020): at
epochs in geometric steps, only the best of the trials that came so far go on; `pixmix_ray.planning.halving` decides.

Trials are compared by their clean error on pictures that are held out (`training.validation`). Training losses would
not do: a picture that is augmented more strongly is harder to learn, so the strongest augmentation would be stopped.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from pixmix_ray.settings import Settings


class Asha(Settings):
    """Settings of asynchronous successive halving.

    Attributes:
        name: of the scheduler.
        grace_period: epochs that every trial trains.
        reduction_factor: about one in so many goes on at each step, and the steps grow by this factor.
    """

    name: Literal["asha"] = "asha"
    grace_period: int = Field(1, ge=1)
    reduction_factor: float = Field(4, gt=1)


def read_scheduler(value: object) -> Asha | None:
    """The scheduler that an experiment file names, alone or as a mapping with its settings; None for none.

    Raises:
        RequestError: there is no such scheduler, or setting of it.
    """
    if value is None or isinstance(value, Asha):
        return value
    return Asha.read(value if isinstance(value, Mapping) else {"name": value}, "scheduler")
