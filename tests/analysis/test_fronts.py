"""Fronts in n objectives: beside brute force, by hand, and their speed's second implementation."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pixmix_ray.analysis.fronts import attainment, hypervolume, is_on_epsilon_front, is_on_front, layers
from pixmix_ray.errors import ResultsError


def grid(n: int, m: int, seed: int) -> NDArray[np.float64]:
    """Points on a coarse grid, with ties and duplicates, 5 % of them missing."""
    generator = np.random.default_rng(seed)
    costs = generator.integers(0, 5, (n, m)).astype(np.float64)
    costs[generator.uniform(size=costs.shape) < 0.05] = np.nan
    return costs


def brute_front(costs: NDArray[np.float64], epsilon: float = 0.0) -> list[bool]:
    return [
        not np.isnan(row).any()
        and not any((other + epsilon <= row).all() and (other + epsilon < row).any() for other in costs)
        for row in costs
    ]


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8])
def test_fronts_and_layers_are_those_of_brute_force(m: int) -> None:
    costs = grid(80, m, seed=m)
    before = costs.copy()
    assert is_on_front(costs).tolist() == brute_front(costs)
    assert is_on_epsilon_front(costs, 1.0).tolist() == brute_front(costs, 1.0)
    found, left, layer = layers(costs), costs.copy(), 0
    while not np.isnan(left).any(axis=1).all():
        layer += 1
        on = brute_front(left)
        assert (found[on] == layer).all()
        left[on] = np.nan
    assert (found[np.isnan(costs).any(axis=1)] == 0).all() and found.max() == layer
    np.testing.assert_array_equal(costs, before)


def test_hypervolume_with_equal_and_missing_rows_and_one_beyond_the_reference() -> None:
    costs = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [np.nan, 0.0], [5.0, 0.5], [2.5, 2.5]])
    found = hypervolume(costs, np.array([3.0, 3.0]))
    assert found.value == pytest.approx(3.0) and found.is_exact
    # of two equal rows neither adds anything; what lies beyond the reference does not either
    assert found.contributions[[0, 1, 2, 4, 5]] == pytest.approx([0, 1, 0, 0, 0])
    assert np.isnan(found.contributions[3])


@pytest.mark.parametrize(("best", "contributions"), [(0.5, [2.5, 0, 0]), (1.0, [0, 0, 0])])
def test_the_hypervolume_of_one_objective_is_a_length(best: float, contributions: list[float]) -> None:
    found = hypervolume(np.array([[best], [1.0], [2.0]]), np.array([3.0]))
    assert found.value == 3 - best
    assert found.contributions.tolist() == contributions  # of two equal rows neither adds anything


def test_beyond_six_objectives_the_hypervolume_is_called_approximate_and_near() -> None:
    costs = 1 - np.eye(7)  # each row is 0 in one objective: with reference 2 its own box is 2^1 * 1^6
    found = hypervolume(costs, np.full(7, 2.0))
    # all share the unit cube above 1; each alone adds the box [0, 1] in its own objective
    assert not found.is_exact
    assert found.value == pytest.approx(8, rel=0.02)
    assert found.contributions == pytest.approx(np.ones(7), abs=0.15)


def test_of_many_rows_in_five_objectives_the_hypervolume_is_called_approximate_and_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = np.random.default_rng(0).random((60, 5))
    exact = hypervolume(costs)
    monkeypatch.setattr("pixmix_ray.analysis.fronts.EXACT_FRONT", 10)
    found = hypervolume(costs)
    assert exact.is_exact and not found.is_exact
    assert found.value == pytest.approx(exact.value, rel=0.02)
    assert found.contributions == pytest.approx(exact.contributions, abs=0.005)


def test_the_reference_point_lies_a_tenth_beyond_the_worst() -> None:
    found = hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert found.reference == pytest.approx([1.1, 1.1])
    assert (found.contributions > 0).all()


def test_the_median_attainment_surface_is_between_best_and_worst() -> None:
    seeds = [np.array([[1.0, 3.0], [3.0, 1.0]]) + shift for shift in (0, 1, 2)]
    assert sorted(attainment(seeds).tolist()) == [[2.0, 4.0], [4.0, 2.0]]
    assert sorted(attainment(seeds, 100).tolist()) == [[3.0, 5.0], [5.0, 3.0]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: hypervolume(np.array([[np.nan, 1.0]])), "choose fewer objectives"),
        (lambda: attainment([np.zeros((2, 4))]), "2 or 3 objectives"),
        (lambda: attainment([]), "no seeds"),
        (lambda: is_on_epsilon_front(np.zeros((1, 2)), -1), "0 or more, got -1"),
    ],
)
def test_what_cannot_be_said_is_refused(call: object, words: str) -> None:
    with pytest.raises(ResultsError, match=words):
        call()  # type: ignore[operator]
