"""TensorBoard, MLflow and Weights & Biases: a run for each trial, under its label, with curves and what cells measured.

Each trial's settings are parameters, its method, data set, model, mixing set and seed are tags, and the trials of one
configuration, which differ in the seed alone, are a group. Every cell adds its headline measures, as benchmark.metric.
At the end the table and the front of the experiment are artifacts of a run of their own, called after the results.
A service that is away is left out from then on, with a warning: it must not fail a trial.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from pixmix_ray.analysis.spread import summary
from pixmix_ray.errors import ResultsError, StorageError, one_line
from pixmix_ray.experiment.external import External, Source, cell_names
from pixmix_ray.experiment.tracking import Mlflow, Tracking, Wandb
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.identity import hash_of_values
from pixmix_ray.orchestration.watcher import ForwardingWatcher, Watcher
from pixmix_ray.storage.cell import read_columns
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress

if TYPE_CHECKING:
    from pixmix_ray.planning.plan import Cell, Plan

log = logging.getLogger(__name__)
MOST_LETTERS = 150  # of a label in the name of a folder, which may have 255


class Tracker(Protocol):
    """One service."""

    def log(self, trial: Source, values: Mapping[str, float], step: int) -> None:
        """Add values to the run of a trial, which is made when it is first heard of."""

    def keep(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Keep final tables, by their names, as artifacts of a run called `name`."""

    def close(self) -> None:
        """All is told."""


def parameters(trial: Source) -> dict[str, Any]:
    """The settings of a trial by dotted path, and its seed."""
    return {**_flat(trial.settings), "seed": trial.seed}


def tags(trial: Source) -> dict[str, str]:
    """By what runs are filtered and grouped; `configuration` is the same for all seeds."""
    described = trial.described()
    named = {name: str(described[name] or "none") for name in ("method", "dataset", "model", "mixing_set")}
    return {
        "trial_id": trial.id,
        "configuration": hash_of_values(trial.settings),
        **named,
        "seed": str(trial.seed),
    }


def _flat(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


class TensorBoardTracker:
    """Event files in "FOLDER/LABEL TRIAL": TensorBoard calls a run as its folder is called."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def log(self, trial: Source, values: Mapping[str, float], step: int) -> None:
        """Add scalars; with the first ones the settings as a text."""
        from tensorboardX import SummaryWriter  # comes with Ray

        writer = self._writers.get(trial.id)
        if writer is None:
            writer = self._writers[trial.id] = SummaryWriter(str(self._run(trial)), flush_secs=5)
            lines = [f"    {name}: {value}" for name, value in {"label": trial.label, **parameters(trial)}.items()]
            writer.add_text("settings", "\n".join(lines))
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    def _run(self, trial: Source) -> Path:
        """The folder of a trial: the one that there is, as a label may change while a trial stays the same."""
        found = sorted(Path(self._folder).glob(f"*{trial.id}"))
        label = re.sub(r"[^\w .,=+*()-]", "_", trial.label)[:MOST_LETTERS]
        return found[0] if found else Path(self._folder, f"{label} {trial.id}")

    def keep(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Add each as a text."""
        from tensorboardX import SummaryWriter

        with SummaryWriter(f"{self._folder}/{name}") as writer:
            for title, table in tables.items():
                writer.add_text(title, grid_text(table))

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()


class MlflowTracker:
    """Runs of an experiment on an MLflow server or in its database; one that is there already goes on."""

    def __init__(self, settings: Mlflow) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=settings.tracking_uri)
        found = self._client.get_experiment_by_name(settings.experiment)
        self._experiment = found.experiment_id if found else self._client.create_experiment(settings.experiment)
        self._runs: dict[str, str] = {}

    def log(self, trial: Source, values: Mapping[str, float], step: int) -> None:
        """Add metrics."""
        run = self._runs.get(trial.id) or self._runs.setdefault(trial.id, self._run(trial))
        for name, value in values.items():
            self._client.log_metric(run, name, value, step=step)

    def _run(self, trial: Source) -> str:
        found = self._client.search_runs([self._experiment], f"tags.trial_id = '{trial.id}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(self._experiment, run_name=trial.label, tags=tags(trial))
        for name, value in parameters(trial).items():
            self._client.log_param(run.info.run_id, name, value)
        return str(run.info.run_id)

    def keep(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Add each as a file .csv."""
        run = self._client.create_run(self._experiment, run_name=name).info.run_id
        for title, table in tables.items():
            self._client.log_text(run, table.to_csv(index=False), f"{title}.csv")
        self._client.set_terminated(run)

    def close(self) -> None:
        """Mark the runs as finished."""
        for run in self._runs.values():
            self._client.set_terminated(run)


class WandbTracker:
    """Runs of a project of Weights & Biases; one that is there already goes on."""

    def __init__(self, settings: Wandb, results: str) -> None:
        self._settings, self._runs = settings, dict[str, Any]()
        self._folder = results if Path(results).is_dir() else None  # else where wandb writes by itself

    def log(self, trial: Source, values: Mapping[str, float], step: int) -> None:
        """Add values; W&B's own step must not fall, so the epoch is a value beside them."""
        run = self._runs.get(trial.id) or self._runs.setdefault(trial.id, self._run(trial))
        run.log({**values, "epoch": step})

    def _run(self, trial: Source) -> Any:
        import wandb

        return wandb.init(
            project=self._settings.project,
            id=trial.id,
            name=trial.label,
            group=tags(trial)["configuration"],
            tags=[f"{name}:{value}"[:64] for name, value in tags(trial).items() if name not in ("trial_id", "seed")],
            config=parameters(trial),
            resume="allow",
            **self._own(),
        )

    def keep(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Add each as a table, which W&B keeps as an artifact."""
        import wandb

        with wandb.init(project=self._settings.project, name=name, job_type="table", **self._own()) as run:
            run.log({title: wandb.Table(dataframe=table) for title, table in tables.items()})

    def _own(self) -> dict[str, Any]:
        """How every run is made."""
        import wandb

        return {
            "dir": self._folder,
            "mode": "offline" if self._settings.offline else None,
            "reinit": "create_new",  # several at once
            "settings": wandb.Settings(quiet=True),  # else it prints a page for each trial among the progress
        }

    def close(self) -> None:
        """Finish the runs."""
        for run in self._runs.values():
            run.finish()


class _Guarded:
    """Passes on until the service raises: it must not fail a trial."""

    def __init__(self, name: str, make: Callable[[], Tracker]) -> None:
        self._name, self._inner = name, None
        self._inner = self._try(make)

    def log(self, trial: Source, values: Mapping[str, float], step: int) -> None:
        if (inner := self._inner) is not None:
            self._try(lambda: inner.log(trial, values, step))

    def keep(self, name: str, tables: Mapping[str, pd.DataFrame]) -> None:
        if (inner := self._inner) is not None:
            self._try(lambda: inner.keep(name, tables))

    def close(self) -> None:
        if self._inner is not None:
            self._try(self._inner.close)

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # other people's code, and a network
            self._inner = None
            log.warning("tracking with %s stopped: %s: %s", self._name, type(error).__name__, one_line(error))
            return None


def trackers(tracking: Tracking, results: str) -> list[Tracker]:
    """A tracker for each service that is on; `results` is the folder of the results."""
    makers: dict[str, Callable[[], Tracker]] = {}
    if tracking.tensorboard:
        makers["TensorBoard"] = lambda: TensorBoardTracker(f"{results}/tensorboard")
    if (mlflow := tracking.mlflow) is not None:
        makers["MLflow"] = lambda: MlflowTracker(mlflow)
    if (wandb := tracking.wandb) is not None:
        makers["Weights & Biases"] = lambda: WandbTracker(wandb, results)
    return [_Guarded(name, make) for name, make in makers.items()]


class Tracked(ForwardingWatcher):
    """A watcher that tells trackers, and then another watcher."""

    def __init__(self, inner: Watcher, store: Store, followers: list[Tracker]) -> None:
        """Tell `followers` of what happens, and of what is measured in `store`."""
        super().__init__(inner)
        self._store, self._followers = store, followers

    def epoch_done(self, trial: Trial, progress: Progress) -> None:
        """A step of the curves."""
        values = {"loss": progress.loss}
        if progress.validation_error is not None:
            values["validation_error"] = progress.validation_error
        self._log(trial, values, progress.epoch)
        super().epoch_done(trial, progress)

    def cell_done(self, cell: "Cell", seconds: float) -> None:
        """The headline measures of a cell."""
        epochs = 0 if isinstance(cell.trial, External) else cell.trial.training.epochs
        self._log(cell.trial, headline_measures(self._store, cell), epochs)
        super().cell_done(cell, seconds)

    def _log(self, trial: Source, values: Mapping[str, float], step: int) -> None:
        for follower in self._followers:
            follower.log(trial, values, step)


def keep_tables(followers: Sequence[Tracker], plan: "Plan") -> None:
    """Give trackers the table and front of what an experiment has measured, if it has."""
    try:
        table = summary(plan.store, plan.own_rows()) if followers else pd.DataFrame()
    except (ResultsError, StorageError) as error:  # whoever reads the results says more
        log.warning("trackers get no final table: %s", error)
        return
    if len(table):
        name = plan.store.uri.partition("?")[0].rstrip("/").rpartition("/")[2]
        for follower in followers:
            follower.keep(name, {"table": table, "front": table[table["on_front"]]})


def grid_text(table: pd.DataFrame) -> str:
    """A table in Markdown, which TensorBoard shows."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def headline_measures(store: Store, cell: "Cell") -> dict[str, float]:
    """What a cell measured over all conditions, of the headline of its benchmark, by benchmark.metric."""
    name = cell_names(store, [cell.trial], [cell.run]).get((cell.trial.id, cell.run.key))
    try:
        columns = None if name is None else read_columns(store, name)
    except ResultsError:  # damaged: whoever reads the results says so
        columns = None
    if columns is None:
        return {}
    wanted = cell.run.benchmark.settings.headline
    return {
        f"{cell.run.name}.{row.metric}": row.value
        for row in columns.footer().measurements
        if row.metric in wanted and not row.condition and row.severity is None
    }
