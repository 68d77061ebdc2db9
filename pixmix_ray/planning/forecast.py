"""How long a run will take, and whether one evaluation's share is worth keeping free while trials train."""

from collections.abc import Iterable
from dataclasses import dataclass

from pixmix_ray.planning.plan import Plan, Prices

WORTH = 1.1  # keeping a share free may make a run longer by a tenth, for results that come while it trains


@dataclass(frozen=True, kw_only=True)
class Slots:
    """How many trials and cells run at once.

    Attributes:
        trials: if one evaluation's share is kept free.
        trials_alone: if none is.
        tasks: evaluations, if no trial trains.
    """

    trials: int
    trials_alone: int
    tasks: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is decided and expected before a run begins.

    Attributes:
        keeps_evaluation_share: whether one evaluation's share is kept free while trials train.
        seconds: how long the run will take; None if something in it was never measured.
        work: seconds of all its trials and cells, likewise.
    """

    keeps_evaluation_share: bool = True
    seconds: float | None = None
    work: float | None = None


def forecast(plan: Plan, prices: Prices, slots: Slots) -> Forecast:
    """The forecast of a run.

    Ray Tune keeps the process of a trial that ended for the next, and with it the share, so a share that was lent to a
    trial does not come back before the trials run out. It is therefore lent for the whole run or not at all: where
    evaluation is so little that a share kept for it would be idle most of the time, and the run a tenth longer.
    """
    trials = _known(prices.trial(trial) for trial in plan.trials_to_run())
    cells = _known(prices.cell(cell) for cell in plan.cells_to_run())
    if trials is None or cells is None or slots.trials == 0:
        return Forecast()
    training, evaluation = sum(trials), sum(cells)
    longest = max(trials, default=0.0) + max(cells, default=0.0)
    beside = slots.tasks * (1 - slots.trials / slots.trials_alone)  # evaluations that fit beside the trials
    epochs_last = training / slots.trials
    kept = epochs_last + max(0.0, evaluation - beside * epochs_last) / slots.tasks
    lent = training / slots.trials_alone + evaluation / slots.tasks
    is_kept = max(kept, longest) <= WORTH * max(lent, longest)
    seconds = prices.start + max(kept if is_kept else lent, longest)
    return Forecast(keeps_evaluation_share=is_kept, seconds=seconds, work=training + evaluation)


def _known(seconds: Iterable[float | None]) -> list[float] | None:
    """All of them, or None if one is not known."""
    found = list(seconds)
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None
