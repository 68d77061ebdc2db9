"""A search instead of a grid, and stopping trials early: what an experiment file says of both.

search:
num_trials: 20
space: {k: [2, 3, 4], beta: {low: 1, high: 6}, methods.pixmix.severity: {low: 1, high: 5, integer: true}}
objectives: [clean.error, corruptions.mce]

Stopping early is asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning,
MLSys 2020): at epochs in geometric steps, only the best of the trials that came so far go on;
`pixmix_ray.planning.halving` decides.

Trials are compared by their clean error on pictures that are held out (`training.validation`). Training losses would
not do: a picture that is augmented more strongly is harder to learn, so the strongest augmentation would be stopped.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from pixmix_ray.errors import RequestError
from pixmix_ray.settings import Settings

Value = str | int | float | bool


class Range(Settings):
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: the least.
        high: the greatest.
        integer: whole numbers only.
        log: drawn evenly by their logarithm.
    """

    low: float
    high: float
    integer: bool = False
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} must be above 0 with log: true: raise it, or set log: false")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"low = {self.low:g} and high = {self.high:g} must be whole numbers with integer: true")
        return self

    def ends(self) -> tuple[Value, ...]:
        """The least and the greatest."""
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    def find(self, value: object) -> Value | None:
        """The number that a trial's setting of this value is, or none if it is not within the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        if not self.integer:
            return value
        return int(value) if value == int(value) else None


class Choices(Settings):
    """Values to choose from, that have no order."""

    values: tuple[Value, ...] = Field(min_length=1)

    def ends(self) -> tuple[Value, ...]:
        """All of them."""
        return self.values

    def find(self, value: object) -> Value | None:
        """The choice that a trial's setting of this value is, or none if it is none of them."""
        return next((choice for choice in self.values if choice == value), None)


Axis = Range | Choices


def _axes(value: object) -> dict[str, Axis]:
    if not isinstance(value, Mapping) or not value:
        raise RequestError(f"search.space must map settings to choices or ranges, such as k: [2, 3, 4], got {value!r}")
    return {str(name): _axis(str(name), axis) for name, axis in value.items()}


def _axis(name: str, value: object) -> Axis:
    where = f"search.space, {name}"
    if isinstance(value, Axis):
        return value
    if isinstance(value, list | tuple):
        return Choices.read({"values": value}, where)
    if isinstance(value, Mapping):
        return Range.read(value, where)
    raise RequestError(f"{where}: give a list of choices, or a range such as {{low: 1, high: 6}}, got {value!r}")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Search(Settings):
    """Settings of a search.

    Attributes:
        num_trials: how many points are suggested; each is trained once per seed of the sweep.
        space: what is searched: k, beta, methods.NAME.SETTING, training.KEY.
        objectives: benchmark.metric, each in its own direction; one makes an optimum, several a Pareto front.
        seed: of the sampler.
        batch: so many points are run side by side; as soon as one has ended the next is suggested, which knows of all
            that have, and keeps away from those that run.
    """

    num_trials: int = Field(20, ge=1)
    space: Annotated[dict[str, Axis], PlainValidator(_axes)]
    objectives: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(min_length=1)
    seed: int = Field(0, ge=0, lt=2**32)
    batch: int = Field(4, ge=1)

    @model_validator(mode="after")
    def _objectives_have_a_form(self) -> "Search":
        for objective in self.objectives:
            if not all(objective.partition(".")):
                raise ValueError(f"an objective is benchmark.metric, such as clean.error, got {objective!r}")
        return self


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
