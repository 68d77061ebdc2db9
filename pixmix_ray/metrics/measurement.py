"""One number that a benchmark measured."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number of a benchmark.

    Attributes:
        metric: its name, a key of `pixmix_ray.metrics.DIRECTIONS`.
        value: a fraction.
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
