"""What comes first: worked out by hand from a history written by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.planning.durations import Durations, epoch_key
from pixmix_ray.planning.order import LongestFirst
from pixmix_ray.planning.plan import Cell, Plan, make_plan


@pytest.fixture
def plan(experiment: Path) -> Callable[..., Plan]:
    """The plan of the tiny experiment with --set overrides."""
    return lambda *overrides: make_plan(read_experiment(experiment, overrides))


def known(plan: Plan, **seconds: float) -> Durations:
    """Of an epoch by method and of a cell by benchmark."""
    epochs = {
        epoch_key(trial.settings, trial.method.name): seconds[trial.method.name]
        for trial in plan.trials
        if trial.method.name in seconds
    }
    cells = {cell.run.settings_text: seconds[cell.run.name] for cell in plan.cells if cell.run.name in seconds}
    return Durations(epochs | cells)


def taken(queue: LongestFirst) -> list[str]:
    return [queue.popleft().label for _ in range(len(queue))]


def test_longest_cells_come_first_and_equals_in_order(plan: Callable[..., Plan]) -> None:
    made = plan("seeds=[0, 1]", "benchmarks=[clean, anomalies, adversaries]")
    queue = LongestFirst(known(made, clean=9, anomalies=1, adversaries=4).relative(made.cells))
    queue.extend(made.cells)
    names = [f"baseline seed {seed} × {name}" for name in ("clean", "adversaries", "anomalies") for seed in (0, 1)]
    assert taken(queue) == names
    assert len(queue) == 0


def test_without_history_passes_through_the_network_decide(plan: Callable[..., Plan]) -> None:
    made = plan("benchmarks=[clean, {name: consistency, limit: 10}, anomalies, adversaries]")
    length = Durations().relative(made.cells)
    # 10,000 pictures each, but ten for consistency: 1, 300 × 10 / 10,000, 6 and 60 passes
    assert [length[cell.run.key] for cell in made.cells] == [10_000, 3_000, 60_000, 600_000]


def test_cells_without_history_stand_beside_those_that_have_one(plan: Callable[..., Plan]) -> None:
    made = plan("benchmarks=[clean, anomalies, adversaries]")
    length = known(made, anomalies=12).relative(made.cells)
    assert [length[cell.run.key] for cell in made.cells] == pytest.approx([2, 12, 120])  # 2 s a pass, as anomalies took


def test_longest_trials_come_first(plan: Callable[..., Plan]) -> None:
    made = plan("methods=[baseline, cutout, mixup]", "training.epochs=2")
    durations = known(made, baseline=3, mixup=5)
    # cutout has no history: an epoch of it is taken for the mean, 4 s
    assert [trial.method.name for trial in durations.longest_first(made.trials)] == ["mixup", "cutout", "baseline"]
    assert Durations().longest_first(made.trials) == list(made.trials)


def test_the_queue_takes_cells_back(plan: Callable[..., Plan]) -> None:
    cells: list[Cell] = list(plan("benchmarks=[clean, adversaries]").cells)
    queue = LongestFirst({})
    queue.extend(cells)
    first = queue.popleft()
    queue.append(first)
    assert taken(queue) == [cells[1].label, cells[0].label]


def test_short_cells_of_one_trial_are_taken_together_and_others_alone(plan: Callable[..., Plan]) -> None:
    made = plan("seeds=[0, 1]", "benchmarks=[clean, anomalies, adversaries, consistency]")
    durations = known(made, clean=0.5, anomalies=0.25, adversaries=0.5)
    queue = LongestFirst(durations.relative(made.cells))
    queue.extend(made.cells)
    groups = []
    while queue:
        cells = queue.take_together(durations.cell, at_most=3)
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
    durations = known(made, clean=8)
    assert (durations.cell(cell), durations.cell(other)) == (8, None)
    for value in (5.0, 0.2, 0.1):  # the first paid for its worker's imports
        durations.add_cell(cell, value)
    assert (durations.cell(cell), durations.cell(other)) == (0.2, None)
