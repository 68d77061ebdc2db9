"""Trials that several workers train together on Ray: as one worker would, also after one of them was killed."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from safetensors.torch import load

from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.retries import Failure
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.store import Store, trial_file
from tests.orchestration.notes import Notes, opened

pytestmark = [
    pytest.mark.ray,
    pytest.mark.drill,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray Tune closes some of its own files late
]
ONE_EPOCH_AND_A_PART = 12  # losses, of ten batches an epoch


class Run:
    """One trial of two epochs, trained by a run."""

    def __init__(self, file: Path, name: str, *overrides: str) -> None:
        training = "{epochs: 2, flip: false, batch_size: 20, channels_last: false, lr: 0.01}"
        common = [f"results={file.parent / name}", f"training={training}", "resources.evaluation.cpus=0"]
        plan = make_plan(read_experiment(file, [*common, *overrides]))
        notes = Notes()
        done = run_plan(plan, watch=opened(notes))
        (trial,) = plan.trials
        self.failures: Sequence[Failure] = done.failures
        self.epochs = [epoch for _, epoch in notes.epochs]
        self.store, self.id = Store(plan.store.uri), trial.id
        self.done = self.store.read_json(trial_file(trial.id, "done.json")) or {}
        content = self.store.read(trial_file(trial.id, "model.safetensors"))
        self.weights = {} if content is None else load(content)

    def check_like(self, other: "Run", *, is_exact: bool = False) -> None:
        """Return if both ended in the same network, as far as roundings go, or to the bit."""
        assert self.failures == other.failures == ()
        assert self.epochs == other.epochs == [1, 2] and self.weights
        # the sum of a loss is rounded once more where a state was saved in between
        assert self.done["losses"] == pytest.approx(other.done["losses"], rel=1e-6 if is_exact else 1e-3)
        for name, tensor in other.weights.items():
            apart = (self.weights[name].double() - tensor).abs().max()
            assert apart <= (0 if is_exact else 0.02 * tensor.double().abs().max().clamp_min(0.01)), name


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_train_what_one_trains(experiment: Path, workers: int) -> None:
    alone = Run(experiment, "alone", "methods=[pixmix]")
    together = Run(experiment, "together", "methods=[pixmix]", f"resources.trial={{cpus: 2, workers: {workers}}}")
    together.check_like(alone)
    assert together.id == alone.id  # resources are no part of what a trial is


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("every", ["", "training.checkpoint_every=1 step"], ids=["epochs", "steps"])
def test_a_training_goes_on_where_it_was_saved_after_a_worker_was_killed(
    experiment: Path, tmp_path: Path, rank: int, every: str
) -> None:
    def method(times: int) -> str:
        name = f"name: 'faulty_parts:SignalsAWorker', times: {times}, diary: {tmp_path}/diary{times}"
        return f"methods=[{{{name}, rank: {rank}, at: {ONE_EPOCH_AND_A_PART}, number: {int(signal.SIGKILL)}}}]"

    settings = ["resources.trial={cpus: 2, workers: 2}", *filter(None, [every])]
    whole = Run(experiment, "whole", method(0), *settings)
    killed = Run(experiment, "killed", method(1), *settings)
    assert len(list((tmp_path / "diary1").iterdir())) == 2
    killed.check_like(whole, is_exact=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_told_of_its_end_saves_at_once_and_its_attempt_is_not_charged(
    experiment: Path, tmp_path: Path, workers: int
) -> None:
    def method(times: int) -> str:
        name = f"name: 'faulty_parts:SignalsAWorker', times: {times}, diary: {tmp_path}/diary{times}"
        return f"methods=[{{{name}, rank: {workers - 1}, at: 3, number: {int(signal.SIGTERM)}}}]"

    settings = [f"resources.trial={{cpus: 1, workers: {workers}}}"]
    whole = Run(experiment, "whole", method(0), *settings)
    told = Run(experiment, "told", method(4), *settings)  # more often than any death is tried again
    assert len(list((tmp_path / "diary4").iterdir())) == 5
    told.check_like(whole, is_exact=True)
    assert not told.store.exists(trial_file(told.id, "failed.json"))


def test_what_another_worker_failed_of_is_told(experiment: Path, tmp_path: Path) -> None:
    method = f"methods=[{{name: 'faulty_parts:RaisesInTraining', diary: {tmp_path}/diary}}]"
    failed = Run(experiment, "failed", method, "resources.trial={cpus: 2, workers: 2}")
    assert len(failed.failures) == 1 and "Connection" not in failed.failures[0].reason
