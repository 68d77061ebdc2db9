"""Whether the tests find faults: small changes of the source, one at a time, and the tests that run the changed line.

    pip install cosmic-ray
    python -m tests.mutants lines                          # which test runs which line: one run of the default tests
    python -m tests.mutants run --count 300 --seed 0       # goes on where it was stopped
    python -m tests.mutants show                           # the table of docs/tests.md, and a diff of each survivor

The changes are cosmic-ray's: it rewrites a file, while mutmut puts every function behind a switch, which the identity
of parts, made of their source, and the workers of Ray would see. Each change is made in a copy of the last commit, by a
process that has imported torch and pandas before, so that a change costs the time of its tests alone. Rooms have equal
shares of the sample; within a room each place of the source that can be changed is equally likely, annotations left
out. A change is found if a test fails, or needs ten times the processor seconds that it should.
"""

import argparse
import ast
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import unified_diff
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = (
    "metrics", "transforms", "corruptions", "methods", "storage", "planning", "analysis", "orchestration/loop.py",
)  # fmt: skip
LEAST_SECONDS = 60  # of processor time, for the tests of a change
TIMES_LONGER, MOST_SECONDS = 10, 300
TIMES_WAITING = 10  # wall time for each such second: what waits for ever is ended, too
FOUND = ("killed", "timeout")


@dataclass(frozen=True)
class Mutant:
    """One change: an operator of cosmic-ray at its n-th place in a module."""

    room: str
    module: str
    line: int
    operator: str
    occurrence: int

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.module}:{self.line} {self.operator} {self.occurrence}"


def modules_of(room: str, root: Path) -> list[Path]:
    """The source files of a room."""
    place = root / "pixmix_ray" / room
    return [place] if place.suffix else sorted(place.rglob("*.py"))


def annotation_spans(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end: a change there is no change of what the program does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for annotation in filter(None, annotations):
            assert isinstance(annotation, ast.expr) and annotation.end_lineno and annotation.end_col_offset
            begin = annotation.lineno, annotation.col_offset
            found.append((begin, (annotation.end_lineno, annotation.end_col_offset)))
    return found


def mutants_of(room: str, root: Path) -> Iterator[tuple[tuple[str, tuple[int, int]], Mutant]]:
    """All changes of a room, each with its place."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    operators = {name: get_operator(name)() for name in operator_names() if not get_operator(name).arguments()}
    for path in modules_of(room, root):
        nodes = list(ast_nodes(get_ast_from_path(path)))
        spans = annotation_spans(path.read_text())
        module = str(path.relative_to(root))
        for name, operator in operators.items():
            places = [place for node in nodes for place in operator.mutation_positions(node)]
            for occurrence, (begin, _) in enumerate(places):
                if not any(first <= begin < last for first, last in spans):
                    yield (module, begin), Mutant(room, module, begin[0], name, occurrence)


def sample(count: int, seed: int, root: Path) -> list[Mutant]:
    """As many changes, equally many of each room; first a place is drawn, then what to change there."""
    chosen = []
    for number, room in enumerate(ROOMS):
        places = defaultdict(list)
        for place, mutant in mutants_of(room, root):
            places[place].append(mutant)
        wanted = (count * (number + 1)) // len(ROOMS) - (count * number) // len(ROOMS)
        drawn = random.Random(f"{seed} {room}")
        chosen += [drawn.choice(places[place]) for place in drawn.sample(sorted(places), wanted)]
    random.Random(seed).shuffle(chosen)  # what is done when it is stopped is a fair sample, too
    return chosen


def make_lines(folder: Path) -> None:
    """Run the default tests once and keep which test runs which line, and how long each test takes."""
    import coverage

    settings = folder / "coveragerc"
    settings.write_text(f"[run]\nsource = pixmix_ray\ndata_file = {folder / 'coverage'}\nrelative_files = true\n")
    arguments = [f"--cov-config={settings}", "--cov=pixmix_ray", "--cov-context=test", "--cov-report="]
    command = [sys.executable, "-m", "pytest", "-q", *arguments, f"--junitxml={folder / 'times.xml'}"]
    subprocess.run(command, cwd=ROOT, check=False)
    data = coverage.CoverageData(str(folder / "coverage"))
    data.read()
    seconds = {}
    for case in ElementTree.parse(folder / "times.xml").iter("testcase"):
        if case.find("failure") is None and case.find("error") is None:  # what fails by itself finds nothing
            name = f"{(case.get('classname') or '').replace('.', '/')}.py::{case.get('name')}"
            seconds[name] = float(case.get("time") or 0)
    lines: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        found = data.contexts_by_lineno(file)
        tests = {line: {context.split("|")[0] for context in contexts} for line, contexts in found.items()}
        lines[file] = {line: sorted(names & seconds.keys()) for line, names in tests.items()}
    (folder / "lines.json").write_text(json.dumps({"lines": lines, "seconds": seconds}))


def tests_for(mutant: Mutant, lines: dict[str, list[str]], seconds: dict[str, float]) -> list[str]:
    """The tests that run the changed line, the quickest first; at import those of its module and room."""
    found = lines.get(str(mutant.line), [])
    if not found:
        room = f"tests/{Path(mutant.room).parent if '/' in mutant.room else mutant.room}/"
        found = list({*chain(*lines.values()), *(test for test in seconds if test.startswith(room))})
    return sorted(found, key=lambda test: seconds.get(test, 1.0))


def copy_of_the_last_commit(folder: Path) -> Path:
    """The files of HEAD in a folder of their own, where they may be changed."""
    files = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    copy = folder / "copy"
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(copy, filter="data")
    return copy


def is_found(tests: list[str], copy: Path, limit: int) -> str:
    """What becomes of these tests in a process of their own: "killed", "survived" or "timeout"."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        os.chdir(copy)
        sys.path[:] = [str(copy), *(place for place in sys.path if Path(place or ".").resolve() != ROOT)]
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "pixmix_ray")]:
            del sys.modules[name]
        os.environ["PYTHONPATH"] = str(copy)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        with open(copy / "output.txt", "w") as out, redirect_stdout(out), redirect_stderr(out):
            import pytest

            code = pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", "-p", "no:cov", *tests])
        os._exit(int(code))
    begun = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return {0: "survived", -signal.SIGKILL: "timeout"}.get(code, "killed")
        if time.monotonic() - begun > limit * TIMES_WAITING:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.05)


def run(folder: Path, count: int, seed: int) -> None:
    """Make each change of the sample that was not made yet, and write down whether it is found."""
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import ray.tune  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import torch
    import torchvision  # noqa: F401
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    torch.set_num_threads(1)
    known = json.loads((folder / "lines.json").read_text())
    results = folder / "results.jsonl"
    done = {json.loads(line)["key"] for line in results.read_text().splitlines()} if results.exists() else set()
    copy = copy_of_the_last_commit(folder)
    for mutant in sample(count, seed, copy):
        if mutant.key in done:
            continue
        path = copy / mutant.module
        before = path.read_text()
        tests = tests_for(mutant, known["lines"].get(mutant.module, {}), known["seconds"])
        expected = sum(known["seconds"].get(test, 1.0) for test in tests)
        if ">>>" in before:
            tests.insert(0, mutant.module)  # its doctests
        after = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
        limit = min(LEAST_SECONDS + int(TIMES_LONGER * expected), MOST_SECONDS)
        begun = time.monotonic()
        if after is None:
            continue
        try:
            path.write_text(after)
            outcome = is_found(tests, copy, limit) if tests else "not run"
        finally:
            path.write_text(before)
        diff = "\n".join(unified_diff(before.splitlines(), after.splitlines(), mutant.module, "", n=1, lineterm=""))
        row = {
            "key": mutant.key, "room": mutant.room, "outcome": outcome, "tests": len(tests), "diff": diff,
            "seconds": round(time.monotonic() - begun, 1),
        }  # fmt: skip
        with results.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(outcome, mutant.key, len(tests), row["seconds"], flush=True)  # noqa: T201


def show(folder: Path) -> None:
    """The table by room, and what was not found."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    print("| room | changes | found | not found |\n| --- | ---: | ---: | ---: |")  # noqa: T201
    for room in (*ROOMS, ""):
        outcomes = Counter(
            row["outcome"] in ("killed", "timeout") for row in rows if row["room"] == (room or row["room"])
        )
        print(f"| {room or 'all'} | {outcomes.total()} | {outcomes[True]} | {outcomes[False]} |")  # noqa: T201
    for row in rows:
        if row["outcome"] not in FOUND:
            print(f"\n{row['outcome']} by {row['tests']} tests: {row['key']}\n{row['diff']}")  # noqa: T201


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lines", "run", "show"))
    parser.add_argument("--folder", type=Path, default=ROOT / "build/mutants")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.what == "lines":
        make_lines(given.folder)
    elif given.what == "run":
        run(given.folder, given.count, given.seed)
    else:
        show(given.folder)


if __name__ == "__main__":
    main()
