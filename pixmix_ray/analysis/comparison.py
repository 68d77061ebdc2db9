"""Two results beside each other: which configurations both have, what changed, and what of it is real.

Configurations are the same where all their settings are; of those that are left, one with the same data set, model,
method, mixing set, k and beta on either side is taken for the same one with other settings, and the settings are named.
Pictures are drawn alike on both sides, so what changed is as sure as two networks on the same pictures allow.
"""

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pixmix_ray.analysis.certainty import DRAWS, LEVEL, Floats
from pixmix_ray.analysis.labels import flat_settings
from pixmix_ray.analysis.spread import Judged, judge
from pixmix_ray.errors import ResultsError
from pixmix_ray.storage.schema import CONFIGURATION
from pixmix_ray.storage.store import Store

NAMES = tuple(name for name in CONFIGURATION if name != "settings")
HOW = ("benchmark_settings", "data_version")
SEED = "seed"


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One of two results: where they lie, and their measurements, one variant of each benchmark."""

    store: Store
    frame: pd.DataFrame

    def by_trial(self) -> "Side":
        """The same with the seed among the settings: each trial is then a configuration of its own."""
        pairs = list(zip(self.frame["settings"].astype(str), self.frame["seed"].tolist(), strict=True))
        texts = {pair: json.dumps({**_settings(pair[0]), SEED: pair[1]}, sort_keys=True) for pair in set(pairs)}
        return replace(self, frame=self.frame.assign(settings=[texts[pair] for pair in pairs]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """What two results have in common.

    Attributes:
        changes: a row a configuration and objective that both sides have: `row` (of `before.wide`), objective, before,
            after, difference, low, high (of the difference, 95 %), is_real (at 95 % for all rows together; null where
            it is not known), is_better, note.
        before: the configurations of the first.
        after: those of the second.
        only_before: rows of `before.wide` that the second has no counterpart of.
        only_after: likewise.
        comparisons: how many differences were judged together.
    """

    changes: pd.DataFrame
    before: Judged
    after: Judged
    only_before: tuple[int, ...]
    only_after: tuple[int, ...]
    comparisons: int


def compare(first: Side, second: Side, objectives: Sequence[str], *, draws: int = DRAWS) -> Comparison:
    """What changed from the first results to the second.

    Args:
        first: as it was.
        second: as it is.
        objectives: names "benchmark.metric" that both have.
        draws: of the bootstrap.

    Raises:
        UnknownNameError: an objective that one of them does not have.
        ResultsError: they have no configuration in common.
    """
    # what was trained anew has seeds of its own; checkpoints that were measured again have the same
    is_same = set(first.frame["checkpoint_id"]) == set(second.frame["checkpoint_id"])
    before, after = (
        judge(side.store, side.frame, objectives, draws=draws, trainings=0 if is_same else number)
        for number, side in enumerate((first, second))
    )
    if not (pairs := _pairs(before.wide, after.wide)):
        both = f"{first.store.uri} and {second.store.uri}"
        raise ResultsError(
            f"{both} have no configuration in common: give two results folders that share a method and its settings"
        )
    left, right = (np.array(places) for places in zip(*((row, other) for row, other, _ in pairs), strict=True))
    values, moved = _differences(before, after, left, right)
    errors = moved.std(axis=0)
    errors[errors < 1e-7] = 0.0  # dust of float32
    incomparable = _other_ways(first.frame, second.frame, objectives)
    for column, name in enumerate(objectives):
        if name in incomparable:
            values[:, column] = math.nan
    known = before.certainty.is_known[left] & after.certainty.is_known[right] & ~np.isnan(values)
    # as in `Certainty.real`: the largest of all differences, in standard errors, exceeds it in one draw of twenty
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = np.where(known & (errors > 0), np.abs(moved) / errors, 0.0).max(axis=(1, 2), initial=0.0)
    from scipy.special import ndtri  # slow to import

    limit = float(np.quantile(largest, LEVEL))
    notes = [
        "; ".join(filter(None, (note, incomparable.get(name, ""), own)))
        for row, other, note in pairs
        for name, own in zip(
            objectives, _counts(before.certainty.seeds[row], after.certainty.seeds[other]), strict=True
        )
    ]
    reach = ndtri((1 + LEVEL) / 2) * np.where(known, errors, math.nan)
    is_beyond = (np.abs(values) > limit * errors).ravel().tolist()
    real = [beyond if is_known else None for beyond, is_known in zip(is_beyond, known.ravel().tolist(), strict=True)]
    m = len(objectives)
    changes = {
        "row": np.repeat(left, m),
        "objective": list(objectives) * len(pairs),
        "before": before.certainty.values[left].ravel(),
        "after": after.certainty.values[right].ravel(),
        "difference": values.ravel(),
        "low": (values - reach).ravel(),
        "high": (values + reach).ravel(),
        "is_real": real,
        "is_better": (values * before.certainty.signs < 0).ravel(),
        "note": notes,
    }
    return Comparison(
        changes=pd.DataFrame(changes).astype({"is_real": object}),
        before=before,
        after=after,
        only_before=tuple(sorted(set(range(len(before.wide))) - set(left.tolist()))),
        only_after=tuple(sorted(set(range(len(after.wide))) - set(right.tolist()))),
        comparisons=int(known.sum()),
    )


def _counts(before: NDArray[np.int64], after: NDArray[np.int64]) -> list[str]:
    """For each objective a note where the two are means of other numbers of seeds."""
    return [f"seeds {one} -> {other}" if one != other else "" for one, other in zip(before, after, strict=True)]


def _differences(before: Judged, after: Judged, left: Any, right: Any) -> tuple[Floats, Floats]:
    """(k, m) second less first, and (B, k, m) how the draws move it."""
    one, other = before.certainty, after.certainty
    count = min(one.costs.shape[2], other.costs.shape[2])
    values = other.values[right] - one.values[left]
    drawn = other.costs[:, right, :count].astype(np.float64) - one.costs[:, left, :count]
    return values, drawn.transpose(2, 1, 0) * one.signs - values


def _pairs(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[int, int, str]]:
    """Rows of either side that are the same configuration, and a note where their settings differ."""
    found: list[tuple[int, int, str]] = []
    rest = [set(range(len(before))), set(range(len(after)))]
    for names in (CONFIGURATION, NAMES):
        places = [_places(frame, names, left) for frame, left in zip((before, after), rest, strict=True)]
        for key, rows in places[0].items():
            others = places[1].get(key, [])
            if len(rows) == len(others) == 1:
                note = "" if names == CONFIGURATION else _changed(before, rows[0], after, others[0])
                found.append((rows[0], others[0], note))
                rest[0].discard(rows[0])
                rest[1].discard(others[0])
    return sorted(found)


def _places(frame: pd.DataFrame, names: Sequence[str], rows: set[int]) -> dict[tuple[Hashable, ...], list[int]]:
    columns = [frame[name].tolist() for name in names if name in frame.columns]
    if names == NAMES:
        columns.append([_settings(text).get(SEED) for text in frame["settings"]])
    found: dict[tuple[Hashable, ...], list[int]] = {}
    for row in sorted(rows):
        key = tuple(None if pd.isna(column[row]) else column[row] for column in columns)
        found.setdefault(key, []).append(row)
    return found


def _changed(before: pd.DataFrame, row: int, after: pd.DataFrame, other: int) -> str:
    """The settings that differ: "training.epochs 12 -> 30"."""
    one, two = (
        flat_settings(_settings(frame["settings"].iloc[place])) for frame, place in ((before, row), (after, other))
    )
    parts = [
        f"{key} {one.get(key, 'unset')} -> {two.get(key, 'unset')}"
        for key in dict.fromkeys([*one, *two])
        if one.get(key) != two.get(key)
    ]
    return ", ".join(parts)


def _settings(text: object) -> dict[str, Any]:
    """The settings of a configuration; what is no JSON of ours is taken as one."""
    try:
        found = json.loads(str(text))
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"settings": str(text)}


def _other_ways(first: pd.DataFrame, second: pd.DataFrame, objectives: Sequence[str]) -> dict[str, str]:
    """The objectives that were not measured in the same way, and why they are not compared."""
    found = {}
    for name in objectives:
        benchmark = name.partition(".")[0]
        sides = [frame[frame["benchmark"] == benchmark] for frame in (first, second)]
        for column, words in zip(HOW, ("settings of the benchmark", "data"), strict=True):
            one, two = (set(side[column].astype(str)) for side in sides)
            if one != two:
                found[name] = f"not compared: other {words}"
    return found
