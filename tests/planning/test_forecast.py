"""How long a run is expected to take, and whether one evaluation's share is kept free: worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.planning.durations import START, Durations, Forecast, Slots, epoch_key, forecast
from pixmix_ray.planning.plan import Plan, make_plan

TWO_CPUS = Slots(trials=1, trials_alone=2, tasks=2)  # a trial and an evaluation of one CPU each


def plan_of(experiment: Path, trials: int) -> Plan:
    """The tiny experiment with so many seeds, of one epoch and one cell each."""
    return make_plan(read_experiment(experiment, [f"seeds={list(range(trials))}"]))


def known(plan: Plan, trial: float | None, cell: float | None, start: float = 0) -> Durations:
    """Of a trial, of a cell and of the start, as far as they are known."""
    epochs = {epoch_key(each.settings, each.method.name): trial for each in plan.trials}
    cells = {each.run.settings_text: cell for each in plan.cells}
    return Durations({key: value for key, value in {**epochs, **cells, START: start}.items() if value is not None})


@pytest.mark.parametrize(
    ("trials", "trial", "cell", "slots", "expected"),
    [
        # kept: the trials one by one, 40 s, and their cells beside them; lent: 40 / 2 + 32 / 2 s
        (4, 10, 8, TWO_CPUS, Forecast(keeps_evaluation_share=False, seconds=36, work=72)),
        # kept: 200 s with all cells beside; lent: 100 + 100 s
        (20, 10, 10, TWO_CPUS, Forecast(keeps_evaluation_share=True, seconds=200, work=400)),
        # kept: 40 s with 40 of 80 s of cells beside, the others two at a time; lent: 20 + 40 s
        (4, 10, 20, TWO_CPUS, Forecast(keeps_evaluation_share=True, seconds=60, work=120)),
        # room for both whatever is kept, and nothing takes less time than a trial and its cell
        (1, 100, 5, Slots(trials=4, trials_alone=5, tasks=8), Forecast(seconds=105, work=105)),
        # one thing at a time: there is no share to keep
        (2, 10, 3, Slots(trials=1, trials_alone=1, tasks=1), Forecast(seconds=26, work=26)),
        # the kept share costs just a tenth: 110 s in 10 slots are 11 s, in 11 they are 10 s; no cells to speak of
        (22, 5, 0, Slots(trials=10, trials_alone=11, tasks=11), Forecast(seconds=11, work=110)),
    ],
)
def test_a_share_is_kept_unless_that_makes_the_run_a_tenth_longer(
    experiment: Path, trials: int, trial: float, cell: float, slots: Slots, expected: Forecast
) -> None:
    plan = plan_of(experiment, trials)
    found = forecast(plan, known(plan, trial, cell), slots)
    assert found.keeps_evaluation_share == expected.keeps_evaluation_share
    assert (found.seconds, found.work) == pytest.approx((expected.seconds, expected.work))


def test_cells_alone_have_a_forecast_and_the_start_counts(experiment: Path) -> None:
    made = plan_of(experiment, 2)
    done = replace(made, trials=dict.fromkeys(made.trials, "done"))
    assert forecast(done, known(made, 10, 3), TWO_CPUS) == Forecast(seconds=3, work=6)
    assert forecast(done, known(made, 10, 3, start=4), TWO_CPUS) == Forecast(seconds=7, work=6)


def test_nothing_is_forecast_where_a_duration_or_the_cluster_is_not_known(experiment: Path) -> None:
    made = plan_of(experiment, 2)
    assert forecast(made, known(made, 10, None), TWO_CPUS) == Forecast()
    assert forecast(made, known(made, None, 3), TWO_CPUS) == Forecast()
    assert forecast(made, known(made, 10, 3), Slots(trials=0, trials_alone=0, tasks=0)) == Forecast()
