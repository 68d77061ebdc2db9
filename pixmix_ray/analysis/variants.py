"""Measurements made in different ways, told apart: two settings of a benchmark, two versions of a test set.

They are never averaged and never on one front. `apart` makes a table of each way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import pandas as pd

PLACE, HOW = ["dataset", "benchmark"], ["benchmark_settings", "data_version"]
Place = tuple[str, str]
Way = tuple[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Measurements of which each benchmark was made in one way.

    Attributes:
        label: what tells this part from the others, such as "corruptions: limit 60"; "" where it is the only one.
        frame: the measurements.
    """

    label: str
    frame: pd.DataFrame


def apart(frame: pd.DataFrame) -> list[Part]:
    """The measurements in parts within which everything may be compared, most trials first; one part is the rule.

    A trial that lacks a benchmark that was made in several ways is in each part that the others of its benchmarks are.

    Args:
        frame: measurements; unchanged.
    """
    if frame.empty:
        return [Part(label="", frame=frame)]
    plain = frame[["trial_id", *PLACE, *HOW]].astype(str).drop_duplicates()
    ways: dict[Place, list[Way]] = {}
    of_trial: dict[str, dict[Place, list[Way]]] = {}
    for trial, dataset, benchmark, settings, version in plain.itertuples(index=False, name=None):
        place, way = (dataset, benchmark), (settings, version)
        if way not in ways.setdefault(place, []):
            ways[place].append(way)
        of_trial.setdefault(trial, {}).setdefault(place, []).append(way)
    several = {place: found for place, found in ways.items() if len(found) > 1}
    if not several:
        return [Part(label="", frame=frame)]
    parts = []
    for combination in _combinations(several, of_trial):
        trials = {trial for trial, found in of_trial.items() if _fits(found, combination)}
        wanted = {(*place, *way) for place, way in combination.items()}
        keys = pd.Series(list(frame[[*PLACE, *HOW]].astype(str).itertuples(index=False, name=None)), index=frame.index)
        places = pd.Series(list(frame[PLACE].astype(str).itertuples(index=False, name=None)), index=frame.index)
        is_in = frame["trial_id"].astype(str).isin(trials) & (keys.isin(wanted) | ~places.isin(set(several)))
        parts.append(Part(label=_label(combination, several), frame=frame[is_in]))
    return sorted(parts, key=lambda part: -part.frame["trial_id"].nunique())


def _combinations(
    several: Mapping[Place, list[Way]], of_trial: Mapping[str, Mapping[Place, list[Way]]]
) -> list[dict[Place, Way]]:
    """One way of each benchmark, as some trial was measured; those that another one holds are left out."""
    found: list[dict[Place, Way]] = []
    for trial in of_trial.values():
        places = [place for place in several if place in trial]
        for ways in product(*(trial[place] for place in places)):
            one = dict(zip(places, ways, strict=True))
            if one and one not in found:
                found.append(one)
    return [one for one in found if not any(one != other and one.items() <= other.items() for other in found)]


def _fits(found: Mapping[Place, list[Way]], combination: Mapping[Place, Way]) -> bool:
    """Whether a trial belongs to a combination: it has one of its ways, and none of another way alone."""
    shared = [place for place in combination if place in found]
    return bool(shared) and all(combination[place] in found[place] for place in shared)


def _label(combination: Mapping[Place, Way], several: Mapping[Place, list[Way]]) -> str:
    datasets = {dataset for dataset, _ in several}
    texts = []
    for (dataset, benchmark), (settings, version) in combination.items():
        others = several[dataset, benchmark]
        parts = _differing(settings, [other for other, _ in others])
        if len({data for _, data in others}) > 1:
            parts.append(f"data {version}")
        where = f"{benchmark} on {dataset}" if len(datasets) > 1 else benchmark
        texts.append(f"{where}: {', '.join(parts)}")
    return "; ".join(texts)


def _differing(settings: str, others: list[str]) -> list[str]:
    """The settings that are not the same in all: "limit 60"."""
    try:
        own, all_of_them = json.loads(settings), [json.loads(text) for text in others]
    except ValueError:
        return [f"settings {settings}"]
    keys = dict.fromkeys(key for one in all_of_them for key in one)
    differing = [key for key in keys if len({json.dumps(one.get(key), sort_keys=True) for one in all_of_them}) > 1]
    return [f"{key} {json.dumps(own.get(key))}" for key in differing]
