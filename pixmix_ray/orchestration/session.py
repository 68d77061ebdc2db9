"""A connection to Ray: to a cluster of our own, one that runs elsewhere, or the one that this process has already."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import psutil
import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pixmix_ray.errors import ClusterError, one_line
from pixmix_ray.experiment.resources import Share
from pixmix_ray.hardware import usable_cores
from pixmix_ray.orchestration.nodes import Node, bundle, fitting
from pixmix_ray.orchestration.retries import Cause, Problem
from pixmix_ray.orchestration.token import prepare_token
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.provenance import code_version

log = logging.getLogger(__name__)
START_ATTEMPTS = 3
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 7.0  # a healthy cluster takes about one
NODE_ID = "ray.io/node-id"  # Ray's own label of every node

# for the time of a run: Tune's own files, which nobody reads, are 5 a trial and a snapshot of all every 10 s
TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of tasks that were cancelled: nobody asks how they ended
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of a coming change for tasks without a GPU
}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables of the environment for the time of a block, where they are not set; then as they were."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def session(address: str | None = None, cpus: int | None = None, modules: Sequence[ModuleType] = ()) -> Iterator[None]:
    """A connection to Ray for the time of a `with` block; one that this process has already is used, and kept.

    Args:
        address: host:port of a running cluster, that passed `probe`; none starts one on this machine, which ends with
            the block.
        cpus: of the local cluster; default: the cores that this process may use.
        modules: of the user's own code, which are sent to the nodes.

    Raises:
        ClusterError: Ray's processes did not come up, the cluster did not take us in, or its nodes run another version
            of this package.
    """
    if ray.is_initialized():
        yield
        return
    if address is None:
        prepare_token()
    # as paths: within a submitted job Ray copies the whole of it, and a module cannot be copied
    sent = {"py_modules": [_path(module) for module in modules]} if modules else None
    # Ray 2.60 puts the driver's folder in front of its workers' search path, where a file of it would hide a module of
    # Python's own, such as statistics.py; the work itself goes back there: see `pixmix_ray.orchestration.work`
    empty = tempfile.TemporaryDirectory(prefix="pixmix_ray_")
    try:
        with _handlers_of_signals(), _current_folder(empty.name):
            if address is None:
                _start(cpus or usable_cores(), sent)
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=sent)
    except Exception as error:  # Ray raises a bare one when its processes do not come up
        ray.shutdown()
        empty.cleanup()
        where = f"refused the connection at {address}" if address else "did not start on this machine"
        if "AF_UNIX path length" in str(error):
            raise ClusterError(
                f"Ray {where}: the name of its temporary folder is too long for its sockets: set RAY_TMPDIR to a short "
                "one, such as /tmp"
            ) from None
        raise ClusterError(
            f"Ray {where}: {one_line(error)} If the machine is busy, wait and run the same command again"
        ) from None
    try:
        if address is not None:
            check_versions(nodes())
        yield
    finally:
        ray.shutdown()
        empty.cleanup()


def _path(module: ModuleType) -> str:
    """The folder of a package, or the file of another module."""
    if hasattr(module, "__path__"):
        return str(next(iter(module.__path__)))
    assert module.__file__ is not None, "a module of the user's has a source"
    return module.__file__


@contextmanager
def _current_folder(folder: str) -> Iterator[None]:
    """Another current folder for the time of the block."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _handlers_of_signals() -> Iterator[None]:
    """Signals are handled afterwards as before the block: Ray puts its own way of ending there."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _start(cpus: int, sent: dict[str, list[str]] | None) -> None:
    """Start Ray on this machine, again if it comes up too slowly: it gives a node's parts 30 s, short on a busy one."""
    before = {process.pid for process in psutil.Process().children()}
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            # else the worker that waits for the first checkpoint is ended after a second, and imports all again
            with environment({"RAY_idle_worker_killing_time_threshold_ms": "3600000"}):
                ray.init(
                    address="local",  # else it joins one that it finds on this machine
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=sent,
                )
        except Exception as error:  # Ray has no type for this
            if attempt == START_ATTEMPTS or "timed out during startup" not in str(error):
                raise
            log.warning("Ray did not start in time; trying again")
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
        has_answered = b"Timed out" not in ended.stderr  # Ray's own limit, half a minute
    except subprocess.TimeoutExpired:
        has_answered = False
    if not has_answered:
        raise ClusterError(
            f"no Ray cluster answered at {address} within {seconds:.0f} s: something else listens there, or it is "
            "overloaded; check the port"
        )
    if ended.returncode != 0:
        raise ClusterError(
            f"the Ray cluster at {address} refused the connection: check RAY_AUTH_TOKEN and Ray's versions"
        )


def cluster_lines(address: str) -> list[str]:
    """A line for each living node of a cluster: what it has by Ray's names, and how much of it is free in all.

    Raises:
        ClusterError: no cluster of this version answers there.
    """
    probe(address)
    with session(address):
        living, use = nodes(), cluster_use()
    shown = ("CPU", "GPU", "memory")
    of_node = [
        ", ".join(
            f"{amount / 2**30:.1f} GB of memory" if name == "memory" else f"{amount:g} {name}s"
            for name, amount in node.resources.items()
            if name in shown
        )
        for node in living
    ]
    in_use = ", ".join(f"{used:g} of {total:g} {kind}s in use" for kind, (used, total) in use.items())
    return [
        f"{address}: {len(living)} node{'s' if len(living) > 1 else ''}, {in_use}",
        *(f"{Place(host=node.host, node=node.node_id)}: {text}" for node, text in zip(living, of_node, strict=True)),
    ]


def check_versions(living: Sequence[Node]) -> None:
    """Return if every node runs the version of this package that this process does.

    Raises:
        ClusterError: one has another version, or none.
    """
    place = {node.node_id: NodeAffinitySchedulingStrategy(node.node_id, soft=False) for node in living}
    asked = {node: _version.options(num_cpus=0, scheduling_strategy=at).remote() for node, at in place.items()}
    for node, reference in asked.items():
        try:
            host, version = ray.get(reference)
        except (RayTaskError, ray.exceptions.RaySystemError) as error:
            raise ClusterError(
                f"node {node[:8]} cannot import pixmix_ray: {one_line(error)}: install it there"
            ) from None
        if version != code_version():
            raise ClusterError(
                f"{host} runs pixmix_ray {version} and this command is {code_version()}: install one version on all"
            )


@ray.remote(max_retries=0)
def _version() -> tuple[str, str]:
    return socket.gethostname(), code_version()


def is_connected() -> bool:
    """Whether this process is connected to a cluster."""
    return bool(ray.is_initialized())


def nodes() -> list[Node]:
    """The living nodes of the connected cluster."""
    found = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(
            node_id=node["NodeID"],
            resources=node["Resources"],
            labels=node.get("Labels") or {},
            host=node["NodeManagerHostname"],
        )
        for node in found
        if node["Alive"]
    ]


def cluster_use() -> dict[str, tuple[float, float]]:
    """How much of the connected cluster's CPUs and GPUs is handed out, and how much there is."""
    total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    kinds = [kind for kind in ("CPU", "GPU") if total.get(kind, 0) > 0]
    return {kind: (round(total[kind] - free.get(kind, 0), 4), total[kind]) for kind in kinds}


def request_room(shares: Sequence[Share]) -> None:
    """Ask the cluster's autoscaler, if it has one, for nodes that hold all these shares at once."""
    workers = [share.of_worker() for share in shares for _ in range(share.num_workers)]
    request_resources(
        bundles=[bundle(worker) for worker in workers], bundle_label_selectors=[dict(one.labels) for one in workers]
    )


def node_selector(share: Share, avoid: str | None) -> dict[str, str]:
    """Ray's label selector for where a share may go: the labels that it asks for, and not a node to be avoided.

    A node is avoided only where there is another that holds the share.
    """
    selector = dict(share.labels)
    if avoid is not None and any(node.node_id != avoid and fitting(node, share.of_worker()) for node in nodes()):
        selector[NODE_ID] = f"!{avoid}"
    return selector


def place_here() -> Place:
    """This worker."""
    return Place.here(ray.get_runtime_context().get_node_id() if ray.is_initialized() else None)


def problem_of(error: BaseException | None, place: Place | None = None) -> Problem:
    """What Ray's error says of work that told nothing itself.

    Args:
        error: of Ray.
        place: where the work ran, if it told. A worker that never told where it is was never reached, as far as anybody
            knows: Ray 2.60 ends the worker of a task whose message was lost.
    """
    if isinstance(error, RayTaskError):
        problem = Problem.of(error.cause, place or Place())
        # an error that Ray made of both classes, its own and that of the cause, has its traceback as text alone
        return replace(problem, report=replace(problem.report, traceback=getattr(error, "traceback_str", str(error))))
    return Problem.because(_cause_of(error, place), one_line(error or "its worker died"), place)


def _cause_of(error: BaseException | None, place: Place | None) -> Cause:
    if isinstance(error, OutOfMemoryError):
        return Cause.KILLED_FOR_MEMORY
    if isinstance(error, NodeDiedError | ObjectLostError):  # the latter: its answer was lost with its node
        return Cause.NODE_DIED
    if isinstance(error, ActorUnavailableError) or place is None or place.pid is None:
        return Cause.MESSAGE_LOST
    if isinstance(error, RayActorError) and error.preempted:
        return Cause.NODE_DIED
    return Cause.WORKER_DIED
