"""How trials are handed to Ray Tune: ten thousand of them as cheaply, each, as ten."""

import copy
from collections import defaultdict

from pixmix_ray.orchestration.trainer import Jobs
from ray.tune.impl.placeholder import inject_placeholders
from ray.tune.search.variant_generator import generate_variants


def test_tune_draws_the_trials_in_order_each_once_without_copying_them_for_each() -> None:
    configs = [{"id": str(number), "trial": {"seed": number}} for number in range(5)]
    jobs = Jobs(configs)
    space = inject_placeholders({"job": jobs}, defaultdict(list))  # as a Tuner does; a grid is a plain list after it
    assert space["job"] is jobs and copy.deepcopy(space)["job"] is jobs  # else 10,000 trials would cost over an hour
    samples = [list(generate_variants({"config": space})) for _ in range(len(jobs))]
    assert [spec["config"]["job"] for ((_, spec),) in samples] == configs
