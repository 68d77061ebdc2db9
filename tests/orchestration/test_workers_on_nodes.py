"""A trial whose workers are on two nodes, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from pixmix_ray.storage.store import Store

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.experiment.file import read_experiment

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
shares = ["resources.trial={cpus: 2, workers: 2}", "resources.evaluation.cpus=0", "methods=[pixmix]"]
assert run_plan(make_plan(read_experiment(Path(sys.argv[1]), shares))).failures == ()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.drill
@pytest.mark.ray
def test_workers_on_two_nodes_that_hold_one_each_train_a_trial(experiment: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", RUN, experiment], cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False
    )
    assert ended.returncode == 0, ended.stderr
    store = Store(str(experiment.parent / "results"))
    (path,) = (path for path in store.files("trials") if path.endswith("done.json"))
    assert len((store.read_json(path) or {})["losses"]) == 1
