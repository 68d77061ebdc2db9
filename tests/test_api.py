"""The functions plan, run, evaluate, read and front, as a notebook or a script calls them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pixmix_ray
from pixmix_ray.benchmarks import Clean
from pixmix_ray.datasets import Digits
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.experiment.trial import Trial
from pixmix_ray.methods import Baseline, Cutout
from pixmix_ray.models import WideResNet
from pixmix_ray.orchestration.run import Run
from pixmix_ray.orchestration.watcher import SilentWatcher
from pixmix_ray.planning.plan import Cell

NAMES: dict[str, Any] = {
    "dataset": {"name": "digits", "train_limit": 100},
    "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
    "methods": ["baseline", "cutout"],
    "training": {"epochs": 1, "flip": False},
    "benchmarks": [{"name": "clean", "limit": 50}],
}
OBJECTS: dict[str, Any] = {
    **NAMES,
    "dataset": Digits(train_limit=100),
    "model": WideResNet(depth=10, width=1, dropout=0.0),
    "methods": [Baseline, Cutout()],
    "benchmarks": [Clean(limit=50)],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("api") / "results")


@pytest.fixture(scope="module")
def done(results: str) -> Run:
    """The experiment, run once in this process."""
    return pixmix_ray.run({**NAMES, "results": results}, executor="local", watch=False)


def test_a_run_returns_its_measurements_and_read_finds_the_same(done: Run, results: str) -> None:
    assert done.failures == ()
    assert set(done.plan.cells.values()) == set(done.plan.trials.values()) == {"done"}
    errors = done.measurements.query("benchmark == 'clean' and metric == 'error'")
    assert sorted(errors.method) == ["baseline", "cutout"] and errors.n.tolist() == [50, 50]
    read = pixmix_ray.read(results).measurements
    columns = ["trial_id", "benchmark", "metric", "value"]
    pd.testing.assert_frame_equal(
        read[columns].sort_values(columns, ignore_index=True),
        done.measurements[columns].sort_values(columns, ignore_index=True),
    )


def test_the_front_holds_the_method_with_the_smallest_error(done: Run) -> None:
    errors = done.measurements.query("metric == 'error'").set_index("method").value
    front = pixmix_ray.front(done.measurements, ["clean.error"])
    assert set(front.method) == set(errors.index[errors == errors.min()])
    assert set(pixmix_ray.front(done.measurements).method) <= set(errors.index)


def test_names_classes_objects_and_a_file_are_the_same_experiment(done: Run, results: str, experiment: Path) -> None:
    for methods in (["baseline", "cutout"], [Baseline, Cutout], [Baseline(), Cutout()]):
        planned = pixmix_ray.plan({**OBJECTS, "methods": methods, "results": results})
        assert [trial.id for trial in planned.trials] == [trial.id for trial in done.plan.trials]
        assert set(planned.cells.values()) == {"done"}
    sets = [f"results={results}", "dataset.train_limit=100", "methods=[baseline, cutout]"]
    assert pixmix_ray.plan(experiment, overrides=sets).cells_to_run() == []
    assert pixmix_ray.plan(read_experiment({**NAMES, "results": results})).cells_to_run() == []


def test_what_is_done_is_not_done_again_and_a_plan_can_be_run(done: Run, results: str) -> None:
    told: list[str] = []

    class Listener(SilentWatcher):
        def trial_done(self, trial: Trial) -> None:
            told.append(trial.label)

        def cell_done(self, cell: Cell, seconds: float) -> None:
            told.append(cell.label)

    more = pixmix_ray.plan({**OBJECTS, "results": results, "benchmarks": [Clean(limit=50), Clean(limit=20)]})
    assert pixmix_ray.run(more, executor="local", watch=Listener()).failures == ()
    assert told == ["baseline seed 0 × clean", "cutout seed 0 × clean"]


@pytest.mark.parametrize("watch", [True, False])
def test_progress_is_shown_on_stderr_or_nothing_at_all(
    watch: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    experiment = {**NAMES, "methods": ["baseline"], "results": str(tmp_path)}
    pixmix_ray.run(experiment, executor="local", watch=watch)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert ("epoch 1/1" in shown.err) == watch and (shown.err == "") == (not watch)


def test_a_checkpoint_is_evaluated_by_names_or_objects(done: Run, results: str, tmp_path: Path) -> None:
    (trial,) = [trial for trial in done.plan.trials if trial.method.name == "cutout"]
    folder = Path(results) / "trials" / trial.id
    expected = done.measurements[done.measurements.method == "cutout"].set_index("metric").value
    weights: dict[str, Any] = {"model": OBJECTS["model"], "dataset": {"name": "digits"}}
    evaluations: list[Callable[[], pd.DataFrame]] = [
        lambda: pixmix_ray.evaluate(folder, [{"name": "clean", "limit": 50}]),
        lambda: pixmix_ray.evaluate(str(folder), [Clean(limit=50)], results=tmp_path),
        lambda: pixmix_ray.evaluate(folder / "model.safetensors", [Clean(limit=50)], **weights),
    ]
    for evaluate in evaluations:
        found = evaluate()
        assert set(found.benchmark) == {"clean"}
        assert found.set_index("metric").value.to_dict() == expected.to_dict()
    assert pixmix_ray.read(tmp_path).measurements.trial_id.unique().tolist() == [
        trial.id
    ]  # the one that was to be kept
    assert pixmix_ray.evaluate(folder, "clean").n.max() > 50  # a name alone


SCRIPT = """
import pixmix_ray
from pixmix_ray.methods import Method
from pixmix_ray.transforms import to_float

class Dark(Method):
    summary = "darker pictures"
    source = "a test"
    factor: float = 0.5

    def augment(self, images, pictures, generator):
        return to_float(images) * self.factor

experiment = {
    "results": "results",
    "dataset": {"name": "digits", "train_limit": 64},
    "model": {"name": "wide_resnet", "depth": 10, "width": 1},
    "methods": [Dark, Dark(factor=0.25)],
    "training": {"epochs": 1},
    "benchmarks": [{"name": "clean", "limit": 20}],
}
for _ in range(2):
    done = pixmix_ray.run(experiment, executor="local", watch=False)
    errors = done.measurements.query("metric == 'error'")
    print(len(errors), sorted(set(errors.method)), len(done.failures))
"""


def test_a_class_of_a_script_or_notebook_is_trained_and_known_again(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["2 ['Dark'] 0"] * 2
    assert ran.stderr == ""


READ = """
import sys
import pixmix_ray
before = {"ray", "torch", "pandas", "pyarrow"} & set(sys.modules)
rows = pixmix_ray.read(sys.argv[1]).parts[0].frame
front = pixmix_ray.front(rows, ["clean.error"])
print(before or "nothing", len(rows) > 0, len(front) > 0, {"ray", "torch"} & set(sys.modules) or "neither")
"""


def test_results_are_read_and_judged_without_ray_and_torch(done: Run, results: str) -> None:
    ran = subprocess.run([sys.executable, "-c", READ, results], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("nothing True True neither\n", "")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pixmix_ray.plan({**NAMES, "results": "r", "methods": ["basline"]}),
            "unknown method 'basline', did you mean",
        ),
        (lambda: pixmix_ray.plan({**NAMES, "results": "r", "methods": [Digits]}), "Digits"),
        (lambda: pixmix_ray.plan("nowhere.yaml"), "cannot read the experiment file .*nowhere.yaml"),
        (lambda: pixmix_ray.evaluate("nowhere.pt", "clean"), "no checkpoint nowhere.pt"),
        (lambda: pixmix_ray.evaluate(__file__, "clean"), "name its network with"),
    ],
)
def test_a_mistake_is_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_an_executor_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="executor must be 'ray', 'local', or host:port of a Ray cluster, got 'lokal'"
    ):
        pixmix_ray.run({**NAMES, "results": str(tmp_path / "results")}, executor="lokal", watch=False)
    assert not list((tmp_path / "results").glob("trials/*"))
