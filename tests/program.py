"""The program in processes of its own, forked from one that has paid its imports: seconds each on a busy machine."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).parent / "pixmix-ray")
LOST_HEAD = ("RAY_gcs_rpc_server_reconnect_timeout_s", "10")  # for how long it is looked for, instead of a minute
PATIENCE = 240.0  # seconds; a machine may be busy with other things

# not the command line itself: its consoles look at their surroundings when they are made
IMPORTS = [
    "tests.program",
    "typer",
    "pixmix_ray.orchestration",
    "pixmix_ray.report.overview",
    "pixmix_ray.report.progress",
]


def processes_a_core() -> float:
    """How many processes want each core just now, at least 1: what takes a core's time takes that much longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True)
class Started:
    """A running command."""

    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """As of subprocess.Popen: minus the signal that killed it; none while it runs."""
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        return self.err.read_text()

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code."""
        self.process.join(seconds)
        assert self.returncode is not None, f"still running after {seconds} s: {self.stderr}"
        return self.returncode

    def kill_if_running(self) -> None:
        """Leave nothing behind, whatever became of the test."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class Program:
    """Starts `pixmix-ray` with arguments, as a terminal would: each in a process group of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="program"))
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTS)
        with pytest.MonkeyPatch.context() as patch:
            # Ray reads these when it is imported; the latter is its way to authenticate, turned on by a local cluster
            patch.setenv(*LOST_HEAD)
            patch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "token"))
            forkserver.ensure_running()
        self._started: list[Started] = []

    def start(self, *arguments: object) -> Started:
        out, err = (self._folder / f"{len(self._started)}.{name}" for name in ("out", "err"))
        words, environment = [PROGRAM, *map(str, arguments)], dict([*os.environ.items(), LOST_HEAD])
        process = self._context.Process(target=_run, args=(words, environment, str(Path.cwd()), out, err))
        process.start()
        self._started.append(Started(process, out, err))
        return self._started[-1]

    def run(self, *arguments: object) -> Started:
        """The command, when it has ended."""
        started = self.start(*arguments)
        started.wait()
        return started

    def close(self) -> None:
        for started in self._started:
            started.kill_if_running()


def _run(words: list[str], environment: Mapping[str, str], folder: str, out: Path, err: Path) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it, children too
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for file, number in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.argv = words

    from pixmix_ray.cli import main

    main()
    sys.stdout.flush()
