"""Results on S3: a real S3 server, at the end of a cable that the tests can cut."""

import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pyarrow import fs

from pixmix_ray.errors import ResultsError, StorageError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage import location
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store
from tests.orchestration.held_sweep import HeldSweep, wait_for
from tests.program import Program

pytest.importorskip("moto", reason="the S3 server of these tests is moto's")
SECRET = "hush-0123456789"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Cable:
    """Carries bytes to a server, until it is cut."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.is_cut = threading.Event()
        self.bytes_left: int | None = None  # to the server, until it cuts itself
        cable = self

        class Plug(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                cable.carry(self.request)

        self._listener = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Plug)
        self._listener.daemon_threads = True
        self.port: int = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def carry(self, client: socket.socket) -> None:
        if self.is_cut.is_set():
            return
        with socket.create_connection(("127.0.0.1", self.server_port)) as server:
            back = threading.Thread(target=self._copy, args=(server, client, False), daemon=True)
            back.start()
            self._copy(client, server, True)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        source.settimeout(0.1)
        while not self.is_cut.is_set():
            try:
                content = source.recv(65536)
                if counts and self.bytes_left is not None:
                    self.bytes_left -= len(content)
                    if self.bytes_left < 0:
                        self.is_cut.set()
                        return
                if not content:
                    return
                target.sendall(content)
            except TimeoutError:
                continue
            except OSError:
                return

    def mend(self) -> None:
        self.bytes_left = None
        self.is_cut.clear()

    def close(self) -> None:
        self.is_cut.set()
        self._listener.shutdown()
        self._listener.server_close()


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an S3 server of our own, with a bucket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, **CREDENTIALS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def has_a_bucket() -> bool:
        with suppress(OSError):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        return False

    try:
        wait_until(has_a_bucket, "the S3 server answers")
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def cable(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cable]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    plugged = Cable(server)
    yield plugged
    plugged.close()


def uri(port: int, folder: str) -> str:
    return f"s3://{folder}?scheme=http&endpoint_override=127.0.0.1:{port}"


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(ResultsError) as caught:
        action()
    assert "\n" not in str(caught.value) and SECRET not in str(caught.value)
    return str(caught.value)


def test_a_bucket_holds_what_a_folder_holds(cable: Cable) -> None:
    store = Store(uri(cable.port, "bucket/a folder".replace(" ", "%20")))
    store.check_writable()
    assert store.files("") == set()
    store.write_json("trials/a/done.json", {"name": "β × k"})
    store.write("cells/a/clean.parquet", b"\x00\xff")
    assert store.read_json("trials/a/done.json") == {"name": "β × k"}
    assert store.read("trials/a/missing") is None
    assert store.files("trials") == {"trials/a/done.json"}
    store.write("cells/a/clean.parquet", b"new")
    assert store.read("cells/a/clean.parquet") == b"new"
    store.delete("cells/a/clean.parquet")
    assert store.files("cells") == set()


@pytest.mark.drill  # Arrow's own retries take a minute
@pytest.mark.parametrize("old", [None, b"the old content"])
def test_an_upload_that_breaks_off_leaves_what_was_there(cable: Cable, old: bytes | None) -> None:
    """The fault: the cable is cut within the second part of a multipart upload of 11 MB."""
    store = Store(uri(cable.port, f"bucket/broken{old is None}"), sleep=lambda seconds: None)
    if old is not None:
        store.write("trials/a/model.safetensors", old)
    before = store.files("")
    cable.bytes_left = 10_600_000  # Arrow sends parts of 10 MiB
    with pytest.raises(StorageError, match=r"^cannot write to results s3://.*run the same command again"):
        store.write("trials/a/model.safetensors", bytes(11_000_000))
    assert "Check that it is reachable" in refusal(lambda: store.read("trials/a/model.safetensors"))
    cable.mend()
    assert store.read("trials/a/model.safetensors") == old
    assert store.files("") == before
    store.write("trials/a/model.safetensors", b"whole")
    assert store.read("trials/a/model.safetensors") == b"whole"


def test_storage_that_nobody_serves_is_reported_in_one_line_that_says_what_to_check(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    cable.is_cut.set()
    assert "check its endpoint_override and scheme" in refusal(lambda: Store(uri(cable.port, "bucket/nobody")))
    monkeypatch.setattr(location, "ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never says a word
        address = uri(silent.getsockname()[1], "bucket/silent")
        assert "did not answer within 1 s: check its endpoint" in refusal(lambda: Store(address))


def test_a_bucket_that_does_not_exist_is_reported_before_anything_runs(cable: Cable) -> None:
    assert "bucket does not exist" in refusal(Store(uri(cable.port, "nobucket/folder")).check_writable)


@pytest.mark.parametrize(
    "secret",
    [
        f"s3://tester:{SECRET}@bucket/folder",
        f"s3://tester:a/{SECRET}@bucket/folder?region=eu-north-1",
        f"s3://bucket/folder?region=eu-north-1&secret_key={SECRET}",
        f"gs://bucket/folder?access_token={SECRET}",
    ],
)
def test_credentials_in_a_uri_are_refused_without_being_repeated(secret: str, tmp_path: Path) -> None:
    assert "must not contain credentials" in refusal(lambda: Store(secret))
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump({"results": secret, "dataset": "digits", "methods": ["baseline"]}))
    assert "must not contain credentials" in refusal(lambda: make_plan(read_experiment(file)))


@pytest.mark.parametrize(
    "plain",
    [
        "/results/a@b?key=c",
        "file:///results",
        "s3://bucket/a@b",
        "gs://anonymous@bucket/folder",
        "abfs://container@account.dfs.core.windows.net/folder",
        "s3://bucket/folder?region=eu-north-1&scheme=http&endpoint_override=127.0.0.1:9000",
    ],
)
def test_what_is_no_secret_is_shown_as_it_is(plain: str) -> None:
    assert location.shown(plain) == plain
    location.refuse_secrets(plain)


@pytest.mark.ray
@pytest.mark.drill
def test_a_sweep_whose_storage_goes_away_ends_with_the_reason_and_the_same_command_completes_it(
    cable: Cable, program: Program, tmp_path: Path
) -> None:
    """The fault: the cable to the S3 server is cut while the second trial trains."""
    sweep = HeldSweep(tmp_path)
    where = uri(cable.port, "bucket/sweep")
    storage = fs.S3FileSystem(scheme="http", endpoint_override=f"127.0.0.1:{cable.server_port}")

    def done() -> dict[str, object]:
        found = storage.get_file_info(fs.FileSelector("bucket/sweep", recursive=True, allow_not_found=True))
        whole = re.compile(r"/done\.json$|^bucket/sweep/cells/.*\.parquet$")
        return {entry.path: entry.mtime_ns for entry in found if whole.search(entry.path)}

    command = ["run", sweep.file, "--set", f"results={where}"]
    with sweep.held("1-2"):
        first = program.start(*command)
        wait_for(lambda: ("1-2" in sweep.begun() and len(done()) == 2) or first.returncode is not None)
        assert first.returncode is None, first.stderr
        cable.is_cut.set()
        before = done()
    assert first.wait() == 75, first.stderr
    lines = first.stderr.splitlines()
    assert "127.0.0.1" in lines[-1] and "Traceback" not in lines[-1]
    assert done() == before

    cable.mend()
    again = program.run(*command)
    assert again.returncode == 0, again.stderr
    after = done()
    assert len(after) == 4 and {path: after[path] for path in before} == before
    assert sweep.begun() == sorted([*sweep.undisturbed_epochs, "1-2"])
    undisturbed = make_plan(read_experiment(sweep.file))
    assert run_plan(undisturbed, executor="local").failures == ()
    columns = ["trial_id", "checkpoint_id", "benchmark", "metric", "value"]
    pd.testing.assert_frame_equal(read(where)[columns], read(undisturbed.store.uri)[columns])

    told = "".join(run.stdout + run.stderr for run in (first, again))
    stored = b"".join(Store(where).read(path) or b"" for path in Store(where).files("") if "safetensors" not in path)
    assert SECRET not in told and SECRET.encode() not in stored
