"""The steps of the actor that trains, without Ray."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.resources import Share
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration import trainer
from pixmix_ray.orchestration.trainer import Trainer
from pixmix_ray.orchestration.work import Job, Work
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.failures import Place
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress

EPOCHS = 2


@dataclass
class Clock:
    """In the place of `time`: it moves on as trials do."""

    seconds: float = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trainer, "time", clock)
    monkeypatch.setattr(trainer, "watch_for_end", lambda: None)
    monkeypatch.setattr(trainer, "place_here", Place)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor="actor"))
    return clock


def told_in(actor: Trainer) -> list[str]:
    """What each step of a trial tells, until it is done."""
    steps = [actor.step()]
    while not steps[-1]["done"]:
        steps.append(actor.step())
    return [" ".join(name for name in ("place", "progress", "is_finished") if name in step) for step in steps]


def test_where_short_trials_run_is_told_with_their_first_epoch_unless_they_are_trained_again(
    experiment: Path, clock: Clock
) -> None:
    seconds = {0: 0.2, 1: 0.2, 2: 0.2, 3: 5.0, 4: 0.2}  # of an epoch, by seed

    def train(trial: Trial, store: Store, device: torch.device) -> Iterator[Progress]:
        for epoch in range(1, EPOCHS + 1):
            clock.seconds += seconds[trial.seed]
            yield Progress(epoch=epoch, epochs=EPOCHS, loss=1.0, seconds=seconds[trial.seed])

    plan = make_plan(read_experiment(experiment, ["seeds=[0, 1, 2, 3, 4]", f"training.epochs={EPOCHS}"]))
    configs = [
        {"job": Job(trial=trial, results=plan.store.uri, work=Work(train=train), share=Share()), "is_again": False}
        for trial in plan.trials
    ]
    early, together = ["place", "progress", "progress is_finished"], ["place progress", "progress is_finished"]
    actor = Trainer.__new__(Trainer)
    actor.setup(configs[0])
    assert told_in(actor) == early
    for config, expected in zip(configs[1:], (together, together, together, early), strict=True):
        actor.reset_config(config)
        assert told_in(actor) == expected  # the fourth takes long, so that of the fifth nothing is known
    actor.reset_config({**configs[1], "is_again": True})
    assert told_in(actor) == early
