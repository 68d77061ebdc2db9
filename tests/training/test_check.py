"""One batch through everything: slips of methods, models and benchmarks of one's own are found, and all told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pixmix_ray
from pixmix_ray.benchmarks import Clean
from pixmix_ray.errors import RequestError, WorkError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.methods import Method
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.models import Model
from pixmix_ray.training import TrainingData, train
from pixmix_ray.training.check import check_parts
from pixmix_ray.training.trial import fresh_network

FILE: Mapping[str, Any] = {
    "results": "r",
    "dataset": {"name": "digits", "train_limit": 64},
    "model": {"name": "wide_resnet", "depth": 10, "width": 1},
    "methods": ["baseline"],
    "benchmarks": ["clean"],
    "training": {"epochs": 1, "batch_size": 32},
}


class Mine(Method):
    summary: ClassVar[str] = "mine"
    source: ClassVar[str] = "mine"
    slip: str = ""

    def augment(self, images: Tensor, pictures: Tensor | None, generator: torch.Generator) -> Tensor:
        if self.slip == "changes":
            images += 1
        clean = super().augment(images, pictures, generator)
        if self.slip == "raises":
            raise KeyError("a slip")
        changed = {"rows": clean[:, :, :16], "range": 2 * clean - 1, "bytes": images}
        return changed.get(self.slip, clean)

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        loss = super().loss(network, images, labels, rng)
        return {"vector": loss.repeat(3), "nan": loss * float("nan"), "constant": loss.detach()}.get(self.slip, loss)


class Narrow(Model):
    summary: ClassVar[str] = "one class"
    source: ClassVar[str] = "mine"

    def label(self) -> str:
        return "narrow"

    def build(self, num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes), nn.Linear(num_classes, num_classes + 1))


class Odd(Clean):
    what: str

    def measure(self, predictions: Predictions) -> list[Measurement]:
        rows = super().measure(predictions)
        rows.append(Measurement(metric="oddity", value=1.0, n=1))
        return {"undeclared": rows, "nothing": [], "headless": rows[2:4]}[self.what]


def check(**keys: Any) -> int:
    sweep = read_experiment({**FILE, **keys})
    return check_parts(sweep.trials(), sweep.benchmark_runs())


def test_what_works_is_counted() -> None:
    methods = ["baseline", "mixup", "augmix", "pixmix", Mine]
    assert check(methods=methods, mixing_set={"name": "fractals", "count": 4}) == 5


@pytest.mark.parametrize(
    ("slip", "error"),
    [
        ("rows", r"augment returns shape \(8, 3, 16, 32\) for pictures of \(8, 3, 32, 32\)"),
        ("range", r"values from -1 to 1: they must be in \[0, 1\]"),
        ("bytes", "augment returns torch.uint8"),
        ("changes", "augment changes the pictures"),
        ("raises", r"KeyError: 'a slip' at .*test_check.py:\d+ in augment"),
        ("vector", r"loss returns shape \(3,\)"),
        ("nan", "loss is nan on the first batch"),
        ("constant", "no gradient would reach them"),
    ],
)
def test_a_slip_of_a_method_is_told(slip: str, error: str) -> None:
    with pytest.raises(RequestError, match=error):
        check(methods=[{"name": Mine, "slip": slip}])


def test_a_model_with_other_classes_is_told() -> None:
    with pytest.raises(RequestError, match=r"the model returns \(8, 11\) for 8 pictures and 10 classes"):
        check(model=Narrow)


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("undeclared", "Odd measured 'oddity'"),
        ("nothing", "must be a list of Measurement"),
        ("headless", "does not return error"),
    ],
)
def test_a_slip_of_a_benchmark_is_told(what: str, error: str) -> None:
    with pytest.raises(RequestError, match=error):
        check(benchmarks=[{"name": Odd, "what": what}])


def test_all_slips_are_told_at_once() -> None:
    with pytest.raises(RequestError, match="the check has 2 problems") as caught:
        check(methods=[{"name": Mine, "slip": ["rows", "nan"]}])
    assert "slip=rows" in str(caught.value) and "slip=nan" in str(caught.value)


def test_a_run_checks_parts_of_ones_own_before_it_starts_anything_and_not_ours(tmp_path: Path) -> None:
    sweep = read_experiment({**FILE, "methods": ["baseline", Mine]})
    assert check_parts(sweep.trials(), sweep.benchmark_runs(), own_only=True) == 1
    slip = {**FILE, "results": str(tmp_path / "r"), "methods": ["baseline", {"name": Mine, "slip": "rows"}]}
    with pytest.raises(RequestError, match="augment returns shape"):
        pixmix_ray.run(slip, executor="10.255.255.1:6379")  # where there is no cluster
    assert not (tmp_path / "r").exists()


def test_pictures_of_another_shape_are_never_trained() -> None:
    (trial,) = read_experiment({**FILE, "methods": [{"name": Mine, "slip": "rows"}]}).trials()
    data = trial.dataset.settings.load()
    images = torch.from_numpy(np.array(data.train_images)).permute(0, 3, 1, 2)
    learned = TrainingData(images=images, labels=torch.from_numpy(np.array(data.train_labels)))
    with pytest.raises(WorkError, match="augment returns shape"):
        list(train(fresh_network(trial, 10), trial.method.settings, learned, trial.training, seed=0))
