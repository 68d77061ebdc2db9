"""Watching a results folder that another process fills."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from pixmix_ray.report.watch import watch
from pixmix_ray.storage.store import Store, cell_failure_file, cell_file, trial_file


class Filling:
    """Sleeps by writing the next files; at the end, the interrupt."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.steps = [
            lambda: store.write_json(trial_file("a-1", "trial.json"), {"training": {"epochs": 2}}),
            lambda: store.write_json(trial_file("a-1", "done.json"), {}),
            lambda: None,
            lambda: store.write(cell_file("a-1/clean-1"), b""),
            lambda: store.write_json(cell_failure_file("a-1", "fog-1"), {"reason": "no memory"}),
        ]

    def __call__(self, seconds: float) -> None:
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def watched(folder: Path, *, terminal: bool) -> str:
    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        watch(str(folder), Console(file=file, width=100, force_terminal=terminal), sleep=Filling(Store(folder)))
    return file.getvalue()


def test_each_change_is_a_plain_line_until_the_interrupt(tmp_path: Path) -> None:
    lines = [line.partition("  ")[2] for line in watched(tmp_path, terminal=False).splitlines()]
    expected = [
        "waiting for results in",
        "trials: 1 begun; cells: 0 done",
        "trials: 1 done; cells: 0 done",
        "trials: 1 done; cells: 1 done; ",  # and a rate
        "trials: 1 done; cells: 1 done, 1 failed; ",
    ]
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected


def test_on_a_terminal_the_table_and_the_failures_are_shown(tmp_path: Path) -> None:
    text = watched(tmp_path, terminal=True)
    assert "a-1" in text and "no memory" in text
