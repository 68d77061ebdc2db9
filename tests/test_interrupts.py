"""How a command ends when it is asked to: cleanly, but never later than batch systems wait for it."""

import signal
import subprocess
import sys

import pytest

ENDS = """
import os, signal, sys, threading
from pixmix_ray.cli import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
interrupts.LONGEST_END = {limit}
with interrupts.ending_cleanly() as ending:
    try:
        with interrupts.last_words("died"):
            try:
                os.kill(os.getpid(), signal.SIG{name})
                threading.Event().wait()
            finally:
                {goodbye}
    except KeyboardInterrupt:
        print(ending)
        sys.exit(ending.exit_code)
"""


@pytest.mark.parametrize(("name", "code", "word"), [("TERM", 143, "terminated"), ("INT", 130, "interrupted")])
def test_an_end_that_takes_too_long_is_cut_short(name: str, code: int, word: str) -> None:
    """Ray waits for 20 s for the head of a cluster that is gone: here for ever."""

    def run(goodbye: str, limit: float) -> subprocess.CompletedProcess[str]:
        source = ENDS.format(name=name, goodbye=goodbye, limit=limit)
        return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)

    quick, endless = run("pass", 600), run("threading.Event().wait()", 0.1)
    assert (quick.returncode, quick.stdout, quick.stderr) == (code, f"{word}\n", "")
    assert (endless.returncode, endless.stdout, endless.stderr) == (code, "", "died\n")


def test_a_block_that_nobody_interrupts_leaves_signals_as_they_were() -> None:
    from pixmix_ray.cli.interrupts import ending_cleanly

    before = signal.getsignal(signal.SIGTERM)
    with ending_cleanly() as ending:
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    assert ending.exit_code == 0
