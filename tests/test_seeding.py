"""Random numbers are functions of (seed, purpose, index) and nothing else."""

import numpy as np
import pytest
import torch
from scipy import stats

from pixmix_ray import seeding


def test_a_picture_gets_the_same_numbers_in_any_batch_and_order() -> None:
    together = seeding.uniforms(3, "noise", indices=np.arange(50), count=5)
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(seeding.uniforms(3, "noise", indices=order, count=5), together[order])
    one_by_one = np.concatenate([seeding.uniforms(3, "noise", indices=[i], count=5) for i in range(50)])
    assert np.array_equal(one_by_one, together)


def test_a_picture_that_is_asked_for_twice_gets_its_numbers_twice() -> None:
    numbers = seeding.uniforms(0, "noise", indices=[7, 7, 8, 7], count=3)
    assert np.array_equal(numbers[[0, 0, 0]], numbers[[0, 1, 3]])
    assert not np.array_equal(numbers[0], numbers[2])


def test_numbers_are_as_numpys_own_stream() -> None:
    # Second implementation: one Philox stream from counter 0, which picture 0 starts, read on without jumps.
    key = seeding.stream_key(5, "noise", 8)
    expected = np.random.Generator(np.random.Philox(key=key)).random((20, 8))
    assert np.array_equal(seeding.uniforms(5, "noise", indices=np.arange(20), count=8), expected)


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_numbers_are_uniform_in_the_open_interval(count: int) -> None:
    numbers = seeding.uniforms(1, "noise", indices=np.arange(20_000), count=count)
    assert numbers.shape == (20_000, count) and numbers.dtype == np.float64
    assert numbers.min() > 0 and numbers.max() < 1
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3  # Kolmogorov and Smirnov, by scipy


def test_neighbours_are_not_correlated() -> None:
    numbers = seeding.uniforms(1, "noise", indices=np.arange(20_000), count=2)
    correlations = [
        np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1],
        np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1],
    ]
    assert np.abs(correlations).max() < 4 / np.sqrt(20_000)  # four standard errors


@pytest.mark.parametrize(
    ("other_seed", "other_purpose", "other_count"),
    [(2, ("noise", 1), 4), (1, ("noise", 2), 4), (1, ("blur", 1), 4), (1, ("noise", "1"), 4), (1, ("noise", 1), 3)],
)
def test_another_seed_purpose_or_layout_is_another_stream(
    other_seed: int, other_purpose: tuple[str | int, ...], other_count: int
) -> None:
    ours = seeding.uniforms(1, "noise", 1, indices=np.arange(100), count=4)[:, 0]
    theirs = seeding.uniforms(other_seed, *other_purpose, indices=np.arange(100), count=other_count)[:, 0]
    assert not np.isin(ours, theirs).any()


def test_the_indices_are_not_changed() -> None:
    indices = np.array([3, 1, 2])
    seeding.uniforms(0, "noise", indices=indices, count=2)
    assert indices.tolist() == [3, 1, 2]


def test_generators_repeat_themselves_and_leave_the_global_ones_alone() -> None:
    before = torch.get_rng_state()
    first, second = (seeding.rng(4, "boxes").random(3) for _ in range(2))
    assert np.array_equal(first, second)
    draws = [torch.rand(3, generator=seeding.torch_generator(4, "boxes")) for _ in range(2)]
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], torch.rand(3, generator=seeding.torch_generator(5, "boxes")))
    assert torch.equal(torch.get_rng_state(), before)


def test_global_seeding_draws_the_numbers_of_torchs_own() -> None:
    with torch.random.fork_rng(devices=[]):
        seeding.seed_globally(3, "weights")
        ours = torch.rand(5)
        torch.manual_seed(seeding.stream_key(3, "weights") % 2**63)
        assert torch.equal(ours, torch.rand(5))
