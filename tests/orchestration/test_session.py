"""Joining a cluster: a wrong address is reported at once, and a Ray that does not start in one line."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from pixmix_ray.errors import ClusterError
from pixmix_ray.orchestration.executor import RunSetup
from pixmix_ray.orchestration.nodes import Node
from pixmix_ray.orchestration.ray_executor import RayExecutor
from pixmix_ray.orchestration.retries import Cause
from pixmix_ray.orchestration.session import probe, problem_of, session
from pixmix_ray.orchestration.work import Work
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store


@pytest.fixture
def silent_listener() -> Iterator[str]:
    """The address of a socket that accepts connections and never answers: no Ray cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_with_nothing_behind_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(ClusterError, match=f"no Ray cluster at 127.0.0.1:{free}: Connection refused"):
        probe(f"127.0.0.1:{free}")


@pytest.mark.drill
@pytest.mark.ray
def test_a_listener_that_is_no_ray_cluster_is_reported(silent_listener: str) -> None:
    with pytest.raises(ClusterError, match="no Ray cluster answered at"):
        probe(silent_listener)


@pytest.mark.parametrize("slow", [2, 3])
def test_a_local_ray_that_comes_up_too_slowly_is_started_again_twice_and_what_is_left_of_it_ended(
    slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: Ray's own error on a busy machine, raised beside a process that it leaves, as it does."""
    left: list[subprocess.Popen[bytes]] = []

    def start(**_: object) -> None:
        if len(left) < slow:
            left.append(subprocess.Popen(["sleep", "1000"]))
            raise Exception("The current node timed out during startup. This could happen because")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        ends = nullcontext() if slow < 3 else pytest.raises(Exception, match="timed out during startup")
        with ends, session(cpus=1):
            pass
        assert [process.wait(10) for process in left[:2]] == [-signal.SIGKILL] * 2
        assert bystander.poll() is None
        for process in (bystander, *left[2:]):
            process.kill()
            process.wait()


@pytest.mark.ray
def test_a_running_cluster_passes_the_probe(ray_cluster: str) -> None:
    probe(ray_cluster)


@pytest.mark.parametrize("address", ["localhost", "localhost:", "localhost:http", "ray://localhost:10001", ":6379"])
def test_a_malformed_address_names_the_form_that_is_allowed(address: str) -> None:
    with pytest.raises(ClusterError, match="must be host:port"):
        probe(address)


@pytest.mark.parametrize(("address", "where"), [(None, "on this machine"), ("10.0.0.1:6379", "at 10.0.0.1:6379")])
def test_a_ray_that_does_not_come_up_is_one_line_with_the_way_out(
    address: str | None, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: Ray's start ends in the bare exception of a machine that is too busy."""

    def too_slow(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nThe GCS may be overloaded.")

    ended: list[bool] = []
    monkeypatch.setattr("ray.init", too_slow)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: ended.append(True))
    monkeypatch.setattr(import_module("pixmix_ray.orchestration.session"), "prepare_token", lambda: None)
    expected = rf"{where}: The current node timed out during startup\. The GCS"
    with pytest.raises(ClusterError, match=expected) as caught, session(address):
        pass
    assert ended == [True]  # what did start is ended
    assert str(caught.value).endswith("run the same command again")


def test_a_temporary_folder_with_a_name_too_long_for_rays_sockets_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fault: the error of Ray 2.60 where TMPDIR is a long path, which no second try mends."""

    def too_long(**options: object) -> None:
        raise OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /very/long/path")

    monkeypatch.setattr("ray.init", too_long)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr(import_module("pixmix_ray.orchestration.session"), "prepare_token", lambda: None)
    with (
        pytest.raises(ClusterError, match="too long for its sockets: set RAY_TMPDIR to a short one") as caught,
        session(),
    ):
        pass
    assert "again" not in str(caught.value)


def test_a_local_cluster_has_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    module = import_module("pixmix_ray.orchestration.session")
    monkeypatch.setattr("ray.init", lambda **options: asked.append(options["num_cpus"]))
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr(module, "prepare_token", lambda: None)
    monkeypatch.setattr(module, "usable_cores", lambda: 3)
    for cpus in (None, 1):
        with session(cpus=cpus):
            pass
    assert asked == [3, 1]


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_node_with_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node has what is installed; this process says that it is another."""
    module = import_module("pixmix_ray.orchestration.session")
    module.check_versions(module.nodes())
    monkeypatch.setattr(module, "code_version", lambda: "0.0.1")
    with pytest.raises(ClusterError, match=r"runs pixmix_ray \S+ and this command is 0\.0\.1: install one version"):
        module.check_versions(module.nodes())


def test_an_error_that_ray_made_of_two_classes_is_that_of_the_work() -> None:
    """Asked for by `ray.get`, the error of a task is one of Ray's and one of the kind that the task raised."""
    kind: Any = RayTaskError  # it has no types
    raised = kind("train", "Traceback: a slip in my method", KeyError("a slip in my method"))
    found = problem_of(raised.as_instanceof_cause(), Place(node="a", pid=1))
    assert found.cause is Cause.OWN and found.report.error == "KeyError" and found.report.place.node == "a"
    assert "a slip in my method" in found.report.traceback


def test_a_lost_node_is_said_at_once_and_once_with_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault: Ray counts one of two nodes as dead between two looks at the cluster."""
    one, two = (Node(node_id=f"{name}{'0' * 48}", resources={"CPU": 4.0}, host=name) for name in ("head", "worker1"))
    looks = iter([[one, two], [one], [one], [one, two], [two]])
    monkeypatch.setattr(RayExecutor, "connect", lambda executor: None)
    monkeypatch.setattr(import_module("pixmix_ray.orchestration.session"), "nodes", lambda: next(looks))
    with RayExecutor() as executor:
        executor.start(RunSetup(store=Store(tmp_path), work=Work()))
        said = []
        for _ in range(5):
            caplog.clear()
            executor.capacity(1, 1)
            said.append([record.getMessage() for record in caplog.records])
    ending = "the cluster has 1 left, and the lost work is tried again"
    lost = [f"lost a node: {name}, node {(name + '0' * 8)[:8]}; {ending}" for name in ("worker1", "head")]
    assert said == [[], [lost[0]], [], [], [lost[1]]]
