"""A benchmark of somebody's with a metric of its own: through plan, run, results, tables, search and rescoring."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import pixmix_ray
from pixmix_ray import metrics
from pixmix_ray.analysis.pareto import dominance
from pixmix_ray.benchmarks import BENCHMARKS, Benchmark, TestPictures, classify
from pixmix_ray.errors import RequestError, UnknownNameError, WorkError
from pixmix_ray.evaluation.rescore import rescore
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.metrics import DIRECTIONS, UNITS, Measurement, Metric, Predictions
from pixmix_ray.report.tables import measures_grid
from pixmix_ray.storage.index import read

TINY: dict[str, Any] = {
    "dataset": {"name": "digits", "train_limit": 64},
    "model": {"name": "wide_resnet", "depth": 10, "width": 1, "dropout": 0.0},
    "methods": ["baseline"],
    "training": {"epochs": 1, "batch_size": 64},
}


class Surprise(Benchmark):
    """How many bits the network is surprised by, and the share of pictures that it is sure of."""

    summary: ClassVar[str] = "surprise"
    source: ClassVar[str] = "nobody"
    headline: ClassVar[tuple[str, ...]] = ("surprise", "sure")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "surprise": Metric(direction="lower", unit="bits", meaning="of the label"),
        "sure": Metric(direction="higher"),
    }

    def predict(self, network: nn.Module, test: TestPictures, device: torch.device) -> Predictions:
        return classify(network, test, device)

    def measure(self, predictions: Predictions) -> list[Measurement]:
        values = {"surprise": 3.25, "sure": float((predictions.confidence > 0.5).mean())}
        return [Measurement(metric=name, value=value, n=len(predictions)) for name, value in values.items()]


class Undeclared(Surprise):
    headline: ClassVar[tuple[str, ...]] = ("error",)
    metrics: ClassVar[Mapping[str, Metric]] = {}


class Misspelt(Surprise):
    headline: ClassVar[tuple[str, ...]] = ("suprise",)


class Contrary(Surprise):
    metrics: ClassVar[Mapping[str, Metric]] = {**Surprise.metrics, "auroc": Metric(direction="lower")}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test begins and ends without declared metrics, as a new process does."""
    directions, units = dict(DIRECTIONS), dict(UNITS)
    yield
    for name in DIRECTIONS.keys() - directions.keys():
        metrics._directions.pop(name)
    for name in UNITS.keys() - units.keys():
        metrics._units.pop(name)


def test_a_metric_of_ones_own_goes_through_the_whole_line(tmp_path: Path) -> None:
    benchmarks = [{"name": Surprise, "limit": 20}]
    done = pixmix_ray.run({**TINY, "results": str(tmp_path), "benchmarks": benchmarks}, executor="local", watch=False)
    assert not done.failures
    metrics._directions.pop("surprise")  # as in a process that never saw the class
    metrics._directions.pop("sure")
    metrics._units.pop("surprise")
    frame = read(tmp_path)
    assert frame.set_index("metric")[["direction", "unit"]].to_dict("index") == {
        "surprise": {"direction": "lower", "unit": "bits"},
        "sure": {"direction": "higher", "unit": ""},
    }
    assert DIRECTIONS["sure"] == "higher" and UNITS["surprise"] == "bits"
    names = ["Surprise.surprise", "Surprise.sure"]
    wide = dominance(frame, names)
    assert wide["on_front"].tolist() == [True]
    assert "3.25" in measures_grid(wide, names).text("markdown")
    assert [cell.state for cell in rescore(tmp_path, is_trusted=True)] == ["same"]


@pytest.mark.parametrize(
    ("benchmark", "error"),
    [
        (Misspelt, "unknown metric in the headline of Misspelt: 'suprise', did you mean 'surprise'"),
        (Contrary, "declares 'auroc' as lower is better.*a metric of this name .higher is better"),
    ],
)
def test_a_wrong_declaration_is_told_before_any_work(benchmark: type[Benchmark], error: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=error):
        read_experiment({**TINY, "results": str(tmp_path), "benchmarks": [benchmark]})


def test_an_undeclared_metric_is_told_with_the_line_that_declares_it() -> None:
    benchmark = Undeclared()
    assert benchmark.metric("error") == Metric(direction="lower")
    with pytest.raises(WorkError, match=r"Undeclared measured 'sure'.*Metric\(direction=\"lower\"\)"):
        benchmark.metric("sure")


def test_a_search_may_have_it_as_objective(tmp_path: Path) -> None:
    file = {**TINY, "methods": ["pixmix"], "results": str(tmp_path), "benchmarks": [Surprise]}
    search = {"space": {"k": [1, 2]}, "objectives": ["Surprise.sure"]}
    read_experiment({**file, "search": search})
    with pytest.raises(UnknownNameError, match="unknown metric 'shure'"):
        read_experiment({**file, "search": {**search, "objectives": ["Surprise.shure"]}})
    assert BENCHMARKS.read(Surprise).settings.metric("sure").direction == "higher"
