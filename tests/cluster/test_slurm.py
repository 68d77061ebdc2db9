"""The Slurm script, on a Slurm of the test's own: munged, slurmctld and slurmd, where they are installed."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixmix_ray.storage.index import read

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "srun")
ABSENT = [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
SECONDS = 400
pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
    pytest.mark.skipif(bool(ABSENT), reason=f"no {', '.join(ABSENT)}: apt-get install slurm-wlm"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons start jobs as root"),
]

# proctrack/pgid and task/none: no control groups, which containers and small machines lack
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES State=UP
"""


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """The environment in which sbatch finds a running Slurm of one node."""
    folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
    folder.chmod(0o755)  # munge refuses a socket where it must not be looked for
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield start(folder, started)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder)


def start(folder: Path, started: list[subprocess.Popen[bytes]]) -> dict[str, str]:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    configuration = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        folder=folder,
        controller_port=free_port(),
        daemon_port=free_port(),
        cpus=os.cpu_count(),
    )
    (folder / "slurm.conf").write_text(configuration)
    virtual = str(Path(sys.executable).parent)
    path = os.pathsep.join([virtual, os.environ["PATH"], "/usr/sbin"])
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    munge = [f"--{kind}={folder}/munge.{kind.partition('-')[0]}" for kind in ("socket", "pid-file", "log-file")]
    munge += [f"--seed-file={folder}/munge.seed", f"--key-file={key}", "--foreground", "--force"]
    for command in (["munged", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
        log = (folder / f"{command[0]}.log").open("wb")
        with log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        if command[0] == "munged":
            wait_for(folder / "munge.socket")
    return environment


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(file: Path) -> None:
    end = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < end, f"no {file}"
        time.sleep(0.05)


def test_a_job_of_two_tasks_is_a_ray_cluster_of_two_nodes_and_runs_the_quickstart(
    environment: dict[str, str], tmp_path: Path
) -> None:
    results, log = tmp_path / "results", tmp_path / "log"
    shorter = {
        "results": results,
        "training.epochs": 1,
        "methods": "[baseline]",
        "benchmarks": "[{name: clean, limit: 50}]",
        "dataset.train_limit": 200,
    }
    job = ["sbatch", "--wait", "--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", f"--output={log}"]
    sweep = ["experiments/quickstart.yaml", *(f"--set={key}={value}" for key, value in shorter.items())]
    command = [*job, "cluster/slurm.sh", *sweep]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    told = log.read_text() if log.exists() else ""
    assert done.returncode == 0, done.stderr + told
    assert read(results)["method"].unique().tolist() == ["baseline"]
    assert told.count("Ray runtime started.") == 2, "a head and a worker"
