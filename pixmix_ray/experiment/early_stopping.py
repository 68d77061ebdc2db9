"""Stopping trials early that train worse than others: what an experiment file says of it. Ray Tune does it.

Asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020): at
epochs in geometric steps, only the best of the trials that came so far go on.

The metric is the mean training loss of an epoch. Losses of different methods are not comparable (a mixed picture is
harder to learn than a plain one), so a trial is only ever compared with trials of the same method. A trial that is
stopped keeps its last epoch: without the scheduler, or with another one, the same sweep goes on with it.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from pixmix_ray.settings import Settings


class Asha(Settings):
    """Settings of asynchronous successive halving.

    Attributes:
        name: of the scheduler.
        metric: what is compared, lower is better.
        grace_period: epochs that every trial trains.
        reduction_factor: about one in so many goes on at each step, and the steps grow by this factor.
    """

    name: Literal["asha"] = "asha"
    metric: Literal["loss"] = "loss"
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
