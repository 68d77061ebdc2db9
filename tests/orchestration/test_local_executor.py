"""The executor without Ray: what it does and tells, in which order, and that the files are those of the work itself."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pixmix_ray.errors import ClusterError, DamagedError
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration.executor import (
    EpochDone,
    Event,
    RunSetup,
    TaskEnded,
    TaskStarted,
    TrialEnded,
    TrialStarted,
)
from pixmix_ray.orchestration.local_executor import LocalExecutor
from pixmix_ray.orchestration.retries import Cause
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.work import Measure, Work
from pixmix_ray.planning.plan import Cell, make_plan
from pixmix_ray.storage.store import Store, trial_file
from pixmix_ray.training.trial import Progress, train_trial

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small() -> Experiment:
    """Two trials and three benchmarks, of which nothing is trained or measured in earnest."""
    benchmarks = [{"name": "clean", "limit": limit} for limit in (10, 11, 12)]
    values = {"results": "r", "dataset": "digits", "methods": ["baseline"], "seeds": [0, 1], "benchmarks": benchmarks}
    return read_experiment(values)


def cells_of(experiment: Experiment, trial: Trial) -> list[Cell]:
    return [Cell(trial=trial, run=run) for run in experiment.benchmark_runs()]


def train_two_epochs(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    for epoch in (1, 2):
        yield Progress(epoch=epoch, epochs=2, loss=1.0, seconds=0.0)
    if trial.seed == 1:
        raise KeyError("a slip in my method")


def measure_nothing(trial: Source, store: Store, device: torch.device) -> Measure:
    return lambda run: None


def started(
    tmp_path: Path,
    train: Callable[[Trial, Store, torch.device], Iterator[Progress]] = train_two_epochs,
    evaluate: Callable[[Source, Store, torch.device], Measure] = measure_nothing,
    resources: Resources | None = None,
    should_stop: Callable[[str, Progress], bool] | None = None,
) -> LocalExecutor:
    executor = LocalExecutor()
    work = Work(train=train, evaluate=evaluate)
    executor.start(
        RunSetup(store=Store(tmp_path), work=work, resources=resources or Resources(), should_stop=should_stop)
    )
    return executor


def polled(executor: LocalExecutor) -> list[Sequence[Event]]:
    """All that it tells, until there is nothing more to do."""
    return list(iter(lambda: executor.poll(0.2), []))


def test_cells_go_before_the_next_epoch_of_a_trial(small: Experiment, tmp_path: Path) -> None:
    trial, executor = small.trials()[0], started(tmp_path)
    executor.submit_trial(1, trial)
    first = executor.poll(0.2)
    executor.submit_cells(2, cells_of(small, trial))
    told = [first, *polled(executor)]
    assert [[(type(event), event.ticket) for event in events] for events in told] == [
        [(TrialStarted, 1), (EpochDone, 1)],
        [(TaskStarted, 2), (TaskEnded, 2)],
        [(EpochDone, 1)],
        [(TrialEnded, 1)],
    ]
    (ended,) = [event for event in told[1] if isinstance(event, TaskEnded)]
    assert [result.problem for result in ended.results] == [None] * 3


def test_a_trial_that_raises_is_told_of_and_the_next_one_goes_on(small: Experiment, tmp_path: Path) -> None:
    (fine, failing), executor = small.trials(), started(tmp_path)
    executor.submit_trial(1, failing)
    executor.submit_trial(2, fine)
    ends = [event for events in polled(executor) for event in events if isinstance(event, TrialEnded)]
    assert [(end.ticket, end.is_stopped) for end in ends] == [(1, False), (2, False)]
    assert ends[0].problem is not None and ends[1].problem is None
    assert ends[0].problem.cause is Cause.OWN
    assert ends[0].problem.report.reason == "KeyError: 'a slip in my method'"
    assert "train_two_epochs" in ends[0].problem.report.traceback


def test_a_trial_that_is_to_be_stopped_ends_after_that_epoch(small: Experiment, tmp_path: Path) -> None:
    trial = small.trials()[0]
    executor = started(tmp_path, should_stop=lambda trial_id, progress: (trial_id, progress.epoch) == (trial.id, 1))
    executor.submit_trial(1, trial)
    (events,) = polled(executor)
    assert [type(event) for event in events] == [TrialStarted, EpochDone, TrialEnded]
    assert isinstance(events[-1], TrialEnded) and events[-1].is_stopped and events[-1].problem is None


def test_a_cell_that_raises_is_told_of_and_the_others_are_measured(small: Experiment, tmp_path: Path) -> None:
    measured: list[str] = []

    def evaluate(trial: Source, store: Store, device: torch.device) -> Measure:
        def measure(run: BenchmarkRun) -> None:
            if run.benchmark.settings.limit == 11:
                raise ValueError("a slip in my benchmark")
            measured.append(run.key)

        return measure

    trial, executor = small.trials()[0], started(tmp_path, evaluate=evaluate)
    executor.submit_cells(1, cells_of(small, trial))
    ((_, ended),) = polled(executor)
    assert isinstance(ended, TaskEnded) and ended.problem is None
    causes = [None if result.problem is None else result.problem.cause for result in ended.results]
    assert causes == [None, Cause.OWN, None]
    assert len(measured) == 2


def test_of_a_damaged_checkpoint_the_other_cells_are_not_begun_and_its_files_are_set_aside(
    small: Experiment, tmp_path: Path
) -> None:
    def evaluate(trial: Source, store: Store, device: torch.device) -> Measure:
        raise DamagedError("its bytes are not those that were written")

    trial, executor = small.trials()[0], started(tmp_path, evaluate=evaluate)
    store = Store(tmp_path)
    for name in ("done.json", "model.safetensors"):
        store.write(trial_file(trial.id, name), b"")
    executor.submit_cells(1, cells_of(small, trial))
    ((_, ended),) = polled(executor)
    assert isinstance(ended, TaskEnded)
    assert [result.problem.cause for result in ended.results if result.problem] == [Cause.DAMAGED]
    folder = f"trials/{trial.id}"
    assert store.files("trials") == {f"{folder}/done.json.damaged", f"{folder}/model.safetensors.damaged"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("what", ["trial", "evaluation"])
def test_a_share_of_a_gpu_is_refused_where_there_is_none(what: str, tmp_path: Path) -> None:
    expected = f"a {what} asks for 0.5 GPUs and this machine has none: set resources.{what}.gpus=0"
    with pytest.raises(ClusterError, match=expected):
        started(tmp_path, resources=Resources.model_validate({what: {"gpus": 0.5}}))


def test_several_workers_are_refused_with_the_way_out(tmp_path: Path) -> None:
    one, two = Resources(), Resources(trial=Share(workers=2))
    for resources in (two, Resources.joined([one, two])):
        with pytest.raises(ClusterError, match=r"^resources.trial asks for 2 workers, .* leave --local out"):
            started(tmp_path, resources=resources)


def test_work_has_the_threads_of_its_share_and_cancelling_gives_them_back(small: Experiment, tmp_path: Path) -> None:
    seen, before = [], torch.get_num_threads()

    def train(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
        seen.append(torch.get_num_threads())
        yield Progress(epoch=1, epochs=2, loss=1.0, seconds=0.0)

    several = Resources.joined([Resources(trial=Share(cpus=before + more)) for more in (2, 1)])
    executor = started(tmp_path, train=train, resources=several)
    (trial, *_) = small.trials()
    for share in range(2):
        executor.submit_trial(share, replace(trial, share=share))
    while len(seen) < 2:
        executor.poll(0.2)
    executor.cancel()
    assert (seen, torch.get_num_threads()) == ([before + 2, before + 1], before)
    assert executor.poll(0.2) == []  # and the trial is forgotten


def test_a_run_in_this_process_leaves_the_bytes_of_the_work_itself_and_does_nothing_twice(
    experiment: Path, tmp_path: Path
) -> None:
    plan = make_plan(read_experiment(experiment))
    done = run_plan(plan, executor="local")
    assert done.failures == () and set(done.plan.cells.values()) == {"done"}
    (trial,), alone = plan.trials, Store(tmp_path / "alone")
    list(train_trial(trial, alone, CPU))
    path = trial_file(trial.id, "model.safetensors")
    assert plan.store.read(path) == alone.read(path) is not None
    before = plan.store.stamps("trials") | plan.store.stamps("cells")
    assert run_plan(make_plan(read_experiment(experiment)), executor="local").failures == ()
    assert plan.store.stamps("trials") | plan.store.stamps("cells") == before
