"""Measurements made in different ways, told apart: two settings of a benchmark, two versions of a test set.

They are never averaged and never on one front. `apart` makes a table of each way.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


@dataclass(frozen=True, kw_only=True, eq=False)
class OneWay:
    """One way in which a benchmark was measured on a data set.

    Attributes:
        dataset: of the trainings; "" where the measurements do not say.
        benchmark: which.
        key: its settings and the version of its data.
        words: what tells it from the other ways, such as "clean with limit 60"; the benchmark alone where it is one.
        trials: those that were measured so.
        rows: positions of its rows.
    """

    dataset: str
    benchmark: str
    key: Way
    words: str
    trials: frozenset[str]
    rows: NDArray[np.int64]


def ways(frame: pd.DataFrame) -> list[OneWay]:
    """The ways in which each benchmark was measured, in order of first appearance.

    Args:
        frame: measurements; columns that are missing tell nothing apart; unchanged.
    """
    if frame.empty:
        return []
    names = [name for name in (*PLACE, *HOW) if name in frame.columns]
    numbers = frame.groupby(names, dropna=False, sort=False, observed=True).ngroup().to_numpy()
    firsts = frame.iloc[np.unique(numbers, return_index=True)[1]]
    trial_ids = frame["trial_id"] if "trial_id" in frame.columns else pd.Series("", index=frame.index)
    texts = {name: _texts(firsts, name) for name in (*PLACE, *HOW)}
    places, keys = (list(zip(*(texts[name] for name in pair), strict=True)) for pair in (PLACE, HOW))
    found = []
    for number, (place, key) in enumerate(zip(places, keys, strict=True)):
        rows = np.flatnonzero(numbers == number)
        others = [other for where, other in zip(places, keys, strict=True) if where == place]
        differing = _told_apart(key, others)
        words = " with ".join(filter(None, (place[1], ", ".join(differing))))
        trials = frozenset(trial_ids.iloc[rows].astype(str).unique())
        found.append(OneWay(dataset=place[0], benchmark=place[1], key=key, words=words, trials=trials, rows=rows))
    return found


def one_variant(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The measurements with one way of each benchmark on each data set, and a line for each way left out.

    The one that the most trials have is kept, of equals the one finished last; rows keep their order and labels.

    Args:
        frame: measurements as read from the store (long); unchanged.
    """
    is_kept = np.ones(len(frame), dtype=bool)
    lines = []
    of_place: dict[Place, list[OneWay]] = {}
    for way in ways(frame):
        of_place.setdefault((way.dataset, way.benchmark), []).append(way)
    for found in of_place.values():
        kept = max(found, key=lambda way: (len(way.trials), frame["finished_at"].iloc[way.rows].max()))
        for way in found:
            if way is not kept:
                is_kept[way.rows] = False
                count = len(way.trials)
                lines.append(f"left out: {way.words} on {way.dataset}, measured on {count} trial{'s' * (count > 1)}")
    return frame[is_kept], lines


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    return frame[name].astype(str).tolist() if name in frame.columns else [""] * len(frame)


def apart(frame: pd.DataFrame) -> list[Part]:
    """The measurements in parts within which everything may be compared, most trials first; one part is the rule.

    Rows of one data set stand together. A trial that lacks a benchmark that was made in several ways is in each part
    that the others of its benchmarks are.

    Args:
        frame: measurements; unchanged.
    """
    if frame.empty:
        return [Part(label="", frame=frame)]
    frame = _by_data_set(frame)
    names = [*PLACE, *HOW]
    numbers = frame.groupby(names, dropna=False, sort=False, observed=True).ngroup().to_numpy()
    firsts = frame[names].iloc[np.unique(numbers, return_index=True)[1]].astype(str)
    kinds: list[tuple[Place, Way]] = [
        ((dataset, benchmark), (settings, version))
        for dataset, benchmark, settings, version in firsts.itertuples(index=False, name=None)
    ]
    ways: dict[Place, list[Way]] = {}
    for place, way in kinds:
        ways.setdefault(place, []).append(way)
    several = {place: found for place, found in ways.items() if len(found) > 1}
    if not several:
        return [Part(label="", frame=frame)]
    trials = pd.factorize(frame["trial_id"])[0]
    of_trial: dict[int, dict[Place, list[Way]]] = {}
    for pair in pd.unique(trials * len(kinds) + numbers).tolist():
        place, way = kinds[pair % len(kinds)]
        of_trial.setdefault(pair // len(kinds), {}).setdefault(place, []).append(way)
    parts = []
    for combination in _combinations(several, of_trial.values()):
        is_trial = np.array([_fits(found, combination) for found in of_trial.values()])
        is_kind = np.array([place not in several or combination.get(place) == way for place, way in kinds])
        own = frame[is_trial[trials] & is_kind[numbers]]
        parts.append(Part(label=_label(combination, several), frame=own))
    return sorted(parts, key=lambda part: -part.frame["trial_id"].nunique())


def _by_data_set(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each data set together, data sets in order of first appearance."""
    if frame["dataset"].nunique() < 2:
        return frame
    return frame.iloc[np.argsort(pd.factorize(frame["dataset"])[0], kind="stable")]


def _combinations(
    several: Mapping[Place, list[Way]], of_trials: Iterable[Mapping[Place, list[Way]]]
) -> list[dict[Place, Way]]:
    """One way of each benchmark, as some trial was measured; those that another one holds are left out."""
    found: list[dict[Place, Way]] = []
    for trial in of_trials:
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
    for (dataset, benchmark), way in combination.items():
        where = f"{benchmark} on {dataset}" if len(datasets) > 1 else benchmark
        texts.append(f"{where}: {', '.join(_told_apart(way, several[dataset, benchmark]))}")
    return "; ".join(texts)


def _told_apart(way: Way, others: Sequence[Way]) -> list[str]:
    """What tells a way from the others of its benchmark: "limit 60", "no limit", "data cifar10-b2".

    A setting that does not stand there has its default, such as one that came after the measurement.
    """
    settings, version = way
    told = _differing(settings, [other for other, _ in others])
    return [*told, f"data {version}"] if len({data for _, data in others}) > 1 else told


def _differing(settings: str, others: Sequence[str]) -> list[str]:
    """The settings that are not the same in all: "limit 60"."""
    if len(set(others)) < 2:
        return []
    try:
        own, all_of_them = json.loads(settings), [json.loads(text) for text in others]
    except ValueError:
        return [f"settings {settings}"]
    keys = dict.fromkeys(key for one in all_of_them for key in one)
    differing = [key for key in keys if len({json.dumps(one.get(key), sort_keys=True) for one in all_of_them}) > 1]
    return [_in_words(key, own[key]) if key in own else f"default {key}" for key in differing]


def _in_words(name: str, value: object) -> str:
    if value is None or value == []:
        return f"no {name}"
    if isinstance(value, list):
        return f"{name} {', '.join(map(str, value))}"
    return f"{name} {value if isinstance(value, str) else json.dumps(value)}"
