"""The executor on a Ray cluster: Ray Tune trains and Ray tasks evaluate; here the two are joined."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from types import ModuleType, TracebackType
from typing import Self

from pixmix_ray.errors import ClusterError
from pixmix_ray.experiment.resources import Resources
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.orchestration import session as ray_session
from pixmix_ray.orchestration.evaluation_tasks import EvaluationTasks
from pixmix_ray.orchestration.executor import Capacity, EpochDone, Event, RunSetup
from pixmix_ray.orchestration.nodes import Node, lacking, total_fitting, trials_at_once
from pixmix_ray.orchestration.picture_tasks import PictureTasks
from pixmix_ray.orchestration.tune_training import Training
from pixmix_ray.orchestration.work import Job
from pixmix_ray.planning.plan import Cell
from pixmix_ray.storage.failures import Place

log = logging.getLogger(__name__)
NOTHING: tuple[tuple[int, ...], int] = ((), 0)  # asked of an autoscaler
MOST_ASKED_FOR = 1000  # shares of one request to an autoscaler
TASKS_FIRST = 0.1  # seconds that a poll waits for tasks while trials train: what those tell comes by another way


class RayExecutor:
    """Does the work of a run on Ray; a context manager, which ends what it started."""

    def __init__(self, address: str | None = None, *, cpus: int | None = None) -> None:
        """Connect to nothing yet.

        Args:
            address: host:port of a running cluster; none: the one that this process is connected to, or else a new one
                on this machine.
            cpus: of a new one; default: all cores.

        Raises:
            ClusterError: no cluster answers at the address.
        """
        self._address, self._cpus = address, cpus
        self._stack = ExitStack()
        self._is_connected = self._may_grow = False
        self._nodes: dict[str, Node] = {}  # that lived when last looked, by id
        self._asked: tuple[tuple[int, ...], int] = NOTHING
        self._waits_since: float | None = None
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._tasks = EvaluationTasks()
        self._training: Training | None = None
        self._pictures = PictureTasks((), Resources())
        self._setup: RunSetup | None = None
        if address is not None:
            ray_session.probe(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._is_connected = False
        self._stack.close()

    def connect(self, modules: Sequence[ModuleType] = ()) -> None:
        """Connect, if that was not done; `modules` of the user's own code are sent to the nodes.

        Raises:
            ClusterError: as `session`.
        """
        if not self._is_connected:
            self._may_grow = self._address is not None or ray_session.is_connected()
            self._stack.enter_context(ray_session.environment(ray_session.TUNE_ENVIRONMENT))
            self._stack.enter_context(ray_session.session(self._address, self._cpus, modules))
            self._is_connected = True

    def has_gpus(self) -> bool:
        """Whether a node of the connected cluster has a GPU."""
        return _sum(ray_session.nodes(), "GPU") > 0

    def start(self, setup: RunSetup) -> None:
        """Connect, and get ready for the work of a run."""
        self.connect()
        self._setup = setup
        self._events, self._tasks = SimpleQueue(), EvaluationTasks()
        self._training = Training(self._events, setup.should_stop)
        self._pictures = PictureTasks(setup.pictures, setup.resources)

    def capacity(self, trials: int, cells: int, *, keeps_share: bool = True) -> Capacity:
        """How much fits on the nodes that live now; an autoscaler is asked for what the rest could use.

        Raises:
            ClusterError: a share fits on no node, and none came in time.
        """
        assert self._setup is not None and self._training is not None
        nodes, resources = ray_session.nodes(), self._setup.resources
        self._tell_of_lost(nodes)
        in_flight = self._training.shares()
        self._ask_for_room(trials, cells, in_flight)
        # of several shares the one of which the fewest fit: its trials come first, the others when they are done
        which = sorted(set(in_flight)) or range(len(resources.shares))
        each = [resources.model_copy(update={"trial": resources.shares[share]}) for share in which]
        why = next(filter(None, (lacking(nodes, one) for one in each)), "")
        if why and not self._is_worth_waiting(resources.wait_seconds):
            raise ClusterError(why)
        self._waits_since = None if not why else self._waits_since
        beside = 0 if why else min(trials_at_once(nodes, one) for one in each)
        alone = 0 if why else min(total_fitting(nodes, one.trial) for one in each)
        self._training.limit = beside if keeps_share else alone
        self._pictures.keep_going(nodes, len(self._tasks))
        return Capacity(
            trials=beside,
            trials_alone=alone,
            tasks=0 if why else total_fitting(nodes, resources.evaluation),
            cpus=_sum(nodes, "CPU"),
            gpus=_sum(nodes, "GPU"),
            waits_for=why and f"waiting up to {resources.wait_seconds:g} s for the cluster to grow: {why}",
        )

    def _tell_of_lost(self, nodes: Sequence[Node]) -> None:
        living = {node.node_id: node for node in nodes}
        for lost in self._nodes.keys() - living:
            place = Place(host=self._nodes[lost].host, node=lost)
            log.warning(
                "lost a node: %s; the cluster has %d left, and the lost work is tried again", place, len(living)
            )
        self._nodes = living

    def submit_trial(self, ticket: int, trial: Trial, *, avoid: str | None = None) -> None:
        """Have a trial trained."""
        assert self._setup is not None and self._training is not None
        job = Job.training(self._setup, trial, is_logged=True)
        self._training.submit(ticket, job, avoid=avoid)

    def submit_cells(self, ticket: int, cells: Sequence[Cell], *, avoid: str | None = None) -> None:
        """Have cells measured."""
        assert self._setup is not None
        job = Job.measuring(self._setup, cells, is_logged=True)
        self._tasks.submit(ticket, job, avoid=avoid)

    def poll(self, seconds: float) -> list[Event]:
        """What trainers and tasks told since."""
        assert self._setup is not None and self._training is not None
        self._training.keep_going()
        found = self._take_events(0.0)
        if self._tasks:
            found += self._tasks.poll(0.0 if found else min(seconds, TASKS_FIRST))
        if any(isinstance(event, EpochDone) for event in found):  # not earlier: a trainer would take that worker
            self._tasks.warm_up(self._setup.resources.evaluation)
        return found or self._take_events(0.0 if self._tasks else seconds)

    def cancel(self) -> None:
        """End all work within seconds."""
        self._tasks.cancel()
        self._pictures.cancel()
        if self._training is not None:
            self._training.cancel()
        if self._is_connected and self._asked != NOTHING:
            with suppress(Exception):  # the cluster may be what has gone
                ray_session.request_room([])
            self._asked = NOTHING

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def in_use(self) -> Mapping[str, tuple[float, float]]:
        """How much of the cluster is handed out, and how much there is."""
        return ray_session.cluster_use() if self._is_connected else {}

    def _take_events(self, seconds: float) -> list[Event]:
        found: list[Event] = []
        with suppress(Empty):
            found.append(self._events.get(timeout=seconds) if seconds else self._events.get_nowait())
            while True:
                found.append(self._events.get_nowait())
        return found

    def _ask_for_room(self, trials: int, cells: int, in_flight: Sequence[int]) -> None:
        """Ask an autoscaler for what all this could use at once, whenever it is something else than before.

        Of trials that are not submitted yet the share is taken for the smallest.
        """
        assert self._setup is not None
        resources = self._setup.resources
        smallest = len(resources.shares) - 1
        of_trials = sorted([*in_flight, *[smallest] * (trials - len(in_flight))][: min(trials, MOST_ASKED_FOR)])
        wanted = tuple(of_trials), min(cells, MOST_ASKED_FOR)
        if self._may_grow and wanted != self._asked:
            shares = [resources.shares[share] for share in of_trials]
            ray_session.request_room(shares + [resources.evaluation] * wanted[1])
            self._asked = wanted

    def _is_worth_waiting(self, most: float) -> bool:
        if self._waits_since is None:
            self._waits_since = self.now()
        return self._may_grow and self.now() - self._waits_since < most


def _sum(nodes: Sequence[Node], name: str) -> float:
    return sum(node.resources.get(name, 0) for node in nodes)
