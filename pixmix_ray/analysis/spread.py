"""From a results folder to what its configurations' objectives vary with: pictures and seeds.

Predictions are read cell by cell, and what they say is kept in this machine's cache where cells are large
(`pixmix_ray.analysis.cell_effects`), so that only the first look at a sweep takes time.

`summary` has table and front as one DataFrame, for programs and trackers.
"""

import math
import os
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.cell_effects import Effects, Measured, Stratum, cell_effects, measured_of, union_of
from pixmix_ray.analysis.certainty import DRAWS, Block, Certainty, Floats, Spread, bootstrap
from pixmix_ray.analysis.labels import configuration_labels, remarks
from pixmix_ray.analysis.pareto import default_objectives, dominance, not_shown, peers
from pixmix_ray.analysis.variants import apart
from pixmix_ray.errors import DamagedError
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store

BLOCK = 2**26  # effects in memory at once, 4 bytes each


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
    return Judged(wide=wide, certainty=certainty, remarks=(*remarks(frame, objectives), *not_shown(frame, objectives)))


def spread_of(store: Store, frame: pd.DataFrame, wide: pd.DataFrame, objectives: Sequence[str]) -> Spread:
    """What the rows of `wide` vary with in each of the objectives; see `judge`."""
    rows = _wanted(frame, wide, objectives)
    n, m = len(wide), len(objectives)
    effects = _effects(store, frame, rows)
    counts = rows.groupby(["row", "column"])["seed"].transform("size").to_numpy()
    others = np.full((n, m), math.nan)
    parts: dict[str, list[_Part]] = {}
    groups = peers(wide)
    datasets = wide["dataset"].tolist() if "dataset" in wide.columns else [""] * n
    for found, row, column, count, own in zip(
        effects, rows["row"].tolist(), rows["column"].tolist(), counts.tolist(), rows["standard_error"], strict=True
    ):
        for name, stratum in found.items():
            part = _Part(row=row, column=column, count=count, stratum=stratum)
            parts.setdefault(f"{datasets[row]}/{name}", []).append(part)
        if not found and pd.notna(own):
            # of a mean over seeds, whose errors are independent
            others[row, column] = np.hypot(np.nan_to_num(others[row, column]), float(own) / count)
    return Spread(
        values=wide[list(objectives)].to_numpy(dtype=np.float64, na_value=math.nan),
        strata={name: _blocks(found, n, m) for name, found in parts.items()},
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
    columns = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in identity]
    return list(zip(*columns, strict=True))


def _effects(store: Store, frame: pd.DataFrame, rows: pd.DataFrame) -> list[Effects]:
    """For each of the rows the effects of its pictures."""
    found: list[Effects] = [{} for _ in range(len(rows))]
    if "cell" not in frame.columns:
        return found
    metrics, groups = rows["metric"].tolist(), rows.groupby("cell", sort=False).indices
    places = {str(cell): np.asarray(part).tolist() for cell, part in groups.items()}
    measured = measured_of(frame, places)
    known: dict[str, NDArray[np.int64]] = {}

    def once(strata: Effects) -> Effects:
        """The same in less memory: pictures that are those of another cell are held once."""
        lean = {}
        for name, stratum in strata.items():
            pictures = known.setdefault(name, stratum.pictures)
            same = pictures if np.array_equal(pictures, stratum.pictures) else stratum.pictures
            lean[name] = Stratum(pictures=same, effects=stratum.effects.astype(np.float32))
        return lean

    def read(cell: str) -> list[Effects]:
        wanted = [(metrics[place], "") for place in places[cell]]
        try:
            return list(map(once, cell_effects(store, cell, measured[cell], wanted)))
        except DamagedError as error:
            warnings.warn(f"{error}; its intervals are not shown", stacklevel=2)
            return [{} for _ in wanted]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for cell, answers in zip(places, pool.map(read, places), strict=True):
            for place, answer in zip(places[cell], answers, strict=True):
                found[place] = answer
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """The effects of one stratum on the mean over `count` seeds in one row and column."""

    row: int
    column: int
    count: int
    stratum: Stratum


def _blocks(parts: Sequence[_Part], n: int, m: int) -> Iterator[Block]:
    """The effects of the pictures of one stratum, means over the seeds of a configuration, some rows at a time."""
    pictures = union_of(part.stratum for part in parts)
    size = max(1, BLOCK // (len(pictures) * m))
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        matrix = np.zeros((len(pictures), rows.stop - start, m), dtype=np.float32)
        for part in parts:
            if start <= part.row < rows.stop:
                own = part.stratum.pictures
                places = slice(None) if own is pictures else np.searchsorted(pictures, own)
                matrix[places, part.row - start, part.column] += (part.stratum.effects / part.count).astype(np.float32)
        yield rows, matrix


def _by_seed(rows: pd.DataFrame, n: int, m: int) -> list[Floats]:
    """For each configuration (S, m), the values of its seeds."""
    seeds: list[dict[int, Floats]] = [{} for _ in range(n)]
    columns = (rows[name].tolist() for name in ("row", "column", "seed", "value"))
    for row, column, seed, value in zip(*columns, strict=True):
        seeds[row].setdefault(seed, np.full(m, math.nan))[column] = value
    return [np.stack(list(found.values())) if found else np.full((1, m), math.nan) for found in seeds]


def standard_errors(store: Store, measured: Mapping[str, Measured], rows: pd.DataFrame) -> tuple[float, float]:
    """The standard errors of one measurement of one configuration, over pictures and over seeds; NaN where not known.

    Args:
        store: the results folder.
        measured: what was measured of the cells of `rows`.
        rows: a row a seed; any condition.
    """
    count, own = len(rows), rows["standard_error"].to_numpy(dtype=np.float64, na_value=math.nan)
    parts: dict[str, list[_Part]] = {}
    for cell, metric, condition in rows[["cell", "metric", "condition"]].astype(str).itertuples(index=False):
        try:
            (found,) = cell_effects(store, cell, measured[cell], [(metric, condition)])
        except DamagedError:
            found = {}
        for name, stratum in found.items():
            parts.setdefault(name, []).append(_Part(row=0, column=0, count=count, stratum=stratum))
    squares = sum(
        float((effects.astype(np.float64) ** 2).sum())
        for strata in parts.values()
        for _, effects in _blocks(strata, 1, 1)
    )
    by_pictures = math.sqrt(squares) if parts else float(np.sqrt((own**2).sum()) / count)
    values = rows["value"].to_numpy(dtype=np.float64)
    return by_pictures, float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan


def summary(store: Store, frame: pd.DataFrame) -> pd.DataFrame:
    """A row a configuration and way of measuring; fractions.

    Columns: measured (the way, "" where there is one), label, dataset, seeds; for each objective its value, and
    `<objective>.low` and `.high`, the ends of the 95 % interval; on_front, front_probability, dominated_by (labels,
    semicolons between them).

    Args:
        store: the results folder.
        frame: its measurements; unchanged.
    """
    tables = []
    for part in apart(frame) if len(frame) else []:
        names = default_objectives(part.frame)
        if not names:
            continue
        judged = judge(store, part.frame, names)
        wide, found = judged.wide, judged.certainty
        labels = configuration_labels(wide)
        columns = {
            "measured": part.label,
            "label": labels,
            "dataset": wide["dataset"].astype(str),
            "seeds": wide["seeds"],
        }
        table = pd.DataFrame(columns)
        for number, name in enumerate(names):
            table[name] = wide[name]
            table[f"{name}.low"], table[f"{name}.high"] = found.intervals[:, number].T
        named = dict(zip(wide.index.tolist(), labels, strict=True))
        dominated = ["; ".join(named[row] for row in rows) for rows in wide["dominated_by"]]
        tables.append(table.assign(on_front=wide["on_front"], front_probability=found.on_front, dominated_by=dominated))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
