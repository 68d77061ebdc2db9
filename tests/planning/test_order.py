"""What comes first: worked out by hand from a history written by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.planning.order import CellSeconds, LongestFirst, expected_cell_seconds, longest_trials_first
from pixmix_ray.planning.plan import Cell, Plan, Prices, epoch_key, make_plan

NOTHING = Prices(epochs={}, cells={})


@pytest.fixture
def plan(experiment: Path) -> Callable[..., Plan]:
    """The plan of the tiny experiment with --set overrides."""
    return lambda *overrides: make_plan(read_experiment(experiment, overrides))


def priced(plan: Plan, **seconds: float) -> Prices:
    """Prices of an epoch by method and of a cell by benchmark."""
    epochs = {
        epoch_key(trial.settings, trial.method.name): seconds[trial.method.name]
        for trial in plan.trials
        if trial.method.name in seconds
    }
    cells = {cell.run.key: seconds[cell.run.name] for cell in plan.cells if cell.run.name in seconds}
    return Prices(epochs=epochs, cells=cells)


def taken(queue: LongestFirst) -> list[str]:
    return [queue.popleft().label for _ in range(len(queue))]


def test_longest_cells_come_first_and_equals_in_order(plan: Callable[..., Plan]) -> None:
    made = plan("seeds=[0, 1]", "benchmarks=[clean, anomalies, adversaries]")
    queue = LongestFirst(expected_cell_seconds(made.cells, priced(made, clean=9, anomalies=1, adversaries=4)))
    queue.extend(made.cells)
    names = [f"baseline seed {seed} × {name}" for name in ("clean", "adversaries", "anomalies") for seed in (0, 1)]
    assert taken(queue) == names
    assert len(queue) == 0


def test_without_history_passes_through_the_network_decide(plan: Callable[..., Plan]) -> None:
    made = plan("benchmarks=[clean, {name: consistency, limit: 10}, anomalies, adversaries]")
    seconds = expected_cell_seconds(made.cells, NOTHING)
    # 10,000 pictures each, but ten for consistency: 1, 300 × 10 / 10,000, 6 and 60 passes
    assert [seconds(cell) for cell in made.cells] == [10_000, 3_000, 60_000, 600_000]


def test_cells_without_history_stand_beside_those_that_have_one(plan: Callable[..., Plan]) -> None:
    made = plan("benchmarks=[clean, anomalies, adversaries]")
    seconds = expected_cell_seconds(made.cells, priced(made, anomalies=12))
    assert [seconds(cell) for cell in made.cells] == pytest.approx([2, 12, 120])  # 2 s a pass, as anomalies took


def test_longest_trials_come_first(plan: Callable[..., Plan]) -> None:
    made = plan("methods=[baseline, cutout, mixup]", "training.epochs=2")
    known = priced(made, baseline=3, mixup=5)
    # cutout has no history: an epoch of it is taken for the mean, 4 s
    assert [trial.method.name for trial in longest_trials_first(made.trials, known)] == ["mixup", "cutout", "baseline"]
    assert longest_trials_first(made.trials, NOTHING) == list(made.trials)


def test_the_queue_takes_cells_back(plan: Callable[..., Plan]) -> None:
    cells: list[Cell] = list(plan("benchmarks=[clean, adversaries]").cells)
    queue = LongestFirst(lambda cell: 1.0)
    queue.extend(cells)
    first = queue.popleft()
    queue.append(first)
    assert taken(queue) == [cells[1].label, cells[0].label]


def test_short_cells_of_one_trial_are_taken_together_and_others_alone(plan: Callable[..., Plan]) -> None:
    made = plan("seeds=[0, 1]", "benchmarks=[clean, anomalies, adversaries, consistency]")
    known = priced(made, clean=0.5, anomalies=0.25, adversaries=0.5)
    queue = LongestFirst(expected_cell_seconds(made.cells, known))
    queue.extend(made.cells)
    groups = []
    while queue:
        cells = queue.take_together(CellSeconds(known).known, at_most=3)
        groups.append([cell.label.removeprefix("baseline ") for cell in cells])
    # consistency has no history, and is expected to take longest; a second holds clean and one of the others
    assert groups == [
        ["seed 0 × consistency"],
        ["seed 1 × consistency"],
        ["seed 0 × clean", "seed 0 × anomalies"],
        ["seed 0 × adversaries"],
        ["seed 1 × clean", "seed 1 × anomalies"],
        ["seed 1 × adversaries"],
    ]
    queue.extend(made.cells)
    assert len(queue.take_together(lambda cell: 0.1, at_most=3)) == 3
    assert len(queue.take_together(lambda cell: 0.1, at_most=0)) == 1
    assert len(queue) == 4


def test_what_the_run_itself_measures_counts_before_history(plan: Callable[..., Plan]) -> None:
    made = plan("benchmarks=[clean, anomalies]")
    cell, other = made.cells
    seconds = CellSeconds(priced(made, clean=8))
    assert (seconds.known(cell), seconds.known(other)) == (8, None)
    for value in (5.0, 0.2, 0.1):  # the first paid for its worker's imports
        seconds.add(cell, value)
    assert (seconds.known(cell), seconds.known(other)) == (0.2, None)
