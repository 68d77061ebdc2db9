"""Logs of a results folder: listed, shown with tracebacks, and followed as they grow."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pixmix_ray.errors import ResultsError, UnknownNameError
from pixmix_ray.report.logs import followed, log_names, matching, text_of_log
from pixmix_ray.storage.failures import ErrorReport, record_failure
from pixmix_ray.storage.store import Store, cell_failure_file, log_file, trial_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.write(log_file("pixmix-1"), b"epoch 1\n")
    made.write(log_file("pixmix-1", "clean-2"), b"hello\nTraceback: slip\n")
    report = ErrorReport(reason="slip", error="KeyError", traceback="Traceback: slip\n")
    record_failure(made, cell_failure_file("pixmix-1", "clean-2"), report)
    record_failure(made, trial_file("cutout-3", "failed.json"), report)
    return made


def test_logs_are_listed_and_found_by_their_beginning(store: Store) -> None:
    assert log_names(store) == ["cutout-3/training", "pixmix-1/clean-2", "pixmix-1/training"]
    assert matching(store, "pixmix-1") == ["pixmix-1/clean-2", "pixmix-1/training"]
    assert matching(store, "pixmix-1/clean") == ["pixmix-1/clean-2"]
    assert matching(store, "pixmix-1/fog") == []  # of a trial that is there
    with pytest.raises(UnknownNameError, match="unknown trial or cell 'pixmx-1', did you mean 'pixmix-1'"):
        matching(store, "pixmx-1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pixmix-1/training", "epoch 1\n"),
        ("pixmix-1/clean-2", "hello\nTraceback: slip\n"),  # not twice
        ("cutout-3/training", "Traceback: slip\n"),  # nothing was printed
    ],
)
def test_a_log_holds_what_was_printed_and_the_traceback(store: Store, name: str, text: str) -> None:
    assert text_of_log(store, name) == text


HEADER = "--- 2026-12-01T00:00:00+00:00 on node-1\n"


class Growing:
    """Sleeps by what a run does next; nothing more to do is Ctrl-C."""

    def __init__(self, store: Store) -> None:
        training, cell = log_file("pixmix-1"), log_file("pixmix-1", "fog-4")
        half = f"anew\n{HEADER}half \u00e9"
        self.steps: list[Callable[[], None]] = [
            lambda: store.write_json("running.json", {}),
            lambda: store.write(training, b"epoch 1\nepoch 2\n"),
            lambda: store.write(training, f"anew\n{HEADER}".encode()),  # the next attempt has printed nothing
            lambda: store.write(training, half.encode()[:-1]),
            lambda: store.write(cell, b"fog\n"),
            lambda: store.write(training, f"{half}\n".encode()),
            lambda: store.delete("running.json"),
        ]

    def __call__(self, _: float) -> None:
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def test_logs_are_followed_as_they_grow_until_the_run_ends(store: Store) -> None:
    name, other = "=== pixmix-1/training\n", "=== pixmix-1/fog-4\n"
    grown = ["epoch 1\n", "epoch 2\n", "anew\n", f"{HEADER}half ", name, "\u00e9\n"]
    assert list(followed(store, "pixmix-1/training", Growing(store))) == [name, *grown[:4], grown[5]]
    assert list(followed(store, "pixmix-1/f", Growing(store))) == [other, "fog\n"]


@pytest.mark.parametrize(
    ("wanted", "ends"),
    [
        ("pixmix-1/fog-7", KeyboardInterrupt),  # may come yet
        ("cutout", KeyboardInterrupt),  # failed before it printed anything
        ("augmix-5", KeyboardInterrupt),  # is planned
        ("pixmx-1", UnknownNameError),
    ],
)
def test_what_may_print_is_waited_for_and_a_slip_is_told(store: Store, wanted: str, ends: type[BaseException]) -> None:
    store.write_json("plan.json", {"cells": {"augmix-5": 3}})
    with pytest.raises(ends):
        list(followed(store, wanted, _interrupt))


def test_an_empty_folder_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(followed(Store(tmp_path), "pixmix", _interrupt))


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


def test_results_of_which_nothing_was_printed_are_no_mistake_and_a_folder_without_results_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ResultsError, match="no results in"):
        log_names(store)
    store.write(trial_file("pixmix-1", "done.json"), b"{}")
    assert log_names(store) == []
