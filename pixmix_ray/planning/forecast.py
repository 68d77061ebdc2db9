"""How long a run will take, and whether one evaluation's share is worth keeping free while trials train."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixmix_ray.planning.durations import Durations
    from pixmix_ray.planning.plan import Plan

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


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Estimated seconds of what is left, each trial and cell at its share of the machine.

    Attributes:
        training: of all trials; None if nothing like one of them was ever measured.
        evaluation: of all cells, likewise.
        longest: of the longest trial and the longest cell together, as far as they are known.
    """

    training: float | None
    evaluation: float | None
    longest: float


def cost(plan: Plan, durations: Durations) -> Cost:
    """What a plan lacks, in seconds of work."""
    trials = [durations.trial(trial) for trial in plan.trials_to_run()]
    cells = [durations.cell(cell) for cell in plan.cells_to_run()]
    longest = sum(max((value or 0.0 for value in values), default=0.0) for values in (trials, cells))
    return Cost(training=_total(trials), evaluation=_total(cells), longest=longest)


def forecast(plan: Plan, durations: Durations, slots: Slots) -> Forecast:
    """The forecast of a run.

    Ray Tune keeps the process of a trial that ended for the next, and with it the share, so a share that was lent to a
    trial does not come back before the trials run out. It is therefore lent for the whole run or not at all: where
    evaluation is so little that a share kept for it would be idle most of the time, and the run a tenth longer.
    """
    left = cost(plan, durations)
    if left.training is None or left.evaluation is None or slots.trials == 0:
        return Forecast()
    beside = slots.tasks * (1 - slots.trials / slots.trials_alone)  # evaluations that fit beside the trials
    epochs_last = left.training / slots.trials
    kept = epochs_last + max(0.0, left.evaluation - beside * epochs_last) / slots.tasks
    lent = left.training / slots.trials_alone + left.evaluation / slots.tasks
    is_kept = max(kept, left.longest) <= WORTH * max(lent, left.longest)
    seconds = durations.start + max(kept if is_kept else lent, left.longest)
    return Forecast(keeps_evaluation_share=is_kept, seconds=seconds, work=left.training + left.evaluation)


def _total(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None if one is not known."""
    found = list(seconds)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None
