"""A run: all that a plan lacks, trained and evaluated on an executor."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

import pandas as pd

from pixmix_ray.errors import DamagedError, RequestError, ResultsError, StorageError
from pixmix_ray.evaluation.checkpoints import check_externals
from pixmix_ray.evaluation.pictures_ahead import works_of
from pixmix_ray.experiment.experiment import Experiment
from pixmix_ray.experiment.external import External
from pixmix_ray.orchestration.executor import Executor, RunSetup
from pixmix_ray.orchestration.local_executor import LocalExecutor
from pixmix_ray.orchestration.loop import Loop
from pixmix_ray.orchestration.retries import Failure
from pixmix_ray.orchestration.trackers import Tracked, keep_tables, trackers
from pixmix_ray.orchestration.watcher import SilentWatcher, Watcher
from pixmix_ray.orchestration.work import Work
from pixmix_ray.planning.durations import Durations, Forecast, Slots, forecast
from pixmix_ray.planning.halving import halving_of
from pixmix_ray.planning.plan import Plan, keep_plan, make_plan, relabel, updated
from pixmix_ray.planning.usage import Account
from pixmix_ray.plugins import user_modules
from pixmix_ray.storage import index
from pixmix_ray.storage.run_lock import RunLock
from pixmix_ray.storage.store import Store
from pixmix_ray.training.trial import Progress

OpenWatcher = Callable[[Plan, Executor], AbstractContextManager[Watcher]]
"""Opens what is told of a run, such as a live view, for as long as the run takes."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a run.

    Attributes:
        plan: the experiment and its states afterwards.
        failures: the trials and cells that failed, and why.
    """

    plan: Plan
    failures: tuple[Failure, ...]

    @property
    def measurements(self) -> pd.DataFrame:
        """The measurements of the experiment, a row a measurement, as `pixmix_ray.read`."""
        return self.plan.own_rows()


def run_plan(
    plan: Plan,
    *,
    executor: Executor | str = "ray",
    watch: OpenWatcher = lambda plan, executor: nullcontext(SilentWatcher()),
    work: Work | None = None,
) -> Run:
    """Do all that a plan lacks; run again, only what is missing is done.

    Args:
        plan: what is wanted, and what of it is done.
        executor: "ray" for the cluster that this process is connected to, or else a new one on this machine; "local"
            for this process without Ray; "host:port" of a running cluster; or an executor.
        watch: opens what is told of it.
        work: what trains and evaluates; default: the real work.

    Raises:
        DataError: data are missing or broken; nothing was started.
        CheckpointError: a checkpoint that should be there is missing, or does not fit; likewise.
        ClusterError: there is no cluster, or it cannot hold the work.
        HeldError: another run is at work on the results folder.
        StorageError: results can no longer be written; what is done is kept.
    """
    plan = plan if plan.cells_to_run() else updated(plan)
    if not plan.cells_to_run():
        return Run(plan=plan, failures=())
    plan.store.check_writable()
    with ExitStack() as stack:
        lock = stack.enter_context(RunLock(plan.store))
        opened = _opened(executor, stack)
        if plan.experiment.search is not None:
            plan = make_plan(plan.experiment, keep_points=True)
        check_externals(dict.fromkeys(cell.trial for cell in plan.cells_to_run() if isinstance(cell.trial, External)))
        _prepare(plan.experiment, opened)
        plan = on_gpus(plan, opened)
        keep_plan(plan)
        relabel(plan.store, plan.checkpoints)
        stack.enter_context(_storage_goes_away())
        _remove_leftovers(plan.store)
        failures = _run_once(plan, opened, watch, work or Work(), lock.check)
        index.update(plan.store)
        after = make_plan(plan.experiment)
        if (
            "missing" in after.cells.values() and not failures
        ):  # cells that were damaged, and set aside as they were read
            failures = _run_once(after, opened, watch, work or Work(), lock.check)
            index.update(plan.store)
            after = make_plan(plan.experiment)
    return Run(plan=after, failures=tuple(failures))


def on_gpus(plan: Plan, executor: Executor) -> Plan:
    """The plan with shares of GPUs where there are some and the experiment does not say; a warning says so."""
    resources = plan.experiment.resources.with_gpus()
    if resources == plan.experiment.resources or not getattr(executor, "has_gpus", lambda: False)():
        return plan
    warnings.warn(
        f"GPUs were found: a trial uses {resources.trial.gpus:g} of one, an evaluation {resources.evaluation.gpus:g}; "
        "set resources.trial.gpus and resources.evaluation.gpus to change that; 0 uses the CPU",
        stacklevel=3,
    )
    return replace(plan, experiment=plan.experiment.model_copy(update={"resources": resources}))


def _remove_leftovers(store: Store) -> None:
    """Remove the progress of trials that are done, where a kill came between the mark of completion and its removal."""
    files = store.files("trials")
    for path in files:
        folder, _, name = path.rpartition("/")
        if name == "progress.safetensors" and f"{folder}/done.json" in files:
            store.delete(path)


@contextmanager
def _storage_goes_away() -> Iterator[None]:
    """A block that begins with results that can be read: where they no longer can, that is no fault of the request."""
    try:
        yield
    except DamagedError:
        raise
    except ResultsError as error:
        raise StorageError(f"{error}. What is done is kept: run the same command again") from None


def _opened(executor: Executor | str, stack: ExitStack) -> Executor:
    if not isinstance(executor, str):
        return executor
    if executor == "local":
        return LocalExecutor()
    if executor != "ray" and ":" not in executor:
        raise RequestError(f"executor must be 'ray', 'local', or host:port of a Ray cluster, got {executor!r}")
    from pixmix_ray.orchestration.ray_executor import RayExecutor  # Ray takes a second to import

    return stack.enter_context(RayExecutor(None if executor == "ray" else executor))


def _prepare(experiment: Experiment, executor: Executor) -> None:
    """Decode and draw all data of the experiment, on the cluster if there is much to draw."""
    connect = getattr(executor, "connect", None)
    if connect is None:
        experiment.prepare()
        return
    from pixmix_ray.orchestration.picture_tasks import prepare

    modules = user_modules(experiment.parts())
    prepare(experiment, lambda: connect(modules))
    connect(modules)


def _run_once(
    plan: Plan, executor: Executor, watch: OpenWatcher, work: Work, check: Callable[[], None]
) -> list[Failure]:
    store, resources = plan.store, plan.experiment.resources
    halving = halving_of(plan)

    def should_stop(trial_id: str, progress: Progress) -> bool:
        error = progress.validation_error
        return halving is not None and error is not None and halving.report(trial_id, progress.epoch, error)

    executor.start(
        RunSetup(
            store=store,
            resources=resources,
            work=work,
            should_stop=None if halving is None else should_stop,
            pictures=tuple(works_of((cell.trial.dataset, cell.run) for cell in plan.cells_to_run())),
        )
    )
    durations = Durations.of(plan.store, resources)
    expected = _forecast(plan, executor, durations)
    account = Account(plan.store, resources, executor.now(), durations=durations, expected=expected)

    def more() -> Plan:
        suggested = make_plan(plan.experiment, keep_points=True)
        keep_plan(suggested)
        return suggested

    with watch(plan, executor) as watcher:
        followers = trackers(plan.experiment.tracking, store.uri)
        tracked = Tracked(watcher, store, followers) if followers else watcher
        try:
            failures = Loop(
                plan,
                executor,
                tracked,
                account,
                keeps_share=expected.keeps_evaluation_share,
                more=None if plan.experiment.search is None else more,
                housekeeping=check,
            ).run()
            keep_tables(followers, plan)
            return failures
        finally:
            account.close(executor.now())
            for follower in followers:
                follower.close()


def _forecast(plan: Plan, executor: Executor, durations: Durations) -> Forecast:
    cells = plan.cells_to_run()
    capacity = executor.capacity(len(plan.trials_to_run()), len(cells))
    slots = Slots(trials=capacity.trials, trials_alone=capacity.trials_alone, tasks=capacity.tasks)
    return forecast(plan, durations, slots)
