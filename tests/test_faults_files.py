"""Kills in the middle of writing, and memory that runs out in an evaluation: the two pieces of work, without Ray."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from pixmix_ray.benchmarks import Clean
from pixmix_ray.benchmarks.base import BATCH
from pixmix_ray.evaluation.cell import _predict_within_memory, evaluate_cell
from pixmix_ray.evaluation.checkpoints import trained
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import train_trial

FAULTS = Path(__file__).parent / "faults"
CPU = torch.device("cpu")
WRITES = {  # part of a file's name: at which writing of it the process is killed, and how many epochs are safe then
    "progress.safetensors": (2, 1),
    "model.safetensors": (1, 3),
    "done.json": (1, 3),
    "cells": (1, 3),
}


def contents(folder: Path) -> dict[str, object]:
    """What is the same on every run: the weights, and what was predicted."""
    weights = {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}
    cells = {str(path.relative_to(folder)): pq.read_table(path).to_pylist() for path in folder.rglob("*.parquet")}
    return {**weights, **cells}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kill, with what it left, beside the experiment file."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "experiment.yaml").write_text(
        "results: results\n"
        "dataset: {name: digits, train_limit: 200}\n"
        "model: {name: wide_resnet, depth: 10, width: 1, dropout: 0.0}\n"
        "methods: [baseline]\n"
        "training: {epochs: 3, flip: false}\n"
        "benchmarks: [{name: clean, limit: 50}]\n"
    )
    pairs = [str(word) for part, (number, _) in WRITES.items() for word in (part, number)]
    command = [sys.executable, str(FAULTS / "killed_writer.py"), str(folder / "experiment.yaml"), str(folder), *pairs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def finish(folder: Path, results: str) -> list[int]:
    """Do what is left with results in that folder; the epochs that it took."""
    sweep = read_experiment(folder / "experiment.yaml", [f"results={folder / results}"])
    (trial,), (run,) = sweep.trials(), sweep.benchmark_runs()
    store = Store(sweep.results)
    epochs = [progress.epoch for progress in train_trial(trial, store, CPU)]
    evaluate_cell(trained(trial, store), run, store, CPU, "tests")
    return epochs


@pytest.mark.drill
@pytest.mark.parametrize("part", WRITES)
def test_a_process_killed_between_writing_and_renaming_loses_an_epoch_at_most(part: str, killed: Path) -> None:
    """The fault: SIGKILL when the file is written beside and not yet renamed."""
    left = killed / str(list(WRITES).index(part))
    assert any(part in str(path.relative_to(left)) for path in left.rglob("*.part"))
    _, safe = WRITES[part]
    assert finish(killed, left.name) == list(range(safe + 1, 4))
    if not (killed / "undisturbed").exists():
        assert finish(killed, "undisturbed") == [1, 2, 3]
    assert contents(left) == contents(killed / "undisturbed")


class _Network(nn.Module):
    """A linear network that, above `fits` pictures at once, asks torch for more memory than there is."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        self.fits, self.seen = fits, list[int]()
        self.linear = nn.Linear(3 * 8 * 8, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10)."""
        self.seen.append(len(images))
        if len(images) > self.fits:
            torch.empty(1 << 50, dtype=torch.uint8)  # the real allocator's real error
        logits: Tensor = self.linear(images.flatten(1))
        return logits


def predicted(network: nn.Module, count: int) -> tuple[Predictions, list[Measurement]]:
    rng = np.random.Generator(np.random.Philox(key=3))
    images = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, count)
    benchmark = Clean()
    found = _predict_within_memory(benchmark, network, benchmark.pictures(images, labels), CPU)
    return found, benchmark.measure(found)


@pytest.mark.parametrize(("fits", "expected"), [(40, [64, *[32] * 23, 14]), (BATCH, [*[64] * 11, 46]), (1, None)])
def test_where_memory_runs_out_the_batch_is_halved_until_it_fits_and_no_number_changes(
    fits: int, expected: list[int] | None
) -> None:
    torch.manual_seed(0)
    network = _Network(BATCH).requires_grad_(requires_grad=False)
    count = 750 if expected else 4
    _, plenty = predicted(network, count)
    network.fits, network.seen = fits, []
    _, scarce = predicted(network, count)
    if expected:  # 750 pictures on a processor, 64 at once: they do not fit, so 32
        assert network.seen == expected
    else:
        assert network.seen[-4:] == [1] * 4
    assert [row.metric for row in plenty] == [row.metric for row in scarce]
    for before, after in zip(plenty, scarce, strict=True):
        assert after.value == pytest.approx(before.value, abs=1e-6)


def test_a_picture_too_many_on_its_own_is_an_error() -> None:
    network = _Network(0).requires_grad_(requires_grad=False)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        predicted(network, 3)
    assert network.seen == [3, 1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError(),
        MemoryError("Unable to allocate 8.00 GiB for an array"),
    ],
    ids=["CUDA", "CUDA's driver", "Python", "numpy"],
)
def test_every_kind_of_memory_that_runs_out_is_met_with_smaller_batches(error: Exception) -> None:
    """The fault: the error that CUDA, Python or numpy raises, once."""
    errors = [error]

    class Once(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            if errors:
                raise errors.pop()
            return images.flatten(1)[:, :10]

    found, _ = predicted(Once(), 20)
    assert len(found) == 20 and not errors


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_of_a_gpu_that_runs_out_is_met_with_smaller_batches() -> None:
    class Large(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            torch.empty(len(images) * torch.cuda.mem_get_info()[1] // 300, dtype=torch.uint8, device="cuda")
            return images.flatten(1)[:, :10]

    benchmark = Clean()
    images, labels = np.zeros((750, 8, 8, 3), dtype=np.uint8), np.zeros(750, dtype=np.int64)
    found = _predict_within_memory(benchmark, Large(), benchmark.pictures(images, labels), torch.device("cuda"))
    assert len(found) == 750


def test_any_other_error_is_not_tried_again() -> None:
    seen = []

    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(os.getpid())
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        predicted(Wrong(), 20)
    assert len(seen) == 1
