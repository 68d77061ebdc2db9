"""What waits is not shown as measured, and what finds no room is said: the real loop, and an executor that is full."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.executor import Capacity, Event, RunSetup, TaskStarted, TrialStarted
from pixmix_ray.orchestration.loop import NO_ROOM_SECONDS, Loop
from pixmix_ray.orchestration.watcher import SilentWatcher
from pixmix_ray.planning.durations import Durations, Forecast
from pixmix_ray.planning.plan import Cell, plan_of
from pixmix_ray.planning.usage import Account
from pixmix_ray.storage.failures import Place
from tests.orchestration.auditor import MemoryStore
from tests.orchestration.simulation import an_experiment, material

HERE = Place(host="a", pid=1, node="node")


class Over(Exception):  # noqa: N818  # it is no error
    """The history is at its end."""


class Full:
    """An executor whose trials take all there is: evaluations wait for so many seconds, and then start."""

    def __init__(self, seconds: float, *, trains: bool, waits_for: str = "") -> None:
        self.clock, self.seconds, self.trains, self.waits_for = 0.0, seconds, trains, waits_for
        self.trials: list[int] = []
        self.tasks: list[int] = []

    def start(self, setup: RunSetup) -> None:
        raise NotImplementedError

    def capacity(self, trials: int, cells: int, *, keeps_share: bool = True) -> Capacity:
        waits_for = self.waits_for if self.clock < self.seconds else ""
        return Capacity(trials=int(self.trains), trials_alone=int(self.trains), tasks=1, waits_for=waits_for)

    def submit_trial(self, ticket: int, trial: Trial, *, avoid: str | None = None) -> None:
        self.trials.append(ticket)

    def submit_cells(self, ticket: int, cells: Sequence[Cell], *, avoid: str | None = None) -> None:
        self.tasks.append(ticket)

    def poll(self, seconds: float) -> list[Event]:
        self.clock += 1.0
        started: list[Event] = [TrialStarted(ticket=self.trials[0], place=HERE)] if self.trials else []
        if self.clock == self.seconds:
            return [*started, *(TaskStarted(ticket=ticket, place=HERE) for ticket in self.tasks)]
        if self.clock > self.seconds + 3 * NO_ROOM_SECONDS:
            raise Over
        return started

    def cancel(self) -> None:
        """Nothing to end."""

    def now(self) -> float:
        return self.clock

    def in_use(self) -> Mapping[str, tuple[float, float]]:
        return {}


class Heard(SilentWatcher):
    """When it was said that a cell is being measured."""

    def __init__(self, executor: Full) -> None:
        self.executor, self.times = executor, list[float]()

    def cell_started(self, cell: Cell) -> None:
        self.times.append(self.executor.clock)


def played(seconds: float, *, trains: bool = True, waits_for: str = "") -> Heard:
    executor, store = Full(seconds, trains=trains, waits_for=waits_for), MemoryStore()
    trials, runs = material()
    plan = plan_of(an_experiment(), trials, runs, store)
    resources = plan.experiment.resources
    account = Account(store, resources, executor.now(), durations=Durations(), expected=Forecast())
    heard = Heard(executor)
    with pytest.raises(Over):
        Loop(plan, executor, heard, account).run()
    return heard


def test_a_cell_is_measured_from_when_it_has_its_share_and_not_from_when_it_was_submitted() -> None:
    heard = played(30)
    assert heard.times and set(heard.times) == {30.0}


@pytest.mark.parametrize(
    ("seconds", "trains", "count"),
    [
        (NO_ROOM_SECONDS / 2, True, 0),  # it waits, and finds its share
        (5 * NO_ROOM_SECONDS, True, 1),  # however long it waits
        (5 * NO_ROOM_SECONDS, False, 0),  # no trial takes the room: the cluster itself is late
    ],
)
def test_an_evaluation_that_finds_no_room_beside_trials_is_said_once(
    seconds: float, trains: bool, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    played(seconds, trains=trains)
    lines = [record.getMessage() for record in caplog.records if "room for an evaluation" in record.getMessage()]
    assert len(lines) == count
    for line in lines:
        assert "(1 CPU) beside the trials in training (1 CPU each): cells wait until a trial ends" in line


def test_what_a_run_waits_for_is_said_once_and_nothing_where_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    played(20, waits_for="a node with 2 GPUs")
    assert [record.getMessage() for record in caplog.records] == ["a node with 2 GPUs"]


def test_trials_of_the_largest_share_are_submitted_first() -> None:
    values: dict[str, Any] = {
        "results": "memory",
        "dataset": "digits",
        "methods": ["baseline"],
        "benchmarks": ["clean"],
    }
    values |= {"model": {"name": "wide_resnet", "depth": [10, 16, 22], "width": 1}}
    values |= {"resources": {"trial": {"cpus": [1, 2, 4]}}, "zip": ["model.depth", "resources.trial.cpus"]}
    experiment, store = Experiment.read(values, "shares"), MemoryStore()
    plan = plan_of(experiment, experiment.trials(), experiment.benchmark_runs(), store)
    account = Account(store, experiment.resources, 0.0, durations=Durations(), expected=Forecast())
    loop = Loop(plan, Full(1.0, trains=True), SilentWatcher(), account)
    assert [trial.label for trial in loop.waiting_trials] == [
        f"baseline wrn_{depth}_1 seed 0" for depth in (22, 16, 10)
    ]
