"""Progress of a run: plain lines where there is no terminal, counts that add up, and a time that is left."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.planning.plan import Cell, Plan, make_plan
from pixmix_ray.report import progress
from pixmix_ray.report.progress import ProgressView
from pixmix_ray.storage.store import trial_file
from pixmix_ray.training.trial import Progress
from tests.stored_cells import CHECKPOINT, put_of

COUNTS = re.compile(r"cells: (\d+) done, (\d+) running, (-?\d+) left(?:, (\d+) failed)?")
LEFT = re.compile(r"about (?:(\d+):)?(\d+):(\d\d) left")


class Clock:
    """A clock that only we turn."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time as the view sees it."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_SUMMARIES", 0.0)  # one after each line, so that all can be read
    return clock


@pytest.fixture
def plan(experiment: Path) -> Callable[..., Plan]:
    """The plan of the tiny experiment with --set overrides."""
    return lambda *overrides: make_plan(read_experiment(experiment, overrides))


class Shown:
    """A view on a console that writes to memory, and what it wrote."""

    def __init__(self, plan: Plan, *, terminal: bool = False) -> None:
        self.file = io.StringIO()
        self.view = ProgressView(plan, Console(file=self.file, width=60, force_terminal=terminal))

    @property
    def lines(self) -> list[str]:
        """Each line with the summary after it."""
        printed = self.file.getvalue().splitlines()
        return [" ".join(pair) for pair in zip(printed[::2], printed[1::2], strict=True)]

    @property
    def counts(self) -> list[tuple[int, ...]]:
        """Cells done, running, left and failed in each line."""
        found = [COUNTS.search(line) for line in self.lines]
        return [tuple(int(number or 0) for number in match.groups()) for match in found if match]


def epoch(number: int, of: int, seconds: float = 2.0) -> Progress:
    return Progress(epoch=number, epochs=of, loss=1.5, seconds=seconds)


def cells_of(plan: Plan, trial: Trial) -> list[Cell]:
    return [cell for cell in plan.cells if cell.trial is trial]


def test_an_epoch_is_one_plain_line_that_says_which_trial_and_how_far(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("methods=[pixmix]", "training.epochs=3", "benchmarks=[clean, adversaries]")
    (trial,) = made.trials
    shown = Shown(made)
    with shown.view as view:
        clock.now += 2
        view.epoch_done(trial, epoch(1, 3))
    (line,) = shown.lines
    for part in ("0:02", "pixmix k=4 beta=3 fractals seed 0", "epoch 1/3", "loss 1.500", "2.0 s", "epochs left: 2"):
        assert part in line
    assert shown.counts == [(0, 0, 2, 0)]
    assert LEFT.search(line)
    assert "\x1b" not in line


def test_there_is_no_time_left_before_anything_was_measured(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan()
    shown = Shown(made)
    with shown.view as view:
        view.trial_failed(next(iter(made.trials)), "no memory")
    assert not LEFT.search(shown.lines[0])
    assert "not known yet" in shown.lines[0]


def test_the_time_left_is_the_work_left_at_the_rate_so_far(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("methods=[baseline, cutout]", "training.epochs=4")
    baseline, cutout = made.trials
    shown = Shown(made)
    with shown.view as view:
        clock.now += 10
        view.epoch_done(baseline, epoch(1, 4, seconds=10))
        clock.now += 10
        view.epoch_done(cutout, epoch(1, 4, seconds=10))
        for number in (2, 3, 4):
            clock.now += 10
            view.epoch_done(baseline, epoch(number, 4, seconds=10))
        view.trial_done(baseline)
        (cell,) = cells_of(made, baseline)
        view.cell_started(cell)
        clock.now += 4
        view.cell_done(cell, 4.0)
    # 5 epochs of 10 s and a cell of 4 s took 54 s: work goes at rate 1. Left are 3 epochs of 10 s and a cell of 4 s.
    match = LEFT.search(shown.lines[-1])
    assert match
    assert (int(match[2]), int(match[3])) == (0, 34)


def test_two_trials_at_once_take_half_the_time(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("methods=[baseline, cutout]", "training.epochs=101", "benchmarks=[clean]")
    shown = Shown(made)
    with shown.view as view:
        for number in range(1, 52):
            clock.now += 10
            for trial in made.trials:
                view.epoch_done(trial, epoch(number, 101, seconds=10))
    # some 100 epochs of 10 s are left, 1000 s of work, at 2 s of work a second; two cells of unknown cost come on top
    match = LEFT.search(shown.lines[-1])
    assert match
    assert 500 <= 60 * int(match[2]) + int(match[3]) <= 600


def test_the_counts_of_cells_add_up_in_every_line(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("methods=[baseline, cutout]", "benchmarks=[clean, adversaries]")
    shown = Shown(made)
    with shown.view as view:
        for trial in made.trials:
            clock.now += 3
            view.epoch_done(trial, epoch(1, 1))
            view.trial_done(trial)
            for cell in cells_of(made, trial):
                view.cell_started(cell)
        for number, cell in enumerate(made.cells):
            clock.now += 1
            if number == 2:
                view.cell_failed(cell, "ValueError: no such device")
            else:
                view.cell_done(cell, 1.0)
    assert shown.counts == [
        (0, 0, 4, 0),  # an epoch of the first trial
        (0, 0, 4, 0),  # it is trained
        (0, 2, 2, 0),  # an epoch of the second, while two cells of the first run
        (0, 2, 2, 0),
        (1, 3, 0, 0),
        (2, 2, 0, 0),
        (2, 1, 0, 1),
        (3, 0, 0, 1),
    ]
    assert {sum(counts) for counts in shown.counts} == {4}


def test_cells_of_earlier_runs_count_as_done(plan: Callable[..., Plan], clock: Clock) -> None:
    before = plan("methods=[baseline, cutout]")
    baseline, cutout = before.trials
    for trial in (baseline, cutout):
        before.store.write_json(trial_file(trial.id, "done.json"), {"checkpoint_id": CHECKPOINT})
    (cell,) = cells_of(before, baseline)
    put_of(before.store, baseline, cell.run)
    made = plan("methods=[baseline, cutout]")
    shown = Shown(made)
    (left,) = made.cells_to_run()
    with shown.view as view:
        view.cell_started(left)
        clock.now += 1
        view.cell_done(left, 1.0)
    assert shown.counts == [(2, 0, 0, 0)]
    assert "epochs left: 0" in shown.lines[0]


def test_a_trial_that_fails_is_shown_with_its_reason_and_its_cells_are_no_longer_left(
    plan: Callable[..., Plan], clock: Clock
) -> None:
    made = plan("methods=[baseline, cutout]", "benchmarks=[clean, adversaries]", "training.epochs=3")
    baseline, cutout = made.trials
    shown = Shown(made)
    with shown.view as view:
        clock.now += 3
        view.epoch_done(baseline, epoch(1, 3))
        view.trial_failed(baseline, "the training loss became nan in epoch 2")
        for number in (1, 2, 3):
            clock.now += 3
            view.epoch_done(cutout, epoch(number, 3))
        view.trial_done(cutout)
        for cell in cells_of(made, cutout):
            view.cell_started(cell)
            clock.now += 1
            view.cell_done(cell, 1.0)
    failure = shown.lines[1]
    for part in ("baseline seed 0", "FAILED", "the training loss became nan in epoch 2", "epochs left: 3"):
        assert part in failure
    done, running, left, failed = shown.counts[-1]
    assert (done, running, left) == (2, 0, 0)  # the two cells of the failed trial will never be measured
    assert failed > 0


def test_a_cell_that_fails_is_shown_with_its_reason(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan()
    (cell,) = made.cells
    shown = Shown(made)
    with shown.view as view:
        view.cell_started(cell)
        view.cell_failed(cell, "KeyError: '[weights]'")
    (line,) = shown.lines
    for part in ("baseline seed 0 × clean", "FAILED", "KeyError: '[weights]'", "1 failed"):
        assert part in line


def test_epochs_in_quick_succession_do_not_flood_the_log_but_the_last_one_is_shown(
    plan: Callable[..., Plan], clock: Clock
) -> None:
    made = plan("training.epochs=100")
    (trial,) = made.trials
    shown = Shown(made)
    with shown.view as view:
        for number in range(1, 101):
            clock.now += 0.1
            view.epoch_done(trial, epoch(number, 100, seconds=0.1))
    assert 2 <= len(shown.lines) <= 12  # ten seconds
    assert "epoch 1/100" in shown.lines[0]
    assert "epoch 100/100" in shown.lines[-1]


def test_lines_are_not_wrapped_to_the_width_of_a_terminal(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan()
    shown = Shown(made)
    with shown.view as view:
        view.trial_failed(next(iter(made.trials)), "a long reason " * 30)
    assert len(shown.lines) == 1


def test_work_that_took_no_time_at_all_is_no_reason_to_break_down(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("methods=[baseline, cutout]")
    shown = Shown(made)
    (first, _) = made.cells
    with shown.view as view:
        view.epoch_done(next(iter(made.trials)), epoch(1, 1, seconds=0.0))
        view.cell_started(first)
        view.cell_done(first, 0.0)
    assert len(shown.counts) == 2


def test_on_a_terminal_what_is_lasting_is_printed_above_the_live_view(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("training.epochs=2")
    (trial,), (cell,) = made.trials, made.cells
    shown = Shown(made, terminal=True)
    with shown.view as view:
        for number in (1, 2):
            clock.now += 3
            view.epoch_done(trial, epoch(number, 2))
            view.tick()
        view.trial_done(trial)
        view.cell_started(cell)
        view.cell_done(cell, 1.0)
        view.tick()
    text = shown.file.getvalue()
    assert "baseline seed 0: trained" in text
    assert "baseline seed 0 × clean: measured in 1.0 s" in text


def test_the_live_view_shows_trials_cells_rates_and_what_is_in_use(plan: Callable[..., Plan], clock: Clock) -> None:
    made = plan("training.epochs=4", "methods=[baseline, cutout]")
    (_, cutout), (cell, _) = made.trials, made.cells
    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=True)
    with ProgressView(made, console, lambda: {"CPU": (1.25, 2.0)}) as view:
        clock.now += 30
        view.epoch_done(cutout, epoch(1, 4))
        view.cell_started(cell)
        clock.now += 30
        view.tick()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    for part in ("cutout seed 0", "epoch 1/4", "baseline seed 0 × clean", "for 30 s", "1 epochs a minute"):
        assert part in text
    assert re.search(r"in use: CPU 1\.25 of 2; memory \d+\.\d of \d+\.\d GB", text)


def test_plain_lines_are_short_and_a_summary_comes_each_minute(
    plan: Callable[..., Plan], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_SUMMARIES", 60.0)
    made = plan("training.epochs=10")
    (trial,) = made.trials
    shown = Shown(made)
    with shown.view as view:
        for number in range(1, 6):
            clock.now += 25
            view.epoch_done(trial, epoch(number, 10))
            view.tick()
    lines = shown.file.getvalue().splitlines()
    assert ["cells:" in line for line in lines] == [False, False, False, True, False, False]
    assert max(map(len, lines)) < 100
    assert lines[0] == "0:25  baseline seed 0: epoch 1/10, loss 1.500, 2.0 s"
