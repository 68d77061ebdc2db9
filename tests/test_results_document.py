"""docs/results.md: every command and every block of Python of it runs, on results of a made-up sweep."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from pixmix_ray.benchmarks import Anomalies, Clean, Corruptions
from pixmix_ray.benchmarks.base import Benchmark
from pixmix_ray.cli import app
from pixmix_ray.metrics import Predictions
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store
from tests.stored_cells import put

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "results.md"
TEXT = DOCUMENT.read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]
N = 120
CONDITIONS: tuple[tuple[Benchmark, tuple[str, ...]], ...] = (
    (Clean(), ("",)),
    (Corruptions(names=("fog", "snow")), ("fog", "snow")),
    (Anomalies(generated=("blobs",)), ("in_distribution", "blobs")),
)


def predicted(benchmark: Benchmark, conditions: tuple[str, ...], error: float) -> Predictions:
    hard = np.random.default_rng(0).permutation(N) / N
    severities = (1, 2) if isinstance(benchmark, Corruptions) else (0,)
    parts = [
        Predictions(
            condition=np.full(N, condition),
            severity=np.full(N, severity, np.int8),
            index=np.arange(N, dtype=np.int32),
            label=np.zeros(N, np.int16),
            predicted=(hard > 1 - error).astype(np.int16),
            confidence=(0.4 + 0.5 * hard).astype(np.float32),
            extras={name: np.full(N, 32 * (name == "side"), one.dtype) for name, one in benchmark.extras.items()},
        )
        for condition in conditions
        for severity in severities
    ]
    return Predictions.join(parts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two results of three methods on three benchmarks, the folders that the document speaks of."""
    folder = tmp_path_factory.mktemp("document")
    for name, gain in (("quickstart", 0.0), ("after", 0.05)):
        store = Store(folder / "results" / name)
        for number, method in enumerate(("baseline", "mixup", "pixmix")):
            for benchmark, conditions in CONDITIONS:
                found = predicted(benchmark, conditions, 0.4 - 0.1 * number - gain)
                key = type(benchmark).__name__.lower()
                rows = predictions_table(found, benchmark.extras)
                about = {"method": method, "trial_id": f"{method}-1", "benchmark": key}
                put(
                    store,
                    f"{method}-1/{key}-1",
                    *benchmark.measure(found),
                    rows=rows,
                    settings='{"method": {}, "dataset": {"name": "digits"}}',
                    **about,
                )
        read(store.uri)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_blocks_of_python_run(number: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON[number], f"results.md block {number}", "exec"), {})
    assert capsys.readouterr().out


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
    with pytest.raises(SystemExit) as end:
        app()
    return int(end.value.code or 0)


def test_commands_run_in_their_order(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(COMMANDS) >= 14
    # the made-up cells are of no experiment file: which are of one is tested in tests/analysis/test_selection.py
    cells = ["pixmix-1/clean-1", "baseline-1/clean-1"]
    monkeypatch.setattr("pixmix_ray.cli.selection.cells_of", lambda file, uri: cells)
    for line in COMMANDS:
        assert run(line, monkeypatch) == 0, line
        assert capsys.readouterr().out, line
    assert {"front.pdf", "report.html", "quickstart.zip"} <= {path.name for path in here.iterdir()}
    assert (here / "results" / "elsewhere" / "cells").is_dir()
