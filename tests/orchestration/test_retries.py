"""The one table of retries, how failures are counted, and what an error says of another attempt."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from pixmix_ray.errors import DamagedError, DataError, StorageError, TrainingDivergedError
from pixmix_ray.orchestration.retries import (
    FIRST_DELAY,
    LONGEST_DELAY,
    POLICIES,
    TOLD_DELAY,
    Attempts,
    Cause,
    Problem,
    Verdict,
    WorkItem,
    note_failure,
)
from pixmix_ray.orchestration.session import problem_of
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store

THERE = Place(host="there", pid=7, node="a")


def verdicts(causes: Sequence[Cause], attempts: Attempts | None = None) -> list[Verdict]:
    """What follows as one piece of work fails of one cause after the other."""
    counted = attempts or Attempts()
    return [counted.failed("work", Problem.because(cause, "a reason")) for cause in causes]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), Cause.OUT_OF_MEMORY),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (StorageError("full"), Cause.STORAGE),
        (DamagedError("flipped"), Cause.DAMAGED),
        (TrainingDivergedError(1, float("nan")), Cause.OWN),
        (DataError("no folder"), Cause.OWN),
        (RuntimeError("shapes do not match"), Cause.OWN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_that_the_work_raised_has_its_cause_also_within_rays_error_of_a_task(
    error: Exception, cause: Cause
) -> None:
    assert Problem.of(error).cause is cause
    wrapped = RayTaskError("f", "a traceback", error)  # type: ignore[no-untyped-call]  # it has no types
    found = problem_of(wrapped, THERE)
    assert found.cause is cause
    assert found.report.place == THERE
    assert (found.report.error, found.report.traceback) == (type(error).__name__, "a traceback")
    assert found.report.reason == Problem.of(error).report.reason


PREEMPTED = ActorDiedError()
PREEMPTED._preempted = True  # as Ray sets it from what the cluster's manager told


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (WorkerCrashedError(), Cause.WORKER_DIED),
        (ActorDiedError(), Cause.WORKER_DIED),
        (PREEMPTED, Cause.NODE_DIED),
        (NodeDiedError("gone"), Cause.NODE_DIED),  # type: ignore[no-untyped-call]
        (ObjectLostError("aa", None, ""), Cause.NODE_DIED),  # its answer was lost with its node
        (OutOfMemoryError("by the monitor"), Cause.KILLED_FOR_MEMORY),  # type: ignore[no-untyped-call]
        (ActorUnavailableError("no answer", b"0" * 16), Cause.MESSAGE_LOST),
        (None, Cause.WORKER_DIED),
    ],
    ids=lambda value: value.name if isinstance(value, Cause) else "",
)
def test_rays_error_of_work_that_told_nothing_has_its_cause(error: Exception | None, cause: Cause) -> None:
    found = problem_of(error, THERE)
    assert (found.cause, found.report.error, found.report.place) == (cause, cause.name, THERE)
    assert found.report.reason and "\n" not in found.report.reason


@pytest.mark.parametrize("place", [None, Place()])
@pytest.mark.parametrize("error", [WorkerCrashedError(), ActorDiedError(), None])
def test_a_worker_that_died_before_it_told_where_it_is_was_not_reached(
    error: Exception | None, place: Place | None
) -> None:
    """Ray ends the worker of a task whose message was lost: that says nothing of the work."""
    assert problem_of(error, place).cause is Cause.MESSAGE_LOST


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NodeDiedError("gone"), Cause.NODE_DIED),  # type: ignore[no-untyped-call]
        (OutOfMemoryError("by the monitor"), Cause.KILLED_FOR_MEMORY),  # type: ignore[no-untyped-call]
    ],
)
def test_a_death_that_ray_explains_is_that_also_of_a_worker_that_never_told_where_it_is(
    error: Exception, cause: Cause
) -> None:
    assert problem_of(error).cause is cause


def test_every_cause_has_a_bounded_number_of_retries() -> None:
    assert {cause: POLICIES[cause].retries for cause in Cause} == {
        Cause.WORKER_DIED: 3,
        Cause.NODE_DIED: 3,
        Cause.KILLED_FOR_MEMORY: 3,
        Cause.PREEMPTED: 100,
        Cause.MESSAGE_LOST: 100,
        Cause.OUT_OF_MEMORY: 1,
        Cause.DAMAGED: 1,
        Cause.STORAGE: 0,
        Cause.OWN: 0,
    }
    elsewhere = {Cause.KILLED_FOR_MEMORY, Cause.OUT_OF_MEMORY, Cause.PREEMPTED}
    assert {cause for cause in Cause if POLICIES[cause].elsewhere} == elsewhere
    assert {cause for cause in Cause if not POLICIES[cause].is_charged} == {Cause.MESSAGE_LOST, Cause.PREEMPTED}


@pytest.mark.parametrize("cause", [cause for cause in Cause if POLICIES[cause].is_charged])
def test_work_fails_for_good_with_the_attempt_after_its_last_retry(cause: Cause) -> None:
    retries = POLICIES[cause].retries
    expected = [Verdict(attempt=number, is_retried=number <= retries) for number in range(1, retries + 2)]
    assert verdicts([cause] * (retries + 1)) == expected


def test_each_cause_has_its_own_retries_and_attempts_are_numbered_over_all() -> None:
    found = verdicts([Cause.OUT_OF_MEMORY, Cause.WORKER_DIED, Cause.OUT_OF_MEMORY])
    assert [(verdict.attempt, verdict.is_retried) for verdict in found] == [(1, True), (2, True), (3, False)]


def test_attempts_are_counted_between_two_steps_of_progress() -> None:
    attempts = Attempts()
    for _ in range(10):
        found = verdicts([Cause.WORKER_DIED] * 3, attempts)
        assert [(verdict.attempt, verdict.is_retried) for verdict in found] == [(1, True), (2, True), (3, True)]
        assert attempts.has_failed("work")
        attempts.advanced("work")
        assert not attempts.has_failed("work")
    assert not attempts.has_failed("other") and attempts.failed(
        "other", Problem.because(Cause.OUT_OF_MEMORY, "")
    ) == Verdict(attempt=1, is_retried=True)


def test_a_message_that_was_lost_is_not_charged_and_waits_twice_as_long_each_time() -> None:
    found = verdicts([Cause.MESSAGE_LOST] * 8)
    assert {(verdict.is_retried, verdict.is_charged) for verdict in found} == {(True, False)}
    assert [verdict.delay for verdict in found] == [0.5, 1, 2, 4, 5, 5, 5, 5]
    assert (FIRST_DELAY, LONGEST_DELAY) == (0.5, 5)


def test_messages_that_are_lost_take_no_number_of_an_attempt() -> None:
    found = verdicts([Cause.MESSAGE_LOST, Cause.WORKER_DIED, Cause.MESSAGE_LOST, Cause.WORKER_DIED])
    assert [verdict.attempt for verdict in found if verdict.is_charged] == [1, 2]


def test_work_that_never_answers_fails_at_last_with_a_record() -> None:
    *before, last = verdicts([Cause.MESSAGE_LOST] * (POLICIES[Cause.MESSAGE_LOST].retries + 1))
    assert all(verdict.is_retried for verdict in before)
    assert not last.is_retried and last.is_charged


def test_work_that_needed_too_much_memory_or_was_preempted_avoids_the_node_and_other_work_does_not() -> None:
    avoided = {cause: Problem.because(cause, "", THERE).avoided_node() for cause in Cause}
    elsewhere = {Cause.KILLED_FOR_MEMORY, Cause.OUT_OF_MEMORY, Cause.PREEMPTED}
    assert {cause for cause, node in avoided.items() if node == "a"} == elsewhere
    assert Problem.because(Cause.OUT_OF_MEMORY, "").avoided_node() is None  # where it ran is not known


def test_a_problem_of_this_process_names_it() -> None:
    assert Problem.of(RuntimeError("shapes")).report.place == Place.here()


@pytest.mark.parametrize(
    ("verdict", "level", "text"),
    [
        (
            Verdict(attempt=2, is_retried=True),
            logging.WARNING,
            "a cell: attempt 2 failed on there, node a, pid 7: why; trying again",
        ),
        (
            Verdict(attempt=1, is_retried=True, is_charged=False, delay=1.0),
            logging.DEBUG,
            "a cell: why; trying again in 1.0 s",
        ),
        (
            Verdict(attempt=1, is_retried=True, is_charged=False, delay=TOLD_DELAY),
            logging.WARNING,
            "a cell: why; trying again in 2.0 s",
        ),
        (Verdict(attempt=4, is_retried=False), None, None),
    ],
)
def test_a_failure_is_recorded_if_it_is_charged_and_logged_if_it_is_tried_again(
    verdict: Verdict, level: int | None, text: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, work = Store(tmp_path), WorkItem(name="a", label="a cell", record="cells/a-failed.json", log="logs/a.txt")
    with caplog.at_level(logging.DEBUG):
        note_failure(store, work, Problem.because(Cause.OWN, "why", THERE), verdict)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == ([(level, text)] if level else [])
    assert store.exists(work.record) is verdict.is_charged
