"""A search replayed from the results folder: with cells written by a rule, so that the best point is known."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.experiment import read_experiment
from pixmix_ray.planning.plan import Cell, Plan, make_plan, rounds
from pixmix_ray.storage.store import cell_failure_file, trial_file
from tests.stored_cells import CHECKPOINT, ERROR, put_of

SEARCH = (
    "methods=[pixmix]",
    "search={num_trials: 12, batch: 3, seed: 5, objectives: [clean.error],"
    " space: {k: [1, 2, 3], beta: {low: 1, high: 6}, methods.pixmix.severity: {low: 1, high: 5, integer: true}}}",
)
Open = Callable[..., Plan]


@pytest.fixture
def opened(experiment: Path) -> Open:
    """The plan of the search as it stands, with more --set overrides."""
    return lambda *overrides: make_plan(read_experiment(experiment, [*SEARCH, *overrides]))


def error_of(cell: Cell) -> float:
    """Least at beta 2, k 3 and severity 1."""
    settings: Any = cell.trial.method.settings
    return float(0.1 * (settings.beta - 2) ** 2 + (3 - settings.k) + 0.1 * settings.severity)


def measure(plan: Plan, value: Callable[[Cell], float] = error_of) -> list[str]:
    """Do what the plan lacks; the trials that it did."""
    for cell in plan.cells_to_run():
        plan.store.write_json(trial_file(cell.trial.id, "done.json"), {"checkpoint_id": CHECKPOINT})
        put_of(plan.store, cell.trial, cell.run, replace(ERROR, value=value(cell)))
    return [trial.id for trial in plan.trials_to_run()]


def whole_search(opened: Open, *overrides: str) -> Iterator[list[str]]:
    """The trials of each round until nothing is left."""
    while (plan := opened(*overrides)).cells_to_run():
        yield [trial.id for trial in plan.trials]
        measure(plan)


def test_a_search_goes_on_where_it_was_and_ends_after_its_trials(opened: Open) -> None:
    sizes = [len(trials) for trials in whole_search(opened)]
    assert sizes == [3, 6, 9, 12]
    plan = opened()
    assert (len(plan.trials), plan.cells_to_run()) == (12, [])
    assert len({trial.id for trial in plan.trials}) == 12
    assert {trial.setting("k") for trial in plan.trials} <= {1, 2, 3}
    assert all(1 <= (trial.setting("beta") or 0) <= 6 for trial in plan.trials)
    more = opened("search.num_trials=14")
    assert [trial.id for trial in more.trials][:12] == [trial.id for trial in plan.trials]
    assert len(more.trials_to_run()) == 2


def test_the_same_seed_and_results_give_the_same_suggestions(opened: Open, tmp_path: Path) -> None:
    first = list(whole_search(opened))
    assert list(whole_search(opened, f"results={tmp_path / 'other'}")) == first
    assert list(whole_search(opened, f"results={tmp_path / 'third'}", "search.seed=6")) != first


def test_suggestions_follow_what_was_measured(opened: Open) -> None:
    for _ in whole_search(opened, "search.num_trials=45"):
        pass
    errors = [error_of(cell) for cell in opened("search.num_trials=45").cells]
    # by chance the mean over beta in [1, 6] is 0.43, over k 1, over severity 0.3
    assert sum(errors[-15:]) / 15 < 0.6 * sum(errors[:10]) / 10


def test_a_trial_of_a_search_is_the_trial_of_a_grid(opened: Open, experiment: Path) -> None:
    (trial, *_) = opened().trials
    settings: Any = trial.method.settings
    method = f"methods=[{{name: pixmix, k: {settings.k}, beta: {settings.beta!r}, severity: {settings.severity}}}]"
    (same,) = make_plan(read_experiment(experiment, [method])).trials
    assert same.id == trial.id


def test_several_objectives_and_seeds_are_one_study(opened: Open) -> None:
    both = ("search.objectives=[clean.error, clean.soft_f1]", "seeds=[0, 1]", "search.num_trials=4")
    plan = opened(*both)
    assert len(plan.trials) == 6  # three points, two seeds
    measure(plan)  # the second objective is not among the rows: the points failed, and the search goes on
    assert len(opened(*both).trials) == 8


def test_a_cell_that_failed_is_passed_over_and_not_repeated_in_the_same_run(opened: Open) -> None:
    tried: list[str] = []
    for plan in rounds(opened()):
        tried += [cell.trial.id for cell in plan.cells_to_run()]
        (first, *_) = plan.cells_to_run()
        measure(
            Plan(
                store=plan.store,
                experiment=plan.experiment,
                trials=plan.trials,
                cells=dict(list(plan.cells.items())[-2:]),
            )
        )
        plan.store.write_json(cell_failure_file(first.trial.id, first.run.key), {"reason": "broken"})
    assert len(tried) == len(set(tried)) == 12
    assert len(opened().cells_to_run()) >= 1  # the next command tries them again


def test_a_value_that_is_no_number_fails_its_point_alone(opened: Open) -> None:
    measure(opened(), lambda cell: math.nan)
    assert len(opened().trials) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.space={gamma: [1, 2]}"], r"'gamma'"),
        (["search.space={k: {low: 3, high: 1}}"], r"low = 3 must be below high = 1"),
        (["search.space={beta: {low: 0, high: 1, log: true}}"], r"has no logarithm"),
        (["search.space={beta: {low: -1, high: 1}}"], r"beta = -1"),
        (["search.space={beta: 3}"], r"search.space, beta: give a list of choices, or a range"),
        (["search.space={}"], r"search.space must map settings"),
        (["search.space={methods.mixup.alpha: [1]}"], r"search.space cannot hold 'methods.mixup.alpha'"),
        (["search.objectives=[adversaries.error]"], r"the benchmark 'adversaries', which must be in benchmarks"),
        (["search.objectives=[clean.eror]"], r"unknown metric 'eror'"),
        (["search.objectives=[error]"], r"an objective is benchmark.metric"),
        (["search.trials=3"], r"unknown key in search: 'trials'"),
        (["k=[1, 2]"], r"without the grids k and beta"),
        (["methods=[pixmix, mixup]"], r"settings of one method"),
        (["search=asha"], r"search must be a mapping"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_when_planning(
    experiment: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read_experiment(experiment, [*SEARCH, *overrides])


def test_without_optuna_the_error_says_what_to_install(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RequestError, match=r"pip install 'pixmix_ray\[search\]'"):
        opened()
