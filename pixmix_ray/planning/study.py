"""A search: what was suggested, what came of it, and what to try next.

The points that were suggested are stored (`searches/HASH.json`) before any is trained, and an Optuna study is built
from them and from what their cells measured each time that a point is to be suggested. So a search goes on where it
was, with another version of Optuna, another seed or batch too. Trials of the same results folder that lie in the
search space but were not suggested by the search, such as those of a grid, count as results from the start.

A point that failed, was stopped early or measured no number is a failure to Optuna; one that is not finished yet has
the sampler keep away from it (`constant_liar`).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.labels import labelled
from pixmix_ray.experiment.search import Axis, Choices, Search, Value
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.identity import hash_of_values
from pixmix_ray.metrics import DIRECTIONS
from pixmix_ray.seeding import stream_key
from pixmix_ray.storage.index import read_rows
from pixmix_ray.storage.store import Store, search_file

if TYPE_CHECKING:
    import optuna

    from pixmix_ray.experiment.experiment import Experiment

StatesOf = Callable[[Sequence[Trial]], Collection[str]]
"""The states of all cells of some trials; of a trial that failed none is missing."""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One point of the search space.

    Attributes:
        params: the value on each axis.
        trials: its trials, one a seed.
    """

    params: Mapping[str, Value]
    trials: Sequence[Trial]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(trial.id for trial in self.trials)


def next_trials(
    experiment: Experiment, store: Store, runs: Sequence[BenchmarkRun], states_of: StatesOf, *, keep: bool
) -> list[Trial]:
    """All trials that a search suggested so far, each once; new ones where fewer than `batch` points are unfinished.

    Asked again with the same results it suggests the same.

    Args:
        experiment: with a search.
        store: the results folder.
        runs: the benchmarks of the experiment.
        states_of: the states of the cells of some trials.
        keep: store the points that are new, as must be done before they are trained.

    Raises:
        RequestError: Optuna is not installed.
        ResultsError: the results cannot be read, or the file of the points is damaged.
    """
    search = experiment.search
    assert search is not None
    described = _described(experiment, runs)
    path = search_file(hash_of_values(described))
    points = _stored_points(experiment, store, path)
    states = [_state(states_of(point.trials)) for point in points]

    def lacks_some() -> bool:
        return states.count("missing") < search.batch and len(points) < search.num_trials

    if lacks_some():
        measured = _Measured.read(search, store, runs)
        study = _study_of(experiment, measured, zip(points, states, strict=True), described["settings"])
        while lacks_some():
            points.append(_point(experiment, study.suggest(len(points))))
            states.append(_state(states_of(points[-1].trials)))  # it may be the same as an earlier one, and done
            study.add(points[-1], states[-1], measured.values(search, points[-1]))
        if keep:
            listed = [{"params": dict(point.params), "trials": point.ids} for point in points]
            store.write_json(path, {**described, "points": listed})
    trials = {trial.id: trial for point in points for trial in point.trials}
    return labelled(list(trials.values()), search.space)


def _stored_points(experiment: Experiment, store: Store, path: str) -> list[_Point]:
    """The points that were suggested before, at most as many as the search asks for."""
    assert experiment.search is not None
    stored = (store.read_json(path) or {}).get("points", [])
    try:
        return [_point(experiment, known["params"]) for known in stored[: experiment.search.num_trials]]
    except (AttributeError, KeyError, TypeError) as error:
        raise store.damaged(path, error) from None


def _state(states: Collection[str]) -> str:
    """That of a point whose cells have these states."""
    if "missing" in states:
        return "missing"
    return "done" if set(states) == {"done"} else "failed"


def _point(experiment: Experiment, params: Mapping[str, Value]) -> _Point:
    return _Point(params=params, trials=experiment.at(params).trials())


def _described(experiment: Experiment, runs: Sequence[BenchmarkRun]) -> dict[str, Any]:
    """What makes it this search and no other, as JSON values: not its seeds, sampler or size."""
    search = experiment.search
    assert search is not None
    return {
        "space": {name: axis.identity() for name, axis in search.space.items()},
        "objectives": {name: _run_of(name, runs).key for name in search.objectives},
        "settings": _beside(experiment.trials()[0].settings, search.space),
    }


def _run_of(objective: str, runs: Sequence[BenchmarkRun]) -> BenchmarkRun:
    (run,) = (run for run in runs if run.name == objective.partition(".")[0])
    return run


def _metric(objective: str) -> str:
    return objective.partition(".")[2]


def _place(axis: str) -> tuple[str, str]:
    """Where a trial's settings hold the value on an axis: k and methods.NAME.k in the method's, training.lr there."""
    room, _, name = axis.rpartition(".")
    return ("training" if room == "training" else "method", name)


def _beside(settings: Mapping[str, Any], axes: Iterable[str]) -> dict[str, Any]:
    """The settings of a trial without those that are axes."""
    found: dict[str, Any] = {key: dict(part) if isinstance(part, dict) else part for key, part in settings.items()}
    for part, name in map(_place, axes):
        found[part].pop(name, None)
    return found


# What was measured


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """The objectives of all trials in a results folder that have any.

    Attributes:
        of_trial: the value by trial id and objective, the newest where there are several.
        settings: the settings of these trials, each once, as JSON.
    """

    of_trial: Mapping[tuple[str, str], float]
    settings: Collection[str]

    @staticmethod
    def read(search: Search, store: Store, runs: Sequence[BenchmarkRun]) -> _Measured:
        """What the rows of a results folder say, read once."""
        frame = read_rows(store, _COLUMNS).to_pandas()
        frame = frame[(frame["condition"] == "") & frame["severity"].isna()].sort_values("finished_at", kind="stable")
        of_trial: dict[tuple[str, str], float] = {}
        settings: dict[str, None] = {}
        for objective in search.objectives:
            run = _run_of(objective, runs)
            benchmark = run.settings_text
            rows = frame[
                (frame["metric"] == _metric(objective))
                & (frame["benchmark"] == run.name)
                & (frame["benchmark_settings"] == benchmark)
                & frame["data_version"].astype(str).str.endswith(run.version)
            ]
            of_trial |= {
                (trial_id, objective): float(value)
                for trial_id, value in zip(rows["trial_id"], rows["value"], strict=True)
            }
            settings |= dict.fromkeys(rows["settings"])
        return _Measured(of_trial=of_trial, settings=settings)

    def values(self, search: Search, point: _Point) -> list[float] | None:
        """The objectives of a point, each the mean over its trials; None if one is not there or no finite number."""
        every = [[self.of_trial.get((i, objective), math.nan) for i in point.ids] for objective in search.objectives]
        means = [fmean(values) for values in every]
        return means if all(map(math.isfinite, means)) else None

    def points(self, experiment: Experiment, beside: Mapping[str, Any]) -> Iterator[_Point]:
        """The points of which trials were measured, whoever suggested them; `beside` are the settings off the axes."""
        search = experiment.search
        assert search is not None
        for text in sorted(self.settings):
            settings = json.loads(text)
            if "method" not in settings or "training" not in settings:
                continue  # a checkpoint from elsewhere
            params: dict[str, Value] = {}
            for axis, values in search.space.items():
                part, name = _place(axis)
                if (value := values.find(settings[part].get(name))) is not None:
                    params[axis] = value
            if params.keys() == search.space.keys() and _beside(settings, search.space) == beside:
                yield _point(experiment, params)


_COLUMNS = [
    "trial_id",
    "settings",
    "benchmark",
    "benchmark_settings",
    "data_version",
    "metric",
    "condition",
    "severity",
    "value",
    "finished_at",
]


# Optuna


class _Study:
    """An Optuna study, in memory."""

    def __init__(self, search: Search) -> None:
        """A study without points; raises RequestError where Optuna is not installed."""
        try:
            import optuna
        except ImportError:
            raise RequestError("search needs Optuna: pip install 'pixmix_ray[search]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        best = {"lower": optuna.study.StudyDirection.MINIMIZE, "higher": optuna.study.StudyDirection.MAXIMIZE}
        self._search = search
        self._distributions = {name: _distribution(axis) for name, axis in search.space.items()}
        self._study = optuna.create_study(directions=[best[DIRECTIONS[_metric(name)]] for name in search.objectives])

    def add(self, point: _Point, state: str, values: list[float] | None) -> None:
        """Add a point with what came of it."""
        from optuna.trial import TrialState, create_trial

        is_complete = state == "done" and values is not None
        outcome = TrialState.RUNNING if state == "missing" else TrialState.COMPLETE if is_complete else TrialState.FAIL
        trial = create_trial(
            params=dict(point.params),
            distributions=self._distributions,
            values=values if is_complete else None,
            state=outcome,
        )
        self._study.add_trial(trial)

    def suggest(self, number: int) -> dict[str, Value]:
        """The point that comes after `number` others."""
        import optuna

        seed = stream_key(self._search.seed, "search", number) % 2**32  # of its own, as the sampler is a new one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # that is constant_liar in Optuna 4
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        asked = self._study.ask(self._distributions)
        self._study.tell(asked, state=optuna.trial.TrialState.FAIL)  # `add` puts it in, with what came of it
        return dict(asked.params)


def _study_of(
    experiment: Experiment, measured: _Measured, points: Iterable[tuple[_Point, str]], beside: Mapping[str, Any]
) -> _Study:
    """A study of the points that were suggested, with their states, and of others that were measured.

    Args:
        experiment: with a search.
        measured: what was.
        points: and their states.
        beside: the settings of all trials off the axes.
    """
    search = experiment.search
    assert search is not None
    study, suggested = _Study(search), list(points)
    known = {point.ids for point, _ in suggested}
    others = [(point, "done") for point in measured.points(experiment, beside) if point.ids not in known]
    for point, state in [*others, *suggested]:
        study.add(point, state, measured.values(search, point))
    return study


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    import optuna.distributions as of

    if isinstance(axis, Choices):
        return of.CategoricalDistribution(axis.values)
    if axis.integer:
        return of.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return of.FloatDistribution(axis.low, axis.high, log=axis.log)
