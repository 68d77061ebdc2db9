"""Workers that Ray's memory monitor kills: a Ray of the test's own, whose limit is a little above what is in use.

The fault: a trial and a cell take more and more memory, once or on every attempt, until the monitor ends their worker.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pixmix_ray.storage.index import read
from tests.program import PROGRAM

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = 3.0  # gigabytes above what is in use, more than what runs beside the test may come to need
TAKEN = 7.0
SECONDS = 900
FREE = psutil.virtual_memory().available / 2**30
pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
    pytest.mark.skipif(FREE < TAKEN + 2, reason=f"{FREE:.0f} GB of memory are free, not {TAKEN + 2:.0f}"),
]


@dataclass(frozen=True)
class Outcome:
    """The folder of a sweep that ran, and what the command said."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    def attempts(self, part: str) -> list[int]:
        """The processes that tried that part, in order."""
        return [int(path.name.split("-")[1]) for path in sorted((self.folder / part).iterdir())]

    def failure(self, pattern: str) -> dict[str, Any]:
        (file,) = (self.folder / "results").glob(pattern)
        return dict(json.loads(file.read_text()))


def monitor() -> dict[str, str]:
    """What tells a Ray node that starts now to allow so much more than is in use."""
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + ALLOWED * 2**30) / memory.total
    return {"RAY_memory_usage_threshold": f"{limit:.4f}", "RAY_memory_monitor_refresh_ms": "50"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("monitored")
    part = f"gigabytes: {TAKEN}, diary: {folder}"
    (folder / "experiment.yaml").write_text(
        f"""
results: results
dataset: {{name: digits, train_limit: 100}}
model: {{name: wide_resnet, depth: 10, width: 1, dropout: 0.0}}
methods:
- baseline
- {{name: 'faulty_parts:FillsMemoryInTraining', {part}/trial_ever, times: 99}}
training: {{epochs: 1, flip: false}}
benchmarks:
- {{name: clean, limit: 50}}
- {{name: 'faulty_parts:FillsMemory', limit: 50, {part}/cell_once, times: 1}}
- {{name: 'faulty_parts:FillsMemory', limit: 50, {part}/cell_ever, times: 99}}
resources: {{trial: {{cpus: 2}}, evaluation: {{cpus: 2}}}}  # one at a time: the monitor has no other worker to choose
"""
    )
    command = [PROGRAM, "run", str(folder / "experiment.yaml")]
    done = subprocess.run(
        command, env={**os.environ, **monitor()}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return Outcome(folder, done)


def test_a_cell_that_is_killed_for_memory_is_measured_by_another_worker(outcome: Outcome) -> None:
    first, second = outcome.attempts("cell_once")
    assert first != second
    values = read(outcome.folder / "results").pivot_table(index="metric", columns="benchmark", values="value")
    assert (values["FillsMemory"] == values["clean"]).all()


@pytest.mark.parametrize(
    ("part", "where"), [("trial_ever", "trials/*/failed.json"), ("cell_ever", "cells/*/*.failed.json")]
)
def test_what_is_killed_every_time_fails_after_four_attempts_and_says_why(
    part: str, where: str, outcome: Outcome
) -> None:
    pids = outcome.attempts(part)
    assert 1 < len(set(pids)) <= 4  # one may be killed before it notes that it began
    record = outcome.failure(where)
    assert (record["error"], record["attempt"], record["retried"]) == ("KILLED_FOR_MEMORY", 4, False)
    assert [earlier["error"] for earlier in record["earlier"]] == ["KILLED_FOR_MEMORY"] * 3
    assert outcome.done.returncode == 1 and "memory" in outcome.done.stderr
    assert "Traceback" not in outcome.done.stderr


TWO_NODES = """
import os, sys, threading
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.experiment.file import read_experiment
from tests.orchestration.held_sweep import wait_for
from tests.orchestration.test_memory_monitor import monitor

file = Path(sys.argv[1])
settings = monitor()
os.environ.update(settings)
head = {"num_cpus": 3, "include_dashboard": False}  # the larger one, which Ray would choose again
cluster = Cluster(initialize_head=True, head_node_args=head)
for name in settings:
    del os.environ[name]

ray.init(address=cluster.address, log_to_driver=False)
failures = []
run = threading.Thread(target=lambda: failures.extend(run_plan(make_plan(read_experiment(file))).failures))
run.start()
wait_for((file.parent / "diary").exists)
cluster.add_node(num_cpus=1, include_dashboard=False)
(file.parent / "second").touch()
run.join()
assert failures == []
ray.shutdown()
cluster.shutdown()
"""


def test_a_trial_that_is_killed_for_memory_goes_on_on_another_node(tmp_path: Path) -> None:
    """The fault: the monitor of the first of two nodes kills a trainer there, after the second node has come."""
    file = tmp_path / "experiment.yaml"
    file.write_text(
        f"""
results: results
dataset: {{name: digits, train_limit: 100}}
model: {{name: wide_resnet, depth: 10, width: 1, dropout: 0.0}}
methods:
- name: faulty_parts:FillsMemoryInTraining
  gigabytes: {TAKEN}
  diary: {tmp_path}/diary
  times: 1
  after: {tmp_path}/second
training: {{epochs: 1, flip: false}}
benchmarks:
- {{name: clean, limit: 50}}
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, file, ROOT], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = (note.read_text() for note in sorted((tmp_path / "diary").iterdir()))
    assert before != after
    assert f"node {before[:8]}" in done.stderr and "low on memory" in done.stderr
