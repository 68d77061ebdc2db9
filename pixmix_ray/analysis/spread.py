"""From a results folder to what its configurations' objectives vary with: pictures and seeds.

Predictions are read cell by cell, and what they say is kept in this machine's cache where cells are large
(`pixmix_ray.analysis.cell_effects`), so that only the first look at a sweep takes time.
"""

import math
import os
import warnings
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.cell_effects import Effects, Stratum, cell_effects, union_of
from pixmix_ray.analysis.certainty import DRAWS, Certainty, Floats, Spread, bootstrap
from pixmix_ray.analysis.pareto import dominance, peers
from pixmix_ray.analysis.remarks import remarks
from pixmix_ray.errors import DamagedError
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Configurations, and how sure their objectives are.

    Attributes:
        wide: a row a configuration, as `dominance` makes them: with on_front, dominated_by and missing.
        certainty: of its rows, in their order.
        remarks: what the rows themselves say, a line each.
    """

    wide: pd.DataFrame
    certainty: Certainty
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the intervals: a line each."""
        found = self.certainty
        is_there = ~np.isnan(found.values)
        lines = []
        counts = sorted(set(found.seeds[is_there].tolist()))
        if len(counts) > 1 and counts[0] == 1:
            lines.append(
                "some values are of one seed and others means over several: intervals of one seed are over pictures"
            )
        for number, name in enumerate(found.objectives):
            unknown = int((is_there[:, number] & ~found.is_known[:, number]).sum())
            if unknown:
                lines.append(f"{name} has no interval in {unknown} of {int(is_there[:, number].sum())} rows")
        return (*lines, *self.remarks)


def judge(
    store: Store,
    frame: pd.DataFrame,
    objectives: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    trainings: int = 0,
) -> Judged:
    """The configurations of measurements, and how sure their objectives are.

    Args:
        store: the results folder that they were read from.
        frame: measurements, one variant of each benchmark; unchanged.
        objectives: names "benchmark.metric".
        draws: of the bootstrap.
        seed: of the draws.
        trainings: as for `bootstrap`.

    Raises:
        UnknownNameError: an objective of which the frame has no aggregate.
        ResultsError: as `by_configuration`.
    """
    wide = dominance(frame, objectives)
    spread = spread_of(store, frame, wide, objectives)
    certainty = bootstrap(spread, objectives, draws=draws, seed=seed, trainings=trainings)
    return Judged(wide=wide, certainty=certainty, remarks=remarks(frame, objectives))


def spread_of(store: Store, frame: pd.DataFrame, wide: pd.DataFrame, objectives: Sequence[str]) -> Spread:
    """What the rows of `wide` vary with in each of the objectives; see `judge`."""
    rows = _wanted(frame, wide, objectives)
    n, m = len(wide), len(objectives)
    effects = _effects(store, frame, rows)
    counts = rows.groupby(["row", "column"])["seed"].transform("size").to_numpy()
    others = np.full((n, m), math.nan)
    parts: dict[str, list[tuple[int, int, int, Stratum]]] = {}
    groups = peers(wide)
    datasets = wide["dataset"].tolist() if "dataset" in wide.columns else [""] * n
    for found, row, column, count, own in zip(
        effects, rows["row"].tolist(), rows["column"].tolist(), counts.tolist(), rows["standard_error"], strict=True
    ):
        for name, stratum in found.items():
            parts.setdefault(f"{datasets[row]}/{name}", []).append((row, column, count, stratum))
        if not found and pd.notna(own):
            # of a mean over seeds, whose errors are independent
            others[row, column] = np.hypot(np.nan_to_num(others[row, column]), float(own) / count)
    return Spread(
        values=wide[list(objectives)].to_numpy(dtype=np.float64, na_value=math.nan),
        strata={name: _matrix(found, n, m) for name, found in parts.items()},
        seeds=_by_seed(rows, n, m),
        others=others,
        groups=groups,
    )


def _wanted(frame: pd.DataFrame, wide: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The aggregates behind `wide`: row, column, seed, value, standard_error, cell, metric."""
    identity = [name for name in CONFIGURATION if name in frame.columns]
    places = {key: number for number, key in enumerate(_keys(wide, identity))}
    columns = {name: number for number, name in enumerate(objectives)}
    is_aggregate = frame["severity"].isna() & frame["condition"].fillna("").eq("") & frame["value"].notna()
    rows = frame[is_aggregate]
    names = rows["benchmark"].astype(str) + "." + rows["metric"].astype(str)
    rows, names = rows[names.isin(columns)], names[names.isin(columns)]
    return pd.DataFrame(
        {
            "row": [places[key] for key in _keys(rows, identity)],
            "column": [columns[name] for name in names],
            "seed": rows["seed"].to_numpy(),
            "value": rows["value"].to_numpy(dtype=np.float64),
            "standard_error": rows["standard_error"].to_numpy(dtype=np.float64, na_value=math.nan),
            "cell": rows["cell"].astype(str).to_numpy() if "cell" in rows.columns else "",
            "metric": rows["metric"].astype(str).to_numpy(),
        }
    )


def _keys(frame: pd.DataFrame, identity: Sequence[str]) -> list[tuple[Hashable, ...]]:
    columns = [[None if pd.isna(value) else value for value in frame[name].tolist()] for name in identity]
    return list(zip(*columns, strict=True))


def _effects(store: Store, frame: pd.DataFrame, rows: pd.DataFrame) -> list[Effects]:
    """For each of the rows the effects of its pictures."""
    if "cell" not in frame.columns:
        return [{} for _ in range(len(rows))]
    measured = frame.groupby(frame["cell"].astype(str), sort=False).indices
    parts = rows.groupby("cell", sort=False).indices
    of_cell = [(str(cell), np.asarray(part)) for cell, part in parts.items()]

    def read(cell: str, part: NDArray[np.int64]) -> list[Effects]:
        wanted = [(metric, "") for metric in rows["metric"].iloc[part]]
        try:
            return cell_effects(store, cell, frame.iloc[measured[cell]], wanted)
        except DamagedError as error:
            warnings.warn(f"{error}; its intervals are not shown", stacklevel=2)
            return [{} for _ in wanted]

    found: list[Effects] = [{} for _ in range(len(rows))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (_, part), answers in zip(of_cell, pool.map(lambda one: read(*one), of_cell), strict=True):
            for place, answer in zip(part.tolist(), answers, strict=True):
                found[place] = answer
    return found


def _matrix(parts: Sequence[tuple[int, int, int, Stratum]], n: int, m: int) -> NDArray[np.float32]:
    """(U, n, m) the effects of the pictures of one stratum, means over the seeds of a configuration."""
    pictures = union_of(stratum for *_, stratum in parts)
    matrix = np.zeros((len(pictures), n, m), dtype=np.float32)
    for row, column, count, stratum in parts:
        places = np.searchsorted(pictures, stratum.pictures)
        matrix[places, row, column] += (stratum.effects / count).astype(np.float32)
    return matrix


def _by_seed(rows: pd.DataFrame, n: int, m: int) -> list[Floats]:
    """For each configuration (S, m), the values of its seeds."""
    seeds: list[dict[int, Floats]] = [{} for _ in range(n)]
    columns = (rows[name].tolist() for name in ("row", "column", "seed", "value"))
    for row, column, seed, value in zip(*columns, strict=True):
        seeds[row].setdefault(seed, np.full(m, math.nan))[column] = value
    return [np.stack(list(found.values())) if found else np.full((1, m), math.nan) for found in seeds]


def standard_errors(store: Store, frame: pd.DataFrame, rows: pd.DataFrame) -> tuple[float, float]:
    """The standard errors of one measurement of one configuration, over pictures and over seeds; NaN where not known.

    Args:
        store: the results folder.
        frame: its measurements, among which the cells of `rows` are whole; unchanged.
        rows: a row a seed; any condition.
    """
    count, own = len(rows), rows["standard_error"].to_numpy(dtype=np.float64, na_value=math.nan)
    parts: dict[str, list[tuple[int, int, int, Stratum]]] = {}
    for cell, metric, condition in rows[["cell", "metric", "condition"]].astype(str).itertuples(index=False):
        try:
            (found,) = cell_effects(store, cell, frame[frame["cell"].astype(str) == cell], [(metric, condition)])
        except DamagedError:
            found = {}
        for name, stratum in found.items():
            parts.setdefault(name, []).append((0, 0, count, stratum))
    squares = sum(float((_matrix(strata, 1, 1).astype(np.float64) ** 2).sum()) for strata in parts.values())
    by_pictures = math.sqrt(squares) if parts else float(np.sqrt((own**2).sum()) / count)
    values = rows["value"].to_numpy(dtype=np.float64)
    return by_pictures, float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
