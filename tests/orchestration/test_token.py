"""Who may use a local cluster: those who have its token, which nobody else can read."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pixmix_ray.orchestration.token import prepare_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and nothing in the environment that says otherwise."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that what the test leaves there is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_token_is_made_once_and_only_its_owner_can_read_it(home: Path) -> None:
    prepare_token()
    file = home / ".ray" / "auth_token"
    token = file.read_text()
    assert mode(file) == 0o600 and len(token) == 64 and int(token, 16) > 0
    prepare_token()
    assert file.read_text() == token
    assert [entry.name for entry in file.parent.iterdir()] == ["auth_token"]
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_token_that_ray_left_open_to_all_is_closed_and_kept(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("abc")
    file.chmod(0o644)
    prepare_token()
    assert (mode(file), file.read_text()) == (0o600, "abc")


def test_a_token_file_that_is_named_is_closed_too(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "named"
    named.write_text("abc")
    named.chmod(0o666)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    prepare_token()
    assert mode(named) == 0o600 and not (home / ".ray").exists()


def test_a_home_that_cannot_be_written_gets_a_token_for_this_run_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("HOME", str(home / "file"))  # nobody, not even root, can make a folder there
    prepare_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "abc")])
def test_what_the_user_decided_stays(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    prepare_token()
    assert os.environ[name] == value and not (home / ".ray").exists()


SESSION = """
import os
import ray
from pixmix_ray.orchestration.session import probe, session
from pixmix_ray.errors import ClusterError

with session(cpus=1):
    address = ray.get_runtime_context().gcs_address
    probe(address)
    listening = open("/proc/net/tcp").read()
    assert f":{8265:04X} " not in listening, "a dashboard"
    os.environ["RAY_AUTH_TOKEN"] = "wrong"
    try:
        probe(address)
    except ClusterError as error:
        print(error)
"""


@pytest.mark.ray
@pytest.mark.drill
def test_a_local_session_asks_for_its_token_even_where_home_cannot_be_written(home: Path) -> None:
    (home / "file").write_text("")
    environment = {**os.environ, "HOME": str(home / "file")}
    done = subprocess.run(
        [sys.executable, "-c", SESSION], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "refused the connection: check RAY_AUTH_TOKEN" in done.stdout
