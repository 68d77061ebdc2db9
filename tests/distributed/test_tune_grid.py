"""How trials are handed to Ray Tune: a thousand of them as cheaply, each, as ten."""

import copy

from ray import tune
from ray.tune.search.variant_generator import generate_variants

from pixmix_ray.distributed.trainer import Jobs


def test_tune_makes_trials_of_a_grid_without_copying_the_grid_for_each() -> None:
    jobs = Jobs({"id": str(number), "trial": {"seed": number}} for number in range(5))
    variants = generate_variants({"config": {"job": tune.grid_search(jobs)}})
    assert [spec["config"]["job"] for _, spec in variants] == list(jobs)
    assert copy.deepcopy({"grid": jobs})["grid"] is jobs  # else 10,000 trials would cost an hour
