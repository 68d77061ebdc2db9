"""Training on Ray Tune: what it tells when a Tuner breaks, without Ray; and on the shared cluster that none does."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
import ray
import torch
from ray.exceptions import OutOfMemoryError
from ray.tune import Callback

from pixmix_ray.experiment.external import Source
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.experiment.trial import BenchmarkRun, Trial
from pixmix_ray.orchestration import session, tune_training
from pixmix_ray.orchestration.executor import Event, RunSetup, TrialEnded
from pixmix_ray.orchestration.nodes import Node
from pixmix_ray.orchestration.ray_executor import RayExecutor
from pixmix_ray.orchestration.retries import POLICIES, Cause, Problem
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.tune_training import Training
from pixmix_ray.orchestration.work import Job, Measure, Work
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress
from tests.orchestration.notes import Notes, opened
from tests.orchestration.stand_ins import BY_SEED, evaluate_nothing, train_by_seed

# the workers cannot import the tests
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # it has no types
PATIENCE = 240.0  # seconds


def plan_of(experiment: Path, *overrides: str) -> Plan:
    return make_plan(read_experiment(experiment, overrides))


class Broken:
    """In the place of a Tuner: it takes some trials, tells where they run, and ends with an error."""

    def __init__(self, error: Exception, *, takes: int) -> None:
        self.error, self.takes = error, takes

    def __call__(self, trials: tune_training._Trials, *_: object) -> None:
        for number in range(self.takes):
            config = trials.suggest(str(number))
            place = Place(host="there", pid=100 + number, node="a")
            trials._training.started(config["ticket"], place, None)
        raise self.error


def ends_of(broken: Broken, experiment: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Training, dict[int, Cause]]:
    """What three trials are told when their Tuner breaks, by ticket."""
    monkeypatch.setattr(tune_training, "_fit", broken)
    events: SimpleQueue[Event] = SimpleQueue()
    training = Training(events, None)
    training.limit = 3
    plan = plan_of(experiment, "seeds=[0, 1, 2]")
    for ticket, trial in enumerate(plan.trials):
        job = Job(trial=trial, results=plan.store.uri, work=BY_SEED, share=Share())
        training.submit(ticket, job)
    training.keep_going()
    assert training._thread is not None
    training._thread.join(PATIENCE)
    told = [events.get_nowait() for _ in range(events.qsize())]
    ends = {e.ticket: e.problem.cause for e in told if isinstance(e, TrialEnded) and e.problem is not None}
    return training, ends


def test_a_tuner_that_breaks_says_so_and_its_trials_are_trained_again_by_another(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("a fault within Ray Tune")
    training, ends = ends_of(Broken(error, takes=2), experiment, monkeypatch)
    assert training.error is error
    assert ends == {0: Cause.MESSAGE_LOST, 1: Cause.MESSAGE_LOST}  # the third waits for the next Tuner
    later = Broken(error, takes=1)
    monkeypatch.setattr(tune_training, "_fit", later)
    training.keep_going()
    assert training._thread is not None
    training._thread.join(PATIENCE)
    assert not training._waiting


def test_a_tuner_that_does_not_even_begin_fails_what_waits(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, ends = ends_of(Broken(RuntimeError("no such option"), takes=0), experiment, monkeypatch)
    assert str(training.error) == "no such option"
    assert ends == dict.fromkeys(range(3), Cause.OWN)


def test_a_kill_by_the_memory_monitor_is_charged_to_the_trial_of_that_process_alone(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: Tune ends with Ray's error of the memory monitor, which names the process in its text."""
    kill = OutOfMemoryError("Task was killed: the worker with the highest memory use, pid=101, memory used=7GB")  # type: ignore[no-untyped-call]
    error = RuntimeError("a trial failed")
    error.__cause__ = kill
    training, ends = ends_of(Broken(error, takes=3), experiment, monkeypatch)
    assert training.error is error
    assert ends == {0: Cause.MESSAGE_LOST, 1: Cause.KILLED_FOR_MEMORY, 2: Cause.MESSAGE_LOST}


def test_a_trial_that_is_done_is_told_once(experiment: Path) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    training = Training(events, None)
    training.limit = 1
    (trial,) = plan_of(experiment).trials
    training.submit(5, Job(trial=trial, results="", work=BY_SEED, share=Share()))
    assert training.next_trial() is not None and training.next_trial() is None
    training.ended(5)
    training.ended(5)
    assert events.qsize() == 1


@pytest.mark.parametrize(
    ("in_flight", "beside", "alone", "asked"),
    [
        ([], 1, 2, [1, 1, 1, 1]),  # none is submitted yet
        ([0, 1], 1, 2, [4, 1, 1, 1]),  # the large one comes first
        ([1, 1], 7, 8, [1, 1, 1, 1]),  # the large ones are done
    ],
)
def test_room_is_counted_in_the_largest_share_in_flight(
    in_flight: list[int],
    beside: int,
    alone: int,
    asked: list[int],
    experiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests: list[list[Share]] = []
    nodes = [Node(node_id="a" * 56, resources={"CPU": 100, "GPU": 8})]
    monkeypatch.setattr(session, "nodes", lambda: nodes)
    monkeypatch.setattr(session, "request_room", requests.append)
    monkeypatch.setattr(RayExecutor, "connect", lambda _: None)
    shares = [Resources(trial=Share(gpus=gpus), evaluation=Share(gpus=1)) for gpus in (1, 4)]
    executor = RayExecutor()
    executor._may_grow = True
    executor.start(RunSetup(store=Store(tmp_path), resources=Resources.joined(shares), work=BY_SEED))
    (trial,) = plan_of(experiment).trials
    for ticket, share in enumerate(in_flight):
        executor.submit_trial(ticket, replace(trial, share=share))
    for _ in range(2):  # what was asked for is not asked again
        found = executor.capacity(4, 1)
    assert (found.trials, found.trials_alone, found.tasks) == (beside, alone, 8)
    assert [[share.gpus for share in request] for request in requests] == [[*asked, 1]]


def test_a_trial_that_was_interrupted_goes_on_before_another_begins(experiment: Path) -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    training = Training(events, None)
    training.limit, training.is_cancelled = 1, True  # no Tuner is started
    trials = plan_of(experiment, "seeds=[0, 1]").trials
    first, second = (Job(trial=trial, results="", work=BY_SEED, share=Share()) for trial in trials)
    training.submit(1, first)
    training.submit(2, second)
    assert training.next_trial() is not None
    training.ended(1, Problem.because(Cause.NODE_DIED, "a cut cable"))
    training.keep_going()
    assert training.next_trial() is None  # the loop has not heard of it
    events.get_nowait()
    training.submit(3, first)
    training.keep_going()
    order = []
    while (taken := training.next_trial()) is not None:
        order.append(taken.ticket)
        training.ended(taken.ticket)
    assert order == [3, 2]


def train_until_another_is_measured(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """Seed 0 trains for as long as the cell of the last seed is not measured, as a trial of hours would."""
    deadline = time.monotonic() + PATIENCE
    while trial.seed == 0 and not store.exists("measured/5"):
        assert time.monotonic() < deadline, "no cell was measured while a trial trained"
        time.sleep(0.05)
    yield from train_by_seed(trial, store, device)


def evaluate_and_say_so(trial: Source, store: Store, device: torch.device) -> Measure:
    measure = evaluate_nothing(trial, store, device)

    def measure_and_say_so(run: BenchmarkRun) -> None:
        measure(run)
        store.write(f"measured/{trial.seed}", b"")

    return measure_and_say_so


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray Tune closes some of its own sockets and files late
def test_trials_join_the_tuner_that_runs_which_ends_without_an_error_and_cells_are_measured_meanwhile(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six trials on two slots: the loop hands over the last ones only when others have ended."""
    tuners: list[object] = []
    fit = tune_training._fit

    def counted(trials: tune_training._Trials, callbacks: Sequence[Callback], stop: tune_training._Stop) -> None:
        tuners.append(trials)
        fit(trials, callbacks, stop)

    monkeypatch.setattr(tune_training, "_fit", counted)
    notes = Notes()
    plan = plan_of(experiment, "seeds=[0, 1, 2, 3, 4, 5]")
    work = Work(train=train_until_another_is_measured, evaluate=evaluate_and_say_so)
    with RayExecutor() as executor:
        done = run_plan(plan, executor=executor, watch=opened(notes), work=work)
        training = executor._training
    assert done.failures == () and set(done.plan.cells.values()) == {"done"}
    assert len(tuners) == 1
    assert notes.ended.index("measured baseline seed 5 × clean") < notes.ended.index("trained baseline seed 0")
    assert training is not None and training._thread is not None
    training._thread.join(PATIENCE)
    assert not training._thread.is_alive() and training.error is None


def train_and_die(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
    """As `train_by_seed`; the process of seed 0 ends after each epoch."""
    for progress in train_by_seed(trial, store, device):
        yield progress
        if trial.seed == 0:
            store.write(f"deaths/{progress.epoch}-{os.getpid()}", b"")
            os._exit(1)


@pytest.mark.drill
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_trial_that_is_interrupted_more_often_than_it_may_be_tried_again_is_not_failed_as_long_as_it_advances(
    experiment: Path,
) -> None:
    """The fault: the worker ends after each of six epochs, and three retries are allowed between two of them."""
    notes = Notes()
    plan = plan_of(experiment, "seeds=[0, 1]", "training.epochs=6")
    done = run_plan(plan, watch=opened(notes), work=Work(train=train_and_die, evaluate=evaluate_nothing))
    assert done.failures == () and set(done.plan.cells.values()) == {"done"}
    deaths = sorted(path.rpartition("/")[2] for path in plan.store.files("deaths"))
    assert [death.partition("-")[0] for death in deaths] == ["1", "2", "3", "4", "5", "6"]
    assert len({death.partition("-")[2] for death in deaths}) == 6
    assert POLICIES[Cause.WORKER_DIED].retries < 6
    told = [[epoch for label, epoch in notes.epochs if label.endswith(str(seed))] for seed in (0, 1)]
    # no epoch is trained or told twice; the last one is told with the end of the trial, so not by the worker that died
    assert told == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]
