"""Where and when work runs: on the shared cluster, and in a process of its own on two nodes with a made-up GPU each."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.planning.usage import last_usage
from pixmix_ray.storage.index import read
from tests.orchestration.stand_ins import SECONDS, TELLING

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.experiment.file import read_experiment
from tests.orchestration.stand_ins import TELLING

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=4, num_gpus=1)
ray.init(address=cluster.address, log_to_driver=False)
assert run_plan(make_plan(read_experiment(Path(sys.argv[1]))), work=TELLING).failures == ()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.drill
@pytest.mark.ray
def test_small_trials_share_a_gpu_with_each_other_and_with_cells(experiment: Path) -> None:
    text = experiment.read_text() + "seeds: [0, 1, 2, 3, 4, 5, 6, 7]\n"
    a = "evaluation:\n    cpus: 0.5\n  trial:\n    cpus: 0.75\n"
    assert a in text
    # three trials fill a GPU but for the room that their cells need
    shares = "evaluation:\n    cpus: 0.25\n    gpus: 0.03\n  trial:\n    cpus: 0.75\n    gpus: 0.3\n"
    experiment.write_text(text.replace(a, shares))
    ended = subprocess.run(
        [sys.executable, "-c", RUN, experiment, ROOT], capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stderr
    results = experiment.parent / "results"
    trials = trials_of(results)
    cells = cells_of(results)
    assert len(trials) == len(cells) == 8
    assert {record["gpus"] for record in [*trials.values(), *cells.values()]} == {"0"}  # each node's own, never none
    assert {record["threads"] for record in [*trials.values(), *cells.values()]} == {1}
    by_node = [[t for t in trials.values() if t["node"] == node] for node in {t["node"] for t in trials.values()}]
    most = [max(sum(at["started"] <= t["started"] < at["ended"] for at in node) for t in node) for node in by_node]
    assert all(count <= 3 for count in most) and max(most) >= 2, most  # as many as fit, and packed


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_checkpoint_is_evaluated_while_others_train(experiment: Path) -> None:
    plan = make_plan(read_experiment(experiment, ["seeds=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"]))
    assert run_plan(plan, work=TELLING).failures == ()
    results = experiment.parent / "results"
    ended = {trial: told["ended"] for trial, told in trials_of(results).items()}
    started = {trial: told["started"] for trial, told in cells_of(results).items()}
    early = [trial for trial in ended if started[trial] < max(ended.values())]
    assert len(early) >= 3  # of ten, two at a time; the first wait for a worker's imports
    waited_for = [sum(ended[trial] < end < started[trial] for end in ended.values()) for trial in early]
    assert median(waited_for) <= 2, waited_for  # two train beside it; no third one that began later comes first
    usage = last_usage(plan.store)
    assert usage is not None and usage.idle_cpus is not None and usage.idle_gpus is None
    training, evaluation = sorted(usage.spent, key=lambda part: part.kind, reverse=True)
    assert (training.kind, training.name, training.count) == ("training", "baseline", 10)
    assert (evaluation.kind, evaluation.name, evaluation.count) == ("evaluation", "clean", 10)
    assert 10 * SECONDS <= training.seconds <= 2 * usage.seconds  # two at a time
    assert training.cpu_seconds == pytest.approx(0.75 * training.seconds)
    assert 0 <= usage.idle_cpus < 1


def trials_of(results: Path) -> dict[str, dict[str, Any]]:
    """What each trial told of where it ran."""
    return {file.parent.name: json.loads(file.read_text()) for file in results.glob("trials/*/done.json")}


def cells_of(results: Path) -> dict[str, dict[str, Any]]:
    """What the cell of each trial told."""
    frame = read(results)
    return {trial: json.loads(told) for trial, told in zip(frame["trial_id"], frame["versions"], strict=True)}
