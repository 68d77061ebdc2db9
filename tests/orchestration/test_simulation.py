"""Histories of a run by a seed: a thousand are without fault, and faults that are planted in the loop are found."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from unittest.mock import patch

import pytest

from pixmix_ray.orchestration import retries
from pixmix_ray.orchestration.executor import Event, TaskEnded
from pixmix_ray.orchestration.loop import Loop
from pixmix_ray.orchestration.retries import Attempts, Failure, Problem, Verdict
from pixmix_ray.orchestration.work import CellResult
from pixmix_ray.planning.plan import Cell
from tests.orchestration.auditor import FaultError
from tests.orchestration.simulation import Cluster, play

HISTORIES, CHUNK = 1000, 50
ENOUGH = 40  # histories in which a planted fault must be found


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Of each failed attempt there is a warning, and there are thousands."""
    log = logging.getLogger("pixmix_ray")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_in_random_histories_nothing_is_lost_and_nothing_is_done_twice(first: int) -> None:
    for seed in range(first, first + CHUNK):
        play(seed)


def test_a_seed_is_the_same_history_each_time() -> None:
    def story(seed: int) -> tuple[float, int, dict[str, bytes]]:
        played: Cluster = play(seed)
        # records of failures hold the time of day, and accounts are named by it
        told = {path: content for path, content in played.store.content.items() if not path.startswith("runs/")}
        return played.clock, played.driver, {path: told[path] for path in told if "failed" not in path}

    assert story(3) == story(3)
    assert story(3) != story(4)


class _NeverRetries(Attempts):
    def failed(self, name: str, problem: Problem) -> Verdict:
        return replace(super().failed(name, problem), is_retried=False)


class _NeverReset(Attempts):
    def advanced(self, name: str) -> None:
        """The fault: nothing happens."""


class NoRetry(Loop):
    def run(self) -> list[Failure]:
        self.attempts = _NeverRetries()
        return super().run()


class AttemptsAreNotReset(Loop):
    def run(self) -> list[Failure]:
        self.attempts = _NeverReset()
        return super().run()


class ForgetsAnEvent(Loop):
    def _take(self, event: Event) -> None:
        if not (isinstance(event, TaskEnded) and event.ticket % 50 == 0):
            super()._take(event)


class CountsACellTwice(Loop):
    def _cell_done(self, cell: Cell, seconds: float) -> None:
        super()._cell_done(cell, seconds)
        if self.ticket % 50 == 0:
            self.watcher.cell_done(cell, seconds)


class DoesNotLookAtStorage(Loop):
    def _results_from_dead_worker(self, cells: Sequence[Cell], problem: Problem) -> dict[Cell, CellResult]:
        return {cells[0]: CellResult(seconds=0.0, problem=problem)}


class DoesNotLookAtTickets(Loop):
    def _take(self, event: Event) -> None:
        self.__dict__.setdefault("every_task", {}).update(self.tasks)
        if isinstance(event, TaskEnded) and event.ticket not in self.tasks:
            self.tasks[event.ticket] = self.__dict__["every_task"][event.ticket]
        super()._take(event)


class LeavesADamagedCheckpoint(Loop):
    def _train_again(self, cell: Cell) -> None:
        self.waiting_cells.append(cell)


class RecordsNothing(Loop):
    def run(self) -> list[Failure]:
        with patch.object(retries, "record_failure"):
            return super().run()


PLANTED = {
    NoRetry: "given up too early|before its damaged checkpoint was made again",
    AttemptsAreNotReset: "for the attempts|given up too early",
    ForgetsAnEvent: "does not end",
    CountsACellTwice: "heard 2 times of the end",
    DoesNotLookAtStorage: "for the attempts|measured .* too often",
    DoesNotLookAtTickets: "heard 2 times of the end|while it was in flight",
    LeavesADamagedCheckpoint: "before its damaged checkpoint was made again",
    RecordsNothing: r"attempts \[\] instead of",
}


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: type[Loop]) -> None:
    with pytest.raises(FaultError, match=PLANTED[fault]):
        for seed in range(ENOUGH):
            play(seed, fault)
