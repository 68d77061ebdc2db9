"""The token of a local cluster: whoever sends it may run code there, so it is kept from the other people of a machine.

Ray has token authentication on for local clusters, and makes a token where there is none; but it writes it to a file
that everybody can read, and stops where the home folder cannot be written.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from pixmix_ray.paths import written_whole

GIVEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # where Ray looks first


def prepare_token() -> None:
    """See that Ray finds a token, in a file of mode 0600; where none can be written, in the environment."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return  # turned off on purpose
    if given := next((name for name in GIVEN if os.environ.get(name)), None):
        if given == "RAY_AUTH_TOKEN_PATH":
            _close_to_others(Path(os.environ[given]))
        return
    try:
        file = Path.home() / ".ray" / "auth_token"
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_once(file, secrets.token_hex(32))
        if not file.read_text().strip():  # another process is about to write it, or was killed before it did
            raise OSError(f"{file} is empty")
    except (OSError, RuntimeError):  # a home that is missing or read-only
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _write_once(file: Path, token: str) -> None:
    """Write a token that nobody else can read, unless one is there; then see to it that nobody else can read that."""
    try:
        with (
            written_whole(file, is_new=True) as beside,  # never over the token of a cluster that is running
            os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream,
        ):
            stream.write(token)
    except FileExistsError:
        _close_to_others(file)


def _close_to_others(file: Path) -> None:
    with suppress(OSError):  # missing, which Ray says better; or not ours, and then not ours to change
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            file.chmod(0o600)
