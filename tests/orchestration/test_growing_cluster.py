"""Clusters that grow: Ray's own autoscaler with pretended machines, on a cluster of the test's own.

Not by `ray.cluster_utils.AutoscalingCluster`, which ends every Ray on the machine before it starts.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

import pixmix_ray
from tests.program import Program, processes_a_core

pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
]

HOST = "127.0.0.1"
PROVIDER = {
    "type": "fake_multinode",
    "use_node_id_as_ip": True,  # all pretended machines have the same address
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
}
CONFIG = {
    "cluster_name": "test",
    "max_workers": 2,
    "auth": {"ssh_user": "nobody"},
    "head_node_type": "ray.head.default",  # the provider knows it by that name
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 10,
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    **{
        f"{name}_commands": []
        for name in ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for the cluster and for whoever connects to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def growing_cluster() -> Iterator[str]:
    """The address of a cluster whose head has no CPUs, and which may add two nodes of two CPUs."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder, socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        config = Path(folder) / "cluster.json"
        address = f"{HOST}:{port}"
        config.write_text(json.dumps({**CONFIG, "provider": {**PROVIDER, "gcs_address": address}}))
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=0"]
        environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        environment["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] = FAKE_HEAD_NODE_ID
        try:
            subprocess.run(
                [*start, f"--node-ip-address={HOST}", f"--autoscaling-config={config}", f"--temp-dir={folder}",
                 "--include-dashboard=false"],
                env=environment, check=True, capture_output=True, text=True,
                timeout=120 * processes_a_core(),
            )  # fmt: skip
            yield address
        finally:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if any(folder in word or f":{port}" in word for word in process.cmdline()):
                        process.kill()


def test_a_run_asks_a_cluster_of_zero_nodes_for_some_waits_for_them_and_uses_them(
    experiment: Path, program: Program
) -> None:
    content = yaml.safe_load(experiment.read_text())
    experiment.write_text(yaml.safe_dump({**content, "seeds": [0, 1, 2, 3]}))
    with growing_cluster() as address:
        ended = program.run("run", experiment, "--address", address)
    assert ended.returncode == 0, ended.stderr
    assert "waiting up to 600 s for the cluster to grow: a trial asks for 0.75 CPUs" in ended.stderr
    found = pixmix_ray.read(experiment.parent / "results").measurements
    assert found["trial_id"].nunique() == 4
    nodes = {log.read_text() for log in experiment.parent.rglob("logs/*/*.log")}
    assert len(nodes) <= 4  # nothing was printed, or by the trials alone


def test_a_cluster_that_cannot_grow_is_refused_when_the_time_is_over(experiment: Path, program: Program) -> None:
    content = yaml.safe_load(experiment.read_text())
    experiment.write_text(yaml.safe_dump({**content, "resources": {"wait_seconds": 5, "trial": {"gpus": 1}}}))
    with growing_cluster() as address:
        ended = program.run("run", experiment, "--address", address)
    assert ended.returncode == 2
    assert "a trial asks for 1 CPUs and 1 GPUs" in ended.stderr
