"""Short cells of one checkpoint in one task: each is written, recorded and tried again by itself."""

import json
import os
import re
import signal
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import ray
import torch

from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import BenchmarkRun
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.work import Measure, Work
from pixmix_ray.planning.durations import Durations
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.storage.store import Store
from tests import stored_cells
from tests.orchestration.notes import Notes, opened
from tests.orchestration.stand_ins import train_by_seed
from tests.stored_cells import ERROR, put_of

# the workers cannot import the tests
for module in (sys.modules[__name__], stored_cells):
    ray.cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]  # it has no types
KILLS, RAISES = 30, 20  # limits, which tell the cells of this test apart


def evaluate_with_faults(trial: Source, store: Store, device: torch.device) -> Measure:
    """Cells that write down in which task they were begun. One kills its worker the first time, one always raises."""
    task = ray.get_runtime_context().get_task_id()

    def measure(run: BenchmarkRun) -> None:
        limit = run.benchmark.settings.limit
        store.write(f"begun/{limit}/{task}", b"")
        if limit == KILLS and len(store.files(f"begun/{limit}")) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if limit == RAISES:
            raise KeyError("a slip")
        put_of(store, trial, run, ERROR)

    return measure


def opened_the_second_time(trial: Source, store: Store, device: torch.device) -> Measure:
    """A checkpoint that cannot be opened at first."""
    if not store.files("tried"):
        store.write("tried", b"")
        raise KeyError("a slip")
    return lambda run: put_of(store, trial, run, ERROR)


def plan_in_one_task(experiment: Path) -> Plan:
    """Five cells of one checkpoint that go into one task, since they are known to be short."""
    benchmarks = ", ".join(f"{{name: clean, limit: {limit}}}" for limit in (50, 40, KILLS, RAISES, 10))
    overrides = (f"benchmarks=[{benchmarks}]", "resources.evaluation.cpus=2")  # one slot
    plan = make_plan(read_experiment(experiment, overrides))
    durations = Durations()
    for cell in plan.cells:
        durations.add_cell(cell, 0.01)
    durations.save(plan.experiment.resources)
    return plan


def test_cells_of_a_checkpoint_that_cannot_be_opened_for_the_first_of_them_are_measured_all_the_same(
    experiment: Path,
) -> None:
    notes = Notes()
    work = Work(train=train_by_seed, evaluate=opened_the_second_time)
    (failure,) = run_plan(plan_in_one_task(experiment), executor="local", watch=opened(notes), work=work).failures
    assert failure.reason.startswith("KeyError: 'a slip'")
    assert notes.ended.count("measured baseline seed 0 × clean") == 4


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray Tune closes some of its own files late
def test_what_befalls_one_of_several_cells_in_a_task_befalls_no_other(
    experiment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The faults: SIGKILL of the worker in the third of five cells, and an exception in the fourth."""
    plan, notes = plan_in_one_task(experiment), Notes()
    work = Work(train=train_by_seed, evaluate=evaluate_with_faults)
    failures = run_plan(plan, watch=opened(notes), work=work).failures

    begun: dict[str, list[int]] = defaultdict(list)
    for file in (experiment.parent / "results/begun").glob("*/*"):
        begun[file.name].append(int(file.parent.name))
    # what the dead worker had not begun goes on together; what it died of is tried again alone
    tasks = sorted(sorted(limits, reverse=True) for limits in begun.values())
    assert tasks == [[RAISES, 10], [KILLS], [50, 40, KILLS]]
    assert notes.ended.count("measured baseline seed 0 × clean") == 4
    (failure,) = failures
    assert re.match(r"KeyError: 'a slip' at \S+test_together.py:\d+ in measure \(pixmix-ray logs \S+", failure.reason)
    records = {
        json.loads(file.read_text())["error"]: json.loads(file.read_text())
        for file in (experiment.parent / "results").glob("cells/*/*.failed.json")
    }
    assert {name: record["attempt"] for name, record in records.items()} == {"WORKER_DIED": 1, "KeyError": 1}
    assert caplog.text.count("trying again") == 1
