"""How long the default tests take, and how often one fails: several runs in a row, also on a busy machine.

    python -m tests.measure_suite --runs 10            # on an otherwise idle machine
    python -m tests.measure_suite --runs 3 --busy 6    # beside six processes that compute without end

A line for each run: seconds, and the tests that failed. Nothing in the tests may depend on these seconds.
"""

import argparse
import multiprocessing
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def compute_without_end() -> None:
    """What takes all that a core has."""
    number = 0
    while True:
        number += 1


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes compute for the time of the block."""
    loops = [multiprocessing.Process(target=compute_without_end, daemon=True) for _ in range(processes)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()


def run_once() -> tuple[float, list[str]]:
    """The seconds that the tests took, and the tests that failed."""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    if ended.returncode and not failed:  # it did not even begin
        raise SystemExit(ended.stdout + ended.stderr)
    return seconds, failed


def main() -> None:
    """Print a line a run, and one of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", type=int, default=0, help="Processes that compute beside the tests.")
    request = parser.parse_args()
    taken, failures = [], 0
    with busy(request.busy):
        for number in range(1, request.runs + 1):
            seconds, failed = run_once()
            taken.append(seconds)
            failures += len(failed)
            print(f"run {number}: {seconds:.0f} s, {len(failed)} failed: {' '.join(failed)}", flush=True)  # noqa: T201
    summary = f"{request.runs} runs: median {statistics.median(taken):.0f} s, longest {max(taken):.0f} s"
    print(f"{summary}, {failures} failed")  # noqa: T201


if __name__ == "__main__":
    main()
