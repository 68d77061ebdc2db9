"""What a network said of each picture, and one number measured of it; what is declared of a metric not of ours."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Extra:
    """One more column of predictions that a benchmark keeps.

    Attributes:
        meaning: what it holds, in one line.
        dtype: of NumPy, as small as will do.
        range: such as "[0, 1]".
        unit: "" where it has none.
    """

    meaning: str
    dtype: type[np.generic]
    range: str
    unit: str = ""


NO_EXTRAS: Mapping[str, Extra] = MappingProxyType({})
"""What a benchmark keeps that needs nothing more."""


def repeated(text: str, count: int) -> NDArray[np.object_]:
    """One text, (count,), held once: as `np.str_`, millions of rows of it take more than all else that they hold."""
    return np.broadcast_to(np.array(text, dtype=np.object_), count)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the network said, a row a picture. The order of rows means nothing.

    Attributes:
        condition: (N,) str, such as "gaussian_noise"; "" where a benchmark has one condition only. See `repeated`.
        severity: (N,) int8, 0 where there are no severities.
        index: (N,) int32, position in the whole test set.
        label: (N,) int16, -1 for out-of-distribution pictures.
        predicted: (N,) int16, the class with the largest probability.
        confidence: (N,) float32, that probability; NaN throughout where a benchmark has no use for it, which takes no
            space in a file.
        extras: (N,) each, what the benchmark keeps beside; the names and types of its `Benchmark.extras`.
    """

    condition: NDArray[np.object_] | NDArray[np.str_]
    severity: NDArray[np.int8]
    index: NDArray[np.int32]
    label: NDArray[np.int16]
    predicted: NDArray[np.int16]
    confidence: NDArray[np.float32]
    extras: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the prediction is the label."""
        equal: NDArray[np.bool_] = self.predicted == self.label
        return equal

    @property
    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Every column by its name, the extras last."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"} | dict(self.extras)

    @staticmethod
    def of_columns(columns: Mapping[str, NDArray[np.generic]]) -> "Predictions":
        """The predictions whose `columns` these are."""
        own = {f.name for f in fields(Predictions)} - {"extras"}
        extras = {name: column for name, column in columns.items() if name not in own}
        return Predictions(**{name: columns[name] for name in own}, extras=extras)  # type: ignore[arg-type]  # by name

    def select(self, rows: NDArray[np.bool_]) -> "Predictions":
        """The rows where the mask (N,) is true."""
        return Predictions.of_columns({name: column[rows] for name, column in self.columns.items()})

    @staticmethod
    def join(parts: Iterable["Predictions"]) -> "Predictions":
        """All rows of all parts, in order; the parts have the same extras."""
        columns: dict[str, list[NDArray[np.generic]]] = {}
        for part in parts:
            own = part.columns
            assert not columns or own.keys() == columns.keys(), "parts with unlike extras"
            for name, column in own.items():
                columns.setdefault(name, []).append(column)
        # what was joined is let go: a column at a time is there twice, not all of them
        return Predictions.of_columns({name: np.concatenate(columns.pop(name)) for name in list(columns)})


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
