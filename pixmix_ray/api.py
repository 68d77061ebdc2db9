"""What the package does, as functions: the commands call these and print, and so may a notebook.

import pixmix_ray

experiment = {"results": "results", "dataset": "digits", "methods": ["baseline", "pixmix"]}
pixmix_ray.plan(experiment)  # what would run; spends nothing
done = pixmix_ray.run(experiment)
pixmix_ray.front(done.measurements)
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from rich.console import Console

from pixmix_ray.evaluation.cell import evaluate_here
from pixmix_ray.evaluation.checkpoints import Request
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.metrics import direction
from pixmix_ray.orchestration.executor import Executor
from pixmix_ray.orchestration.run import Run, run_plan
from pixmix_ray.orchestration.watcher import Silent, Watcher
from pixmix_ray.planning.fits import check_fits
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.report.progress import ProgressView

ExperimentLike: TypeAlias = Experiment | Mapping[str, Any] | Path | str
"""An experiment file, the content of one, whose parts may also be objects or classes, or an `Experiment`."""


def plan(
    experiment: ExperimentLike,
    *,
    overrides: Iterable[str] = (),
    presets: Iterable[str] = (),
    limit: int | None = None,
) -> Plan:
    """What an experiment still has to do, read from its results folder; spends nothing.

    Args:
        experiment: a file, its content, or an `Experiment`.
        overrides: `key.path=value`, as typed with --set.
        presets: names of presets of the file, put on top before the overrides.
        limit: no benchmark takes more test pictures than so many.

    Raises:
        RequestError: the experiment is wrong, its data are missing or broken, or it cannot fit this machine.
    """
    made = make_plan(read_experiment(experiment, overrides, presets=presets, limit=limit))
    check_fits(made)
    return made


def run(
    experiment: ExperimentLike | Plan,
    *,
    overrides: Iterable[str] = (),
    executor: Executor | str = "ray",
    watch: bool | Watcher = True,
) -> Run:
    """Train and evaluate all that an experiment lacks, and return what came of it; run again, it goes on.

    Args:
        experiment: a file, its content, an `Experiment`, or a plan of one.
        overrides: as for `plan`.
        executor: "ray" for the cluster that this process is connected to, or else a new one on this machine; "local"
            for this process without Ray; "host:port" of a running cluster; or an executor.
        watch: whether progress is shown on stderr; or what is told of it.

    Raises:
        RequestError: the experiment is wrong, or its data are missing or broken; nothing was started.
        ClusterError: there is no cluster, or it cannot hold the work.
        HeldError: another run is at work on the results folder.
        StorageError: results can no longer be written; what is done is kept.
    """
    made = experiment if isinstance(experiment, Plan) else plan(experiment, overrides=overrides)

    @contextmanager
    def opened(part: Plan, on: Executor) -> Iterator[Watcher]:
        if not isinstance(watch, bool):
            yield watch
        elif not watch:
            yield Silent()
        else:
            with ProgressView(part, Console(stderr=True), on.in_use) as view:
                yield view

    return run_plan(made, executor=executor, watch=opened)


def evaluate(
    checkpoint: Path | str,
    benchmarks: Iterable[object] | str,
    *,
    model: object | None = None,
    dataset: object | None = None,
    results: Path | str | None = None,
    trust: bool = False,
) -> pd.DataFrame:
    """The measurements of one checkpoint, evaluated in this process: a row a measurement, fractions as in `read`.

    Args:
        checkpoint: the folder or URI of a trial of ours, or a file of weights of anybody's.
        benchmarks: names, or anything else that an experiment takes for one.
        model: for a file of weights: its architecture, likewise.
        dataset: for a file of weights: the data set, likewise.
        results: folder or URI where the cells are kept; none keeps nothing.
        trust: whether the classes that the file of a trial names may be imported.

    Raises:
        RequestError: something is unknown, missing or does not fit.
    """
    asked = Request(
        checkpoint=str(checkpoint),
        benchmarks=(benchmarks,) if isinstance(benchmarks, str) else tuple(benchmarks),
        model=model,
        dataset=dataset,
        is_trusted=trust,
    )
    opened, runs = asked.open()
    rows = [
        {"benchmark": of.name, **asdict(measurement), "direction": direction(measurement.metric)}
        for of, measured in evaluate_here(opened, runs, None if results is None else str(results))
        for measurement in measured
    ]
    return pd.DataFrame(rows)
