"""Training curves for other tools, written by a real sweep; and tools that are away or not installed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.orchestration.loggers import _Guarded
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.planning.plan import make_plan
from pixmix_ray.storage.index import read


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Step and value of each entry with that tag; a record is its length, a sum, the event, a sum."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        content = file.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            assert int.from_bytes(content[8:12], "little") == masked_crc32c(content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
            content = content[16 + length :]
    return found


@pytest.mark.ray
@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # as in test_run
def test_tensorboard_has_the_curves_by_epoch_under_the_name_of_the_trial(experiment: Path) -> None:
    plan = make_plan(
        read_experiment(experiment, ["tracking.tensorboard=true", "training.epochs=3", "training.validation=0.2"])
    )
    assert run_plan(plan).failures == ()
    (trial,) = plan.trials
    (folder,) = (experiment.parent / "results" / "tensorboard").iterdir()
    done = plan.store.read_json(f"trials/{trial.id}/done.json")
    assert done is not None and folder.name == trial.id
    for tag, expected in (("loss", done["losses"]), ("validation_error", done["validation_errors"])):
        found = scalars(folder, tag)
        assert [step for step, _ in found] == [1, 2, 3]
        assert [value for _, value in found] == pytest.approx(expected, rel=1e-6)
    assert len(read(experiment.parent / "results")) > 0  # the folder of the curves is in nobody's way


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore")  # theirs
def test_mlflow_and_weights_and_biases_have_a_run_of_the_trials_name_where_they_are_installed(
    experiment: Path,
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    database = experiment.parent / "mlflow.db"
    tracking = f"{{mlflow: {{tracking_uri: 'sqlite:///{database}'}}, wandb: {{offline: true}}}}"
    plan = make_plan(read_experiment(experiment, [f"tracking={tracking}"]))
    (trial,) = plan.trials
    assert run_plan(plan).failures == ()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select name, status from runs").fetchall() == [(trial.id, "FINISHED")]
        losses = connection.execute("select value from metrics where key = 'loss' order by step").fetchall()
    done = plan.store.read_json(f"trials/{trial.id}/done.json")
    assert done is not None and [loss for (loss,) in losses] == done["losses"]
    assert len(list((experiment.parent / "results" / "wandb").glob("offline-run-*"))) == 1


def test_a_package_that_is_not_installed_is_named_before_anything_runs(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmix_ray.experiment.tracking.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"tracking\.mlflow needs the package mlflow: pip install mlflow"):
        read_experiment(experiment, ["tracking.mlflow={}"])


def test_tensorboard_needs_a_local_folder(experiment: Path) -> None:
    with pytest.raises(RequestError, match=r"tracking\.tensorboard writes to a local folder, and results is s3://b/f"):
        read_experiment(experiment, ["tracking.tensorboard=true", "results=s3://b/f"])


def test_a_tool_that_raises_is_left_out_with_one_warning_and_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The fault: the server of the tool is away, from the start."""

    def away() -> None:
        raise ConnectionError("no route to host")

    guarded = _Guarded("MLflow", away)  # type: ignore[arg-type]  # it makes nothing
    guarded.setup()
    guarded.on_trial_start(iteration=1, trials=[], trial=None)
    assert [record.getMessage() for record in caplog.records] == [
        "MLflow is left out from now on: ConnectionError: no route to host"
    ]
