"""A results folder, read again and again while another process, perhaps on another machine, fills it."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pixmix_ray.errors import ResultsError
from pixmix_ray.planning.status import Status, read_status
from pixmix_ray.report.overview import status_table
from pixmix_ray.report.usage import clock

SECONDS = 5.0


def watch(
    uri: str,
    console: Console,
    choose: Callable[[Status], Status] = lambda status: status,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the status of a results folder until interrupted: a live table on a terminal, else a line for each change.

    A folder that holds no results yet is waited for.

    Args:
        uri: the folder.
        console: where it is shown.
        choose: what is shown of it.
        sleep: waits so many seconds.
    """
    is_live = console.is_terminal
    with Live(console=console, auto_refresh=False) as live:
        shown = ""
        for status, line in _readings(uri, choose, sleep):
            failures = [Text(failure, style="red") for failure in status.failures] if status else []
            if is_live:
                live.update(Group(*([status_table(status)] if status else []), *failures, Text(line)), refresh=True)
            elif line != shown:
                console.print(f"{time.strftime('%H:%M:%S')}  {line}", markup=False, highlight=False, soft_wrap=True)
            shown = line


def _readings(
    uri: str, choose: Callable[[Status], Status], sleep: Callable[[float], None]
) -> Iterator[tuple[Status | None, str]]:
    """What is there every few seconds, and the same in a line; until interrupted."""
    first: tuple[float, int] | None = None
    while True:
        try:
            status = choose(read_status(uri))
        except ResultsError:
            yield None, f"waiting for results in {uri}"
        else:
            done = sum(trial.cells_done for trial in status.trials)
            first = first or (time.monotonic(), done)
            minutes = (time.monotonic() - first[0]) / 60
            rate = (done - first[1]) / minutes if done > first[1] else 0.0
            told = [f"{rate:.3g} cells a minute"] if rate else []
            told += [f"about {clock(60 * status.cells_left / rate)} left"] if rate and status.cells_left else []
            yield status, "; ".join([counts(status), *told])
        sleep(SECONDS)


def counts(status: Status) -> str:
    """How many trials are in which state and how many cells are done, such as "trials: 2 done, 1 training; ..."."""
    states = Counter("training" if trial.state.startswith("epoch") else trial.state for trial in status.trials)
    cells = {"done": sum(trial.cells_done for trial in status.trials)}
    if status.cells_left:
        cells["left"] = status.cells_left
    if failed := sum(trial.cells_failed for trial in status.trials):
        cells["failed"] = failed
    said = [", ".join(f"{count} {state}" for state, count in kinds.items()) for kinds in (states, cells)]
    return f"trials: {said[0]}; cells: {said[1]}"
