"""What a network said of each picture: the rows that all measurements are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

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


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the network said, a row a picture. The order of rows means nothing.

    Attributes:
        condition: (N,) str, such as "gaussian_noise"; "" where a benchmark has one condition only.
        severity: (N,) int8, 0 where there are no severities.
        index: (N,) int32, position in the whole test set.
        label: (N,) int16, -1 for out-of-distribution pictures.
        predicted: (N,) int16, the class with the largest probability.
        confidence: (N,) float32, that probability; NaN throughout where a benchmark has no use for it, which takes no
            space in a file.
        extras: (N,) each, what the benchmark keeps beside; the names and types of its `Benchmark.extras`.
    """

    condition: NDArray[np.str_]
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
    def join(parts: list["Predictions"]) -> "Predictions":
        """All rows of all parts, in order; the parts have the same extras."""
        columns = [part.columns for part in parts]
        assert all(part.keys() == columns[0].keys() for part in columns), "parts with unlike extras"
        return Predictions.of_columns({name: np.concatenate([part[name] for part in columns]) for name in columns[0]})


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
