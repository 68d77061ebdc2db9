"""Training curves for other tools, written by a real sweep; and tools that are away or not installed."""

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pandas as pd
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.tracking import Mlflow, Wandb
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration.run import run_plan
from pixmix_ray.orchestration.trackers import (
    MlflowTracker,
    TensorBoardTracker,
    Tracker,
    WandbTracker,
    _Guarded,
    parameters,
    tags,
)
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
    folder = experiment.parent / "results" / "tensorboard" / f"{trial.label} {trial.id}"  # beside the final table's
    done = plan.store.read_json(f"trials/{trial.id}/done.json")
    assert done is not None
    for tag, expected in (("loss", done["losses"]), ("validation_error", done["validation_errors"])):
        found = scalars(folder, tag)
        assert [step for step, _ in found] == [1, 2, 3]
        assert [value for _, value in found] == pytest.approx(expected, rel=1e-6)
    assert len(read(experiment.parent / "results")) > 0  # the folder of the curves is in nobody's way


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.filterwarnings("ignore")  # theirs
def test_mlflow_and_weights_and_biases_have_a_run_of_the_trials_name_where_they_are_installed(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(experiment.parent)  # where MLflow puts the tables
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    database = experiment.parent / "mlflow.db"
    tracking = f"{{mlflow: {{tracking_uri: 'sqlite:///{database}'}}, wandb: {{offline: true}}}}"
    plan = make_plan(read_experiment(experiment, [f"tracking={tracking}"]))
    (trial,) = plan.trials
    assert run_plan(plan).failures == ()
    with closing(sqlite3.connect(database)) as connection:
        assert (trial.label, "FINISHED") in connection.execute("select name, status from runs").fetchall()
        losses = connection.execute("select value from metrics where key = 'loss' order by step").fetchall()
    done = plan.store.read_json(f"trials/{trial.id}/done.json")
    assert done is not None and [loss for (loss,) in losses] == done["losses"]
    assert (
        len(list((experiment.parent / "results" / "wandb").glob("offline-run-*"))) == 2
    )  # of the trial, and of the table


def test_tensorboard_has_the_final_table_as_text(tmp_path: Path) -> None:
    TensorBoardTracker(str(tmp_path)).keep("results", {"table": pd.DataFrame({"label": ["a"], "clean.error": [0.5]})})
    (file,) = (tmp_path / "results").iterdir()
    assert b"| label | clean.error |\n| --- | --- |\n| a | 0.5 |" in file.read_bytes()


def test_tensorboard_names_the_run_as_tables_do_and_goes_on_under_another_label(experiment: Path) -> None:
    (trial,) = read_experiment(experiment).trials()
    for label in ("baseline of a/b seed 0", "baseline lr=0.1 seed 0"):
        tracker = TensorBoardTracker(str(experiment.parent / "t"))
        tracker.log(replace(trial, label=label), {"loss": 1.0}, 1)
        tracker.close()
    assert [path.name for path in (experiment.parent / "t").iterdir()] == [f"baseline of a_b seed 0 {trial.id}"]


def test_a_package_that_is_not_installed_is_named_before_anything_runs(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmix_ray.experiment.tracking.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"tracking\.mlflow needs the package mlflow: pip install mlflow"):
        read_experiment(experiment, ["tracking.mlflow={}"])


def test_tensorboard_needs_a_local_folder(experiment: Path) -> None:
    with pytest.raises(RequestError, match=r"tracking\.tensorboard needs local results, and results is s3://b/f"):
        read_experiment(experiment, ["tracking.tensorboard=true", "results=s3://b/f"])


def test_a_tool_that_raises_is_left_out_with_one_warning_and_fails_nothing(
    experiment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fault: the server of the tool is away, from the start."""

    def away() -> Tracker:
        raise ConnectionError("no route to host")

    (trial,) = read_experiment(experiment).trials()
    guarded = _Guarded("MLflow", away)
    guarded.log(trial, {"loss": 1.0}, 1)
    guarded.close()
    assert [record.getMessage() for record in caplog.records] == [
        "tracking with MLflow stopped: ConnectionError: no route to host"
    ]


class Listener:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, float], int]] = []

    def log(self, trial: Trial, values: Mapping[str, float], step: int) -> None:
        self.told.append((trial.label, dict(values), step))

    def keep(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        (row,) = tables["table"].to_dict("records")
        assert tables["front"]["label"].tolist() == ["baseline"]
        self.told.append((name, {key: row[key] for key in ("clean.error", "seeds")}, 0))

    def close(self) -> None:
        self.told.append(("closed", {}, 0))


def test_every_cell_adds_its_headline_measures_to_the_run_of_its_trial(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    monkeypatch.setattr("pixmix_ray.orchestration.run.trackers", lambda *_: [listener])
    plan = make_plan(read_experiment(experiment, ["training.validation=0.2"]))
    assert run_plan(plan, executor="local").failures == ()
    frame = read(experiment.parent / "results").set_index("metric")["value"]
    epoch, cell, table, end = listener.told
    assert epoch[0] == "baseline seed 0" and set(epoch[1]) == {"loss", "validation_error"}
    measured = {f"clean.{name}": frame[name] for name in ("error", "rms_calibration_error")}
    assert cell == ("baseline seed 0", measured, 1)
    assert table == ("results", {"clean.error": frame["error"], "seeds": 1}, 0)
    assert end[0] == "closed"


def test_parameters_and_tags_are_those_of_the_settings(experiment: Path) -> None:
    first, second = read_experiment(experiment, ["methods=[{name: mixup, alpha: 0.5}]", "seeds=[0, 1]"]).trials()
    assert parameters(first) | {"seed": 1} == parameters(second)
    assert parameters(first)["method.alpha"] == 0.5 and "training.lr" in parameters(first)
    assert tags(first)["configuration"] == tags(second)["configuration"]
    assert (tags(first)["method"], tags(second)["seed"]) == ("mixup", "1")


def test_mlflow_and_weights_and_biases_are_called_as_they_ask_to_be(
    experiment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are replaced by records of calls, as neither is among the test requirements."""
    client, wandb = MagicMock(), MagicMock()
    client.get_experiment_by_name.return_value = None
    client.search_runs.return_value = []
    modules = {"mlflow": MagicMock(), "mlflow.tracking": MagicMock(MlflowClient=lambda tracking_uri: client)}
    for name, module in {**modules, "wandb": wandb}.items():
        monkeypatch.setitem(sys.modules, name, module)
    (trial,) = read_experiment(experiment).trials()
    table = pd.DataFrame({"label": ["baseline"], "clean.error": [0.5]})
    for tracker in (MlflowTracker(Mlflow()), WandbTracker(Wandb(offline=True), "nowhere")):
        tracker.log(trial, {"loss": 0.5}, 3)
        tracker.keep("results", {"table": table})
        tracker.close()
    first, last = client.create_run.call_args_list
    assert first.kwargs == {"run_name": "baseline seed 0", "tags": tags(trial)}
    assert last.kwargs == {"run_name": "results"}
    assert client.log_text.call_args.args[1:] == ("label,clean.error\nbaseline,0.5\n", "table.csv")
    assert client.log_metric.call_args.args[1:] == ("loss", 0.5)
    assert client.log_param.call_count == len(parameters(trial))
    made, kept = (call.kwargs for call in wandb.init.call_args_list)
    assert kept["name"] == "results" and wandb.Table.call_args.kwargs["dataframe"] is table
    assert (made["name"], made["mode"], made["config"]) == ("baseline seed 0", "offline", parameters(trial))
    assert wandb.init.return_value.log.call_args.args == ({"loss": 0.5, "epoch": 3},)
