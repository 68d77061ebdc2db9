"""Pictures of benchmarks made by Ray tasks: in the room that trials leave, on every node, and without failing a run."""

import time

import pytest

from pixmix_ray.benchmarks import Corruptions
from pixmix_ray.datasets import Dataset, Digits
from pixmix_ray.evaluation import pictures_ahead
from pixmix_ray.evaluation.pictures_ahead import PictureWork, missing, works_of
from pixmix_ray.experiment.resources import Resources, Share
from pixmix_ray.experiment.trial import BenchmarkRun
from pixmix_ray.orchestration import session
from pixmix_ray.orchestration.nodes import Node
from pixmix_ray.orchestration.picture_tasks import PictureTasks
from pixmix_ray.plugins import Part

DIGITS: Part[Dataset] = Part(name="digits", settings=Digits(train_limit=10))
PATIENCE = 120  # seconds until a test that waits for tasks fails


def _works(monkeypatch: pytest.MonkeyPatch, **settings: object) -> list[PictureWork]:
    monkeypatch.setattr(pictures_ahead, "WORTH_BYTES", 1)
    benchmark = Corruptions.read({"names": ("contrast",), "limit": 10, **settings}, "benchmark corruptions")
    return works_of([(DIGITS, BenchmarkRun(benchmark=Part(name="corruptions", settings=benchmark), version=""))])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_tasks_make_what_is_missing_and_one_that_fails_fails_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    works = _works(monkeypatch, seed=77)  # whose pictures no other test keeps
    (broken, *_) = _works(monkeypatch, seed=78)
    tasks = PictureTasks([*works[:2], PictureWork(dataset=DIGITS, benchmark=broken.benchmark, place=99), *works[2:]],
                         Resources())  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while missing(works) and time.monotonic() < deadline:
        tasks.keep_going(session.nodes(), 0)
        time.sleep(0.05)
    tasks.cancel()
    assert not missing(works)


@pytest.mark.parametrize(
    ("cpus", "trial", "evaluation", "evaluations", "started"),
    [
        (2, 1, 1, 0, [1]),
        (2, 1, 1, 1, [0]),  # an evaluation has its place
        (16, 1, 1, 0, [1]),
        (16, 6, 1, 0, [4]),  # two trials, and four cores that are left over
        (2, 0.75, 0.5, 0, [1]),
        (4, 3, 1, 0, [1, 1]),
    ],
)
def test_as_many_run_as_trials_leave_cores_for(
    cpus: float,
    trial: float,
    evaluation: float,
    evaluations: int,
    started: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Task:
        @staticmethod
        def options(**_: object) -> "type[Task]":
            return Task

        @staticmethod
        def remote(work: PictureWork) -> object:
            return object()

    monkeypatch.setattr("pixmix_ray.orchestration.picture_tasks._make", Task)
    monkeypatch.setattr("ray.wait", lambda running, **_: ([], running))
    works = 3 * _works(monkeypatch, seed=79)
    tasks = PictureTasks(works, Resources(trial=Share(cpus=trial), evaluation=Share(cpus=evaluation)))
    nodes = [Node(node_id=f"{number + 1:056x}", resources={"CPU": cpus}) for number in range(len(started))]
    for _ in range(2):  # the second look starts no more
        tasks.keep_going(nodes, evaluations)
        assert [list(tasks._running.values()).count(node.node_id) for node in nodes] == started
