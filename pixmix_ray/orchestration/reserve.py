"""How many trials train at once: all but one evaluation's share, unless the history says that this would waste time."""

from collections.abc import Sequence
from dataclasses import dataclass

from pixmix_ray.experiment.resources import Share
from pixmix_ray.orchestration.session import how_many_fit, trials_at_once
from pixmix_ray.planning.plan import Plan, Prices
from pixmix_ray.planning.schedule import TrialTime, list_makespan

WORTH = 1.1  # keeping a share free may make a sweep longer by a tenth, for results that come while it runs


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is decided and expected before a run begins.

    Attributes:
        at_once: so many trials train at the same time at most.
        seconds: how long the run will take; None if something in it was never measured.
        work: seconds of all its trials and cells, likewise.
    """

    at_once: int
    seconds: float | None = None
    work: float | None = None


def forecast(plan: Plan, prices: Prices, nodes: Sequence[Share]) -> Forecast:
    """The forecast of a run.

    Tune keeps the process of a trial that ended for the next, and with it the share, so a share that was lent to a
    trial does not come back before the trials run out. It is therefore lent for the whole run or not at all: where
    evaluation is so little that a share kept for it would be idle most of the time, and the run a tenth longer.

    Raises:
        ClusterError: the cluster cannot hold a trial or an evaluation.
    """
    resources = plan.experiment.resources
    at_once = trials_at_once(nodes, resources)
    times = _times(plan, prices)
    if times is None:
        return Forecast(at_once=at_once)
    kept = list_makespan(times, nodes, resources, at_once=at_once)
    lent = list_makespan(times, nodes, resources)
    work = sum(time.seconds + sum(time.cells) for time in times)
    if kept > WORTH * lent:
        return Forecast(at_once=how_many_fit(nodes, resources.trial), seconds=prices.start + lent, work=work)
    return Forecast(at_once=at_once, seconds=prices.start + kept, work=work)


def _times(plan: Plan, prices: Prices) -> list[TrialTime] | None:
    """What each trial and its cells will take; None where one was never measured."""
    trials = {trial.id: prices.trial(trial) for trial in plan.trials_to_run()}
    cells: dict[str, list[float]] = {}
    for cell in plan.cells_to_run():
        price = prices.cell(cell)
        if price is None:
            return None
        cells.setdefault(cell.trial.id, []).append(price)
    found = []
    for trial_id, seconds in cells.items():
        training = trials.get(trial_id, 0.0)
        if training is None:
            return None
        found.append(TrialTime(seconds=training, cells=tuple(seconds)))
    return found
