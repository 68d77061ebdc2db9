"""Messages between Ray's processes that are lost, by Ray's own injection of faults, on a cluster of the test's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pixmix_ray
from tests.program import processes_a_core

SEEDS = 10  # each takes some ten minutes: most of them Ray waits, for a trainer that it starts anew

pytestmark = [pytest.mark.ray, pytest.mark.drill]

RUN = """
import json, sys
import pixmix_ray
from pixmix_ray.orchestration.ray_executor import RayExecutor

with RayExecutor(cpus=2) as executor:
    done = pixmix_ray.run(json.loads(sys.argv[1]), executor=executor, watch=False)
assert done.failures == (), done.failures
"""


def lost(percent: int) -> dict[str, int]:
    """So many requests in a hundred are lost on their way, and as many answers."""
    return {"num_failures": -1, "req_failure_prob": percent, "resp_failure_prob": percent}


FAULTS = {
    "CoreWorkerService.grpc_client.PushTask": lost(25),
    "NodeManagerService.grpc_client.RequestWorkerLease": lost(15),
    "CoreWorkerService.grpc_client.GetObjectStatus": lost(15),
}


def experiment(results: Path, seed: int) -> dict[str, Any]:
    """Two trials of four cells."""
    return {
        "results": str(results),
        "dataset": {"name": "digits", "train_limit": 100},
        "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
        "methods": ["baseline"],
        "training": {"epochs": 2, "flip": False},
        "seeds": [2 * seed, 2 * seed + 1],
        "benchmarks": [{"name": "clean", "limit": limit} for limit in (10, 20, 30, 40)],
        "resources": {"trial": {"cpus": 0.75}, "evaluation": {"cpus": 0.5}},
    }


def measured(results: Path) -> pd.DataFrame:
    columns = ["trial_id", "checkpoint_id", "benchmark_settings", "metric", "condition", "value"]
    rows = pixmix_ray.read(results).measurements[columns]
    return rows.astype({"benchmark_settings": str}).sort_values(columns, ignore_index=True)  # not by its categories


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_sweep_whose_messages_are_lost_ends_with_equal_bits_and_no_attempt_charged(seed: int, tmp_path: Path) -> None:
    whole, lossy = tmp_path / "whole", tmp_path / "lossy"
    pixmix_ray.run(experiment(whole, seed), executor="local", watch=False)
    ended = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(experiment(lossy, seed))],
        env={
            **os.environ,
            "RAY_testing_rpc_failure": json.dumps(FAULTS),
            "RAY_testing_rpc_failure_avoid_intra_node_failures": "0",
        },
        capture_output=True,
        text=True,
        timeout=7200 * processes_a_core(),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    pd.testing.assert_frame_equal(measured(lossy), measured(whole))
    assert "attempt" not in ended.stderr
    assert not list(lossy.rglob("*failed*"))
