"""A search, replayed from the results folder: what was suggested, what came of it, and what to try next.

Nothing of a study is stored. Optuna's sampler is asked for a batch of points, is told what the cells of their trials
measured, and is asked for the next, always in the same order, so that the same results give the same suggestions: a
search that was interrupted goes on where it was, and a trial that it suggests is named and stored like any other. A
trial that failed or was stopped early is told as a failure; mend it, and what is suggested after it may change.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.search import Choices, Range, Search
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.metrics import DIRECTIONS
from pixmix_ray.planning.cell_names import cell_names
from pixmix_ray.storage.index import read_cells
from pixmix_ray.storage.store import Store

if TYPE_CHECKING:
    import optuna

StatesOf = Callable[[Sequence[Trial]], Iterable[str]]
"""The states of all cells of some trials."""


def suggested_trials(sweep: Experiment, store: Store, runs: Sequence[BenchmarkRun], states_of: StatesOf) -> list[Trial]:
    """All trials that the search of a sweep suggested so far, each once, the last batch being what is to do.

    Raises:
        RequestError: Optuna is not installed.
    """
    assert sweep.search is not None
    study, distributions = _study(sweep.search), _distributions(sweep.search)
    found: dict[str, Trial] = {}
    left = sweep.search.num_trials
    while left > 0:
        batch = [study.ask(distributions) for _ in range(min(sweep.search.batch, left))]
        left -= len(batch)
        trials = [sweep.at(asked.params).trials() for asked in batch]
        for trial in (trial for group in trials for trial in group):
            found.setdefault(trial.id, trial)
        if any("missing" in states_of(group) for group in trials):
            break
        for asked, group in zip(batch, trials, strict=True):
            values = _values(sweep.search, store, runs, group) if set(states_of(group)) == {"done"} else None
            _tell(study, asked, values)
    return list(found.values())


def _study(search: Search) -> "optuna.Study":
    try:
        import optuna
    except ImportError:
        raise RequestError("search needs Optuna: pip install 'pixmix_ray[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    best = {"lower": optuna.study.StudyDirection.MINIMIZE, "higher": optuna.study.StudyDirection.MAXIMIZE}
    directions = [best[DIRECTIONS[_metric(name)]] for name in search.objectives]
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=search.seed), directions=directions)


def _distributions(search: Search) -> dict[str, Any]:
    import optuna.distributions as of

    def distribution(axis: Range | Choices) -> of.BaseDistribution:
        if isinstance(axis, Choices):
            return of.CategoricalDistribution(axis.values)
        if axis.integer:
            return of.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return of.FloatDistribution(axis.low, axis.high, log=axis.log)

    return {name: distribution(axis) for name, axis in search.space.items()}


def _tell(study: "optuna.Study", asked: "optuna.Trial", values: list[float] | None) -> None:
    from optuna.trial import TrialState

    if values is None or not np.isfinite(values).all():
        study.tell(asked, state=TrialState.FAIL)
    else:
        study.tell(asked, values)


def _values(search: Search, store: Store, runs: Sequence[BenchmarkRun], trials: Sequence[Trial]) -> list[float] | None:
    """The objectives, each the mean over the seeds; None if a cell did not measure one of them."""
    values = []
    for objective in search.objectives:
        of = [run for run in runs if run.name == objective.partition(".")[0]]
        rows = read_cells(store, cell_names(store, trials, of).values())
        whole = rows[(rows["metric"] == _metric(objective)) & (rows["condition"] == "") & rows["severity"].isna()]
        if len(whole) != len(trials):
            return None
        values.append(fmean(whole["value"]))
    return values


def _metric(objective: str) -> str:
    return objective.partition(".")[2]
