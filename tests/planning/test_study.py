"""A search: with cells written by a rule, so that the best point is known."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from pixmix_ray.errors import RequestError, ResultsError
from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.work import Measure, Work
from pixmix_ray.planning.plan import Cell, Plan, make_plan
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.training.trial import Progress
from tests.orchestration.notes import Notes
from tests.orchestration.notes import opened as watched_by
from tests.orchestration.stand_ins import train_by_seed
from tests.stored_cells import CHECKPOINT, ERROR, put_of

SEARCH = (
    "methods=[pixmix]",
    "search={num_trials: 12, batch: 3, seed: 5, objectives: [clean.error],"
    " space: {k: [1, 2, 3], beta: {low: 1, high: 6}, methods.pixmix.severity: {low: 1, high: 5, integer: true}}}",
)
Open = Callable[..., Plan]


@pytest.fixture
def opened(experiment: Path) -> Open:
    """The plan of the search as it stands, with more --set overrides, its points stored."""
    return lambda *overrides: make_plan(read_experiment(experiment, [*SEARCH, *overrides]), keep_points=True)


def error_of(cell: Cell) -> float:
    """Least at beta 2, k 3 and severity 1."""
    assert isinstance(cell.trial, Trial)
    settings: Any = cell.trial.method.settings
    return float(0.1 * (settings.beta - 2) ** 2 + (3 - settings.k) + 0.1 * settings.severity)


def measure(plan: Plan, value: Callable[[Cell], float] = error_of) -> None:
    """Do what the plan lacks."""
    for cell in plan.cells_to_run():
        measure_cell(plan, cell, value(cell))


def measure_cell(plan: Plan, cell: Cell, value: float) -> None:
    plan.store.write_json(trial_file(cell.trial.id, "done.json"), {"checkpoint_id": CHECKPOINT})
    settings = json.dumps(cell.trial.settings, sort_keys=True)
    other = replace(ERROR, metric="brier_score", value=-value)  # which the search does not ask for
    put_of(plan.store, cell.trial, cell.run, replace(ERROR, value=value), other, settings=settings)


def ids(plan: Plan) -> list[str]:
    return [trial.id for trial in plan.trials]


def whole_search(opened: Open, *overrides: str) -> Iterator[list[str]]:
    """The trials of each round until nothing is left."""
    while (plan := opened(*overrides)).cells_to_run():
        yield ids(plan)
        measure(plan)


def stored_points(plan: Plan) -> list[dict[str, Any]]:
    (path,) = plan.store.files("searches")
    return list((plan.store.read_json(path) or {})["points"])


def test_a_search_goes_on_where_it_was_and_ends_after_its_trials(opened: Open) -> None:
    sizes = [len(trials) for trials in whole_search(opened)]
    assert sizes == [3, 6, 9, 12]
    plan = opened()
    assert (len(plan.trials), plan.cells_to_run()) == (12, [])
    assert len(set(ids(plan))) == 12
    assert {trial.setting("k") for trial in plan.trials} <= {1, 2, 3}
    assert all(1 <= (trial.setting("beta") or 0) <= 6 for trial in plan.trials)
    more = opened("search.num_trials=14")
    assert ids(more)[:12] == ids(plan)
    assert len(more.trials_to_run()) == 2
    assert ids(opened("search.num_trials=5")) == ids(plan)[:5]


def test_points_are_stored_before_they_are_trained_and_not_by_a_plan_alone(experiment: Path) -> None:
    search = read_experiment(experiment, SEARCH)
    planned = make_plan(search)
    assert planned.store.files("") == set()
    kept = make_plan(search, keep_points=True)
    assert ids(kept) == ids(planned)
    assert [point["trials"] for point in stored_points(kept)] == [[trial_id] for trial_id in ids(kept)]
    assert {tuple(point["params"]) for point in stored_points(kept)} == {("k", "beta", "methods.pixmix.severity")}


class Contrary:
    """A sampler that, whatever it is asked, draws with another seed each time, as a new version of Optuna might."""

    made = 0

    def __new__(cls, **_: object) -> Any:
        cls.made += 1
        return optuna.samplers.RandomSampler(seed=1000 + cls.made)


def test_another_sampler_seed_or_batch_loses_no_trial_that_was_suggested(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(opened())
    before = ids(opened())
    assert len(before) == 6
    monkeypatch.setattr(optuna.samplers, "TPESampler", Contrary)
    for overrides in (["search.seed=99"], ["search.batch=5"], []):
        after = ids(opened(*overrides))
        assert after[:6] == before  # three are done, three are to do
    measure(opened())
    assert ids(opened())[:6] == before
    sizes = [len(trials) for trials in whole_search(opened)]
    assert max(sizes) == 12  # those done before are counted


def test_the_next_point_is_suggested_as_soon_as_one_is_done(opened: Open) -> None:
    plan = opened()
    (first, *_) = plan.cells
    measure_cell(plan, first, 0.5)
    later = opened()
    assert ids(later)[:3] == ids(plan)
    assert len(later.trials_to_run()) == 3  # two of the first batch, and a fourth
    assert ids(opened()) == ids(later)


def test_the_same_seed_and_results_give_the_same_suggestions_and_no_two_alike(opened: Open, tmp_path: Path) -> None:
    first = list(whole_search(opened))
    assert list(whole_search(opened, f"results={tmp_path / 'other'}")) == first
    assert list(whole_search(opened, f"results={tmp_path / 'third'}", "search.seed=6")) != first
    assert len({point["params"]["beta"] for point in stored_points(opened())}) == 12


def test_suggestions_follow_what_was_measured(opened: Open) -> None:
    for _ in whole_search(opened, "search.num_trials=45"):
        pass
    errors = [error_of(cell) for cell in opened("search.num_trials=45").cells]
    # by chance the mean over beta in [1, 6] is 0.43, over k 1, over severity 0.3
    assert sum(errors[-15:]) / 15 < 0.6 * sum(errors[:10]) / 10


def test_points_that_run_are_known_to_the_sampler(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, int]] = []

    class Watched(optuna.samplers.TPESampler):
        def __init__(self, *, seed: int = 0, constant_liar: bool = False) -> None:
            super().__init__(seed=seed, constant_liar=True)
            self.is_liar = constant_liar  # it keeps away from points that run

        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            assert self.is_liar
            states = [other.state.name for other in study.get_trials(deepcopy=False) if other.params]
            seen.append({name: states.count(name) for name in set(states) - {"FAIL"}})

    monkeypatch.setattr(optuna.samplers, "TPESampler", Watched)
    plan = opened()
    measure_cell(plan, next(iter(plan.cells)), 0.5)
    opened()
    assert seen == [{}, {"RUNNING": 1}, {"RUNNING": 2}, {"COMPLETE": 1, "RUNNING": 2}]


GRID = [
    "methods=[{name: pixmix, severity: 2}, {name: pixmix, severity: 9}, {name: pixmix, partner: augmented}]",
    "k=[1, 3]",
    "beta=[2, 7]",
]


def test_trials_of_a_grid_in_the_search_space_count_as_results(
    experiment: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = make_plan(read_experiment(experiment, GRID))
    assert len(grid.trials) == 12
    measure(grid)  # within: severity 2, k 1 and 3, beta 2; the others have a setting outside or off the axes
    other = make_plan(read_experiment(experiment, [*GRID, "training.lr=0.01"]))
    measure(other)  # another recipe
    told: list[tuple[object, ...]] = []

    class Watched(optuna.samplers.TPESampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            complete = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
            told[:] = sorted((*each.params.values(), round(each.values[0], 9)) for each in complete)

    monkeypatch.setattr(optuna.samplers, "TPESampler", Watched)
    plan = opened()
    assert len(plan.trials_to_run()) == 3
    assert told == [(1, 2.0, 2, 2.2), (3, 2.0, 2, 0.2)]  # k, beta, severity, and the error


def test_a_search_without_the_file_of_its_points_has_their_trials_as_results(opened: Open) -> None:
    measure(opened())
    plan = opened()
    for path in plan.store.files("searches"):
        plan.store.delete(path)
    again = opened()
    assert ids(again) == ids(plan)  # so few results change no suggestion; what is suggested again is done already
    assert len(again.trials_to_run()) == 3


def test_a_damaged_file_of_points_is_told(opened: Open) -> None:
    plan = opened()
    (path,) = plan.store.files("searches")
    for content in (b"{", b'{"points": [{}]}', b'{"points": 3}'):
        plan.store.write(path, content)
        with pytest.raises(ResultsError, match=r"searches/.* is damaged.* Delete it and run again"):
            opened()


def test_a_point_of_a_small_space_may_come_again_and_is_trained_once(opened: Open) -> None:
    small = "search.space={k: [1, 2]}"
    for trials in whole_search(opened, small):
        assert len(trials) <= 2
    plan = opened(small)
    assert (len(plan.trials), len(stored_points(plan))) == (2, 12)


def test_a_plan_lists_and_reads_the_folder_as_often_whatever_the_number_of_points(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: Counter[str] = Counter()

    def counted(name: str) -> None:
        original = getattr(Store, name)

        def call(self: Store, path: str, *rest: Any) -> Any:
            listings[f"{name} {path}" if name == "files" else name] += 1
            return original(self, path, *rest)

        monkeypatch.setattr(Store, name, call)

    counted("files")
    opened()
    at_the_start = dict(listings)
    for _ in whole_search(opened, "search.num_trials=24"):
        pass
    counted("unsealed")
    listings.clear()
    plan = opened("search.num_trials=27")
    assert len(plan.trials_to_run()) == 3
    assert listings.pop("unsealed") == 1  # the index
    assert listings["files trials"] == listings["files cells"] == 1
    assert listings.keys() <= at_the_start.keys()


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


def test_a_point_is_told_the_mean_over_its_seeds(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(opened("seeds=[0, 1]", "search.num_trials=3"), lambda cell: 0.2 + 0.4 * cell.trial.seed)
    told: list[float] = []

    class Watched(optuna.samplers.TPESampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            told.extend(each.values[0] for each in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))

    monkeypatch.setattr(optuna.samplers, "TPESampler", Watched)
    opened("seeds=[0, 1]", "search.num_trials=4")
    assert told == [pytest.approx(0.4)] * 3


def test_a_seed_that_is_added_is_trained_for_all_points(opened: Open) -> None:
    measure(opened("search.num_trials=3"))
    plan = opened("search.num_trials=3", "seeds=[0, 1]")
    assert len(plan.trials) == 6
    assert [trial.seed for trial in plan.trials_to_run()] == [1, 1, 1]


def test_a_trial_that_failed_has_the_search_go_on(opened: Open) -> None:
    plan = opened()
    (first, *_) = plan.trials
    plan.store.write_json(trial_file(first.id, "failed.json"), {"reason": "broken"})
    assert ids(opened())[:3] == ids(plan)
    assert len(opened().trials) == 4


def test_a_cell_that_failed_is_passed_over_and_not_repeated_in_the_same_run(opened: Open) -> None:
    """A run takes up the trials that are suggested as others end; every third cell fails."""
    tried: list[str] = []

    def evaluate(trial: Source, store: Store, device: torch.device) -> Measure:
        def measured(run: BenchmarkRun) -> None:
            tried.append(trial.id)
            if len(tried) % 3 == 1:
                raise KeyError("broken")
            put_of(store, trial, run, replace(ERROR, value=error_of(Cell(trial=trial, run=run))))

        return measured

    notes = Notes()
    work = Work(train=train_by_seed, evaluate=evaluate)
    done = run_plan(opened(), executor="local", watch=watched_by(notes), work=work)
    assert len(tried) == len(set(tried)) == 12 and len(done.failures) == 4
    assert [len(plan.trials) for plan in notes.plans][-1] == 12
    assert len(opened().cells_to_run()) == 4  # the next command tries them again


def test_a_trial_that_fails_in_a_run_has_the_search_go_on_in_the_same_run(opened: Open) -> None:
    """The whole first batch fails, and nothing of it is left that the search would wait for."""
    begun: list[str] = []

    def train(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
        begun.append(trial.id)
        if len(begun) <= 3:
            raise KeyError("broken")
        yield from train_by_seed(trial, store, device)

    def evaluate(trial: Source, store: Store, device: torch.device) -> Measure:
        def measured(run: BenchmarkRun) -> None:
            put_of(store, trial, run, replace(ERROR, value=error_of(Cell(trial=trial, run=run))))

        return measured

    done = run_plan(opened(), executor="local", work=Work(train=train, evaluate=evaluate))
    assert len(begun) == len(set(begun)) == 12 and len(done.failures) == 3
    assert list(done.plan.trials.values()).count("done") == 9


def test_a_value_that_is_no_number_fails_its_point_alone(opened: Open) -> None:
    measure(opened(), lambda cell: math.nan)
    assert len(opened().trials) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.space={gamma: [1, 2]}"], r"'gamma'"),
        (["search.space={k: {low: 3, high: 1}}"], r"low = 3 must be below high = 1"),
        (["search.space={beta: {low: 0, high: 1, log: true}}"], r"must be above 0 with log: true"),
        (["search.space={beta: {low: -1, high: 1}}"], r"beta = -1"),
        (["search.space={beta: 3}"], r"search.space, beta: give a list of choices, or a range"),
        (["search.space={}"], r"search.space must map settings"),
        (["search.space={methods.mixup.alpha: [1]}"], r"search.space cannot contain 'methods.mixup.alpha'"),
        (["search.objectives=[adversaries.error]"], r"the benchmark 'adversaries': list it once in benchmarks"),
        (["search.objectives=[clean.eror]"], r"unknown metric 'eror'"),
        (["search.objectives=[error]"], r"an objective is benchmark.metric"),
        (["search.trials=3"], r"unknown key in search: 'trials'"),
        (["k=[1, 2]"], r"and no grid"),
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
