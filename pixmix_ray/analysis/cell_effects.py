"""How far each picture moves each measurement of a cell, from the predictions that the cell holds.

Which predictions a metric is made of follows from its name, as `pixmix_ray.benchmarks` has it; whatever comes out
another value than the stored one (such as a metric of somebody's own benchmark) is not known, and has no effects.

Pictures of one stratum are the same pictures for every checkpoint: those of the test set, which most benchmarks share,
and those of each set of outliers and of the renditions, which are sets of their own.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.influence import (
    DetectionEffects,
    Floats,
    RowEffects,
    aupr_effects,
    auroc_effects,
    aurra_effects,
    calibration_effects,
    fpr_effects,
    mean_effects,
    soft_f1_effects,
)
from pixmix_ray.cache import cached_arrays
from pixmix_ray.errors import DataError
from pixmix_ray.metrics import consistency
from pixmix_ray.storage.cell import read_predictions
from pixmix_ray.storage.store import Store

REVISION = 2  # raised when the same predictions come to have other effects
TEST_SET = "test"
INSIDE, POOLED = "in_distribution", "pooled"  # conditions of the benchmarks that are none of a corruption
LARGE = 50_000  # rows of a cell from which on effects are kept in this machine's cache
Columns = Mapping[str, NDArray[Any]]
Rowwise = Callable[[Columns], RowEffects]


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Pictures that every checkpoint sees, and how far each of them moves a measurement.

    Attributes:
        pictures: (U,) their indices, each once, ascending.
        effects: (U,) of sum 0.
    """

    pictures: NDArray[np.int64]
    effects: NDArray[np.floating[Any]]


Effects = Mapping[str, Stratum]
"""The strata of a measurement by name."""


def _confidences(**options: bool) -> Rowwise:
    return lambda part: calibration_effects(part["confidence"], _correct(part), **options)


def _correct(part: Columns) -> NDArray[np.bool_]:
    return np.asarray(part["predicted"] == part["label"])


_ERROR: Rowwise = lambda part: mean_effects(~_correct(part))  # noqa: E731  # a line of the table below
ROWWISE: Mapping[str, Rowwise] = {
    "error": _ERROR,
    "ce": _ERROR,
    "negative_log_likelihood": lambda part: mean_effects(-part["label_log_probability"].astype(np.float64)),
    "brier_score": lambda part: mean_effects(part["squared_error"]),
    "rms_calibration_error": _confidences(),
    "rms_calibration_error_without_last_bin": _confidences(has_last_bin=False),
    "mean_absolute_calibration_error": _confidences(is_squared=False),
    "mean_absolute_calibration_error_without_last_bin": _confidences(is_squared=False, has_last_bin=False),
    "soft_f1": lambda part: soft_f1_effects(part["confidence"], _correct(part)),
    "aurra": lambda part: aurra_effects(part["confidence"], _correct(part)),
}
"""For each metric of single predictions how far each moves it."""

BY_CONDITION = {
    "mce": "ce",
    **{f"mfr{end}": f"flip_rate{end}" for end in ("", "_unnormalised")},
    **{f"mt5d{end}": f"top5_distance{end}" for end in ("", "_unnormalised")},
    "mean_zipf_distance": "zipf_distance",
    **{name: name for name in ROWWISE if "calibration" in name or name in ("soft_f1", "aurra")},
}
"""The metrics that are means over the conditions -> what of each condition."""

SINGLY = "_by_severity"
"""In the name of a metric: the mean over every condition at every severity, each by itself."""

OWN_PICTURES = ("renditions", "natural_shifts")
"""The benchmarks on other pictures than those of the test set."""

DETECTION = {"auroc": auroc_effects, "aupr": aupr_effects, "fpr95": fpr_effects}
SCORES: Mapping[str, Callable[[Columns], NDArray[Any]]] = {
    "": lambda part: 1 - part["confidence"],
    "_max_logit": lambda part: -part["max_logit"],
    "_energy": lambda part: part["energy"],
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a cell over all severities.

    Attributes:
        benchmark: its name.
        settings: of the benchmark, as JSON.
        values: by metric and condition.
        n: the most predictions behind a value.
    """

    benchmark: str
    settings: str
    values: Mapping[tuple[str, str], float]
    n: int


def measured_of(frame: pd.DataFrame, cells: Iterable[str]) -> dict[str, Measured]:
    """What was measured of some cells, by their names.

    Args:
        frame: measurements, those of the cells among them; unchanged.
        cells: their names, CHECKPOINT/NAME-KEY.
    """
    rows = frame[frame["severity"].isna() & frame["cell"].isin(set(cells))]
    names = ("cell", "benchmark", "benchmark_settings", "metric", "condition", "value", "n")
    values: dict[str, dict[tuple[str, str], float]] = {}
    about: dict[str, tuple[str, str]] = {}
    most: dict[str, int] = {}
    columns = [rows[name].to_numpy(dtype=object).tolist() for name in names[:5]]
    numbers = [rows[name].tolist() for name in names[5:]]
    for cell, benchmark, settings, metric, condition, value, n in zip(*columns, *numbers, strict=True):
        values.setdefault(cell, {})[metric, condition] = value
        about[cell], most[cell] = (benchmark, settings), max(n, most.get(cell, 0))
    return {
        cell: Measured(benchmark=about[cell][0], settings=about[cell][1], values=values[cell], n=most[cell])
        for cell in values
    }


def cell_effects(store: Store, cell: str, measured: Measured, wanted: Sequence[tuple[str, str]]) -> list[Effects]:
    """For each wanted measurement of a cell how far each picture moves it; nothing where that is not known.

    Args:
        store: the results folder.
        cell: its name, CHECKPOINT/NAME-KEY.
        measured: what was measured of it.
        wanted: metric and condition of each, over all severities.

    Raises:
        DamagedError: the cell's file is not what was written.
    """
    loaded: list[Columns] = []

    def columns() -> Columns:
        if not loaded:
            loaded.append(_columns(store, cell))
        return loaded[0]

    values, stride = measured.values, int(json.loads(measured.settings).get("difficulty") or 1)
    make = _Maker(columns=columns, benchmark=measured.benchmark, values=values, stride=stride)
    if measured.n < LARGE:
        return [make.effects(*name) for name in wanted]
    return [_kept(cell, name, values[name], make) for name in wanted]


def _columns(store: Store, cell: str) -> Columns:
    table = read_predictions(store, cell)
    if table is None or not len(table):  # gone since it was listed, or without predictions
        return {}
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "condition"}
    condition = table["condition"].unify_dictionaries().combine_chunks()
    names = np.array([*condition.dictionary.to_pylist(), ""])
    return {**columns, "condition": names[condition.indices.to_numpy()]}


def _kept(cell: str, name: tuple[str, str], value: float, make: "_Maker") -> Effects:
    """The effects out of this machine's cache; the name and the value of a measurement tell its predictions."""
    key = hashlib.sha256(json.dumps([REVISION, cell, name, value]).encode()).hexdigest()[:24]

    def arrays() -> dict[str, NDArray[np.generic]]:
        strata = make.effects(*name)
        return {"none": np.zeros(0)} | {
            f"{part}-{stratum.encode().hex()}": getattr(found, part)
            for stratum, found in strata.items()
            for part in ("pictures", "effects")
        }

    try:
        kept: dict[str, Any] = dict(cached_arrays(f"effects-{key}", arrays))
    except DataError:  # a cache that cannot be written costs time, and no result
        return make.effects(*name)
    names = [text.partition("-")[2] for text in kept if text.startswith("pictures-")]
    return {
        bytes.fromhex(text).decode(): Stratum(
            pictures=np.asarray(kept[f"pictures-{text}"]), effects=np.asarray(kept[f"effects-{text}"])
        )
        for text in names
    }


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the effects of one cell's measurements.

    Attributes:
        columns: reads the predictions.
        benchmark: its name.
        values: the stored measurements over all severities, by metric and condition.
        stride: frames between the two that are compared, in sequences.
    """

    columns: Callable[[], Columns]
    benchmark: str
    values: Mapping[tuple[str, str], float]
    stride: int

    def effects(self, metric: str, condition: str) -> Effects:
        """The strata of one measurement; none where its value does not come out."""
        if not math.isfinite(self.values[metric, condition]):
            return {}
        try:
            value, strata = self._made(metric, condition)
        except KeyError:  # it is made of a column that the benchmark does not keep
            return {}
        is_known = math.isclose(value, self.values[metric, condition], rel_tol=1e-4, abs_tol=1e-6)
        return strata if is_known else {}

    def _made(self, metric: str, condition: str) -> tuple[float, Effects]:
        columns = self.columns()
        if INSIDE in columns["condition"]:
            return self._detection(columns, metric, condition)
        names = [condition] if condition not in ("", POOLED) else list(dict.fromkeys(columns["condition"].tolist()))
        base = BY_CONDITION.get(metric, metric)
        if SINGLY in metric:
            parts = list(_each_severity(columns, ROWWISE[metric.replace(SINGLY, "")]))
        elif condition == POOLED or (condition == "" and metric not in BY_CONDITION):
            parts = [(ROWWISE[base](columns), columns["index"])]
        else:
            parts = [self._of_condition(columns, base, name) for name in names]
        value = float(np.mean([part.value for part, _ in parts]))
        pictures = np.concatenate([index for _, index in parts])
        rows = np.concatenate([part.rows for part, _ in parts]) / len(parts)
        return value, {self.benchmark if self.benchmark in OWN_PICTURES else TEST_SET: _summed(pictures, rows)}

    def _of_condition(self, columns: Columns, metric: str, name: str) -> tuple[RowEffects, NDArray[Any]]:
        mask = columns["condition"] == name
        part = {key: column[mask] for key, column in columns.items()}
        if metric in ROWWISE:
            found, pictures = ROWWISE[metric](part), part["index"]
        else:
            pictures, by_sequence = _sequences(part, metric, is_noise=name.endswith("noise"), stride=self.stride)
            found = mean_effects(by_sequence)
        stored = self.values.get((metric, name))
        # what it was divided by, such as AlexNet's, is the same for every picture
        return found.scaled(stored / found.value) if stored is not None and found.value else found, pictures

    def _detection(self, columns: Columns, metric: str, condition: str) -> tuple[float, Effects]:
        area, score = next((area, metric[len(area) :]) for area in DETECTION if metric.startswith(area))
        scores, is_inside = SCORES[score](columns), columns["condition"] == INSIDE
        ordinary, index = scores[is_inside], columns["index"][is_inside]
        names = [condition] if condition else [name for name in np.unique(columns["condition"]) if name != INSIDE]
        values, strata = [], {}
        inside: list[tuple[NDArray[Any], Floats]] = []
        for name in names:
            pictures, effects, outside = [], [], columns["condition"] == name
            draws = np.unique(columns["draw"][outside]).tolist()
            for draw in draws:
                mask = outside & (columns["draw"] == draw)
                among = _share_kept(len(ordinary), int(mask.sum()))
                found: DetectionEffects = DETECTION[area](ordinary[among], scores[mask])
                weight = len(names) * len(draws)
                values.append(found.value)
                inside.append((index[among], found.inside / weight))
                pictures.append(columns["index"][mask])
                effects.append(found.outside / weight)
            strata[f"{self.benchmark}:{name}"] = _summed(np.concatenate(pictures), np.concatenate(effects))
        joined = [np.concatenate(list(part)) for part in zip(*inside, strict=True)]
        return float(np.mean(values)), {TEST_SET: _summed(joined[0], joined[1]), **strata}


def _each_severity(columns: Columns, of: Rowwise) -> Iterator[tuple[RowEffects, NDArray[Any]]]:
    """How far each picture moves the metric of each condition at each severity, and which picture it is."""
    for name, severity in sorted(set(zip(columns["condition"].tolist(), columns["severity"].tolist(), strict=True))):
        mask = (columns["condition"] == name) & (columns["severity"] == severity)
        yield of({key: column[mask] for key, column in columns.items()}), columns["index"][mask]


def _share_kept(ordinary: int, strange: int) -> NDArray[np.int64]:
    """Which ordinary pictures stand beside a set that is smaller than a fifth of them, as in the benchmark."""
    count = 5 * strange if strange < ordinary // 5 else ordinary
    return np.arange(count, dtype=np.int64) * ordinary // max(count, 1)


def _sequences(part: Columns, metric: str, *, is_noise: bool, stride: int) -> tuple[NDArray[Any], Floats]:
    """The pictures of the sequences of one perturbation, and the value of each."""
    order = np.lexsort((part["frame"], part["index"]))
    length = int(part["frame"].max()) + 1
    pictures = part["index"][order].reshape(-1, length)[:, 0]
    how: dict[str, Any] = {"against_first": is_noise, "stride": stride}
    if metric.startswith("flip_rate"):
        return pictures, consistency.flips(part["predicted"][order].reshape(-1, length), **how)
    if metric.startswith("top5_distance"):
        ranks = [part[f"top{rank}"][order].reshape(-1, length) for rank in range(1, 6)]
        return pictures, consistency.top5_distances(np.stack(ranks, axis=2), **how)
    _, second = consistency.compared_frames(length, **how)
    distances = part[metric][order].reshape(-1, length)[:, second]
    return pictures, np.asarray(distances.mean(axis=1, dtype=np.float64))


def _summed(pictures: NDArray[Any], effects: Floats) -> Stratum:
    """The effects of each picture over all its appearances."""
    first = int(pictures.min(initial=0))
    sums = np.bincount(pictures - first, weights=effects)
    is_there = np.bincount(pictures - first) > 0
    found: Floats = sums[is_there].astype(np.float64)
    return Stratum(pictures=(np.flatnonzero(is_there) + first).astype(np.int64), effects=found)


def union_of(strata: Iterable[Stratum]) -> NDArray[np.int64]:
    """The pictures of several strata of one name, each once, ascending."""
    parts = [stratum.pictures for stratum in strata]
    first = parts[0]
    if all(len(part) == len(first) and np.array_equal(part, first) for part in parts[1:]):  # the usual case
        return first
    return np.unique(np.concatenate(parts))
