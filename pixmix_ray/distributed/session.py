"""A Ray session: join a running cluster, after making sure that there is one, or start a local one."""

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from pixmix_ray.errors import ClusterError
from pixmix_ray.sweep import Resources, Share

PROBE_SECONDS = 8.0


@contextmanager
def session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """A connection to Ray for the time of a `with` block.

    Args:
        address: host:port of a running cluster, that passed `probe`; none starts one on this machine, which ends with
            the block.
        cpus: of the local cluster; default: the cores of this machine.
    """
    if address is None:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def probe(address: str) -> None:
    """Return if a Ray cluster answers at host:port, within about ten seconds.

    Ray's own connect waits for minutes where nothing listens or where something else does.

    Raises:
        ClusterError: nothing listens there, or what does is no Ray cluster that lets us in.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in address:
        raise ClusterError(f"--address {address!r} must be host:port, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS / 2).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"no Ray cluster at {address}: {reason}. Start one with 'ray start --head', or leave --address out"
        ) from None
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "health-check",
        "--skip-version-check",
        "--address",
        address,
    ]
    try:
        answered = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        answered = False
    if not answered:
        raise ClusterError(
            f"what listens at {address} is no Ray cluster, or one with another token: check the port and RAY_AUTH_TOKEN"
        )


def cluster_resources() -> dict[str, float]:
    """CPUs and GPUs of the connected cluster."""
    found = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return {"cpus": float(found.get("CPU", 0)), "gpus": float(found.get("GPU", 0))}


def trials_at_once(total: Mapping[str, float], resources: Resources) -> int:
    """How many trials may train at once so that one evaluation's share stays free, but at least one.

    >>> trials_at_once({"cpus": 2, "gpus": 0}, Resources(trial=Share(cpus=0.75), evaluation=Share(cpus=0.5)))
    2

    Raises:
        ClusterError: the cluster cannot hold even one trial, or one evaluation.
    """
    for what, share in (("trial", resources.trial), ("evaluation", resources.evaluation)):
        for kind, wanted in share.model_dump().items():
            if wanted > total[kind]:
                raise ClusterError(
                    f"a {what} asks for {wanted:g} {kind}, the cluster has {total[kind]:g}: "
                    f"lower it with --set resources.{what}.{kind}={total[kind]:g}"
                )
    return max(1, _fitting(total, resources.trial, resources.evaluation))


def _fitting(total: Mapping[str, float], share: Share, reserved: Share) -> int:
    free = {kind: total[kind] - kept for kind, kept in reserved.model_dump().items()}
    counts = [int(free[kind] / wanted + 1e-9) for kind, wanted in share.model_dump().items() if wanted > 0]
    return min(counts, default=1)
