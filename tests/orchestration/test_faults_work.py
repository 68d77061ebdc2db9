"""What trials and cells do to their workers, all in one sweep: each is tried again as its class of error asks."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.planning.status import read_status
from pixmix_ray.storage.index import read
from tests.orchestration.notes import Notes, opened

pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray Tune closes some of its own files late
]
MEASURED = ["trial_id", "benchmark", "metric", "condition", "value"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The folder of an experiment after a run, and what the run said."""

    folder: Path
    plan: Plan
    failures: Mapping[str, str]
    ended: tuple[str, ...]

    def attempts(self, part: str) -> list[int]:
        """The processes that tried that part, in order."""
        return [int(path.name.split("-")[1]) for path in sorted((self.folder / part).iterdir())]


def modified(folder: Path) -> dict[str, int]:
    """When each file was written, but for what tells of the last run."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "plan.json"]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def run(folder: Path, *overrides: str) -> Outcome:
    plan = make_plan(read_experiment(folder / "experiment.yaml", overrides))
    notes = Notes()
    done = run_plan(plan, watch=opened(notes))
    failures = {failure.label.partition(" (")[0]: failure.reason for failure in done.failures}
    return Outcome(folder=folder, plan=plan, failures=failures, ended=tuple(notes.ended))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, ray_cluster: str) -> Outcome:
    """The faults: SIGKILL of evaluators' workers, memory that runs out, and exceptions in a method and a benchmark."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "experiment.yaml").write_text(
        f"""
results: results
dataset: {{name: digits, train_limit: 100}}
model: {{name: wide_resnet, depth: 10, width: 1, dropout: 0.0}}
methods:
- baseline
- {{name: 'faulty_parts:NeedsMemory', diary: {folder}/memory_once, times: 1}}
- {{name: 'faulty_parts:NeedsMemory', diary: {folder}/memory_ever, times: 99}}
- {{name: 'faulty_parts:RaisesInTraining', diary: {folder}/method}}
training: {{epochs: 1, flip: false}}
benchmarks:
- {{name: clean, limit: 50}}
resources: {{trial: {{cpus: 0.75}}, evaluation: {{cpus: 0.5}}}}
"""
    )
    trained = run(folder)
    benchmarks = f"""benchmarks=[{{name: clean, limit: 50}},
        {{name: 'faulty_parts:KillsItsWorker', limit: 50, diary: {folder}/kill_once, times: 1}},
        {{name: 'faulty_parts:KillsItsWorker', limit: 50, diary: {folder}/kill_ever, times: 99}},
        {{name: 'faulty_parts:Hungry', limit: 50, diary: {folder}/hungry, fits: 10}},
        {{name: 'faulty_parts:Raises', limit: 50, diary: {folder}/raises}}]"""
    before = modified(folder / "results")
    evaluated = run(folder, "methods=[baseline]", benchmarks)
    after = modified(folder / "results")
    done = [path for path in before if not path.startswith(("measurements", "runs/"))]
    assert {path: after[path] for path in done} == {path: before[path] for path in done}, "what was done was touched"
    return Outcome(
        folder=folder,
        plan=evaluated.plan,
        failures={**trained.failures, **evaluated.failures},
        ended=(*trained.ended, *evaluated.ended),
    )


def test_a_cell_whose_worker_is_killed_is_measured_by_another(outcome: Outcome) -> None:
    first, second = outcome.attempts("kill_once")
    assert first != second
    frame = read(outcome.folder / "results")
    values = frame[frame.trial_id.str.startswith("baseline")].pivot_table(
        index="metric", columns="benchmark", values="value"
    )
    assert (values["KillsItsWorker"] == values["clean"]).all()


def test_a_cell_that_kills_every_worker_fails_after_four_attempts_with_all_of_them_recorded(outcome: Outcome) -> None:
    pids = outcome.attempts("kill_ever")
    assert len(set(pids)) == 4
    record = _record_of(outcome, "WORKER_DIED")
    assert [attempt["pid"] for attempt in (*record["earlier"], record)] == pids
    assert {attempt["node"] for attempt in (*record["earlier"], record)} == {ray.get_runtime_context().get_node_id()}
    assert (record["attempt"], record["retried"]) == (4, False)
    assert [earlier["attempt"] for earlier in record["earlier"]] == [1, 2, 3]
    assert all(earlier["retried"] for earlier in record["earlier"])


def _record_of(outcome: Outcome, error: str) -> dict[str, Any]:
    records = [json.loads(path.read_text()) for path in (outcome.folder / "results").rglob("*failed.json")]
    (found,) = [record for record in records if record["error"] == error]
    return dict(found)


def test_memory_that_runs_out_in_an_evaluation_costs_no_attempt_and_no_number(outcome: Outcome) -> None:
    assert len(set(outcome.attempts("hungry"))) == 1
    frame = read(outcome.folder / "results")
    hungry, clean = (
        frame[(frame.benchmark == name) & frame.trial_id.str.startswith("baseline")][["metric", "value"]]
        for name in ("Hungry", "clean")
    )
    assert hungry.value.to_numpy() == pytest.approx(clean.value.to_numpy(), abs=1e-6)


def test_a_trial_that_runs_out_of_memory_is_tried_once_more(outcome: Outcome) -> None:
    assert len(outcome.attempts("memory_once")) == 2
    assert len([line for line in outcome.ended if line.startswith("trained")]) == 2  # it, and baseline


def test_a_trial_that_runs_out_of_memory_twice_fails_with_the_reason(outcome: Outcome) -> None:
    first, second = outcome.attempts("memory_ever")
    record = _record_of(outcome, "RuntimeError")
    assert (record["attempt"], record["retried"], record["pid"]) == (2, False, second)
    assert "DefaultCPUAllocator" in record["reason"] and "DefaultCPUAllocator" in record["traceback"]
    assert record["earlier"][0]["pid"] == first
    assert record["node"] in {node["NodeID"] for node in ray.nodes()}  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("part", ["method", "raises"])
def test_an_exception_in_a_part_of_the_users_fails_that_alone_with_its_traceback(part: str, outcome: Outcome) -> None:
    assert len(outcome.attempts(part)) == 1, "it is not tried again"
    where = {"method": "trials/*/failed.json", "raises": "cells/*/*.failed.json"}[part]
    records = [json.loads(path.read_text()) for path in (outcome.folder / "results").glob(where)]
    (record,) = [record for record in records if record["error"] == "KeyError"]
    assert f"a slip in my {'benchmark' if part == 'raises' else 'method'}" in record["reason"]
    assert 'raise KeyError("a slip' in record["traceback"] and "faulty_parts.py" in record["traceback"]
    assert (record["attempt"], record["retried"], record["earlier"]) == (1, False, [])


def test_all_that_failed_is_told_and_nothing_else(outcome: Outcome) -> None:
    assert len(outcome.failures) == 4, outcome.failures
    told = "\n".join(read_status(outcome.folder / "results").failures)
    assert "(attempt 4; WORKER_DIED; " in told and "(attempt 2; RuntimeError; " in told
    assert f"{os.uname().nodename}, node " in told


@pytest.mark.parametrize("name", ["model.safetensors", "done.json"])
def test_a_damaged_checkpoint_is_set_aside_made_again_and_evaluated_by_the_same_command(
    name: str, experiment: Path, ray_cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault: a bit of the file flips between training and a later evaluation."""
    folder = experiment.parent
    two = "benchmarks=[{name: clean, limit: 50}, {name: clean, limit: 40}]"
    run(folder, two, f"results={folder / 'undisturbed'}")
    assert run(folder).failures == {}
    (file,) = (folder / "results").glob(f"trials/*/{name}")
    content = file.read_bytes()
    place = content.index(b'"losses"') + 14 if name == "done.json" else len(content) // 2
    damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    file.write_bytes(damaged)
    before = modified(folder / "results" / "cells")

    again = run(folder, two)
    assert again.failures == {}
    assert again.ended == ("trained baseline seed 0", "measured baseline seed 0 × clean")
    assert file.with_name(f"{name}.damaged").read_bytes() == damaged
    after = modified(folder / "results" / "cells")
    assert {path: after[path] for path in before} == before, "the cell that was measured is not measured again"
    assert f"{name} in " in caplog.text and "was damaged" in caplog.text
    assert any(f"{name}.damaged" in line for line in read_status(folder / "results").failures)
    frames = [read(folder / results)[MEASURED] for results in ("results", "undisturbed")]
    order = ["benchmark", "metric", "condition", "value"]
    sorts = [frame.sort_values(order, ignore_index=True) for frame in frames]
    pd.testing.assert_frame_equal(sorts[0], sorts[1])
