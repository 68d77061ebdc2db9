"""What a results folder holds, told without an experiment file: from files written by hand and by real work."""

import json
from pathlib import Path

import pytest
import torch

from pixmix_ray.errors import RequestError, ResultsError, TrainingDivergedError
from pixmix_ray.evaluation.cell import evaluate_cell
from pixmix_ray.evaluation.checkpoints import trained
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning import status as status_module
from pixmix_ray.planning.status import Status, TrialStatus, read_status
from pixmix_ray.storage.failures import reason, record_failure
from pixmix_ray.storage.index import read
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file
from pixmix_ray.training.trial import train_trial

CPU = torch.device("cpu")


def only_trial(status: Status) -> TrialStatus:
    (trial,) = status.trials
    return trial


def open_experiment(file: Path, *overrides: str) -> tuple[Experiment, Trial, Store]:
    sweep = read_experiment(file, overrides)
    (trial,) = sweep.trials()
    return sweep, trial, Store(sweep.results)


def test_a_trial_is_followed_from_its_first_epoch_to_its_cells(experiment: Path, tmp_path: Path) -> None:
    sweep, trial, store = open_experiment(experiment, "training.epochs=3")
    (run,) = sweep.benchmark_runs()
    seen = [only_trial(read_status(store.uri)).state for _ in train_trial(trial, store, CPU)]
    assert seen == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert only_trial(read_status(store.uri)) == TrialStatus(
        trial_id=trial.id, state="done", cells_done=0, cells_failed=0
    )
    evaluate_cell(trained(trial, store), run, store, CPU, "0.1.0")
    status = read_status(tmp_path / "results")
    assert status.uri == str(tmp_path / "results")
    assert only_trial(status).cells_done == 1
    assert status.failures == ()


def test_a_trial_that_failed_is_told_with_its_reason(experiment: Path) -> None:
    _, trial, store = open_experiment(experiment)
    store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    record_failure(store, trial_file(trial.id, "failed.json"), RuntimeError("out of\nmemory"))
    store.write_json("plan.json", {"labels": {trial.id: trial.label}})
    status = read_status(store.uri)
    assert only_trial(status).state == "failed"
    (line,) = status.failures
    assert line.startswith(f"{trial.id} (baseline seed 0): RuntimeError: out of memory")
    assert "\n" not in line
    assert status.only([trial.id]).failures == status.failures and status.only([]).failures == ()


def test_a_trial_that_failed_before_its_description_was_written_is_no_success(experiment: Path) -> None:
    _, trial, store = open_experiment(experiment)
    record_failure(store, trial_file(trial.id, "failed.json"), RuntimeError("the worker died"))
    status = read_status(store.uri)
    assert only_trial(status).state == "failed"
    assert len(status.failures) == 1


def test_a_cell_that_failed_is_told_with_its_reason(experiment: Path) -> None:
    sweep, trial, store = open_experiment(experiment)
    (run,) = sweep.benchmark_runs()
    list(train_trial(trial, store, CPU))
    record_failure(store, cell_failure_file(trial.id, run.key), ValueError("no such device"))
    status = read_status(store.uri)
    assert only_trial(status) == TrialStatus(trial_id=trial.id, state="done", cells_done=0, cells_failed=1)
    (line,) = status.failures
    assert line.startswith(f"{trial.id}/{run.key}: ValueError: no such device")


def test_a_trial_that_only_began_is_not_done(experiment: Path) -> None:
    _, trial, store = open_experiment(experiment)
    store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    state = only_trial(read_status(store.uri)).state
    assert state not in ("done", "failed")
    assert not state.startswith("epoch")


def test_several_trials_are_counted_apart_and_sorted_by_id(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("b", "a"):
        store.write_json(trial_file(name, "trial.json"), {"training": {"epochs": 1}})
        store.write_json(trial_file(name, "done.json"), {})
    for key in ("clean-1", "adversaries-1"):
        store.write(cell_file(f"a/{key}"), b"")
    store.write_json(cell_failure_file("b", "clean-1"), {"reason": "x", "failed_at": "now"})
    assert read_status(tmp_path).trials == (
        TrialStatus(trial_id="a", state="done", cells_done=2, cells_failed=0),
        TrialStatus(trial_id="b", state="done", cells_done=0, cells_failed=1),
    )


def test_a_checkpoint_from_elsewhere_counts_with_its_cells(tmp_path: Path) -> None:
    Store(tmp_path).write(cell_file("external-1/clean-1"), b"")
    assert only_trial(read_status(tmp_path)) == TrialStatus(
        trial_id="external-1", state="from elsewhere", cells_done=1, cells_failed=0
    )


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_folder_without_results_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "results"
    if kind == "empty":
        folder.mkdir()
    elif kind == "file":
        folder.write_text("no folder")
    with pytest.raises(ResultsError) as caught:
        read_status(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_that_was_damaged_and_set_aside_is_told_and_not_counted(experiment: Path) -> None:
    sweep, trial, store = open_experiment(experiment)
    (run,) = sweep.benchmark_runs()
    list(train_trial(trial, store, CPU))
    evaluate_cell(trained(trial, store), run, store, CPU, "0.1.0")
    path = cell_file(trained(trial, store).cell(run))
    content = store.read(path)
    assert content is not None
    store.write(path, content[:-20])
    with pytest.warns(UserWarning, match=f"{path} .* is damaged"), pytest.raises(ResultsError, match="no results in"):
        read(store.uri)
    status = read_status(store.uri)
    assert only_trial(status).cells_done == 0
    assert status.failures == (f"{path}.damaged: was damaged and set aside",)


def test_the_weights_of_a_running_trial_are_not_read(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, trial, store = open_experiment(experiment, "training.epochs=2")
    next(iter(train_trial(trial, store, CPU)))  # stopped after an epoch
    path = trial_file(trial.id, "progress.safetensors")
    size = len(store.read(path) or b"")
    counts: list[int] = []

    def read_start(store: Store, path: str, count: int) -> bytes | None:
        content = real(store, path, count)
        counts.append(len(content or b""))
        return content

    real = Store.read_start
    monkeypatch.setattr(Store, "read_start", read_start)
    monkeypatch.setattr(Store, "read", without_weights)
    assert only_trial(read_status(store.uri)).state == "epoch 1/2"
    assert 0 < sum(counts) < size / 2
    monkeypatch.setattr(status_module, "HEADER", 16)  # a header larger than what is read at first
    assert only_trial(read_status(store.uri)).state == "epoch 1/2"


whole = Store.read


def without_weights(store: Store, path: str) -> bytes | None:
    assert not path.endswith(".safetensors")
    return whole(store, path)


@pytest.mark.parametrize("content", [b"{}", b'{"training": 3}', b'{"training": {"epochs": "many"}}'])
def test_a_description_that_lacks_something_is_refused_by_name(experiment: Path, content: bytes) -> None:
    _, trial, store = open_experiment(experiment, "training.epochs=2")
    next(iter(train_trial(trial, store, CPU)))  # stopped after an epoch
    store.write(trial_file(trial.id, "trial.json"), content)
    with pytest.raises(ResultsError, match=f"{trial_file(trial.id, 'trial.json')} in .* is damaged"):
        read_status(store.uri)


def test_a_status_of_results_of_an_older_layout_says_what_to_run(tmp_path: Path) -> None:
    Store(tmp_path).write("compacted/1.parquet", b"old")
    with pytest.raises(ResultsError, match="run pixmix-ray migrate"):
        read_status(tmp_path)


@pytest.mark.parametrize("name", ["progress.safetensors", "trial.json", "failed.json"])
def test_a_file_of_a_trial_that_cannot_be_read_is_refused_by_name(experiment: Path, name: str) -> None:
    _, trial, store = open_experiment(experiment, "training.epochs=2")
    next(iter(train_trial(trial, store, CPU)))  # stopped after an epoch
    store.write(trial_file(trial.id, name), b"{ damaged")
    with pytest.raises(RequestError) as caught:
        read_status(store.uri)
    assert trial_file(trial.id, name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TrainingDivergedError(2, float("nan")), "the training loss became nan in epoch 2: lower training.lr"),
        (RuntimeError("out of\n  memory"), "RuntimeError: out of memory"),
        (KeyError("weights"), "KeyError: 'weights'"),
    ],
)
def test_a_reason_is_one_line(error: Exception, text: str) -> None:
    assert reason(error).startswith(text)
    assert "\n" not in reason(error)


def test_a_record_of_failure_keeps_the_traceback_for_people(tmp_path: Path) -> None:
    store = Store(tmp_path)
    try:
        json.loads("{")
    except ValueError as error:
        record_failure(store, trial_file("a", "failed.json"), error)
    record = store.read_json(trial_file("a", "failed.json"))
    assert record is not None
    assert record["reason"].startswith("JSONDecodeError: ")
    assert "json.loads" in record["traceback"]
    assert record["failed_at"].startswith("20")


def test_copies_that_other_programs_leave_are_no_trials(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for folder in ("trials/pixmix-1", "trials/pixmix-1 (copy)", "trials"):
        store.write_json(f"{folder}/trial.json", {"training": {"epochs": 3}})
    store.write("trials/.DS_Store", b"junk")
    store.write_json("trials/pixmix-1 (copy)/failed.json", {"reason": "a copy"})
    found = read_status(store.uri)
    assert [trial.trial_id for trial in found.trials] == ["pixmix-1"]
    assert found.failures == ()
