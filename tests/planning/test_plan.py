"""What is left to do: states from files alone, only what is new, and costs computed by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pixmix_ray.errors import DataError, ResultsError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning import durations
from pixmix_ray.planning.durations import Cost, Durations, cost
from pixmix_ray.planning.plan import Cell, Plan, make_plan
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file
from tests.stored_cells import CHECKPOINT, ERROR, name_of, put_of

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(experiment: Path) -> MakePlan:
    """The plan of the tiny experiment with --set overrides."""
    return lambda *overrides: make_plan(read_experiment(experiment, overrides))


def finish_trial(store: Store, trial: Trial, epoch_seconds: list[float]) -> None:
    """What a trial leaves behind, as far as a plan reads it."""
    done = {"checkpoint_id": CHECKPOINT, "epoch_seconds": epoch_seconds, "settings": trial.settings}
    store.write_json(trial_file(trial.id, "trial.json"), trial.dump())
    store.write_json(trial_file(trial.id, "done.json"), done)


def finish_cell(store: Store, cell: Cell, seconds: float) -> None:
    """Two measurements; both say the seconds of the whole cell."""
    put_of(store, cell.trial, cell.run, ERROR, replace(ERROR, metric="soft_f1"), seconds=seconds)


def finish_all(made: Plan) -> None:
    for trial in made.trials:
        finish_trial(made.store, trial, [1.0])
    for cell in made.cells:
        finish_cell(made.store, cell, 1.0)


def states(made: Plan) -> dict[str, Any]:
    trials = {trial.label: state for trial, state in made.trials.items()}
    return trials | {cell.label: state for cell, state in made.cells.items()}


def test_in_an_empty_folder_everything_is_missing_and_nothing_is_written(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("methods=[baseline, cutout]", "seeds=[0, 1]", "benchmarks=[clean, adversaries]")
    assert (len(made.trials), len(made.cells)) == (4, 8)
    assert set(states(made).values()) == {"missing"}
    assert made.trials_to_run() == list(made.trials)
    assert made.cells_to_run() == list(made.cells)
    assert not (tmp_path / "results").exists()


def test_cells_are_every_trial_on_every_benchmark(plan: MakePlan) -> None:
    made = plan("methods=[baseline, cutout]", "benchmarks=[clean, adversaries]")
    assert [cell.label for cell in made.cells] == [
        "baseline seed 0 × clean",
        "baseline seed 0 × adversaries",
        "cutout seed 0 × clean",
        "cutout seed 0 × adversaries",
    ]


def test_states_come_from_files_alone(plan: MakePlan) -> None:
    before = plan("methods=[baseline, cutout, mixup, cutmix]")
    store, (baseline, cutout, mixup, cutmix) = before.store, before.trials
    cells = {cell.trial.id: cell for cell in before.cells}
    finish_trial(store, baseline, [1.0])
    finish_cell(store, cells[baseline.id], 1.0)
    finish_trial(store, cutout, [1.0])
    store.write_json(cell_failure_file(cutout.id, cells[cutout.id].run.key), {"reason": "out of memory"})
    store.write_json(trial_file(mixup.id, "trial.json"), mixup.dump())
    store.write_json(trial_file(mixup.id, "failed.json"), {"reason": "the loss became nan"})
    store.write_json(trial_file(cutmix.id, "trial.json"), cutmix.dump())
    store.write(trial_file(cutmix.id, "progress.safetensors"), b"half-trained")
    after = plan("methods=[baseline, cutout, mixup, cutmix]")
    assert states(after) == {
        "baseline seed 0": "done",
        "baseline seed 0 × clean": "done",
        "cutout seed 0": "done",
        "cutout seed 0 × clean": "failed",
        "mixup seed 0": "failed",
        "mixup seed 0 × clean": "missing",
        "cutmix seed 0": "missing",
        "cutmix seed 0 × clean": "missing",
    }
    assert [trial.label for trial in after.trials_to_run()] == ["mixup seed 0", "cutmix seed 0"]
    assert [cell.trial.label for cell in after.cells_to_run()] == ["cutout seed 0", "mixup seed 0", "cutmix seed 0"]
    assert states(before) == dict.fromkeys(states(before), "missing")  # a plan is of the moment when it was made


def test_the_mark_of_completion_beats_the_trace_of_an_earlier_failure(plan: MakePlan) -> None:
    made = plan()
    (trial,), (cell,) = made.trials, made.cells
    finish_all(made)
    made.store.write_json(trial_file(trial.id, "failed.json"), {"reason": "earlier"})
    made.store.write_json(cell_failure_file(trial.id, cell.run.key), {"reason": "earlier"})
    assert set(states(plan()).values()) == {"done"}


def test_when_all_is_done_nothing_is_to_run(plan: MakePlan) -> None:
    finish_all(plan())
    assert plan().trials_to_run() == []
    assert plan().cells_to_run() == []
    left = estimate(plan())
    assert (left.training, left.evaluation) == (0, 0)


def test_the_weights_of_a_trial_whose_cells_are_done_may_be_deleted(plan: MakePlan) -> None:
    finish_all(plan())
    again = plan("seeds=[0, 1]")  # its done.json says which weights they were, and no weights were ever there
    assert [trial.label for trial in again.trials_to_run()] == ["baseline seed 1"]


def test_a_cell_is_named_by_the_weights_so_one_of_other_weights_is_missing(plan: MakePlan) -> None:
    made = plan()
    (trial,), (cell,) = made.trials, made.cells
    assert cell.name is None
    finish_all(made)
    (again,) = plan().cells
    assert again.name == name_of(trial, cell.run)
    made.store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": "trained-anew"})
    assert list(plan().cells.values()) == ["missing"]


@pytest.mark.parametrize("content", [b"", b"{ damaged", b"[]", b'{"checkpoint_id": 3}'])
def test_a_mark_of_completion_that_makes_no_sense_leaves_the_cells_of_its_trial_missing(
    plan: MakePlan, content: bytes
) -> None:
    finish_all(plan())
    (trial,) = plan().trials
    plan().store.write(trial_file(trial.id, "done.json"), content)
    assert list(plan().cells.values()) == ["missing"]  # and whoever evaluates it finds the damage


def test_a_plan_of_results_of_an_older_layout_says_what_to_run(plan: MakePlan, tmp_path: Path) -> None:
    Store(tmp_path / "results").write("predictions/a/clean-1.parquet", b"old")
    with pytest.raises(ResultsError, match="run pixmix-ray migrate"):
        plan()


@pytest.mark.parametrize(
    ("override", "new_trials", "new_cells"),
    [
        ("methods=[baseline, cutout]", ["cutout seed 0"], ["cutout seed 0 × clean"]),
        ("seeds=[0, 1]", ["baseline seed 1"], ["baseline seed 1 × clean"]),
        (
            "benchmarks=[{name: clean, limit: 50}, adversaries]",
            [],
            ["baseline seed 0 × adversaries"],
        ),
        ("benchmarks.clean.limit=51", [], ["baseline seed 0 × clean"]),
        ("training.epochs=2", ["baseline seed 0"], ["baseline seed 0 × clean"]),
        ("resources.trial.cpus=2", [], []),
        ("mixing_set.count=5", [], []),
        ("k=[1, 2]", [], []),
    ],
)
def test_only_what_is_new_is_planned(
    plan: MakePlan, override: str, new_trials: list[str], new_cells: list[str]
) -> None:
    finish_all(plan())
    made = plan(override)
    assert [trial.label for trial in made.trials_to_run()] == new_trials
    assert [cell.label for cell in made.cells_to_run()] == new_cells


def test_another_results_folder_knows_nothing_of_the_first(plan: MakePlan, tmp_path: Path) -> None:
    finish_all(plan())
    made = plan(f"results={tmp_path / 'other'}")
    assert set(states(made).values()) == {"missing"}


def test_a_sweep_of_missing_data_has_no_plan(plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        plan("methods=[pixmix]", f"mixing_set={{name: folder, folders: {tmp_path / 'nowhere'}}}")


def test_own_rows_are_those_of_this_sweep_alone(plan: MakePlan) -> None:
    finish_all(plan("methods=[baseline, cutout]", "benchmarks=[clean, adversaries]"))
    made = plan("methods=[baseline, mixup]", "benchmarks=[clean]")
    frame: pd.DataFrame = made.own_rows()
    (baseline, _) = made.trials
    assert set(frame["trial_id"]) == {baseline.id}
    assert len(frame) == 2  # both metrics of the one cell that is done
    assert plan("methods=[mixup]").own_rows().empty


# costs


def estimate(made: Plan) -> Cost:
    return cost(made, Durations.of(made.store, made.experiment.resources))


def test_without_history_there_is_no_estimate(plan: MakePlan) -> None:
    left = estimate(plan("methods=[baseline, pixmix]"))
    assert (left.training, left.evaluation) == (None, None)


def test_the_estimate_is_made_of_the_means_of_what_was_measured(plan: MakePlan) -> None:
    before = plan("methods=[baseline, cutout]", "training.epochs=2", "benchmarks=[clean, adversaries]")
    baseline, cutout = before.trials
    finish_trial(before.store, baseline, [2.0, 4.0])
    finish_trial(before.store, cutout, [9.0, 9.0])
    for cell, seconds in zip(before.cells, [0.5, 20.0, 1.5, 40.0], strict=True):
        finish_cell(before.store, cell, seconds)
    left = estimate(
        plan(
            "methods=[baseline, cutout, pixmix]",
            "training.epochs=2",
            "seeds=[0, 1]",
            "benchmarks=[clean, adversaries]",
        )
    )
    # to train: baseline seed 1 at (2 + 4) / 2 = 3 s an epoch, cutout seed 1 at 9 s; pixmix, of which there is no
    # history, twice at the mean of all, (2 + 4 + 9 + 9) / 4 = 6 s; two epochs each
    assert left.training == pytest.approx(2 * 3 + 2 * 9 + 2 * (2 * 6))
    # to evaluate: four cells of clean at (0.5 + 1.5) / 2 = 1 s, four of adversaries at (20 + 40) / 2 = 30 s
    assert left.evaluation == pytest.approx(4 * 1 + 4 * 30)


def test_other_epochs_cost_in_proportion(plan: MakePlan) -> None:
    before = plan()
    (trial,) = before.trials
    finish_trial(before.store, trial, [3.0])
    assert estimate(plan("training.epochs=7")).training == pytest.approx(21)


def test_another_network_or_data_set_is_no_history(plan: MakePlan) -> None:
    finish_all(plan())
    assert estimate(plan("model.depth=16")).training is None
    assert estimate(plan("dataset.train_limit=150")).training is None
    assert estimate(plan("model.depth=16")).evaluation == pytest.approx(1)


def test_a_benchmark_with_other_settings_is_no_history(plan: MakePlan) -> None:
    finish_all(plan())
    left = estimate(plan("benchmarks.clean.limit=51"))
    assert (left.training, left.evaluation) == (0, None)


def test_one_unknown_cell_makes_the_estimate_of_all_unknown(plan: MakePlan) -> None:
    finish_all(plan())
    assert estimate(plan("seeds=[0, 1]", "benchmarks=[{name: clean, limit: 50}, adversaries]")).evaluation is None


@pytest.mark.parametrize("name", ["done.json", "cell"])
@pytest.mark.filterwarnings("ignore:.* is damaged:UserWarning")
def test_a_file_that_cannot_be_read_has_no_price(plan: MakePlan, name: str) -> None:
    made = plan()
    finish_all(made)
    (cell,) = made.cells
    path = cell_file(name_of(cell.trial, cell.run)) if name == "cell" else trial_file(cell.trial.id, name)
    made.store.write(path, b"{ damaged")
    left = estimate(plan("seeds=[0, 1]"))
    assert (left.evaluation if name == "cell" else left.training) is None


def test_of_many_trials_the_price_is_that_of_a_sample(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan("seeds=[0, 1, 2, 3, 4, 5, 6, 7, 8]")
    for trial in made.trials:
        finish_trial(made.store, trial, [float(trial.seed)])
    for cell in made.cells:
        finish_cell(made.store, cell, 3.0)
    read: list[str] = []
    real = Store.read_json

    def counted(self: Store, path: str) -> dict[str, Any] | None:
        read.extend([path] if path.endswith("done.json") else [])
        return real(self, path)

    monkeypatch.setattr(Store, "read_json", counted)
    monkeypatch.setattr(durations, "SAMPLE", 3)
    left = estimate(plan("seeds=[9]"))
    assert len(read) == 3
    assert left.evaluation == pytest.approx(3)
    assert left.training is not None and 0 <= left.training <= 8
