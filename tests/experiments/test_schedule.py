"""List schedules: worked out by hand, and beside every possible order on small cases."""

import itertools
import random

import pytest

from experiments.schedule import TrialTime, best_list_makespan, list_makespan, lower_bound
from pixmix_ray.experiment.resources import Resources, Share

ONE = Resources()
TWO_CPUS = [Share(cpus=2)]


def trial(seconds: float, *cells: float) -> TrialTime:
    return TrialTime(seconds=seconds, cells=cells)


def test_schedules_are_those_drawn_by_hand() -> None:
    # Graham's own example of longest first: 5 5 4 4 3 3 3 on three machines ends at 11, the optimum is 9
    graham = [trial(seconds) for seconds in (5, 5, 4, 4, 3, 3, 3)]
    assert list_makespan(graham, [Share(cpus=3)], ONE) == 11
    assert lower_bound(graham, [Share(cpus=3)], ONE) == 9
    # one slot for a trial of 4 with cells of 3 and 1, one for a trial of 2 with a cell of 1, and a third trial of 3:
    # trials first: 0-4 and 0-3, then 3-5; cells 4-7 3 s, 5-6 and 6-7 1 s
    assert list_makespan([trial(4, 3, 1), trial(2, 1), trial(3)], TWO_CPUS, ONE) == 7
    # never more than one trial at a time: 4, 3, 2 one after the other, the last cell at 9-10
    assert list_makespan([trial(4, 3, 1), trial(2, 1), trial(3)], TWO_CPUS, ONE, at_once=1) == 10


def test_cells_of_trials_that_are_done_start_at_once() -> None:
    assert list_makespan([trial(0, 2, 2, 2)], TWO_CPUS, ONE) == 4
    assert list_makespan([], TWO_CPUS, ONE) == lower_bound([], TWO_CPUS, ONE) == 0


def test_fractions_of_a_gpu_are_packed_on_one_and_whole_ones_are_not() -> None:
    nodes = [Share(cpus=4, gpus=1), Share(cpus=4, gpus=1)]
    quarter = Resources(trial=Share(cpus=1, gpus=0.25), evaluation=Share(cpus=0, gpus=0.5))
    assert list_makespan([trial(3)] * 8, nodes, quarter) == 3
    assert list_makespan([trial(3)] * 9, nodes, quarter) == 6
    assert lower_bound([trial(3)] * 8, nodes, quarter) == 3
    large = Resources(trial=Share(cpus=6, gpus=1))
    assert list_makespan([trial(3)], nodes, large) == float("inf")  # two nodes of four CPUs are not one of six


@pytest.mark.parametrize("seed", range(20))
def test_a_list_schedule_is_between_the_bound_and_graham_s(seed: int) -> None:
    draw = random.Random(seed)
    trials = [
        trial(draw.uniform(1, 9), *(draw.uniform(0.1, 3) for _ in range(draw.randrange(4))))
        for _ in range(draw.randrange(1, 12))
    ]
    nodes = [Share(cpus=draw.randrange(1, 4)) for _ in range(2)]
    bound, best = lower_bound(trials, nodes, ONE), best_list_makespan(trials, nodes, ONE)
    assert bound - 1e-9 <= best <= 2 * bound + 1e-9  # Graham 1969, theorem 1, with chains: 2 - 1/m


def test_the_bound_is_no_longer_than_the_best_of_all_assignments() -> None:
    draw = random.Random(7)
    for _ in range(30):
        seconds = [draw.randrange(1, 10) for _ in range(6)]
        best = min(
            max(sum(s for s, slot in zip(seconds, slots, strict=True) if slot == of) for of in (0, 1))
            for slots in itertools.product((0, 1), repeat=6)
        )
        trials = [trial(s) for s in seconds]
        assert lower_bound(trials, TWO_CPUS, ONE) <= best <= list_makespan(trials, TWO_CPUS, ONE) <= best * 7 / 6
