"""Logs of a results folder: listed, shown with tracebacks, and followed as they grow."""

from collections.abc import Iterator
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
    with pytest.raises(UnknownNameError, match="did you mean 'pixmix-1'"):
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


def test_a_log_is_followed_as_it_grows(store: Store) -> None:
    grows: Iterator[bytes] = iter([b"epoch 1\nepoch 2\n", b"anew\n"])

    def sleep(_: float) -> None:
        content = next(grows, None)
        if content is None:
            raise KeyboardInterrupt
        store.write(log_file("pixmix-1"), content)

    assert list(followed(store, "pixmix-1/training", sleep)) == ["epoch 1\n", "epoch 2\n", "anew\n"]


def test_results_of_which_nothing_was_printed_are_no_mistake_and_a_folder_without_results_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ResultsError, match="no results in"):
        log_names(store)
    store.write(trial_file("pixmix-1", "done.json"), b"{}")
    assert log_names(store) == []
