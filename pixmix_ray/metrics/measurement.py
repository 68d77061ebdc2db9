"""One number that a benchmark measured, and what is declared of a metric that is not one of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Direction = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of a benchmark of somebody's.

    Attributes:
        direction: whether a lower or a higher value is better.
        unit: what it is counted in; "" for a fraction, which people read in percent.
        meaning: a line for `pixmix-ray list metrics`.
    """

    direction: Direction
    unit: str = ""
    meaning: str = ""


NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number of a benchmark.

    Attributes:
        metric: its name, a key of `pixmix_ray.metrics.DIRECTIONS` or one that the benchmark declares.
        value: a fraction, or a number of the metric's unit.
        n: pictures behind it.
        condition: what it holds for; "" means over all conditions.
        severity: 1 to 5, or none for over all severities.
        standard_error: of the value, over draws of pictures; none where no formula is trusted.
        note: what a reader of the value must know of it, such as what it lacks; "" for nothing.
    """

    metric: str
    value: float
    n: int
    condition: str = ""
    severity: int | None = None
    standard_error: float | None = None
    note: str = ""
