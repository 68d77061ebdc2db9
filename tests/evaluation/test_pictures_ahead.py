"""Pictures made ahead: each once, by other processes, what is missing alone, and read by the evaluation as they are."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pixmix_ray.benchmarks import Anomalies, Clean, Consistency, Corruptions, CorruptionsBar, made_pictures
from pixmix_ray.benchmarks.made_pictures import FOLDER
from pixmix_ray.cache import cache_folder
from pixmix_ray.child_processes import end_children, start_children
from pixmix_ray.datasets import Dataset, Digits
from pixmix_ray.evaluation import pictures_ahead
from pixmix_ray.evaluation.pictures_ahead import PictureWork, make, missing, works_of
from pixmix_ray.experiment.trial import BenchmarkRun
from pixmix_ray.plugins import Part

DIGITS: Part[Dataset] = Part(name="digits", settings=Digits(train_limit=10))
CORRUPTIONS = Corruptions(names=("brightness", "contrast"), limit=20)
PATIENCE = 120  # seconds until a test that waits for processes fails


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("PIXMIX_RAY_CACHE", str(tmp_path))
    monkeypatch.setattr(pictures_ahead, "WORTH_BYTES", 1)
    monkeypatch.setattr(made_pictures, "PIECE_BYTES", 20 * 41 * 32 * 32 * 3)
    yield cache_folder() / FOLDER


def _run(benchmark: Corruptions | CorruptionsBar | Consistency | Anomalies | Clean) -> BenchmarkRun:
    return BenchmarkRun(benchmark=Part(name=type(benchmark).__name__.lower(), settings=benchmark), version="")


def _works(benchmark: Corruptions | CorruptionsBar | Consistency | Anomalies | Clean) -> list[PictureWork]:
    return works_of([(DIGITS, _run(benchmark))])


@pytest.mark.parametrize(
    ("benchmark", "pieces"),
    [
        (CORRUPTIONS, 10),
        (CorruptionsBar(names=("lines",), severities=(3,), limit=20), 1),
        (Consistency(names=("rotate", "tilt"), limit=20), 2),
        (Anomalies(limit=20, repeats=2), 6),
        (Clean(), 0),
        (CORRUPTIONS.model_copy(update={"keep_gb": 0.0}), 0),
        (CORRUPTIONS.model_copy(update={"keep_gb": 1e-5}), 0),  # less than all of them take
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_made_ahead_is_what_an_evaluation_reads(
    benchmark: Corruptions, pieces: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = _works(benchmark)
    assert len(works) == pieces
    for work in works:
        make(work)
    assert len(list(folder.glob("*.npy"))) == pieces and not missing(works)
    if pieces:
        data = Digits(train_limit=10).load()
        test = benchmark.pictures(data.test_images, data.test_labels)
        made = benchmark.made(test)
        assert made is not None
        sizes = [made.pictures(piece).nbytes for piece in made.pieces]
        assert sum(sizes) == made.nbytes and all(isinstance(made.pictures(piece), np.memmap) for piece in made.pieces)
        side = test.images.shape[1]
        assert benchmark.bytes_made(side) * len(test.labels) == pytest.approx(made.nbytes, rel=1e-4)
        with torch.random.fork_rng(devices=[]):
            network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval().requires_grad_(requires_grad=False)
        before = sorted(file.stat().st_ino for file in folder.glob("*.npy"))
        benchmark.predict(network, test, torch.device("cpu"))
        assert sorted(file.stat().st_ino for file in folder.glob("*.npy")) == before


def test_works_are_pieces_that_different_cells_share(folder: Path) -> None:
    other = replace(DIGITS, settings=Digits(train_limit=20))  # trained on others, tested on the same
    works = works_of([(DIGITS, _run(CORRUPTIONS)), (DIGITS, _run(CORRUPTIONS)), (other, _run(CORRUPTIONS))])
    assert [work.place for work in works] == list(range(10))
    make(works[3])
    assert missing(works) == [*works[:3], *works[4:]]


def test_a_benchmark_that_cannot_make_its_pictures_leaves_it_to_the_evaluation_to_say_so() -> None:
    broken = CorruptionsBar(names=("lines",), exclude=("lines",), limit=20)  # none is left
    assert not _works(broken) and len(works_of([(DIGITS, _run(broken)), (DIGITS, _run(CORRUPTIONS))])) == 10


def test_too_little_is_not_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures_ahead, "WORTH_BYTES", 10 * 20 * 3072 + 1)
    assert not _works(CORRUPTIONS)


@pytest.mark.drill
def test_other_processes_make_them(folder: Path) -> None:
    works = _works(CORRUPTIONS)
    children = start_children(make, works, 2)
    try:
        deadline = time.monotonic() + PATIENCE
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [child.returncode for child in children] == [0, 0]
    finally:
        end_children(children)
    assert not missing(works)
    assert not start_children(lambda _: None, works, 2)  # a closure cannot be sent
    assert not start_children(make, works, 0)
