"""What the package does, as functions: the commands call these and print, and so may a notebook.

import pixmix_ray

experiment = {"results": "results", "dataset": "digits", "methods": ["baseline", "pixmix"]}
pixmix_ray.plan(experiment)  # what would run; spends nothing
done = pixmix_ray.run(experiment)
pixmix_ray.front(done.measurements)

`evaluate` is `run` of an experiment of checkpoints and benchmarks, with nothing to train.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from rich.console import Console

from pixmix_ray.datasets import DATASETS
from pixmix_ray.errors import CheckpointError, RequestError, WorkError
from pixmix_ray.experiment.experiment import DEFAULTS, Experiment
from pixmix_ray.experiment.external import GLOB, stored_trial
from pixmix_ray.experiment.file import override, read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.models import MODELS
from pixmix_ray.orchestration.executor import Executor
from pixmix_ray.orchestration.run import Run, run_plan
from pixmix_ray.orchestration.watcher import SilentWatcher, Watcher
from pixmix_ray.planning.fits import check_fits
from pixmix_ray.planning.plan import Plan, make_plan
from pixmix_ray.report.progress import ProgressView
from pixmix_ray.training.check import check_parts

ALL = "all"  # benchmarks: those of the paper's tables
BESIDE = ("classes", "label")  # keys of an entry that may stand beside the settings of its model


def evaluation_of(
    checkpoints: Sequence[str],
    benchmarks: Sequence[object] | None,
    *,
    model: object | None = None,
    dataset: object | None = None,
    overrides: Sequence[str] = (),
    is_trusted: bool = False,
) -> dict[str, Any]:
    """The content of an experiment file, without `results`.

    Args:
        checkpoints: trials of ours by folder or URI, weights of anybody's, or patterns such as zoo/*.pth.
        benchmarks: as in an experiment; none for those of the paper's tables.
        model: of the weights, likewise; a mapping may have `classes` and `label` beside its settings.
        dataset: of the weights, likewise.
        overrides: `key.path=value` below dataset, model and benchmarks.
        is_trusted: whether classes that a trial names may be imported, and weights that are programs run.

    Raises:
        RequestError: something is missing or does not fit.
    """
    if not checkpoints:
        raise RequestError("no checkpoint was given: name a file of weights, or a trial as RESULTS/trials/TRIAL")
    entries, measured = [], list(DEFAULTS["benchmarks"] if benchmarks is None else benchmarks)
    raw: dict[str, Any] = {}
    for where in (one.rstrip("/") for one in checkpoints):
        entry, described = _entry(where, model, dataset, is_trusted=is_trusted)
        raw = {**described, "benchmarks": measured}
        for text in overrides:
            raw = override(raw, text)
        if unknown := set(raw) - {"dataset", "model", "benchmarks"}:
            raise RequestError(f"--set {unknown.pop()}: evaluate has only the keys under dataset, model and benchmarks")
        if "trial" not in entry:
            entry |= _of_weights(raw["model"])
        elif raw["model"] != described["model"]:
            raise RequestError(
                f"--set model: {where} is a trial, which keeps the model it was trained with: leave the option out"
            )
        entries.append({**entry, "dataset": raw["dataset"]})
    return {"dataset": raw["dataset"], "checkpoints": entries, "benchmarks": raw["benchmarks"]}


def _entry(
    where: str, model: object | None, dataset: object | None, *, is_trusted: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An entry of `checkpoints`, and what overrides may change of it."""
    is_named = model is not None or dataset is not None
    if "://" in where or (Path(where).is_dir() and (not is_named or (Path(where) / "trial.json").is_file())):
        if is_named:
            raise RequestError(
                f"{where} is a trial, which has its own model and data set: leave --model and --dataset out"
            )
        folder = where if "://" in where else str(Path(where).resolve())
        trial, _ = stored_trial(folder, is_trusted=is_trusted)
        entry = {"trial": folder, "trust": is_trusted}
        return entry, {"model": trial.model.dump(), "dataset": trial.dataset.dump()}
    if not Path(where).exists() and not GLOB & set(where):
        raise CheckpointError(f"no checkpoint {where}: give RESULTS/trials/TRIAL, or a file of weights")
    if model is None or dataset is None:
        raise RequestError(
            f"{where} is a file of weights: name its network with --model "
            f"({', '.join(MODELS.names())}) and its data set with --dataset ({', '.join(DATASETS.names())})"
        )
    return {"weights": where, "trust": is_trusted}, {"model": model, "dataset": dataset}


def _of_weights(model: object) -> dict[str, Any]:
    """The keys of an entry that a model stands for: itself, and those that are no settings of it."""
    if not isinstance(model, Mapping):
        return {"model": model}
    beside = {key: value for key, value in model.items() if key in BESIDE}
    return {"model": {key: value for key, value in model.items() if key not in BESIDE}, **beside}


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
        limit: the most test pictures that any benchmark uses.

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
    left = dict.fromkeys(cell.trial for cell in made.cells_to_run() if isinstance(cell.trial, Trial))
    check_parts(left, made.experiment.benchmark_runs(), own_only=True)  # a bug is found before Ray starts

    @contextmanager
    def opened(part: Plan, on: Executor) -> Iterator[Watcher]:
        if not isinstance(watch, bool):
            yield watch
        elif not watch:
            yield SilentWatcher()
        else:
            with ProgressView(part, Console(stderr=True), on.in_use) as view:
                yield view

    return run_plan(made, executor=executor, watch=opened)


def evaluate(
    checkpoints: Path | str | Iterable[Path | str],
    benchmarks: Iterable[object] | str = ALL,
    *,
    model: object | None = None,
    dataset: object | None = None,
    results: Path | str | None = None,
    overrides: Iterable[str] = (),
    trust: bool = False,
) -> pd.DataFrame:
    """The measurements of checkpoints, evaluated in this process: a row a measurement, as in `read`.

    It is `run` of an experiment that trains nothing, and of what is in `results` already it measures nothing again.

    Args:
        checkpoints: a trial of ours by folder or URI, weights of anybody's, a pattern such as zoo/*.pth, or several.
        benchmarks: names, or anything else that an experiment takes for one; "all" for those of the paper's tables.
        model: for weights: their architecture, likewise.
        dataset: for weights: the data set, likewise.
        results: folder or URI where the cells are kept; none keeps nothing.
        overrides: `key.path=value` below dataset, model and benchmarks, as typed with --set.
        trust: whether the classes that the file of a trial names may be imported.

    Raises:
        RequestError: something is unknown, missing or does not fit.
        WorkError: a benchmark failed; what others measured is kept.
    """
    with evaluation_plan(
        checkpoints,
        benchmarks,
        model=model,
        dataset=dataset,
        results=results,
        overrides=overrides,
        trust=trust,
    ) as made:
        done = run(made, executor="local", watch=False)
        if done.failures:
            raise WorkError("; ".join(f"{failure.label}: {failure.reason}" for failure in done.failures))
        return done.measurements


@contextmanager
def evaluation_plan(
    checkpoints: Path | str | Iterable[Path | str],
    benchmarks: Iterable[object] | str,
    *,
    model: object | None = None,
    dataset: object | None = None,
    results: Path | str | None = None,
    overrides: Iterable[str] = (),
    trust: bool = False,
) -> Iterator[Plan]:
    """The plan of an experiment that trains nothing, as `evaluate`; without `results` in a folder that then goes."""
    given = [checkpoints] if isinstance(checkpoints, Path | str) else list(checkpoints)
    named = [benchmarks] if isinstance(benchmarks, str) else list(benchmarks)
    raw = evaluation_of(
        [str(one) for one in given],
        None if named == [ALL] else named,
        model=model,
        dataset=dataset,
        overrides=tuple(overrides),
        is_trusted=trust,
    )
    with ExitStack() as stack:
        folder = results or stack.enter_context(tempfile.TemporaryDirectory(prefix="pixmix_ray_"))
        yield plan({**raw, "results": str(folder)})
