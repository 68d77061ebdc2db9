"""A run: what is done, what is not done again, and what happens when something fails."""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from PIL import Image

from pixmix_ray.errors import DataError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.retries import Failure
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.work import Work
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.storage.cell import read_cell
from pixmix_ray.storage.index import list_cells, read
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress, train_trial
from tests.orchestration.notes import Notes, opened

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # it has no types
# Ray Tune closes some of its own sockets and files late
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def plan_of(experiment: Path, *overrides: str) -> Plan:
    return make_plan(read_experiment(experiment, overrides))


def run(experiment: Path, *overrides: str, executor: str = "local") -> tuple[tuple[Failure, ...], Notes]:
    notes = Notes()
    done = run_plan(plan_of(experiment, *overrides), executor=executor, watch=opened(notes))
    return done.failures, notes


def modified(folder: Path) -> dict[str, int]:
    """When each file was written, but for the index, which follows from the cells, and what tells of the last run."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        name: path.stat().st_mtime_ns
        for path in files
        if not (name := str(path.relative_to(folder))).startswith(("measurements", "runs/", "plan.json"))
    }


def test_running_again_does_only_what_is_missing(experiment: Path) -> None:
    failures, notes = run(experiment)
    assert failures == ()
    assert notes.ended == ["trained baseline seed 0", "measured baseline seed 0 × clean"]
    results = experiment.parent / "results"
    before = modified(results)

    for overrides, new in {  # the same file; one more method, one more seed, one more benchmark
        (): [],
        ("methods=[baseline, cutout]",): ["trained cutout seed 0", "measured cutout seed 0 × clean"],
        ("seeds=[0, 1]",): ["trained baseline seed 1", "measured baseline seed 1 × clean"],
        ("benchmarks=[{name: clean, limit: 50}, {name: adversaries, limit: 20, steps: 2}]",): [
            "measured baseline seed 0 × adversaries"
        ],
    }.items():
        failures, notes = run(experiment, *overrides)
        assert failures == ()
        assert notes.ended == new
        after = modified(results)
        assert {path: after[path] for path in before} == before  # nothing that was done was touched


def content(results: str) -> Mapping[str, Any]:
    """All that was learned and measured, without times."""
    store = Store(results)
    cells = {name: read_cell(store, name) for name in list_cells(store)}
    frame = read(results).drop(columns=["seconds", "finished_at"])
    return {
        "weights": {path: store.read(path) for path in store.files("trials") if path.endswith("model.safetensors")},
        "predictions": {name: cell.rows.to_pylist() for name, cell in cells.items() if cell is not None},
        "measurements": frame.astype(str).to_dict("records"),
    }


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_two_trials_with_two_cells_each_end_in_the_same_bytes_as_in_this_process(experiment: Path) -> None:
    two = ("seeds=[0, 1]", "training.epochs=2", "benchmarks=[{name: clean, limit: 50}, {name: clean, limit: 40}]")
    found = {}
    for executor in ("ray", "local"):
        results = str(experiment.parent / executor)
        failures, notes = run(experiment, *two, f"results={results}", executor=executor)
        assert failures == ()
        assert len(notes.ended) == 2 + 4 and sorted(notes.epochs) == sorted(
            (f"baseline seed {seed}", epoch) for seed in (0, 1) for epoch in (1, 2)
        )
        found[executor] = content(results)
    assert len(found["ray"]["weights"]) == 2 and len(found["ray"]["predictions"]) == 4
    assert len(set(found["ray"]["weights"].values())) == 2
    for part, expected in found["local"].items():
        assert found["ray"][part] == expected, part


def test_a_loss_that_becomes_nan_fails_its_trial_with_the_epoch(experiment: Path) -> None:
    text = experiment.read_text().replace("epochs: 1", "epochs: 2\n  lr: 1.0e+30")
    experiment.write_text(text)
    failures, notes = run(experiment)
    assert [failure.label.partition(" (")[0] for failure in failures] == ["baseline seed 0"]
    assert "in epoch 1" in failures[0].reason
    assert notes.ended == ["failed baseline seed 0"]
    (record,) = (experiment.parent / "results").glob("trials/*/failed.json")
    assert "TrainingDivergedError" in json.loads(record.read_text())["traceback"]


def test_a_cell_that_fails_is_recorded_and_the_others_are_measured(experiment: Path, tmp_path: Path) -> None:
    """The fault: an exception in somebody's benchmark."""
    raises = f"{{name: 'faulty_parts:Raises', limit: 50, diary: {tmp_path / 'diary'}}}"
    failures, notes = run(experiment, f"benchmarks=[{raises}, {{name: clean, limit: 50}}]")
    assert [failure.label.partition(" (")[0] for failure in failures] == ["baseline seed 0 × Raises"]
    assert failures[0].reason.startswith("KeyError: 'a slip in my benchmark' at ")
    assert re.search(r"faulty_parts\.py:\d+ in predict \(pixmix-ray logs ", failures[0].reason)
    assert sorted(notes.ended) == [
        "failed baseline seed 0 × Raises",
        "measured baseline seed 0 × clean",
        "trained baseline seed 0",
    ]
    assert plan_of(experiment, f"benchmarks=[{raises}]").cells_to_run()  # the next run tries it again


def test_data_that_are_gone_when_a_run_begins_end_it_before_anything_is_trained(
    experiment: Path, tmp_path: Path
) -> None:
    """The fault: the folder of an outlier set disappears after the plan was made."""
    folder = tmp_path / "outliers"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.full((32, 32, 3), 80 * index, dtype=np.uint8)).save(folder / f"{index}.png")
    plan = plan_of(experiment, f"benchmarks=[{{name: anomalies, limit: 50, folders: {{x: {folder}}}}}]")
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=f"there is nothing at {folder}"):
        run_plan(plan, executor="local")
    assert not plan.store.files("")


def train_and_say_where(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """As `train_trial`, and the process leaves its number."""
    store.write("trainer", str(os.getpid()).encode())
    yield from train_trial(trial, store, device)


class Killer(Notes):
    """The fault: SIGKILL of the trainer's worker process after its second epoch."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.killed: list[int] = []

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        super().epoch_done(trial, progress)
        if progress.epoch == 2 and not self.killed:
            self.killed = [int(self.store.read("trainer") or b"")]
            os.kill(self.killed[0], signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_whose_worker_is_killed_goes_on_from_its_last_epoch(
    experiment: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = ["training.epochs=12"]
    undisturbed, _ = run(experiment, *long, f"results={tmp_path / 'undisturbed'}")
    plan = plan_of(experiment, *long)
    killer = Killer(plan.store)
    failures = run_plan(plan, watch=opened(killer), work=Work(train=train_and_say_where)).failures
    assert undisturbed == failures == ()
    assert int(plan.store.read("trainer") or b"") not in killer.killed, "another process went on"
    assert "attempt 1 failed on" in caplog.text and "trying again" in caplog.text
    epochs = [epoch for _, epoch in killer.epochs]
    assert sorted(set(epochs)) == epochs, "no epoch is reported twice"
    columns = ["checkpoint_id", "metric", "value"]
    results = [read(folder)[columns] for folder in (tmp_path / "undisturbed", experiment.parent / "results")]
    assert results[0].equals(results[1])
