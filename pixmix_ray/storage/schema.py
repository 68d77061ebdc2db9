"""THE schema: every column of the measurements and of the predictions, with its meaning, unit and range.

The tables below both document the columns and build the schemas; each Parquet field carries its meaning, unit and range
as metadata, so a file explains itself. A column is added, never redefined. Fractions are in [0, 1], never percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pixmix_ray.metrics import Extra


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: `unit` and `range` are "" where they mean nothing; a nullable one says what null means."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    range: str = ""
    nullable: bool = False

    def field(self) -> pa.Field:
        """The Arrow field, its meaning, unit and range as metadata."""
        texts = {"meaning": self.meaning, "unit": self.unit, "range": self.range}
        return pa.field(self.name, self.type, self.nullable, {key: text for key, text in texts.items() if text})


MEASUREMENT_COLUMNS: tuple[Column, ...] = (
    # what was trained
    Column(name="trial_id", type=pa.string(), meaning="the method and a hash of everything that decides the training"),
    Column(name="checkpoint_id", type=pa.string(), meaning="content hash of the weights that were evaluated"),
    Column(name="dataset", type=pa.string(), meaning="data set trained on, such as cifar10"),
    Column(name="model", type=pa.string(), meaning="network, such as wrn_40_4"),
    Column(name="method", type=pa.string(), meaning="training method, such as pixmix"),
    Column(
        name="mixing_set",
        type=pa.string(),
        meaning="mixing set, such as fractals+fvis; null: the method uses none",
        nullable=True,
    ),
    Column(
        name="k",
        type=pa.int32(),
        meaning="most mixing rounds, PixMix's k; null: the method has none",
        unit="rounds",
        range="0 or more",
        nullable=True,
    ),
    Column(
        name="beta",
        type=pa.float64(),
        meaning="concentration of the mixing weights, PixMix's β; null: the method has none",
        range="above 0",
        nullable=True,
    ),
    Column(name="seed", type=pa.int64(), meaning="seed of the training", range="0 or more"),
    Column(name="settings", type=pa.string(), meaning="every setting of the trial but its seed, as JSON, keys sorted"),
    # what was measured
    Column(name="benchmark", type=pa.string(), meaning="safety measure, such as corruptions"),
    Column(name="benchmark_settings", type=pa.string(), meaning="settings of the benchmark, as JSON, keys sorted"),
    Column(name="data_version", type=pa.string(), meaning="fingerprint of the pictures that the benchmark used"),
    Column(
        name="metric",
        type=pa.string(),
        meaning="metric, a key of pixmix_ray.metrics.DIRECTIONS, or the benchmark's own",
    ),
    Column(
        name="condition",
        type=pa.string(),
        meaning="corruption, perturbation, set of outliers, ...; empty: aggregate over all of them",
    ),
    Column(
        name="severity",
        type=pa.int8(),
        meaning="severity of the corruption; null: over all severities, or the benchmark has none",
        range="1 to 5",
        nullable=True,
    ),
    Column(
        name="value",
        type=pa.float64(),
        meaning="the measurement; relative to AlexNet (ce, mce, flip_rate, mfr) it may exceed 1",
        unit="fraction, or what the column unit says",
        range="[0, 1], but brier_score: [0, 2], and relative to AlexNet, negative_log_likelihood and mt5d: 0 or more",
    ),
    Column(name="direction", type=pa.string(), meaning="which direction of value is better", range="lower | higher"),
    Column(name="unit", type=pa.string(), meaning="what value is counted in; empty: a fraction"),
    Column(name="n", type=pa.int64(), meaning="pictures or predictions behind the value", range="1 or more"),
    Column(
        name="standard_error",
        type=pa.float64(),
        meaning="standard error of value over the pictures of this one training; null: not known",
        unit="as value",
        range="0 or more",
        nullable=True,
    ),
    Column(
        name="note", type=pa.string(), meaning="what a reader of value must know, such as what it lacks; empty: nothing"
    ),
    # how it was measured
    Column(
        name="seconds",
        type=pa.float64(),
        meaning="wall time of the whole cell (this checkpoint on this benchmark), the same in each of its rows",
        unit="s",
        range="0 or more",
    ),
    Column(name="device", type=pa.string(), meaning="hardware that ran the network, such as NVIDIA H200"),
    Column(name="code_version", type=pa.string(), meaning="version of pixmix_ray that measured, with its commit"),
    Column(
        name="training_code_version",
        type=pa.string(),
        meaning="version of pixmix_ray that finished the training; null: trained elsewhere",
        nullable=True,
    ),
    Column(name="versions", type=pa.string(), meaning="versions of Python and the libraries that measured, as JSON"),
    Column(name="finished_at", type=pa.timestamp("us", tz="UTC"), meaning="when the cell was finished", unit="UTC"),
)
"""The columns of a measurement: one row a cell, metric, condition and severity."""

PREDICTION_COLUMNS: tuple[Column, ...] = (
    Column(
        name="condition",
        type=pa.dictionary(pa.int32(), pa.string()),
        meaning="corruption, perturbation, set of outliers, ...; empty: the benchmark has none",
    ),
    Column(name="severity", type=pa.int8(), meaning="severity; 0: the benchmark has none", range="0 to 5"),
    Column(name="index", type=pa.int32(), meaning="number of the picture in the benchmark's data", range="0 or more"),
    Column(name="label", type=pa.int16(), meaning="true class; -1: out of distribution", range="-1 or more"),
    Column(name="predicted", type=pa.int16(), meaning="class of the largest logit", range="0 or more"),
    Column(
        name="confidence",
        type=pa.float32(),
        meaning="softmax probability of the predicted class; NaN throughout: the benchmark has no use for it",
        unit="fraction",
        range="[0, 1]",
    ),
)
"""The columns of a prediction that all benchmarks have: one row a picture, condition and severity.

Metrics invented later are made of these, and of what a benchmark keeps beside them (`predictions_schema`).
"""

CONFIGURATION: tuple[str, ...] = ("dataset", "model", "method", "mixing_set", "k", "beta", "settings")
"""The columns of a measurement that make up a configuration: everything of the trial but its seed."""


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema that a table of columns describes."""
    return pa.schema([column.field() for column in columns])


MEASUREMENTS: pa.Schema = schema_of(MEASUREMENT_COLUMNS)
"""The schema of measurements."""

PREDICTIONS: pa.Schema = schema_of(PREDICTION_COLUMNS)
"""The schema of the rows of a cell, the predictions, as far as it is that of all benchmarks."""


def predictions_schema(extras: Mapping[str, Extra]) -> pa.Schema:
    """`PREDICTIONS`, and after them a column for each of the extras that a benchmark keeps."""
    if not extras:
        return PREDICTIONS
    further = [
        Column(
            name=name,
            type=pa.from_numpy_dtype(extra.dtype),
            meaning=extra.meaning,
            unit=extra.unit,
            range=extra.range,
        )
        for name, extra in extras.items()
    ]
    return pa.schema([*PREDICTIONS, *schema_of(further)])


_TEXT = pa.dictionary(pa.int32(), pa.string())
INDEX_COLUMNS: tuple[Column, ...] = (
    *(replace(column, type=_TEXT) if column.type == pa.string() else column for column in MEASUREMENT_COLUMNS),
    Column(name="cell", type=_TEXT, meaning="name of the cell's file below cells/, without its ending"),
    Column(
        name="cell_modified",
        type=pa.timestamp("ns", tz="UTC"),
        meaning="when that file was written, to notice that it was written anew",
        unit="UTC",
    ),
    Column(name="cell_size", type=pa.int64(), meaning="size of that file, likewise", unit="bytes", range="0 or more"),
)
"""The columns of the index of all measurements: repeated texts are dictionaries, and each row names its cell."""

INDEX: pa.Schema = schema_of(INDEX_COLUMNS)
"""The schema of the index."""
