"""In which order Ray Tune's trials run, and which stop early.

Early stopping is Tune's asynchronous successive halving, once for each method: losses of different methods do not
compare.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from pixmix_ray.experiment.early_stopping import Asha
from pixmix_ray.planning.plan import Plan
from pixmix_ray.storage.store import trial_file

EPOCH, LOSS = "epoch", "loss"  # the keys in a trainer's results


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """The losses by epoch that a trial of an earlier run had."""

    trial_id: str
    method: str
    losses: Mapping[int, float]


class InTurn(FIFOScheduler):
    """Runs trials in their order, to their end.

    Tune's own does so too, but looks at every trial that there ever was each time something happens: with 10,000 of
    them that is most of what the driver does.
    """

    def __init__(self) -> None:
        """A scheduler without trials."""
        super().__init__()  # type: ignore[no-untyped-call]  # it has no types
        self._turn: dict[str, int] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Remember when its turn is."""
        self._turn.setdefault(trial.trial_id, len(self._turn))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial that waits to be started, or else to go on; None where there is none."""
        waiting = [
            trial for trial in tune_controller.get_live_trials() if trial.status in (Trial.PENDING, Trial.PAUSED)
        ]
        return min(waiting, key=lambda trial: (trial.status == Trial.PAUSED, self._turn[trial.trial_id]), default=None)


class HalvingByMethod(InTurn):
    """Asks the scheduler of the trial's method. Trials of earlier runs count: they are shown to it first."""

    def __init__(self, settings: Asha, epochs: int, earlier: Iterable[LossCurve] = ()) -> None:
        """A scheduler for trials of so many epochs."""
        super().__init__()
        self._settings, self._epochs = settings, epochs
        self._by_method: dict[str, ASHAScheduler] = {}
        for curve in earlier:
            halving: Any = self._of(curve.method)  # of a trial it only looks at trial_id, and never at the controller
            halving.on_trial_add(None, curve)
            for epoch, loss in sorted(curve.losses.items()):
                halving.on_trial_result(None, curve, {EPOCH: epoch, LOSS: loss})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tell the scheduler of its method."""
        super().on_trial_add(tune_controller, trial)
        self._of_trial(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether it goes on; it does after its last epoch, which has no loss here: there is nothing left to save."""
        decision: str = self._of_trial(trial).on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tell the scheduler of its method."""
        self._of_trial(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Tell the scheduler of its method."""
        self._of_trial(trial).on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """How many were stopped, by method."""
        return "\n".join(f"{method}: {halving.debug_string()}" for method, halving in self._by_method.items())

    def _of_trial(self, trial: Any) -> ASHAScheduler:
        return self._of(trial.config["job"]["trial"]["method"]["name"])

    def _of(self, method: str) -> ASHAScheduler:
        if method not in self._by_method:
            self._by_method[method] = ASHAScheduler(
                time_attr=EPOCH,
                metric=LOSS,
                mode="min",
                max_t=self._epochs,
                grace_period=self._settings.grace_period,
                reduction_factor=self._settings.reduction_factor,
                stop_last_trials=False,  # else a trial would be stopped after its last epoch, before it is written
            )
        return self._by_method[method]


def scheduler(plan: Plan) -> InTurn:
    """The scheduler that the sweep asks for, if any, which then knows the trials that are done or stopped."""
    asked = plan.experiment.scheduler
    if asked is None:
        return InTurn()
    return HalvingByMethod(asked, plan.experiment.training.epochs, _earlier(plan))


def _earlier(plan: Plan) -> Iterable[LossCurve]:
    for trial, state in plan.trials.items():
        if state in ("done", "stopped"):
            record = plan.store.read_json(trial_file(trial.id, f"{state}.json")) or {}
            losses = record.get("losses", {})
            curve = losses if isinstance(losses, dict) else dict(enumerate(losses, start=1))
            yield LossCurve(
                trial_id=trial.id,
                method=trial.method.name,
                losses={int(epoch): float(loss) for epoch, loss in curve.items()},
            )
