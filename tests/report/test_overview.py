"""Plans, results folders, parts and single evaluations as a person reads them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from pixmix_ray.experiment.described import TABLES
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.metrics import Measurement
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.planning.status import Status, TrialStatus
from pixmix_ray.report import overview
from pixmix_ray.report.overview import counts_line, measurements_table, parts_table, plan_table, status_table
from pixmix_ray.storage.store import cell_failure_file, trial_file
from tests.stored_cells import CHECKPOINT, put_of

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(experiment: Path) -> MakePlan:
    """The plan of the tiny experiment with --set overrides."""
    return lambda *overrides: make_plan(read_experiment(experiment, overrides))


def shown(table: Table) -> str:
    """What a wide console without colour shows."""
    console = Console(file=io.StringIO(), width=250, force_terminal=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row_with(text: str, *parts: str) -> str:
    """The one line of `text` that holds all `parts`."""
    (line,) = [line for line in text.splitlines() if all(part in line for part in parts)]
    return line


def half_done(plan: MakePlan) -> Plan:
    """Baseline is trained, one of its two cells done, the other failed; cutout failed; pixmix is missing."""
    overrides = ("methods=[baseline, cutout, pixmix]", "benchmarks=[clean, adversaries]")
    made = plan(*overrides)
    baseline, cutout, _ = made.trials
    first, second = (cell for cell in made.cells if cell.trial is baseline)
    done = {"checkpoint_id": CHECKPOINT, "settings": baseline.settings, "epoch_seconds": [2.0]}
    made.store.write_json(trial_file(baseline.id, "done.json"), done)
    made.store.write_json(trial_file(cutout.id, "failed.json"), {})
    put_of(made.store, baseline, first.run)
    made.store.write_json(cell_failure_file(baseline.id, second.run.key), {})
    return plan(*overrides)


def test_a_plan_shows_each_trial_with_its_state_and_its_cells(plan: MakePlan, tmp_path: Path) -> None:
    made = half_done(plan)
    text = shown(plan_table(made))
    for trial, state, cells in zip(
        made.trials, ("done", "failed", "missing"), ("1 of 2, 1 failed", "0 of 2", "0 of 2"), strict=True
    ):
        line = row_with(text, trial.id)
        for part in (trial.label, state, cells):
            assert part in line
    assert "failed" not in row_with(text, "pixmix k=4 beta=3 fractals seed 0")


def test_the_counts_add_up(plan: MakePlan) -> None:
    made = plan("methods=[baseline, cutout]", "seeds=[0, 1, 2]", "benchmarks=[clean, adversaries]")
    lines = counts_line(made).splitlines()
    assert lines[0] == "trials: 6 (0 done, 6 missing, 0 failed)"
    assert lines[1] == "cells: 12 (0 done, 12 missing, 0 failed)"
    assert "unknown" in lines[2]


def test_failed_trials_and_cells_are_counted_apart(plan: MakePlan) -> None:
    made = half_done(plan)
    lines = counts_line(made).splitlines()
    assert lines[0] == "trials: 3 (1 done, 1 missing, 1 failed)"
    assert lines[1] == "cells: 6 (1 done, 4 missing, 1 failed)"


def test_the_estimate_is_shown_in_seconds_or_hours(plan: MakePlan) -> None:
    first = plan()
    (trial,) = first.trials
    first.store.write_json(trial_file(trial.id, "done.json"), {"settings": trial.settings, "epoch_seconds": [3.0]})
    assert "training 21 s" in counts_line(plan("training.epochs=7"))  # 7 epochs of 3 s
    assert "training 2.50 h" in counts_line(plan("training.epochs=3000"))  # 9000 s
    assert "evaluation unknown" in counts_line(plan("training.epochs=7"))


@pytest.mark.parametrize(
    ("benchmark", "told"),
    [
        ("{name: corruptions, exclude: [frost]}", "0.215 MB for each test picture; keep_gb is 32"),  # 14 * 5 * 3072
        ("{name: corruptions_bar, limit: 10000, keep_gb: 2}", "up to 1.5 GB; keep_gb is 2"),  # 10,000 * 10 * 5 * 3072
        (
            "{name: corruptions_bar, limit: 10000, keep_gb: 1}",
            "keep_gb is 1: without room they are made again for each",
        ),
        ("{name: corruptions_bar, keep_gb: 0}", ""),
        ("clean", ""),
    ],
)
def test_a_plan_tells_what_the_pictures_of_a_benchmark_take(experiment: Path, benchmark: str, told: str) -> None:
    found = read_experiment(experiment, [f"benchmarks=[{benchmark}]"])
    lines = overview.pictures_notes(found, found.benchmarks[0])
    assert len(lines) == bool(told) and all(told in line for line in lines)


def test_when_all_is_done_there_is_nothing_to_do(plan: MakePlan) -> None:
    made = plan()
    ((trial, _),), ((cell, _),) = made.trials.items(), made.cells.items()
    done: Plan = Plan(store=made.store, experiment=made.experiment, trials={trial: "done"}, cells={cell: "done"})
    last = counts_line(done).splitlines()[2]
    assert last.startswith("nothing")
    assert not any(character.isdigit() for character in last)


STATUS = Status(
    uri="/data/results",
    trials=(
        TrialStatus(trial_id="baseline-0123456789ab", state="done", cells_done=3, cells_failed=1),
        TrialStatus(trial_id="pixmix-0123456789ab", state="epoch 3/10", cells_done=0, cells_failed=0),
    ),
    failures=(),
)


def test_a_status_shows_how_far_each_trial_is() -> None:
    text = shown(status_table(STATUS))
    for part in ("done", "3", "1"):
        assert part in row_with(text, "baseline-0123456789ab")
    assert "epoch 3/10" in row_with(text, "pixmix-0123456789ab")


def test_of_very_many_trials_only_those_that_are_not_done_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def trials(*states: str) -> Status:
        found = [TrialStatus(trial_id=f"t{i}", state=of, cells_done=1, cells_failed=0) for i, of in enumerate(states)]
        return Status(uri="", trials=tuple(found), failures=())

    monkeypatch.setattr(overview, "MOST_ROWS", 2)
    text = shown(status_table(trials("done", "begun", "done")))
    assert "t1" in text and "t0" not in text and "and 2 more, which are done" in " ".join(text.split())
    text = shown(status_table(trials("begun", "begun", "begun", "done")))
    assert "t1" in text and "t2" not in text and "and 2 more" in " ".join(text.split()) and "which" not in text


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_every_part_is_shown_with_what_it_is_and_its_settings(kind: str) -> None:
    text = shown(parts_table(TABLES[kind]))
    words = set(text.replace("│", " ").split())
    for name, part in TABLES[kind].known().items():
        assert name in words
        assert str(part.summary).split()[0] in words
        for setting in part.model_fields:
            assert setting in words


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("methods", "k (4)"),
        ("methods", "beta (3.0)"),
        ("models", "depth (40)"),
        ("models", "dropout (0.3)"),
        ("mixing-sets", "count (1000)"),
        ("mixing-sets", "folders (required)"),
        ("datasets", "train_limit (None)"),
    ],
)
def test_settings_are_shown_with_their_defaults(kind: str, setting: str) -> None:
    assert setting in shown(parts_table(TABLES[kind]))


ROWS = [
    Measurement(metric="error", value=0.5, n=10, condition="fog", severity=5),
    Measurement(metric="error", value=0.25, n=50, condition="fog"),
    Measurement(metric="mce", value=0.0425, n=100, standard_error=0.0128),
    Measurement(metric="auroc", value=0.9, n=20),
]


def test_an_evaluation_is_shown_in_percent_aggregates_first() -> None:
    text = shown(measurements_table("corruptions", ROWS))
    assert "corruptions" in text
    mce, auroc, fog = row_with(text, "mce"), row_with(text, "auroc"), row_with(text, "fog")
    for part in ("↓", "4.25", "1.28", "100"):
        assert part in mce
    for part in ("↑", "90.00"):
        assert part in auroc
    assert "25.00" in fog
    lines = text.splitlines()
    assert lines.index(mce) < lines.index(fog)
    assert lines.index(auroc) < lines.index(fog)
    assert "percent" in text


def test_single_severities_are_not_shown() -> None:
    assert "50.00" not in shown(measurements_table("corruptions", ROWS))


def test_showing_changes_nothing(plan: MakePlan) -> None:
    made = half_done(plan)
    before: tuple[Any, Any] = (dict(made.trials), dict(made.cells))
    files = {path: made.store.read(path) for path in made.store.files("trials") | made.store.files("cells")}
    shown(plan_table(made))
    assert (made.trials, made.cells) == before
    assert {path: made.store.read(path) for path in files} == files
