"""A Ray session: join a running cluster, after making sure that there is one, or start a local one."""

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil
import ray

from pixmix_ray.errors import ClusterError, one_line
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.orchestration.token import prepare_token

log = logging.getLogger(__name__)
START_ATTEMPTS = 3
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 7.0  # a healthy cluster takes about one


@contextmanager
def session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """A connection to Ray for the time of a `with` block.

    Args:
        address: host:port of a running cluster, that passed `probe`; none starts one on this machine, which ends with
            the block.
        cpus: of the local cluster; default: the cores of this machine.

    Raises:
        ClusterError: Ray's processes did not come up, or the cluster did not take us in.
    """
    if address is None:
        prepare_token()
    try:
        if address is None:
            _start(cpus)
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises a bare one when its processes do not come up
        ray.shutdown()
        where = f"did not let us in at {address}" if address else "did not start on this machine"
        raise ClusterError(
            f"Ray {where}: {one_line(error)} On a machine that is too busy this passes: run the same command again"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _start(cpus: int | None) -> None:
    """Start Ray on this machine, again if it comes up too slowly: it gives a node's parts 30 s, short on a busy one."""
    before = {process.pid for process in psutil.Process().children()}
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",  # else it joins one that it finds on this machine
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray has no type for this
            if attempt == START_ATTEMPTS or "timed out during startup" not in str(error):
                raise
            log.warning("Ray did not come up in time; trying again")
            for process in psutil.Process().children():
                if process.pid not in before:  # what is left of the attempt
                    process.kill()
        else:
            return


def probe(address: str) -> None:
    """Return if a Ray cluster answers at host:port, within about ten seconds, or more where this machine is busy.

    Ray's own connect waits for minutes where nothing listens or where something else does.

    Raises:
        ClusterError: nothing listens there, or what does is no Ray cluster that lets us in.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        raise ClusterError(f"--address {address!r} must be host:port, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"no Ray cluster at {address}: {reason}. Start one with 'ray start --head', or leave --address out"
        ) from None
    check = ["-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", address]
    processes_a_core = psutil.getloadavg()[0] / (psutil.cpu_count() or 1)
    seconds = ANSWER_SECONDS * max(1.0, processes_a_core)  # the check's imports alone take a second of a core
    try:
        ended = subprocess.run([sys.executable, *check], capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"no Ray cluster answered at {address} within {seconds:.0f} s: something else listens there, or it is "
            "overloaded; check the port"
        ) from None
    if ended.returncode != 0:
        raise ClusterError(f"the Ray cluster at {address} does not let us in: check RAY_AUTH_TOKEN and Ray's versions")


def node_resources() -> list[Share]:
    """The CPUs and GPUs of each node of the connected cluster."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return [Share(cpus=int(found.get("CPU", 0)), gpus=int(found.get("GPU", 0))) for found in alive]


def cluster_use() -> dict[str, tuple[float, float]]:
    """How much of the connected cluster's CPUs and GPUs is handed out, and how much there is."""
    total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    kinds = [kind for kind in ("CPU", "GPU") if total.get(kind, 0) > 0]
    return {kind: (round(total[kind] - free.get(kind, 0), 4), total[kind]) for kind in kinds}


def node_beside(avoided: str | None, share: Share) -> str | None:
    """Ray's id of a node other than `avoided` on which a share fits, if there is one and one is to be avoided."""
    if avoided is None:
        return None
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        size = Share(cpus=int(node["Resources"].get("CPU", 0)), gpus=int(node["Resources"].get("GPU", 0)))
        if node["Alive"] and node["NodeID"] != avoided and _fitting(size, share):
            return str(node["NodeID"])
    return None


def trials_at_once(nodes: Sequence[Share], resources: Resources) -> int:
    """How many trials may train at once so that one evaluation's share stays free somewhere, but at least one.

    >>> trials_at_once([Share(cpus=2)], Resources(trial=Share(cpus=0.75), evaluation=Share(cpus=0.5)))
    2

    Raises:
        ClusterError: no node can hold even one trial, or one evaluation.
    """
    for what, share in (("trial", resources.trial), ("evaluation", resources.evaluation)):
        if not any(_fitting(node, share) for node in nodes):
            largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
            raise ClusterError(
                f"a {what} asks for {share.cpus:g} CPUs and {share.gpus:g} GPUs, the largest node has {largest.cpus:g} "
                f"and {largest.gpus:g}: lower resources.{what}, such as --set resources.{what}.gpus={largest.gpus:g}"
            )
    counts = [_fitting(node, resources.trial) for node in nodes]
    beside = [
        count - _fitting(node, resources.trial, resources.evaluation)
        for node, count in zip(nodes, counts, strict=True)
        if _fitting(node, resources.evaluation)
    ]
    return max(1, sum(counts) - min(beside))


def how_many_fit(nodes: Sequence[Share], share: Share) -> int:
    """How many shares the nodes hold when nothing else runs, but at least one."""
    return max(1, sum(_fitting(node, share) for node in nodes))


def _fitting(node: Share, share: Share, reserved: Share | None = None) -> int:
    """How many shares fit on a node, beside what is reserved."""
    kept = reserved or Share(cpus=0)
    pairs = [(node.cpus - kept.cpus, share.cpus), (node.gpus - kept.gpus, share.gpus)]
    counts = [max(0, int(free / wanted + 1e-9)) for free, wanted in pairs if wanted > 0]
    return min(counts, default=1)
